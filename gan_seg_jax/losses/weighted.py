"""The weighted sum of segmentation losses that a config asks for (`config.losses.weights`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.boundary import boundary_cross_entropy
from gan_seg_jax.losses.hard_pixels import hard_pixel_cross_entropy
from gan_seg_jax.losses.lovasz import lovasz_softmax
from gan_seg_jax.losses.region import dice, tversky


def _mask_difference(difference: Callable) -> Callable:
    """Return a loss of class probabilities against the one-hot mask."""

    def loss(logits, label, options):
        del options
        num_classes = logits.shape[-1]
        probabilities = jax.nn.softmax(logits.astype(jnp.float32))
        mask = segmentation.one_hot(label, num_classes)
        return difference(probabilities, mask, segmentation.known(label, num_classes))

    return loss


def _class_weights(options: Any) -> Sequence[float] | jax.Array | None:
    return options.class_weights if len(options.class_weights) else None


def _cross_entropy_options(options: Any) -> dict[str, Any]:
    return {"class_weights": _class_weights(options), "label_smoothing": options.label_smoothing}


# Name -> (logits, label, options) -> float32 scalar.
TERMS: dict[str, Callable[[jax.Array, jax.Array, Any], jax.Array]] = {
    "cross_entropy": lambda logits, label, options: segmentation.cross_entropy(
        logits, label, **_cross_entropy_options(options)
    ),
    "focal": lambda logits, label, options: segmentation.focal(
        logits, label, gamma=options.focal_gamma, class_weights=_class_weights(options)
    ),
    "dice": lambda logits, label, options: dice(logits, label),
    "tversky": lambda logits, label, options: tversky(
        logits, label, alpha=options.tversky_alpha, beta=options.tversky_beta
    ),
    "lovasz": lambda logits, label, options: lovasz_softmax(logits, label),
    "boundary": lambda logits, label, options: boundary_cross_entropy(
        logits,
        label,
        strength=options.boundary_strength,
        sigma=options.boundary_sigma,
        **_cross_entropy_options(options),
    ),
    "hard_pixel": lambda logits, label, options: hard_pixel_cross_entropy(
        logits, label, fraction=options.hard_pixel_fraction, **_cross_entropy_options(options)
    ),
    "l1": _mask_difference(segmentation.l1),
    "mse": _mask_difference(segmentation.mse),
}


def expect_a_loss(options: Any, role: str, *names: str) -> None:
    """Check that a role descends something.

    Args:
        options: `config.losses`.
        role: who learns.
        *names: fields of the options that weigh its losses; "weights" stands for all of them.

    Raises:
        InputError: every weight is 0.
    """
    weights = [options[name] for name in names if name != "weights"]
    if "weights" in names:
        weights += options.weights.values()
    if not any(weights):
        raise InputError(
            f"Nothing is left for the {role} to learn from: every weight of its losses is 0. Give one or more of "
            f"config.losses.{', config.losses.'.join(names)} a positive weight."
        )


def weighted_sum(logits: jax.Array, label: jax.Array, options: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Compute sum_t weights[t] loss_t over the terms whose weight is not 0; the others cost nothing.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        options: `config.losses` (static): `weights`, term -> number, not negative; `class_weights` (k numbers, or
            float32 [k] that need not be static, or () for none; of cross_entropy, focal, boundary and hard_pixel, since
            the others count classes, not pixels, or are distances between maps); `label_smoothing` (of cross_entropy,
            boundary and hard_pixel); `focal_gamma`, `tversky_alpha`, `tversky_beta`, `boundary_strength`,
            `boundary_sigma`, `hard_pixel_fraction`.

    Returns:
        The sum, float32 scalar, and the value of each term in it, before its weight. Every term is 0 with zero gradient
        where no pixel is known.

    Raises:
        InputError: a weight has the name of no term; the nearest is given.
    """
    weights: Mapping[str, float] = options.weights
    for name in weights:
        if name not in TERMS:
            raise unknown("loss in config.losses.weights:", name, TERMS)
    terms = {name: TERMS[name](logits, label, options) for name, weight in weights.items() if weight > 0}
    return sum((weights[name] * value for name, value in terms.items()), jnp.float32(0.0)), terms


def with_heads(
    logits: jax.Array, heads: Mapping[str, jax.Array], label: jax.Array, options: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Compute S(logits) + auxiliary_weight * sum of S over auxiliary heads, with S the `weighted_sum`.

    Args:
        logits: float [b, h, w, k].
        heads: name -> logits of an auxiliary head, of the same shape; {} for a network without any.
        label: int [b, h, w], class ids, 255 = ignore.
        options: `config.losses` (static), as in `weighted_sum`, and `auxiliary_weight`.

    Returns:
        The loss, float32 scalar, and the value of each term of the main logits and of each head ("auxiliary/NAME").
    """
    loss, terms = weighted_sum(logits, label, options)
    for name, head_logits in heads.items():
        terms[f"auxiliary/{name}"], _ = weighted_sum(head_logits, label, options)
        loss += options.auxiliary_weight * terms[f"auxiliary/{name}"]
    return loss, terms

"""Learning from predictions on images without labels: what FixMatch, UniMatch, CPS and the mean teacher share.

Mixed images. An image u becomes M u + (1 - M) u', u' being the next of the batch, and so does its target. M follows
from `config.losses.mixing`:
    cutmix      a rectangle (French et al., BMVC 2020, arXiv:1906.01916)
    classmix    half of the classes that are predicted in u (Olsson et al. 2021, ClassMix, arXiv:2007.07936)
    none        1: u stays
Of FixMatch, UniMatch and CPS, `mixing_probability` is the share of the images that are mixed, and `cutmix_range` the
bounds of the area, drawn uniformly, as a share of the image's, of the rectangle that comes from u'; of the mean teacher
the rectangle is what stays.

Pseudo-labels. With p = softmax(T(u)) of the network that teaches and q = argmax p,
    H(S, p) = sum over i with max p_i >= threshold of -log softmax(S)_i[q_i]  /  number of pixels that show an image
Pixels of which T is not sure add nothing to the sum and count in the mean, so the term grows with what T knows. Padding
is no pixel of an image; q and p are constants.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import mixing, paired, photometric
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.losses import segmentation
from gan_seg_jax.models import split_heads
from gan_seg_jax.models.rows import apart, together
from gan_seg_jax.state import Networks, fold_name

LOSSES = {"mixing": str, "mixing_probability": float, "cutmix_range": [float]}  # fields of `config.losses`
MIXINGS = ("cutmix", "classmix", "none")


class Lesson(NamedTuple):
    """What a network says of images, and what it is taught.

    Attributes:
        logits: float [b, h, w, k].
        label: int32 [b, h, w], pseudo-labels, 255 where they are not sure and in padding.
        shown: bool [b, h, w], the pixels that show an image.
    """

    logits: jax.Array
    label: jax.Array
    shown: jax.Array


def check_batch(config: ConfigDict) -> None:
    """Check `config.losses.mixing`, and that a batch has a next image where images are mixed.

    Raises:
        InputError: it does not, or the mixing is unknown.
    """
    kind = config.losses.mixing
    if kind not in MIXINGS:
        raise unknown("losses.mixing", kind, MIXINGS)
    if kind != "none" and config.batch_size < 2:
        raise InputError(
            f"config.batch_size is {config.batch_size}: {kind} pastes into each image the next one of the batch, here "
            "the same one, so that nothing would be mixed; give at least 2."
        )


def check(config: ConfigDict) -> None:
    """Check all fields of `LOSSES`, and a `confidence_threshold` where there is one.

    Raises:
        InputError: a value is unknown or out of its range.
    """
    check_batch(config)
    options = config.losses
    for name in ("mixing_probability", "confidence_threshold"):
        if name in options and not 0 <= options[name] <= 1:
            raise InputError(f"config.losses.{name} is {options[name]}; give a share, 0 to 1.")
    area = tuple(options.cutmix_range)
    if not (len(area) == 2 and 0 < area[0] <= area[1] < 1):
        raise InputError(f"config.losses.cutmix_range is {area}; give (low, high) with 0 < low <= high < 1.")


def apply_to_both(
    nets: Networks, batch: Any, *, drop_features: float = 0.0
) -> tuple[tuple[Any, tuple[jax.Array, ...]], Networks]:
    """Let labelled and unlabelled images pass through the segmenter as one batch, whose statistics they share.

    Args:
        nets: the view.
        batch: both streams.
        drop_features: of `Networks.apply`.

    Returns:
        The output for the labelled images, with its auxiliary heads, and the logits of the unlabelled ones: as they are
        and, where features are dropped, without these. And the successor.
    """
    images = together(*(batch[stream]["image"] for stream in ("labelled", "unlabelled")))
    both, nets = nets.apply("segmenter", images, drop_features=drop_features)
    labelled, *others = apart(both, 4 if drop_features else 2)
    others = others[1:] if drop_features else others  # without the labelled images' perturbed features
    return (labelled, tuple(split_heads(output)[0] for output in others)), nets


def draw_mask(key: chex.PRNGKey, label: jax.Array, config: ConfigDict) -> jax.Array:
    """Draw which pixels stay those of their image, by the fields of `LOSSES`.

    Args:
        key: a PRNG key; every example draws from keys of its own, by its row.
        label: int [b, h, w], the class that is predicted, 255 in padding.
        config: the run's config.

    Returns:
        bool [b, h, w]; the other pixels become those of the next image.
    """
    options = config.losses
    low, high = options.cutmix_range
    draws = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(jax.random.split(jax.random.fold_in(key, 1), len(label)))
    share = low + (high - low) * draws[:, 0]
    mask = create_mask(key, label, options.mixing, share=share, num_classes=config.num_classes)
    if options.mixing == "cutmix":
        mask = ~mask  # the rectangle, of 0.02 to 0.4 of the image, is what comes from the next
    return mask | (draws[:, 1] >= options.mixing_probability)[:, None, None]


def create_mask(key: chex.PRNGKey, label: jax.Array, kind: str, *, share: chex.Numeric, num_classes: int) -> jax.Array:
    """Return the mask bool [b, h, w] of one of `MIXINGS`; `share` is that of `mixing.cutmix_mask`."""
    if kind == "none":
        return jnp.ones(label.shape, bool)
    if kind == "classmix":
        return mixing.classmix_mask(key, label, num_classes=num_classes)
    return mixing.cutmix_mask(key, len(label), label.shape[1:], share=share)


def mix_with_next(mask: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Return each array [b, h, w, ...] with the pixels of the next example where the mask, bool [b, h, w], is False."""
    return tuple(mixing.mix(mask, array, jnp.roll(array, -1, axis=0)) for array in arrays)


def strong_view(key: chex.PRNGKey, image: jax.Array, weak: jax.Array, config: ConfigDict) -> tuple[jax.Array, ...]:
    """Return strong views of images, mixed, and what their pixels are taught.

    Args:
        key: a PRNG key.
        image: float [b, h, w, 3] in [-1, 1], weakly augmented.
        weak: class logits of it, float [b, h, w, k].
        config: the run's config.

    Returns:
        The views, float [b, h, w, 3], and the labels and pixels of their `Lesson`.
    """
    shown = paired.shown(image)
    mask = draw_mask(fold_name(key, "mask"), predicted_class(weak, shown), config)
    view = photometric.strong_view(image, shown, fold_name(key, "colors"))
    return mix_with_next(mask, view, pseudo_label(weak, shown, config.losses.confidence_threshold), shown)


def predicted_class(logits: jax.Array, shown: jax.Array) -> jax.Array:
    """Return the likeliest class of each pixel, int32 [b, h, w], 255 where no image is shown (bool [b, h, w])."""
    return jnp.where(shown, jnp.argmax(logits, axis=-1), IGNORE)


def pseudo_label(logits: jax.Array, shown: jax.Array, threshold: float) -> jax.Array:
    """Return `predicted_class` where its probability is at least the threshold, 0..1, else 255."""
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    return jnp.where(confidence >= threshold, predicted_class(logits, shown), IGNORE)


def cross_entropy(lesson: Lesson) -> jax.Array:
    """Compute H(S, p) of the module docstring: float32 scalar; 0, with zero gradient, where no label is sure."""
    loss, known = segmentation.pixel_cross_entropy(lesson.logits, lesson.label)
    return jnp.sum(loss * known) / jnp.maximum(jnp.sum(lesson.shown), 1)


def accepted_share(lesson: Lesson) -> jax.Array:
    """Return of which share of the pixels shown the label is sure: float32 scalar, 0..1."""
    return jnp.sum(segmentation.known(lesson.label)) / jnp.maximum(jnp.sum(lesson.shown), 1)

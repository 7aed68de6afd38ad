"""Self-training on predictions that a discriminator takes for real: what AdvSemiSeg and S4GAN share.

With x, y an image and its one-hot label, u an image without one, S the segmenter's logits, p = softmax(S(.)) and P(D)
the probability of "real" by the discriminator's scores (their sigmoid; of least squares the scores themselves, cut to
0..1; other losses give none and are refused):

    L_S = supervised(S(x), y) + what the method adds
          + self_training_weight CE(S(u), argmax p(u)) where P(D) > self_training_threshold

Self-training begins after the share `self_training_start` of the steps. With all weights 0, L_S is the supervised loss;
u then still passes through S, whose running statistics it enters as in the papers' code.
"""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.losses.segmentation_gan import confident_self_training
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import game
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.phases import planned
from gan_seg_jax.state import LossOutput, Networks

LOSSES = {  # the fields of `config.losses` that both methods read, and their kinds (`config_fields`)
    **game.LOSSES,
    "semi": str,
    "self_training_weight": float,
    "self_training_threshold": float,
    "self_training_start": float,
}


class Terms(NamedTuple):
    """What a method adds: to the segmenter's loss, and as the whole of the discriminator's."""

    segmenter: jax.Array
    discriminator: jax.Array
    confidence: jax.Array  # 0..1, that predictions on unlabelled images are real; broadcasts to [b, h, w]
    trained: jax.Array  # bool [b, h, w], the unlabelled pixels that self-training may use
    outcome: game.Outcome
    nets: Networks
    metrics: dict[str, jax.Array]


def build(config: ConfigDict, name: str, *, discriminator: str, weights: tuple[str, ...]) -> dict[str, nn.Module]:
    """Return segmenter and discriminator.

    Args:
        config: the run's config.
        name: of the method.
        discriminator: name of the network that the method needs.
        weights: fields of `config.losses`, of the method's terms beside the supervised loss.

    Raises:
        InputError: another discriminator, a loss without a probability, a share out of range, or no loss that has a
            weight.
    """
    options, network = config.losses, config.networks.discriminator
    if network.name != discriminator:
        raise InputError(
            f"config.networks.discriminator.name is {network.name!r}, but {name} needs {discriminator!r}; "
            "choose the form by the config's word."
        )
    if adversarial.create(options.adversarial).probability is None:
        working = ", ".join(name for name, loss in adversarial.ADVERSARIAL.items() if loss.probability)
        raise InputError(
            f"config.losses.adversarial is {options.adversarial!r}, whose scores are no probability that self-training "
            f"could go by; use one of {working}."
        )
    game.check(config, paired=False)
    expect_a_loss(options, "segmenter", *weights, "weights")
    for field in ("self_training_threshold", "self_training_start"):
        if not 0 <= options[field] <= 1:
            raise InputError(f"config.losses.{field} is {options[field]}; give a share, 0 to 1.")
    return {
        "segmenter": build_network(config.networks.segmenter, dtype=config.dtype, num_classes=config.num_classes),
        "discriminator": build_network(network, dtype=config.dtype),
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the segmenter's output for the labelled images, and class logits [b, h, w, k] of the unlabelled ones."""
    del rng, config
    labelled, nets = nets.apply("segmenter", batch["labelled"]["image"])
    unlabelled, nets = nets.apply("segmenter", batch["unlabelled"]["image"])
    return (labelled, split_heads(unlabelled)[0]), nets


def losses(terms: Terms, outputs: Any, batch, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks; metrics include the share that self-training accepts.

    Args:
        terms: of the method.
        outputs: of `forward`.
        batch: both streams.
        config: the run's config.
    """
    options, (labelled, unlabelled_logits) = config.losses, outputs
    logits, heads = split_heads(labelled)
    supervised, parts = with_heads(logits, heads, batch["labelled"]["label"], options)
    self_training, share = confident_self_training(
        unlabelled_logits, terms.confidence, threshold=options.self_training_threshold, known=terms.trained
    )
    realness = jnp.broadcast_to(terms.confidence, terms.trained.shape)
    begun = terms.nets.step >= round(options.self_training_start * planned(config))
    metrics = {
        **parts,
        **terms.outcome.metrics,
        **terms.metrics,
        "self_training": self_training,
        "accepted_share": share,
        "unlabelled_realness": segmentation.weighted_mean(realness, terms.trained.astype(jnp.float32)),
    }
    weight = jnp.where(begun, options.self_training_weight, 0.0)
    return LossOutput(
        {"discriminator": terms.discriminator, "segmenter": supervised + terms.segmenter + weight * self_training},
        terms.nets,
        metrics,
        terms.outcome.accept,
    )

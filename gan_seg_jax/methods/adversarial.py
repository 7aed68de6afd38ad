"""Adversarial segmentation: trains a segmenter against a discriminator that tells its maps from the truth.

Choose it to ask what a discriminator adds to a segmenter with its own loss and network; `cgan` is pix2pix's form.

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(x, p), fake) ]
    L_S = supervised(S(x), y) + w_adv loss(D(x, p), real)

Luc, Couprie, Chintala, Verbeek: Semantic Segmentation using Adversarial Networks, 2016, arXiv:1611.08408. x is the
image, y the one-hot truth, S(x) the segmenter's logits and p = softmax(S(x)). `config.losses.discriminator_input` says
what the discriminator's input is of (x, m), m = y or p:
    mask          m                             (the paper's Basic)
    image_mask    x and m
    product       x_c m_k for every colour c and class k: 3k channels   (Product)
and `truth_softness` t > 0 replaces y by a softened truth (Scaling), so that D cannot go by crispness: the true class
gets max(t, p), the others share the rest as in p; the paper's t is 0.9. `image_level` averages D's map to one score an
image. Pixels without a label are zero in every map alike, and patches of padded images show the same.

Differences from the paper: D is the paper's or any other of `configs/discriminators.py`; segmenter and D take turns at
every step instead of every 500.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import game, segmenter
from gan_seg_jax.methods.game import DiscriminatorInputs
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = {
    "losses": {**game.LOSSES, "discriminator_input": str, "truth_softness": float, "image_level": bool},
}
INPUTS = ("mask", "image_mask", "product")
forward = segmenter.forward
predict = segmenter.predict


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return segmenter and discriminator.

    Raises:
        InputError: the adversarial loss, or the discriminator's input, is unknown, the truth's softness is not in
            [0, 1), or no loss has a weight.
    """
    game.check(config)
    options = config.losses
    expect_a_loss(options, "segmenter", "adversarial_weight", "feature_matching", "weights")
    if options.discriminator_input not in INPUTS:
        raise unknown("losses.discriminator_input", options.discriminator_input, INPUTS)
    if not 0 <= options.truth_softness < 1:
        raise InputError(
            f"config.losses.truth_softness is {options.truth_softness}; give a share of at least 0 (off) and less "
            "than 1, such as 0.9."
        )
    networks = config.networks
    return {
        "segmenter": build_network(networks.segmenter, dtype=config.dtype, num_classes=config.num_classes),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    logits, heads = split_heads(outputs)
    outcome = game.play(nets, *_real_and_fake(logits, batch, config), rng, config, pool=config.losses.image_level)
    supervised, terms = with_heads(logits, heads, batch["labelled"]["label"], config.losses)
    return outcome.losses("segmenter", supervised, terms)


def _real_and_fake(logits: jax.Array, batch, config: ConfigDict) -> tuple[DiscriminatorInputs, DiscriminatorInputs]:
    """Return the discriminator's inputs of the truth and of the prediction."""
    options, image, label = config.losses, batch["labelled"]["image"], batch["labelled"]["label"]
    fake = jax.nn.softmax(logits) * segmentation.known(label, config.num_classes)[..., None]
    real = segmentation.one_hot(label, config.num_classes)
    if options.truth_softness > 0:
        real = soften(real, fake, options.truth_softness)
    return _inputs(image, real, options), _inputs(image, fake, options)


def soften(real: jax.Array, fake: jax.Array, softness: float) -> jax.Array:
    """Return a truth y' that is as soft as a prediction p.

    The true class l gets y'_l = max(t, p_l), the others y'_c = p_c (1 - y'_l) / (1 - p_l).

    Args:
        real: one-hot truth [b, h, w, k], all zeros where nothing is known.
        fake: class probabilities [b, h, w, k]; a constant here, as any target.
        softness: t, more than 0, less than 1.

    Returns:
        [b, h, w, k], adding up to 1 where the truth is known and 0 elsewhere.
    """
    fake = jax.lax.stop_gradient(fake)
    true = jnp.sum(real * fake, axis=-1, keepdims=True)
    raised = jnp.maximum(softness, true)
    known = jnp.sum(real, axis=-1, keepdims=True)
    others = (1 - real) * fake * (1 - raised) / jnp.maximum(1 - true, 1e-6)
    # Where the prediction is certain of the truth, nothing is left to share: the true class takes it.
    left = 1 - jnp.sum(others, axis=-1, keepdims=True)
    return known * (others + real * left)


def _inputs(image, mask, options) -> DiscriminatorInputs:
    """Return the discriminator's inputs of an image and a map."""
    if options.discriminator_input == "mask":
        return DiscriminatorInputs(maps=(mask,))
    if options.discriminator_input == "image_mask":
        return DiscriminatorInputs(images=(image,), maps=(mask,))
    product = image[..., :, None] * mask[..., None, :]
    return DiscriminatorInputs(maps=(product.reshape(*mask.shape[:3], -1),))


def discriminator_inputs(
    nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict
) -> tuple[DiscriminatorInputs, DiscriminatorInputs]:
    """Return the discriminator's inputs in training, of the truth and of the prediction."""
    outputs, _ = forward(nets, batch, rng, config)
    return _real_and_fake(split_heads(outputs)[0], batch, config)


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each patch [b, h', w']: 0 fake, 1 real, 1/2 where it decides.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k].
        config: the run's config.
    """
    inputs = _inputs(image, mask, config.losses)
    outputs, _ = nets.apply("discriminator", *inputs.images, *inputs.maps)
    return game.realness(outputs, config)

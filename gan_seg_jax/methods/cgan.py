"""pix2pix for segmentation: trains a conditional GAN whose generator maps an image to its class map.

Choose it to have the conditional GAN itself as the segmenter; `adversarial` adds a discriminator to a segmenter.

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(x, m(x)), fake) ]
    L_G = w_adv loss(D(x, m(x)), real) + S(G(x), y)

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004.
The generator G maps an image x to a map m(x); the discriminator D sees it, or the true map y, with the image and scores
patches. `config.output` says what the maps are:
    probabilities   m = softmax(G(x)), y one-hot; S is the weighted sum of `config.losses.weights`
    colors          m = tanh(G(x)), three channels, y the colours of the classes; S = w_l1 mean|m - y| + w_mse
                    mean(m - y)^2, and the nearest colour is the class (the paper's form)
Auxiliary heads of the generator add auxiliary_weight times S of their own and are no input of the discriminator. With
`config.losses.conditional` False D does not see x: L_GAN(D(y), D(m(x))), the paper's GAN against its cGAN. Noise enters
as the generator's dropout alone, as in the paper.

Differences from the paper: by default the map has a channel per class instead of three colours, since L1 between
colours is no distance between classes; terms besides L1 may be added (none in `configs/cgan_seg.py:paper`); dropout and
batch statistics are off when a trained network is used. Pixels without a label are zero in the real and in the fake map
alike, so that they tell the discriminator nothing.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import unknown
from gan_seg_jax.losses import colors, segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import game
from gan_seg_jax.methods.game import DiscriminatorInputs
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = {"output": str, "losses": {**game.LOSSES, "conditional": bool}}
OUTPUTS = ("probabilities", "colors")


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator and discriminator.

    Raises:
        InputError: an option of the game or the output is unknown, no loss has a weight, or colours cannot stand for
            the classes.
    """
    game.check(config)
    expect_a_loss(config.losses, "generator", "adversarial_weight", "feature_matching", "weights")
    if config.output not in OUTPUTS:
        raise unknown("output", config.output, OUTPUTS)
    channels = config.num_classes
    if config.output == "colors":
        colors.check_differences(config.losses.weights)
        channels = _palette(config).shape[1]
    networks = config.networks
    return {
        "generator": build_network(networks.generator, dtype=config.dtype, num_classes=channels),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the generator's output: G(x) [b, h, w, c], or a pair of it and of auxiliary heads."""
    del rng, config
    return nets.apply("generator", batch["labelled"]["image"])


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    label = batch["labelled"]["label"]
    output, heads = split_heads(outputs)
    real, fake = _real_and_fake(output, batch, config)
    outcome = game.play(nets, real, fake, rng, config)
    if config.output == "colors":
        known, heads = segmentation.known(label, config.num_classes), jax.tree.map(jnp.tanh, heads)
        supervised, terms = colors.with_heads(fake.maps[0], heads, real.maps[0], known, config.losses)
    else:
        supervised, terms = with_heads(output, heads, label, config.losses)
    return outcome.losses("generator", supervised, terms)


def _real_and_fake(output: jax.Array, batch, config: ConfigDict) -> tuple[DiscriminatorInputs, DiscriminatorInputs]:
    """Return the discriminator's inputs of the truth and of the generator's output."""
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    if config.output == "colors":
        real, fake = colors.colorize(label, _palette(config)), jnp.tanh(output)
    else:
        real, fake = segmentation.one_hot(label, config.num_classes), jax.nn.softmax(output)
    fake = fake * segmentation.known(label, config.num_classes)[..., None]
    return _inputs(image, real, config), _inputs(image, fake, config)


def _palette(config: ConfigDict) -> jax.Array:
    return colors.palette(config.class_colors, config.num_classes)


def _inputs(image: jax.Array, mask: jax.Array, config: ConfigDict) -> DiscriminatorInputs:
    """Return the discriminator's inputs of an image and a map."""
    return DiscriminatorInputs(images=(image,) if config.losses.conditional else (), maps=(mask,))


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> jax.Array:
    """Return class logits [b, h, w, k]; of colours, those of the nearest class colour (`colors.color_logits`)."""
    outputs, _ = forward(nets, batch, rng, config)
    output = split_heads(outputs)[0]
    return colors.color_logits(jnp.tanh(output), _palette(config)) if config.output == "colors" else output


def discriminator_inputs(
    nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict
) -> tuple[DiscriminatorInputs, DiscriminatorInputs]:
    """Return the discriminator's inputs in training, of the truth and of the generator's map."""
    outputs, _ = forward(nets, batch, rng, config)
    return _real_and_fake(split_heads(outputs)[0], batch, config)


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each patch [b, h', w']: 0 fake, 1 real, 1/2 where it decides.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k]; where maps are colours, its input is their mean colour.
        config: the run's config.
    """
    inputs = _inputs(image, mask @ _palette(config) if config.output == "colors" else mask, config)
    outputs, _ = nets.apply("discriminator", *inputs.images, *inputs.maps)
    return game.realness(outputs, config)

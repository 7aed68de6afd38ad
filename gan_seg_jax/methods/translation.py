"""pix2pix: trains a generator that translates one view of a scene into another.

Choose it where images are to become other images: from labels or to them, coloured, enhanced, or of another style.

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(x, m(x)), fake) ]
    L_G = w_adv loss(D(x, m(x)), real) + w_l1 mean|m(x) - y| + w_mse mean(m(x) - y)^2

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004,
equation 4 (w_mse is 0 there). x is the input, y the target and m(x) = tanh(G(x)) the generator's output.
`config.input` and `config.target` name views of an example:
    image            its image
    labels           its label, in the colours of the classes (mid grey where there is none)
    grey             its image without colour
    low_resolution   its image, shrunk to a quarter and enlarged again
    target           the other image of a pair (`config.dataset="pairs"`)
so labels -> image, image -> labels and grey -> image are the paper's, low_resolution -> image enhances, and image ->
target is anything that a folder shows, such as another style. Colour jitter, if it is on, changes `image` and the views
made of it, not `target`. With `config.losses.conditional` False D does not see x. Noise is the generator's dropout.

Differences from the paper: dropout and batch statistics are off when a trained network is used. Pixels without a label,
and padding, are zero in the inputs of D, y and m(x) alike, and count in no difference.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment.photometric import GREY_WEIGHTS
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.losses import colors, segmentation
from gan_seg_jax.losses.weighted import expect_a_loss
from gan_seg_jax.methods import game
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "translation"
STREAMS = ("labelled",)
FIELDS = {"input": str, "target": str, "losses": {**game.LOSSES, "conditional": bool}}
VIEWS = ("image", "labels", "grey", "low_resolution", "target")
SHRINKING = 4  # of low_resolution

score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator and discriminator.

    Raises:
        InputError: an option of the game or a view is unknown, input and target are the same, a loss of classes has a
            weight or no loss has one.
    """
    game.check(config)
    expect_a_loss(config.losses, "generator", "adversarial_weight", "feature_matching", "weights")
    for field in ("input", "target"):
        if config[field] not in VIEWS:
            raise unknown(f"view in config.{field}:", config[field], VIEWS)
    if config.input == config.target:
        raise InputError(f"config.input and config.target are both {config.input!r}; choose two of {', '.join(VIEWS)}.")
    if "labels" in (config.input, config.target):
        colors.palette(config.class_colors, config.num_classes)
    colors.check_differences(config.losses.weights)
    networks = config.networks
    return {
        "generator": build_network(networks.generator, dtype=config.dtype, num_classes=3),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def view(stream: dict[str, jax.Array], name: str, config: ConfigDict) -> jax.Array:
    """Return a view of examples (module docstring).

    Args:
        stream: `image` and, of pairs, `target` float [b, h, w, 3] in [-1, 1]; `label` int [b, h, w], 255 = ignore.
        name: in `VIEWS`.
        config: the run's config, for the colours of the classes.

    Returns:
        float32 [b, h, w, 3] in [-1, 1].

    Raises:
        InputError: the examples are no pairs.
    """
    image = stream["image"]
    if name == "labels":
        return colors.colorize(stream["label"], colors.palette(config.class_colors, config.num_classes))
    if name == "grey":
        grey = sum(weight * image[..., channel] for channel, weight in enumerate(GREY_WEIGHTS))
        return jnp.repeat(grey[..., None], 3, axis=-1)
    if name == "low_resolution":
        b, h, w, c = image.shape
        small = jax.image.resize(image, (b, -(-h // SHRINKING), -(-w // SHRINKING), c), "linear")  # anti-aliased
        return jax.image.resize(small, image.shape, "linear")
    if name not in stream:
        raise InputError(
            f"config.input or config.target is 'target', but {config.dataset} has no targets; use "
            "--config.dataset=pairs with a folder that has train/targets, or another view."
        )
    return stream[name]


def known(stream: dict[str, jax.Array], config: ConfigDict) -> jax.Array:
    """Return the pixels that count, bool [b, h, w]: those with a class, which of pairs are all but the padding."""
    return segmentation.known(stream["label"], config.num_classes)


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the generator's output: G(x) [b, h, w, 3], or a pair of it and of auxiliary heads."""
    del rng
    return nets.apply("generator", view(batch["labelled"], config.input, config))


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    stream = batch["labelled"]
    given, real = view(stream, config.input, config), view(stream, config.target, config)
    counts = known(stream, config)
    fake, heads = jax.tree.map(jnp.tanh, split_heads(outputs))
    difference, terms = colors.with_heads(fake, heads, real, counts, config.losses)
    condition = (given,) if config.losses.conditional else ()
    real, fake = (game.DiscriminatorInputs(images=(*condition, x * counts[..., None])) for x in (real, fake))
    outcome = game.play(nets, real, fake, rng, config)
    return outcome.losses("generator", difference, terms)


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> dict[str, jax.Array]:
    """Return {"image": float32 [b, h, w, 3] in [-1, 1]}, the translation of the input view of `batch["labelled"]`."""
    outputs, _ = forward(nets, batch, rng, config)
    return {"image": jnp.tanh(split_heads(outputs)[0].astype(jnp.float32))}

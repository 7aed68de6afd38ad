"""Generators of images, label-to-image or unconditional: what the methods that have one share."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import noise
from gan_seg_jax.errors import InputError, expect, unknown
from gan_seg_jax.losses import segmentation
from gan_seg_jax.models import MODELS, build_network, network, that_make
from gan_seg_jax.state import Networks, fold_name

FIELDS = {  # of a generator that images are sampled from, and their kinds (`config_fields`)
    "noise": {"distribution": str, "size": int, "truncation": float},
    "sample_as_trained": bool,
}
LABEL_TO_IMAGE = that_make(network.LABEL_TO_IMAGE)
UNCONDITIONAL = that_make(network.UNCONDITIONAL)


def is_label_to_image(config: ConfigDict) -> bool:
    """Return whether `config.networks.generator` turns label maps into images; else it is unconditional.

    Raises:
        InputError: it does neither.
    """
    name = config.networks.generator.name
    if name not in LABEL_TO_IMAGE + UNCONDITIONAL:
        raise unknown("networks.generator.name", name, LABEL_TO_IMAGE + UNCONDITIONAL)
    return name in LABEL_TO_IMAGE


def _makes_logits(config: ConfigDict) -> bool:
    """Return whether the label-to-image generator is one that else segments: tanh of its logits is an image."""
    return network.SEGMENTATION in MODELS[config.networks.generator.name].MAKES


def build_generator(config: ConfigDict) -> nn.Module:
    """Return the generator: label-to-image, or an unconditional one of pairs of image and mask.

    Raises:
        InputError: the network is neither, or the noise does not suit it.
    """
    options, size = config.networks.generator, config.noise.size
    if not is_label_to_image(config):
        if options.heads != "joint":
            raise InputError(
                f"networks.generator.heads is {options.heads!r}: it makes images without masks; use the generator of a "
                "run with heads 'joint'."
            )
        if size < 1:
            raise InputError(f"noise.size is {size}; give the positive whole number that the generator takes.")
        derived = {"size": tuple(config.crop_size), "num_classes": config.num_classes}
    elif _makes_logits(config):
        if size:
            raise InputError(f"noise.size is {size}, but the noise of a U-Net is its dropout; set it to 0.")
        derived = {"num_classes": 3}
    else:
        derived = {}
    check_noise(config)
    return build_network(options, dtype=config.dtype, **derived)


def build_label_to_image(config: ConfigDict) -> nn.Module:
    """Return the generator, which is label-to-image.

    Raises:
        InputError: it is not, or the noise does not suit it.
    """
    if config.networks.generator.name not in LABEL_TO_IMAGE:
        raise unknown("networks.generator.name", config.networks.generator.name, LABEL_TO_IMAGE)
    return build_generator(config)


def label_to_image(
    nets: Networks, label: jax.Array, rng: chex.PRNGKey, config: ConfigDict, *, as_trained: bool = False
) -> tuple[jax.Array, Networks]:
    """Return the generator's images of label maps, and the successor view.

    Args:
        nets: the view.
        label: int [b, h, w], class ids, 255 = unknown.
        rng: of the noise, where the generator takes any.
        config: the run's config.
        as_trained: keep the network in training mode (dropout, statistics of what it sees) also where it does not
            move, each image by itself as at a batch of one, and drop new statistics.

    Returns:
        float32 [b, h, w, 3] in [-1, 1], and the successor.
    """
    inputs = (segmentation.one_hot(label, config.num_classes),)
    if config.noise.size:
        inputs += (draw_noise(rng, len(label), config),)
    mode = {"train": True, "update": False, "alone": True} if as_trained else {}
    image, nets = nets.apply("generator", *inputs, **mode)
    return (jnp.tanh(image) if _makes_logits(config) else image), nets


def forward_label_to_image(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[jax.Array, Networks]:
    """Return the generator's images of the true labels, float32 [b, h, w, 3] in [-1, 1], and the successor view."""
    return label_to_image(nets, batch["labelled"]["label"], rng, config)


def predict_label_to_image(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> dict[str, jax.Array]:
    """Return images of the true labels of `batch["labelled"]`, with noise drawn from `rng`.

    Returns:
        `image`, float32 [b, h, w, 3] in [-1, 1], and `label`, int32 [b, h, w], the labels.
    """
    label = batch["labelled"]["label"]
    image, _ = label_to_image(nets.replace(rng=rng), label, rng, config, as_trained=config.sample_as_trained)
    return {"image": image, "label": label}


def hide(image: jax.Array, known: jax.Array) -> jax.Array:
    """Return images [b, h, w, 3] that are 0 (mid grey) where the class is not known, `known` being bool [b, h, w]."""
    return jnp.where(known[..., None], image, 0.0)


def unconditional_pairs(
    nets: Networks, count: int, rng: chex.PRNGKey, config: ConfigDict
) -> tuple[tuple[jax.Array, jax.Array], Networks]:
    """Return pairs of image and mask generated from noise, and the successor view.

    Args:
        nets: the view.
        count: of pairs (static).
        rng: of the noise.
        config: the run's config.

    Returns:
        (images float32 [count, h, w, 3] in [-1, 1], labels int32 [count, h, w], the likeliest class), and the
        successor.
    """
    (image, logits), nets = nets.apply("generator", draw_noise(rng, count, config))
    return (image, jnp.argmax(logits, axis=-1).astype(jnp.int32)), nets


def check_noise(config: ConfigDict) -> None:
    """Check `config.noise`.

    Raises:
        InputError: there is no such distribution, or so many numbers are beyond all bounds.
    """
    size, most = config.noise.size, network.MOST_CHANNELS
    expect(0 <= size <= most, "noise.size", size, f"zero or a whole number of at most {most}")
    if size:
        jax.eval_shape(lambda key: draw_noise(key, 1, config), jax.random.key(0))


def draw_noise(key: chex.PRNGKey, count: int, config: ConfigDict) -> jax.Array:
    """Return float32 [count, noise.size] by `config.noise`; the key may serve other draws, too."""
    options = config.noise
    return noise.draw(fold_name(key, "noise"), (count, options.size), options.distribution, options.truncation)

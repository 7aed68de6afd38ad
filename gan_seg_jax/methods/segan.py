"""SegAN: trains a segmenter against a critic that compares features at every scale.

Choose it for medical images of few classes, best of an object and background.

    d   = 1/L sum_i mean|C_i(x * y) - C_i(x * p)|
    L_C = -d                                        the critic climbs
    L_S = w_adv d + supervised(S(x), y)             the segmenter descends; the paper has no supervised term

Xue, Xu, Zhang, Long, Huang: SegAN: Adversarial Network with Multi-scale L1 Loss for Medical Image Segmentation,
Neuroinformatics 2018, arXiv:1706.01805. x is the image, y the one-hot truth, p = softmax(S(x)), S(x) the segmenter's
logits, and C_1 ... C_L what the critic (role `discriminator`) computes at each scale, the input itself included. x * m
are the products of every colour with the map of every class but the first, all channels side by side: with two classes,
background and object, the paper's image times object mask. The first class is the rest and adds nothing. Pixels without
a label are zero in both products alike. A colour of value 0 (mid grey) is 0 under any mask, so C is blind there; beside
the colours it therefore sees the maps themselves, as a colour that is 1 everywhere.

Nothing bounds d from above but the critic's weights, which are clamped after every update
(`optimizers.discriminator.clip_weights`, 0.05), norms included, as in the released code.

`losses.legacy` leaves that colour out and takes the mean of d as the released code does: over the units of all scales
together, those of scale i times 1, 1, 2, 2, 2, 2, 4. That code also adds a Dice loss to L_S, for stability by its
author's word, with weight 1: `losses.weights.dice` here, which sums over the batch and over all classes where theirs is
of each image's object.

Differences from the paper: the colour that is 1, a softmax for its sigmoid, and any segmentation network of `models`.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.segmentation_gan import multi_scale_l1
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import segmenter
from gan_seg_jax.models import build_network, split_heads, that_make
from gan_seg_jax.models.network import FEATURES
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = {"losses": {"adversarial_weight": float, "legacy": bool}}
forward = segmenter.forward
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return segmenter and critic.

    Raises:
        InputError: the critic returns no features, there is no class besides the first, or no loss has a weight.
    """
    expect_a_loss(config.losses, "segmenter", "adversarial_weight", "weights")
    networks = config.networks
    if networks.discriminator.name not in that_make(FEATURES):
        raise InputError(
            f"networks.discriminator.name is {networks.discriminator.name!r}; SegAN compares features: use "
            f"{' or '.join(that_make(FEATURES))}."
        )
    if config.num_classes < 2:
        raise InputError(
            f"num_classes is {config.num_classes}; SegAN compares every class but the first: give 2 or more."
        )
    return {
        "segmenter": build_network(networks.segmenter, dtype=config.dtype, num_classes=config.num_classes),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    del rng
    options, image, label = config.losses, batch["labelled"]["image"], batch["labelled"]["label"]
    logits, heads = split_heads(outputs)
    known = segmentation.known(label, config.num_classes)[..., None]
    real = segmentation.one_hot(label, config.num_classes)
    colors = image if options.legacy else jnp.concatenate([image, jnp.ones_like(image[..., :1])], axis=-1)
    real_features, nets = nets.apply("discriminator", masked(colors, real))
    fake_features, nets = nets.apply("discriminator", masked(colors, jax.nn.softmax(logits) * known), update=False)
    distance = multi_scale_l1(real_features, fake_features, legacy=options.legacy)
    supervised, terms = with_heads(logits, heads, label, options)
    return LossOutput(
        {"discriminator": -distance, "segmenter": options.adversarial_weight * distance + supervised},
        nets,
        {**terms, "adversarial": distance},
    )


def masked(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the product of every colour with the map of every class but the first.

    Args:
        image: float [b, h, w, c].
        mask: float [b, h, w, k], one-hot labels or class probabilities.

    Returns:
        float [b, h, w, c (k - 1)], class by class.
    """
    product = mask[..., 1:, None] * image[..., None, :]
    return product.reshape(*image.shape[:3], -1)

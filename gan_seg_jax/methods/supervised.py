"""Supervised segmentation: a network trained by pixel-wise cross-entropy, the yardstick of every other method."""

import chex
import flax.linen as nn
import jax
from ml_collections import ConfigDict

from gan_seg_jax.losses import segmentation
from gan_seg_jax.models import build_network
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter."""
    options = config.networks.segmenter
    return {"segmenter": build_network(options, dtype=config.dtype, num_classes=config.num_classes)}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[jax.Array, Networks]:
    """Return the segmenter's class logits [b, h, w, k]."""
    del rng, config
    return nets.apply("segmenter", batch["labelled"]["image"])


def losses(nets: Networks, outputs: jax.Array, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the mean cross-entropy over the labelled pixels."""
    del rng
    label = batch["labelled"]["label"]
    loss = segmentation.cross_entropy(
        outputs,
        label,
        class_weights=config.losses.class_weights or None,
        label_smoothing=config.losses.label_smoothing,
    )
    return LossOutput({"segmenter": loss}, nets)


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> jax.Array:
    """Return class logits [b, h, w, k]."""
    return forward(nets, batch, rng, config)[0]

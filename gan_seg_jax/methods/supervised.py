"""Supervised segmentation: trains a network by pixel-wise losses alone.

Choose it where every training image has labels, and as the baseline of every other method.

    L = S(z, y) + auxiliary_weight * sum_a S(z_a, y)

z are the logits, z_a those of auxiliary heads (networks that have some), y is the label and S the weighted sum of
losses that `config.losses.weights` asks for (cross-entropy alone by default).
"""

from typing import Any

import chex
import flax.linen as nn
from ml_collections import ConfigDict

from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = {}
forward = segmenter.forward
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter.

    Raises:
        InputError: no loss has a weight.
    """
    expect_a_loss(config.losses, "segmenter", "weights")
    options = config.networks.segmenter
    return {"segmenter": build_network(options, dtype=config.dtype, num_classes=config.num_classes)}


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss (module docstring); its parts are metrics where there is more than one."""
    del rng
    label = batch["labelled"]["label"]
    logits, heads = split_heads(outputs)
    loss, terms = with_heads(logits, heads, label, config.losses)
    return LossOutput({"segmenter": loss}, nets, terms if len(terms) > 1 else {})

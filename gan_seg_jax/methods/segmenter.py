"""The passes of a single segmenter, which most methods of segmentation share."""

from typing import Any

import chex
import jax
from ml_collections import ConfigDict

from gan_seg_jax.models import split_heads
from gan_seg_jax.state import Networks


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the segmenter's output: class logits [b, h, w, k], or a pair of them and those of auxiliary heads."""
    del rng, config
    return nets.apply("segmenter", batch["labelled"]["image"])


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> jax.Array:
    """Return class logits [b, h, w, k]."""
    outputs, _ = forward(nets, batch, rng, config)
    return split_heads(outputs)[0]

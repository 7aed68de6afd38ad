"""Supervised segmentation: trains a network by pixel-wise losses alone.

Choose it where every training image has labels, and as the baseline of every other method.

    L = S(z, y) + auxiliary_weight * sum_a S(z_a, y)

With MixUp (`config.losses.mixup` = a > 0), z is of the blend s x + (1 - s) x' of each image x with the next one x' of
the batch, s ~ Beta(a, a) in each step, and with y' the label of x'

    L = s [S(z, y) + ...] + (1 - s) [S(z, y') + ...]

z are the logits, z_a those of auxiliary heads (networks that have some), y is the label and S the weighted sum of
losses that `config.losses.weights` asks for (cross-entropy alone by default). MixUp: Zhang et al., ICLR 2018,
arXiv:1710.09412, equation of the mixed loss in its code; equal to its mixed labels for cross-entropy, and defined for
losses that need class ids. What is void in y is void in its term alone.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import mixing
from gan_seg_jax.errors import expect
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = {"losses": {"mixup": float}}
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter.

    Raises:
        InputError: no loss has a weight, or images cannot be mixed.
    """
    expect_a_loss(config.losses, "segmenter", "weights")
    alpha = config.losses.mixup
    expect(alpha >= 0, "losses.mixup", alpha, "0 (off) or the parameter of the Beta distribution, such as 0.2")
    if alpha:
        expect(config.batch_size > 1, "batch_size", config.batch_size, "at least 2, to blend each image with the next")
    options = config.networks.segmenter
    return {"segmenter": build_network(options, dtype=config.dtype, num_classes=config.num_classes)}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the segmenter's output, as `segmenter.forward`; with MixUp a pair of it and of the share s."""
    alpha = config.losses.mixup
    if not alpha:
        return segmenter.forward(nets, batch, rng, config)
    share = jax.random.beta(rng, alpha, alpha)
    outputs, nets = nets.apply("segmenter", mixing.mixup(batch["labelled"]["image"], share))
    return (outputs, share), nets


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss (module docstring); its parts are metrics where there is more than one."""
    del rng
    label = batch["labelled"]["label"]
    if not config.losses.mixup:
        loss, terms = with_heads(*split_heads(outputs), label, config.losses)
    else:
        outputs, share = outputs
        both = [with_heads(*split_heads(outputs), y, config.losses) for y in (label, jnp.roll(label, -1, axis=0))]
        loss, terms = jax.tree.map(lambda first, second: share * first + (1.0 - share) * second, *both)
    return LossOutput({"segmenter": loss}, nets, terms if len(terms) > 1 else {})

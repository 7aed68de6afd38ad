"""FixMatch: trains a segmenter with few labels and many images without, by its own sure predictions; no GAN.

Choose it where labels are few; it is the plainest of the rivals of 2020 and later that a GAN has to beat.

    L_S = supervised(S(x), y) + strong_weight H(S(M a(u) + (1 - M) a(u')), M p + (1 - M) p'),   p = softmax(S(u))

Sohn et al.: FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, NeurIPS 2020,
arXiv:2001.07685, for segmentation as in Yang et al., CVPR 2023, arXiv:2208.09910, whose baseline it is. x, y are an
image and its label, u and u' images without labels, weakly augmented as all images of a run are (`config.augment`), a
the strong view, which distorts colours (`augment.photometric`), S the segmenter's logits. M and H, the cross-entropy on
pixels with max p >= confidence_threshold, are those of `consistency`, and so is what counts. An untrained segmenter is
sure of nothing: its own labels come in by themselves.

As in the paper's code, x and u pass through S as one batch and the strong views as another, both in training mode;
the statistics of norms take in first the one, then the other. With strong_weight 0, L_S is the supervised loss.

Differences from the paper's code: u' is the next image of the batch and p' comes from the same pass, where it draws a
second batch that it labels in inference mode. The rectangle's sides are drawn as in French et al. The sum of the two
terms is halved there, which under SGD is half the learning rate.
"""

from typing import Any

import chex
import flax.linen as nn
from ml_collections import ConfigDict

from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import consistency, segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
FIELDS = {"losses": {**consistency.LOSSES, "confidence_threshold": float, "strong_weight": float}}
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter.

    Raises:
        InputError: no loss has a weight, or an option is unknown or out of range.
    """
    expect_a_loss(config.losses, "segmenter", "strong_weight", "weights")
    consistency.check(config)
    return {"segmenter": build_network(config.networks.segmenter, dtype=config.dtype, num_classes=config.num_classes)}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the outputs for labelled images and for strong views.

    Args:
        nets: the view.
        batch: both streams.
        rng: draws the strong views and the masks.
        config: the run's config.

    Returns:
        The segmenter's output for the labelled images, and the `consistency.Lesson` of the mixed strong views. And the
        successor.
    """
    (labelled, (weak,)), nets = consistency.apply_to_both(nets, batch)
    mixed, label, shown = consistency.strong_view(rng, batch["unlabelled"]["image"], weak, config)
    strong, nets = nets.apply("segmenter", mixed)
    return (labelled, consistency.Lesson(split_heads(strong)[0], label, shown)), nets


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss (module docstring); metrics say of which share of the pixels the segmenter is sure."""
    del rng
    labelled, lesson = outputs
    logits, heads = split_heads(labelled)
    supervised, terms = with_heads(logits, heads, batch["labelled"]["label"], config.losses)
    strong = consistency.cross_entropy(lesson)
    metrics = {**terms, "strong": strong, "accepted_share": consistency.accepted_share(lesson)}
    return LossOutput({"segmenter": supervised + config.losses.strong_weight * strong}, nets, metrics)

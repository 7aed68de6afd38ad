"""CPS: trains a segmenter with few labels and many images without, beside another one; each labels for the other.

Choose it where labels are few and there is time for two networks; it has no threshold to choose, and no GAN.

    L_1 = supervised(S_1(x), y) + cross_weight CE(S_1(M u + (1 - M) u'), M q_2(u) + (1 - M) q_2(u')),   q_i = argmax S_i
    L_2 = supervised(S_2(x), y) + cross_weight CE(S_2(M u + (1 - M) u'), M q_1(u) + (1 - M) q_1(u'))

Chen, Yuan, Zeng, Wang: Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision, CVPR 2021,
arXiv:2106.01226. S_1 (role `segmenter`) and S_2 (`segmenter_aux`) are networks of one form that start from other random
weights (of a pre-trained backbone, their heads do). x, y are an image and its label, u and u' images without labels,
and M a mask (`consistency`). All pixels that show an image count. Without mixing, x is among the images that the
networks label for each other, on the pixels that y knows, in one mean with u, as in the paper's code; with it, that
code leaves x out. The paper evaluates one of the two networks: here it is `segmenter`, in scores, pictures and
predictions alike.

As in the paper's code, all passes are in training mode and enter the running statistics of norms: x, u, and the mixed
images, one after the other. With cross_weight 0, both learn the supervised loss.

Differences from the paper's code: u' is the next image of the batch, not of a second one; a mask has one rectangle, not
three; ClassMix is not in the paper, and cuts out what `segmenter` sees.
"""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import consistency, segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.models.rows import together
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
FIELDS = {"losses": {**consistency.LOSSES, "cross_weight": float}}
OTHER = {"segmenter": "segmenter_aux", "segmenter_aux": "segmenter"}  # who labels for whom
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return both segmenters.

    Raises:
        InputError: no loss has a weight, or an option is unknown or out of range.
    """
    expect_a_loss(config.losses, "segmenter", "cross_weight", "weights")
    consistency.check(config)
    options = {"dtype": config.dtype, "num_classes": config.num_classes}
    return {role: build_network(config.networks[role], **options) for role in OTHER}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return what both networks say of labelled images and of those that they label for each other.

    Args:
        nets: the view.
        batch: both streams.
        rng: draws the masks.
        config: the run's config.

    Returns:
        By role, the network's output for the labelled images and its `consistency.Lesson`. And the successor.
    """
    image = batch["unlabelled"]["image"]
    shown = paired.shown(image)
    labelled, logits = {}, {}
    for role in OTHER:
        labelled[role], nets = nets.apply(role, batch["labelled"]["image"])
        output, nets = nets.apply(role, image)
        logits[role] = split_heads(output)[0]
    if config.losses.mixing == "none":
        shown = together(segmentation.known(batch["labelled"]["label"], config.num_classes), shown)
        logits = {role: together(split_heads(labelled[role])[0], logits[role]) for role in OTHER}
        labels = {role: consistency.predicted_class(logits[role], shown) for role in OTHER}
    else:
        labels = {role: consistency.predicted_class(logits[role], shown) for role in OTHER}
        mask = consistency.draw_mask(rng, labels["segmenter"], config)
        image, shown, *mixed = consistency.mix_with_next(mask, image, shown, *(labels[role] for role in OTHER))
        labels = dict(zip(OTHER, mixed, strict=True))
        for role in OTHER:
            output, nets = nets.apply(role, image)
            logits[role] = split_heads(output)[0]
    lessons = {role: consistency.Lesson(logits[role], labels[OTHER[role]], shown) for role in OTHER}
    return {role: (labelled[role], lessons[role]) for role in OTHER}, nets


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss of each network (module docstring); metrics say how often they agree on what they label."""
    del rng
    found, metrics = {}, {}
    for role, (labelled, lesson) in outputs.items():
        logits, heads = split_heads(labelled)
        supervised, terms = with_heads(logits, heads, batch["labelled"]["label"], config.losses)
        cross = consistency.cross_entropy(lesson)
        found[role] = supervised + config.losses.cross_weight * cross
        suffix = "" if role == "segmenter" else "_aux"
        metrics |= {f"{name}{suffix}": value for name, value in {**terms, "cross": cross}.items()}
    (_, first), (_, second) = outputs.values()
    same = jnp.sum((first.label == second.label) & first.shown)
    return LossOutput(found, nets, {**metrics, "agreement": same / jnp.maximum(jnp.sum(first.shown), 1)})

"""UniMatch: trains a segmenter with few labels and many images without, by two strong views and perturbed features.

Choose it where labels are few and FixMatch is not enough; it decodes the unlabelled images twice, for another gain.

    L_S = supervised(S(x), y) + strong_weight / 2 [H(S(m1), t1) + H(S(m2), t2)] + feature_weight H(S'(u), p)
    p   = softmax(S(u)),   mi = Mi ai(u) + (1 - Mi) ai(u'),   ti = Mi p + (1 - Mi) p'

Yang, Qi, Feng, Zhang, Shi: Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation, CVPR 2023,
arXiv:2208.09910. Symbols are those of `fixmatch`: a1 and a2 are two draws of the strong view, M1 and M2 of the mask,
and H counts the pixels with max p >= confidence_threshold. S' is S with the share `feature_dropout` of the channels of
all that its encoder hands to its decoder dropped (`models.perturbation`): the decoder learns to do without.

As in the paper's code, x and u are one batch in training mode, which is decoded twice, as it is and perturbed, and both
strong views are another; the statistics of norms take in first the one, then the other. With strong_weight and
feature_weight 0, L_S is the supervised loss.

Differences from the paper's code are those of `fixmatch`.
"""

from typing import Any

import chex
import flax.linen as nn
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import consistency, segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.models.rows import apart, together
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
FIELDS = {
    "losses": {
        **consistency.LOSSES,
        "confidence_threshold": float,
        "strong_weight": float,
        "feature_weight": float,
        "feature_dropout": float,
    }
}
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter.

    Raises:
        InputError: no loss has a weight, or an option is unknown or out of range.
    """
    expect_a_loss(config.losses, "segmenter", "strong_weight", "feature_weight", "weights")
    consistency.check(config)
    rate = config.losses.feature_dropout
    if not 0 < rate < 1:
        raise InputError(f"config.losses.feature_dropout is {rate}; give a share between 0 and 1.")
    return {"segmenter": build_network(config.networks.segmenter, dtype=config.dtype, num_classes=config.num_classes)}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the outputs for labelled images, for strong views and for perturbed features.

    Args:
        nets: the view.
        batch: both streams.
        rng: draws the strong views, the masks and the channels that are dropped.
        config: the run's config.

    Returns:
        The segmenter's output for the labelled images; and a `consistency.Lesson` of each mixed strong view and of the
        perturbed features. And the successor.
    """
    image, options = batch["unlabelled"]["image"], config.losses
    (labelled, others), nets = consistency.apply_to_both(nets, batch, drop_features=options.feature_dropout)
    weak, perturbed = others[0], others[-1]  # the same where nothing is dropped
    views = [consistency.strong_view(fold_name(rng, name), image, weak, config) for name in ("first", "second")]
    strong, nets = nets.apply("segmenter", together(*(view[0] for view in views)))
    logits = apart(split_heads(strong)[0], 2)
    lessons = tuple(consistency.Lesson(part, *view[1:]) for part, view in zip(logits, views, strict=True))
    shown = paired.shown(image)
    label = consistency.pseudo_label(weak, shown, options.confidence_threshold)
    return (labelled, *lessons, consistency.Lesson(perturbed, label, shown)), nets


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss (module docstring); metrics say of which share of the pixels the segmenter is sure."""
    del rng
    labelled, first, second, features = outputs
    options = config.losses
    logits, heads = split_heads(labelled)
    supervised, terms = with_heads(logits, heads, batch["labelled"]["label"], options)
    strong = 0.5 * (consistency.cross_entropy(first) + consistency.cross_entropy(second))
    perturbed = consistency.cross_entropy(features)
    metrics = {
        **terms,
        "strong": strong,
        "features": perturbed,
        "accepted_share": consistency.accepted_share(features),
    }
    loss = supervised + options.strong_weight * strong + options.feature_weight * perturbed
    return LossOutput({"segmenter": loss}, nets, metrics)

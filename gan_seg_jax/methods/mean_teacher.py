"""Mean teacher on mixed images: trains a segmenter with few labels and many images without, by its own average; no GAN.

Choose it where labels are few; it is the baseline without a GAN that `advsemiseg` and `s4gan` have to beat.

    t   = M softmax(T(u)) + (1 - M) softmax(T(u'))
    L_S = supervised(S(x), y) + consistency_weight r(step) c d(S(M u + (1 - M) u'), t)

French, Laine, Aila, Mackiewicz, Finlayson: Semi-supervised semantic segmentation needs strong, varied perturbations,
BMVC 2020, arXiv:1906.01916; mean teacher: Tarvainen and Valpola, NeurIPS 2017, arXiv:1703.01780. x, y are an image
and its label, u and u' images without labels, S the segmenter's logits, T those of its running average (the teacher,
also what is evaluated), and M the mask that `config.losses.mixing` says (`consistency`), drawn for each pair: cutmix, a
rectangle of the share `cutmix_share` of the image, or classmix, half of the classes that the teacher sees in u. c is
the share of the batch's pixels of which the teacher is sure, max t > confidence_threshold: the term grows as it learns.
`config.losses.consistency` says how far S is from t:
    squared         d = mean over pixels of |softmax(S) - t|^2, the paper's
    cross_entropy   d = CE(S, argmax t): with classmix, ClassMix's (Olsson et al. 2021, arXiv:2007.07936)
r rises as exp(-5 (1 - step / ramp)^2) over the share `consistency_ramp` of the steps (Tarvainen and Valpola); 0 is
off, as in French et al., where c does the same.

u' is the next image of the batch; the paper draws a second batch. The teacher's norms use its own running statistics.
Padding of images counts in neither c nor d. With consistency_weight 0, L_S is the supervised loss.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import consistency, segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.phases import planned
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
FIELDS = {
    "losses": {
        "consistency": str,
        "consistency_weight": float,
        "consistency_ramp": float,
        "confidence_threshold": float,
        "mixing": str,
        "cutmix_share": float,
    }
}
CONSISTENCIES = ("squared", "cross_entropy")
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter; the teacher is its running average.

    Raises:
        InputError: no average is kept, a batch has no next image, no loss has a weight, or an option is unknown or out
            of range.
    """
    options, network = config.losses, config.networks.segmenter
    if not (config.ema_decay > 0 and network.ema):
        raise InputError(
            f"config.ema_decay is {config.ema_decay} and config.networks.segmenter.ema {network.ema}: the teacher is "
            "the average of the segmenter, so set them to, say, 0.99 and True."
        )
    consistency.check_batch(config)
    expect_a_loss(options, "segmenter", "consistency_weight", "weights")
    if options.consistency not in CONSISTENCIES:
        raise unknown("losses.consistency", options.consistency, CONSISTENCIES)
    if not 0 < options.cutmix_share < 1:
        raise InputError(f"config.losses.cutmix_share is {options.cutmix_share}; give a share between 0 and 1.")
    for name in ("confidence_threshold", "consistency_ramp"):
        if not 0 <= options[name] <= 1:
            raise InputError(f"config.losses.{name} is {options[name]}; give a share, 0 to 1.")
    return {"segmenter": build_network(network, dtype=config.dtype, num_classes=config.num_classes)}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the outputs of both networks for labelled and for mixed images.

    Args:
        nets: the view.
        batch: both streams.
        rng: draws the masks.
        config: the run's config.

    Returns:
        The segmenter's output for the labelled images; and of the mixed ones its logits [b, h, w, k], the teacher's
        probabilities [b, h, w, k] and the weight of each pixel, float32 [b, h, w], 0 for padding. And the successor.
    """
    image = batch["unlabelled"]["image"]
    labelled, nets = nets.apply("segmenter", batch["labelled"]["image"])
    logits, nets = nets.apply("segmenter", image, ema=True)
    probabilities = jax.nn.softmax(split_heads(logits)[0])
    options, seen = config.losses, consistency.predicted_class(probabilities, paired.shown(image))
    mask = consistency.create_mask(
        rng, seen, options.mixing, share=options.cutmix_share, num_classes=config.num_classes
    )
    mixed, target = consistency.mix_with_next(mask, image, probabilities)
    student, nets = nets.apply("segmenter", mixed)
    return (labelled, split_heads(student)[0], target, paired.shown(mixed).astype(jnp.float32)), nets


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss (module docstring); metrics say how sure the teacher is."""
    del rng
    options = config.losses
    labelled, student, target, weight = outputs
    target = jax.lax.stop_gradient(target)
    logits, heads = split_heads(labelled)
    supervised, terms = with_heads(logits, heads, batch["labelled"]["label"], options)
    confidence = jnp.max(target, axis=-1)
    share = segmentation.weighted_mean((confidence > options.confidence_threshold).astype(jnp.float32), weight)
    if options.consistency == "squared":
        distances = jnp.sum(jnp.square(jax.nn.softmax(student) - target), axis=-1)
        distance = segmentation.weighted_mean(distances, weight)
    else:
        distance = segmentation.cross_entropy(student, jnp.where(weight > 0, jnp.argmax(target, axis=-1), IGNORE))
    loss = supervised + options.consistency_weight * ramp(nets.step, config) * share * distance
    metrics = {
        **terms,
        "consistency": distance,
        "confident_share": share,
        "teacher_confidence": segmentation.weighted_mean(confidence, weight),
    }
    return LossOutput({"segmenter": loss}, nets, metrics)


def ramp(step: jax.Array, config: ConfigDict) -> jax.Array | float:
    """Return the factor of the consistency term at a step: exp(-5 (1 - step / ramp)^2), 1 from the ramp's end on."""
    length = config.losses.consistency_ramp * planned(config)
    if length == 0:
        return 1.0
    return jnp.exp(-5.0 * jnp.square(1.0 - jnp.minimum(step / length, 1.0)))

"""Self-training on mixed domains: trains a segmenter with labels of one domain and pseudo-labels of another; no GAN.

Choose it where the labels are of a source domain and classes look alike in both; it is what a game has to beat there.

    t   = M y + (1 - M) argmax T(u),   w = M + (1 - M) q,   q = share of u's pixels with max softmax(T(u)) > threshold
    L_S = supervised(S(x), y) + self_training_weight E[w CE(S(a(M x + (1 - M) u)), t)]

Hoyer, Dai, Van Gool: DAFormer: Improving Network Architectures and Training Strategies for Domain-Adaptive Semantic
Segmentation, CVPR 2022, arXiv:2111.14887, whose self-training is that of Tranheden, Olsson, Pinto, Svensson: DACS:
Domain Adaptation via Cross-domain Mixed Sampling, WACV 2021, arXiv:2007.08702. (x, y) are an image and label of the
source, u is an image of the target (rows of a batch are pairs), S are the segmenter's logits, T those of its running
average (the teacher, also what is evaluated), M is the pixels of half of the classes in y (ClassMix), and a distorts
colours (`STRONG_VIEW`). The threshold is `confidence_threshold`; the mean is over the batch's pixels that are neither
padding nor void. Rare-class sampling of x is a field of the data (`config.rare_classes`, for any method); the warm-up
of the learning rate and its factor for what is not the encoder are fields of the optimizer.

Differences from the papers and their code: q is of each image, as in DAFormer's paper; its code takes the batch's. Of n
classes floor(n / 2) are pasted; in the code ceil(n / 2), and void counts as a class. Colours are drawn for each image,
there once for a batch. The teacher is in training mode, as in the code of both, but for dropout, which DAFormer's
leaves out; its running statistics, by which it is evaluated, are averaged, too. Its decay after t steps is
min(ema_decay, (1 + t) / (10 + t)), in the code min(ema_decay, t / (1 + t)), so ours forgets sooner. Nothing of the
target's image is left out; the code leaves out its upper and lower border, where Cityscapes shows no street. Running
statistics of norms are those of `two_domains`, as of all adaptation: the target's, or of source and target; in the code
those of source and mixed images. Not here: the distance to features of an encoder trained on ImageNet.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import mixing, paired, photometric
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import with_heads
from gan_seg_jax.methods import segmenter, two_domains
from gan_seg_jax.models import split_heads
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "segmentation"
STREAMS = two_domains.STREAMS
FIELDS = {"statistics": str, "losses": {"self_training_weight": float, "confidence_threshold": float}}
STRONG_VIEW = photometric.StrongView(
    brightness=0.2, contrast=0.2, saturation=0.2, hue=0.2, greyscale=0.0, blur_sigma=(0.15, 1.15)
)  # DAFormer's; with probability 0.8 and a blur in half of the images
predict = segmenter.predict
score_map = discriminator_inputs = None


class Lesson(NamedTuple):
    """Mixed images, and what the segmenter is taught of them.

    Attributes:
        image: float32 [b, h, w, 3] in [-1, 1].
        label: int32 [b, h, w], class ids, 255 where nothing is known.
        weight: float32 [b, h, w], of each pixel's cross-entropy, 0..1.
        confidence: float32 [b], the teacher's, a mean over the pixels of the target's image.
        accepted: float32 [b], q: the share of these pixels of which the teacher is sure.
    """

    image: jax.Array
    label: jax.Array
    weight: jax.Array
    confidence: jax.Array
    accepted: jax.Array


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter; the teacher is its running average.

    Raises:
        InputError: no average is kept, no loss has a weight, or an option is unknown or out of range.
    """
    options, network = config.losses, config.networks.segmenter
    if not (config.ema_decay > 0 and network.ema):
        raise InputError(
            f"config.ema_decay is {config.ema_decay} and config.networks.segmenter.ema {network.ema}: the teacher is "
            "the average of the segmenter, so set them to, say, 0.999 and True."
        )
    if not 0 <= options.confidence_threshold <= 1:
        raise InputError(
            f"config.losses.confidence_threshold is {options.confidence_threshold}; give a probability, 0 to 1."
        )
    return two_domains.build(config, "self_training_weight")


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple:
    """Return the segmenter's output for the source, its logits [b, h, w, k] of mixed images and their `Lesson`.

    Args:
        nets: the view.
        batch: both streams.
        rng: draws the classes and the colours.
        config: the run's config.
    """
    (source, _), nets = two_domains.forward(nets, batch, rng, config)  # the target's pass is for the statistics
    # By the batch's statistics: its running ones, while they are hardly begun, would make it sure of anything.
    taught, nets = nets.apply("segmenter", batch["target"]["image"], ema=True, train=True)
    probabilities = jax.nn.softmax(split_heads(taught)[0])
    lesson = mix(batch["labelled"], batch["target"]["image"], probabilities, rng, config)
    mixed, nets = nets.apply("segmenter", lesson.image, update=False)
    return (source, split_heads(mixed)[0], lesson), nets


def mix(source, image: jax.Array, probabilities: jax.Array, key: chex.PRNGKey, config: ConfigDict) -> Lesson:
    """Paste classes of the source into images of the target.

    Args:
        source: `image` float32 [b, h, w, 3] in [-1, 1] and `label` int32 [b, h, w].
        image: float32 [b, h, w, 3] in [-1, 1], of the target.
        probabilities: float32 [b, h, w, k], what the teacher makes of it.
        key: a PRNG key; every row draws from keys of its own.
        config: the run's config.
    """
    shown = paired.shown(image)
    mask = mixing.classmix_mask(fold_name(key, "classes"), source["label"], num_classes=config.num_classes)
    mixed = mixing.mix(mask, source["image"], image)
    confidence = jnp.max(probabilities, axis=-1)
    pseudo = jnp.where(shown, jnp.argmax(probabilities, axis=-1), IGNORE)
    count = jnp.maximum(jnp.sum(shown, axis=(1, 2)), 1)
    accepted = jnp.sum(shown & (confidence > config.losses.confidence_threshold), axis=(1, 2)) / count
    return Lesson(
        photometric.strong_view(mixed, mask | shown, fold_name(key, "colors"), options=STRONG_VIEW),
        mixing.mix(mask, source["label"], pseudo),
        jnp.where(mask, 1.0, accepted[:, None, None]),
        jnp.sum(shown * confidence, axis=(1, 2)) / count,
        accepted,
    )


def losses(nets: Networks, outputs, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the loss (module docstring); metrics say how sure the teacher is and how much of a mixture is pasted."""
    del rng
    source, mixed, lesson = outputs
    lesson = jax.lax.stop_gradient(lesson)
    logits, heads = split_heads(source)
    supervised, terms = with_heads(logits, heads, batch["labelled"]["label"], config.losses)
    loss, known = segmentation.pixel_cross_entropy(mixed, lesson.label)
    self_training = jnp.sum(lesson.weight * known * loss) / jnp.maximum(jnp.sum(known), 1.0)
    metrics = {
        **terms,
        "self_training": self_training,
        "accepted_share": jnp.mean(lesson.accepted),
        "teacher_confidence": jnp.mean(lesson.confidence),
    }
    total = supervised + config.losses.self_training_weight * self_training
    return LossOutput({"segmenter": total}, nets, metrics)

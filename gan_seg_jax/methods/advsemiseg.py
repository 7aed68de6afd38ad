"""AdvSemiSeg: trains a segmenter with few labels and many images without, by a discriminator's map of confidence.

Choose it where labels are few and single pixels of a prediction can be trusted; `s4gan` judges whole images.

    L_D = 1/2 [ loss(D(y), real) + loss(D(p(x)), fake) ]
    L_S = supervised(S(x), y) + adversarial_weight loss(D(p(x)), real)
          + unlabelled_adversarial_weight loss(D(p(u)), real)
          + self_training_weight CE(S(u), argmax p(u)) over the pixels with P(D(p(u))) > self_training_threshold

Hung, Tsai, Liou, Lin, Yang: Adversarial Learning for Semi-Supervised Semantic Segmentation, BMVC 2018,
arXiv:1802.07934. Symbols, and when self-training begins, are those of `self_training`. D is fully convolutional, sees a
class map alone and gives every pixel a score.

What nobody knows looks the same in real and fake: every map is zero where y is not known, and that of u also where x's
label is not known (row by row of the batch) and outside of u; the scores of such pixels do not count.

Differences of paper and released code: D learns from labelled images only in the paper; in the code predictions on
unlabelled images are fakes, too (`unlabelled_fakes`, as a game added to the first). The code draws the true maps from
another batch, and gives D all-zero truth but whole predictions on void, which tells it the truth; that is not offered.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.augment.differentiable import instance_noise
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.methods import game, segmenter, self_training
from gan_seg_jax.models import split_heads
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
FIELDS = {
    "losses": {**self_training.LOSSES, "unlabelled_adversarial_weight": float, "unlabelled_fakes": bool},
}
WEIGHTS = ("adversarial_weight", "unlabelled_adversarial_weight", "self_training_weight")

forward = self_training.forward
predict = segmenter.predict
discriminator_inputs = None  # those of `score_map`


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return segmenter and discriminator.

    Raises:
        InputError: those of `self_training.build`, or options without a meaning where every pixel has its own score.
    """
    modules = self_training.build(config, "advsemiseg", discriminator="fcn_discriminator", weights=WEIGHTS)
    options = config.losses
    if not config.networks.discriminator.resize:
        raise InputError(
            "config.networks.discriminator.resize is False; advsemiseg needs a score for each pixel: True."
        )
    if options.diff_augment:
        raise InputError(
            f"config.losses.diff_augment is {tuple(options.diff_augment)}; a confidence map would no longer lie over "
            "its image: leave it () with advsemiseg."
        )
    if options.feature_matching > 0:
        raise InputError(
            f"config.losses.feature_matching is {options.feature_matching}, but the discriminator of advsemiseg shows "
            "no features; leave it 0, or use s4gan."
        )
    return modules


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    return self_training.losses(_play(nets, outputs, batch, rng, config), outputs, batch, config)


def _play(nets, outputs, batch, rng, config) -> self_training.Terms:
    """Let the discriminator score every pixel of the true maps and of both predictions."""
    options, label = config.losses, batch["labelled"]["label"]
    logits, unlabelled_logits = split_heads(outputs[0])[0], outputs[1]
    known = segmentation.known(label, config.num_classes)[..., None]
    both = known & paired.shown(batch["unlabelled"]["image"])[..., None]
    real = segmentation.one_hot(label, config.num_classes)
    fake = jax.nn.softmax(logits) * known
    pair = (game.DiscriminatorInputs(maps=(maps,)) for maps in (real, fake))
    outcome = game.play(nets, *pair, rng, config, weight=known, paired=False)
    noisy = instance_noise(
        [jax.nn.softmax(unlabelled_logits) * both],
        fold_name(rng, "unlabelled"),
        stddev=game.noise_level(nets.step, options),
    )
    scores, nets = outcome.nets.apply("discriminator", *noisy, update=False)
    loss = adversarial.create(options.adversarial, label_smoothing=options.adversarial_smoothing)
    unlabelled = loss.generator(scores, both)
    discriminator = outcome.discriminator
    if options.unlabelled_fakes:
        discriminator += loss.discriminator(outcome.real_scores[0], scores, both)
    return self_training.Terms(
        options.adversarial_weight * outcome.generator + options.unlabelled_adversarial_weight * unlabelled,
        discriminator,
        loss.probability(scores[..., 0]),
        both[..., 0],
        outcome,
        nets,
        {"adversarial_unlabelled": unlabelled},
    )


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each pixel of a map [b, h, w].

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3], which it does not see.
        mask: class probabilities [b, h, w, k].
        config: the run's config.
    """
    del image
    scores, _ = nets.apply("discriminator", mask)
    return adversarial.realness(scores[..., 0], adversarial.create(config.losses.adversarial))

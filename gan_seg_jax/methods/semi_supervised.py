"""A segmenter that also learns from images without labels, by what a discriminator makes of its predictions.

With x, y an image and its one-hot label, u an image without one, S the segmenter's logits, p = softmax(S(.)), D the
discriminator's scores and P(D) the probability of "real" that they are (their sigmoid; of least squares the scores
themselves, cut to 0..1; other games have none and are refused), `config.losses.semi` is

advsemiseg: Hung, Tsai, Liou, Lin, Yang: Adversarial Learning for Semi-Supervised Semantic Segmentation, BMVC 2018,
arXiv:1802.07934. D is fully convolutional, sees a class map alone and gives every pixel a score:

    L_D = 1/2 [ loss(D(y), real) + loss(D(p(x)), fake) ]
    L_S = supervised(S(x), y) + adversarial_weight loss(D(p(x)), real)
          + unlabelled_adversarial_weight loss(D(p(u)), real)
          + self_training_weight CE(S(u), argmax p(u)) over the pixels with P(D(p(u))) > self_training_threshold

s4gan: Mittal, Tatarchenko, Brox: Semi-Supervised Semantic Segmentation with High- and Low-level Consistency, TPAMI
2021, arXiv:1908.05724 (its GAN branch; without the multi-label classifier). D sees an image with its class map and
gives the pair one score; f are its features, pooled over the image:

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(u, p(u)), fake) ]
    L_S = supervised(S(x), y) + feature_matching |E f(x, y) - E f(u, p(u))|_1
          + self_training_weight CE(S(u), argmax p(u)) over the images with P(D(u, p(u))) > self_training_threshold
          + adversarial_weight loss(D(u, p(u)), real)        (not in the paper; 0 by default)

Self-training begins after the share `self_training_start` of the steps. With all weights 0, L_S is the supervised loss;
u then still passes through S, whose running statistics it enters as in the papers' code.

What nobody knows looks the same in real and fake. Every map is zero where y is not known, and that of u also where x's
label is not known (row by row of the batch) and outside of u; the scores of such pixels do not count. S4GAN's images
are zero there as well, and on one scale, [-1, 1], real and fake alike.

Papers and released code. AdvSemiSeg: D learns from labelled images only in the paper; in the code predictions on
unlabelled images are fakes, too (`unlabelled_fakes`, as a game added to the first). The code draws the true maps from
another batch, and gives D all-zero truth but whole predictions on void. S4GAN's code scales real images by the range of
the batch of unlabelled ones, and leaves void zero in the truth alone: both give the truth away, and neither is offered.
"""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.augment.differentiable import instance_noise
from gan_seg_jax.config import planned
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.losses.feature_matching import mean_feature_matching
from gan_seg_jax.losses.segmentation_gan import confident_self_training
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import game
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
discriminator_inputs = None  # those of `score_map`
DISCRIMINATORS = {"advsemiseg": "fcn_discriminator", "s4gan": "s4gan_discriminator"}  # form -> its network
WEIGHTS = {  # form -> the weights of its terms beside the supervised loss
    "advsemiseg": ("adversarial_weight", "unlabelled_adversarial_weight", "self_training_weight"),
    "s4gan": ("adversarial_weight", "feature_matching", "self_training_weight"),
}


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return segmenter and discriminator.

    Raises:
        InputError: an unknown form or loss, options that the form cannot carry out, or no loss that has a weight.
    """
    options, network = config.losses, config.networks.discriminator
    if options.semi not in DISCRIMINATORS:
        raise unknown("losses.semi", options.semi, DISCRIMINATORS)
    wanted = DISCRIMINATORS[options.semi]
    if network.name != wanted:
        raise InputError(
            f"config.networks.discriminator.name is {network.name!r}, but {options.semi} needs {wanted!r}; choose the "
            "form by the config's word."
        )
    if adversarial.create(options.adversarial).probability is None:
        working = ", ".join(name for name, loss in adversarial.ADVERSARIAL.items() if loss.probability)
        raise InputError(
            f"config.losses.adversarial is {options.adversarial!r}, whose scores are no probability that self-training "
            f"could go by; use one of {working}."
        )
    game.check(config, paired=False)
    expect_a_loss(options, "segmenter", *WEIGHTS[options.semi], "weights")
    for name in ("self_training_threshold", "self_training_start"):
        if not 0 <= options[name] <= 1:
            raise InputError(f"config.losses.{name} is {options[name]}; give a share, 0 to 1.")
    if options.semi == "advsemiseg":
        _check_advsemiseg(options, network)
    return {
        "segmenter": build_network(config.networks.segmenter, dtype=config.dtype, num_classes=config.num_classes),
        "discriminator": build_network(network, dtype=config.dtype),
    }


def _check_advsemiseg(options: ConfigDict, network: ConfigDict) -> None:
    """Refuse what has no meaning where every pixel has a score of its own."""
    if not network.resize:
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


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return what the segmenter returns for the labelled images, and class logits [b, h, w, k] of the others."""
    del rng, config
    labelled, nets = nets.apply("segmenter", batch["labelled"]["image"])
    unlabelled, nets = nets.apply("segmenter", batch["unlabelled"]["image"])
    return (labelled, split_heads(unlabelled)[0]), nets


class _Terms(NamedTuple):
    """What a form adds: to the segmenter's loss, and as the whole of the discriminator's."""

    segmenter: jax.Array
    discriminator: jax.Array
    confidence: jax.Array  # 0..1, that predictions on unlabelled images are real; broadcasts to [b, h, w]
    trained: jax.Array  # bool [b, h, w], the unlabelled pixels that self-training may use
    outcome: game.Outcome
    nets: Networks
    metrics: dict[str, jax.Array]


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring); metrics include the share that self-training accepts."""
    options = config.losses
    (labelled, unlabelled_logits), label = outputs, batch["labelled"]["label"]
    logits, heads = split_heads(labelled)
    supervised, parts = with_heads(logits, heads, label, options)
    form = _advsemiseg if options.semi == "advsemiseg" else _s4gan
    terms = form(nets, logits, unlabelled_logits, batch, rng, config)
    self_training, share = confident_self_training(
        unlabelled_logits, terms.confidence, threshold=options.self_training_threshold, known=terms.trained
    )
    realness = jnp.broadcast_to(terms.confidence, terms.trained.shape)
    begun = nets.step >= round(options.self_training_start * planned(config))
    metrics = {
        **parts,
        **terms.outcome.metrics,
        **terms.metrics,
        "self_training": self_training,
        "accepted_share": share,
        "unlabelled_realness": segmentation.weighted_mean(realness, terms.trained.astype(jnp.float32)),
    }
    weight = jnp.where(begun, options.self_training_weight, 0.0)
    return LossOutput(
        {"discriminator": terms.discriminator, "segmenter": supervised + terms.segmenter + weight * self_training},
        terms.nets,
        metrics,
        terms.outcome.accept,
    )


def _advsemiseg(nets, logits, unlabelled_logits, batch, rng, config) -> _Terms:
    """Let the discriminator score every pixel of the true maps and of both predictions."""
    options, label = config.losses, batch["labelled"]["label"]
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
    segmenter = options.adversarial_weight * outcome.generator + options.unlabelled_adversarial_weight * unlabelled
    return _Terms(
        segmenter,
        discriminator,
        loss.probability(scores[..., 0]),
        both[..., 0],
        outcome,
        nets,
        {"adversarial_unlabelled": unlabelled},
    )


def _s4gan(nets, logits, unlabelled_logits, batch, rng, config) -> _Terms:
    """Let the discriminator score each image with its true map, or with its prediction."""
    del logits
    options, label = config.losses, batch["labelled"]["label"]
    image, unlabelled_image = batch["labelled"]["image"], batch["unlabelled"]["image"]
    content = paired.shown(unlabelled_image)
    both = (segmentation.known(label, config.num_classes) & content)[..., None]
    real = game.DiscriminatorInputs((image * both,), (segmentation.one_hot(label, config.num_classes) * both,))
    fake = game.DiscriminatorInputs((unlabelled_image * both,), (jax.nn.softmax(unlabelled_logits) * both,))
    outcome = game.play(nets, real, fake, rng, config, paired=False)
    matching = mean_feature_matching(outcome.real_features, outcome.fake_features)
    confidence = adversarial.create(options.adversarial).probability(outcome.fake_scores[0][:, None])
    segmenter = options.feature_matching * matching + options.adversarial_weight * outcome.generator
    return _Terms(
        segmenter, outcome.discriminator, confidence, content, outcome, outcome.nets, {"feature_matching": matching}
    )


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> jax.Array:
    """Return class logits [b, h, w, k]."""
    del rng, config
    outputs, _ = nets.apply("segmenter", batch["labelled"]["image"])
    return split_heads(outputs)[0]


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds a map: of each pixel [b, h, w] (advsemiseg), or of the pair [b, 1, 1].

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k].
        config: the run's config.
    """
    loss = adversarial.create(config.losses.adversarial)
    if config.losses.semi == "advsemiseg":
        scores, _ = nets.apply("discriminator", mask)
        return adversarial.realness(scores[..., 0], loss)
    known = jnp.any(mask > 0, axis=-1, keepdims=True)  # as in training, where nothing is known the image is zero
    (scores, _), _ = nets.apply("discriminator", image * known, mask)
    return adversarial.realness(scores[:, :, None], loss)

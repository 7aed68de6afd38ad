"""S4GAN: trains a segmenter with few labels and many images without, by a discriminator of whole images.

Choose it where labels are few and a prediction is right or wrong as a whole; `advsemiseg` judges single pixels.

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(u, p(u)), fake) ]
    L_S = supervised(S(x), y) + feature_matching |E f(x, y) - E f(u, p(u))|_1
          + self_training_weight CE(S(u), argmax p(u)) over the images with P(D(u, p(u))) > self_training_threshold
          + adversarial_weight loss(D(u, p(u)), real)        (not in the paper; 0 by default)

Mittal, Tatarchenko, Brox: Semi-Supervised Semantic Segmentation with High- and Low-level Consistency, TPAMI 2021,
arXiv:1908.05724 (its GAN branch; without the multi-label classifier). Symbols, and when self-training begins, are those
of `self_training`. D sees an image with its class map and gives the pair one score; f are its features, pooled over the
image.

What nobody knows looks the same in real and fake: maps and images are zero where y is not known (row by row of the
batch) and outside of u, and images are on one scale, [-1, 1], real and fake alike.

Differences from the released code: it scales real images by the range of the batch of unlabelled ones, and leaves void
zero in the truth alone. Both tell the discriminator the truth, and neither is offered.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.losses.feature_matching import mean_feature_matching
from gan_seg_jax.methods import game, segmenter, self_training
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled", "unlabelled")
FIELDS = {"losses": self_training.LOSSES}
WEIGHTS = ("adversarial_weight", "feature_matching", "self_training_weight")

forward = self_training.forward
predict = segmenter.predict
discriminator_inputs = None  # those of `score_map`


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return segmenter and discriminator.

    Raises:
        InputError: those of `self_training.build`.
    """
    return self_training.build(config, "s4gan", discriminator="s4gan_discriminator", weights=WEIGHTS)


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    return self_training.losses(_play(nets, outputs, batch, rng, config), outputs, batch, config)


def _play(nets, outputs, batch, rng, config) -> self_training.Terms:
    """Let the discriminator score each image with its true map, or with its prediction."""
    options, label, unlabelled_logits = config.losses, batch["labelled"]["label"], outputs[1]
    image, unlabelled_image = batch["labelled"]["image"], batch["unlabelled"]["image"]
    content = paired.shown(unlabelled_image)
    both = (segmentation.known(label, config.num_classes) & content)[..., None]
    real = game.DiscriminatorInputs((image * both,), (segmentation.one_hot(label, config.num_classes) * both,))
    fake = game.DiscriminatorInputs((unlabelled_image * both,), (jax.nn.softmax(unlabelled_logits) * both,))
    outcome = game.play(nets, real, fake, rng, config, paired=False)
    matching = mean_feature_matching(outcome.real_features, outcome.fake_features)
    return self_training.Terms(
        options.feature_matching * matching + options.adversarial_weight * outcome.generator,
        outcome.discriminator,
        adversarial.create(options.adversarial).probability(outcome.fake_scores[0][:, None]),
        content,
        outcome,
        outcome.nets,
        {"feature_matching": matching},
    )


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each pair of image and map [b, 1, 1].

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k], zero where the class is unknown.
        config: the run's config.
    """
    known = jnp.any(mask > 0, axis=-1, keepdims=True)  # as in training, where nothing is known the image is zero
    (scores, _), _ = nets.apply("discriminator", image * known, mask)
    return adversarial.realness(scores[:, :, None], adversarial.create(config.losses.adversarial))

"""A conditional GAN that segments: pix2pix from photograph to class map.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004.
The generator G maps an image x to class logits; the discriminator D sees the image with the one-hot truth y or with
softmax(G(x)) and scores patches. Each descends

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(x, softmax G(x)), fake) ]
    L_G = w_adv loss(D(x, softmax G(x)), real) + S(G(x), y),   S = w_L1 mean|softmax G(x) - y| + w_CE CE(G(x), y) + ...

where S is the weighted sum of `config.losses.weights`; auxiliary heads of the generator add auxiliary_weight times S
of their own and are not shown to the discriminator.

Differences from the paper: the map has a channel per class instead of three colours (L1 between palette colours is no
distance between classes); terms besides L1 may be added (none in `configs/cgan_seg.py:paper`). Pixels without a label
are zero in the real and in the fake map alike, so that they tell the discriminator nothing.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
from ml_collections import ConfigDict

from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.losses.weighted import with_heads
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator and discriminator.

    Raises:
        InputError: `config.losses.adversarial` is unknown.
    """
    adversarial.create(config.losses.adversarial)
    networks = config.networks
    return {
        "generator": build_network(networks.generator, dtype=config.dtype, num_classes=config.num_classes),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return what the generator returns: class logits [b, h, w, k], or a pair of them and those of auxiliary heads."""
    del rng, config
    return nets.apply("generator", batch["labelled"]["image"])


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    del rng
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    known = segmentation.known(label, config.num_classes)
    real = segmentation.one_hot(label, config.num_classes)
    logits, heads = split_heads(outputs)
    fake = jax.nn.softmax(logits) * known[..., None]
    real_scores, nets = nets.apply("discriminator", image, real)
    fake_scores, nets = nets.apply("discriminator", image, fake, update=False)

    gan = adversarial.create(config.losses.adversarial)
    adversarial_term = gan.generator(fake_scores, real_scores=real_scores)
    supervised, terms = with_heads(logits, heads, label, config.losses)
    generator = config.losses.adversarial_weight * adversarial_term + supervised
    metrics = {
        **terms,
        "adversarial": adversarial_term,
        "discriminator_accuracy": adversarial.accuracy(real_scores, fake_scores, threshold=gan.threshold),
    }
    return LossOutput(
        {"discriminator": gan.discriminator(real_scores, fake_scores), "generator": generator}, nets, metrics
    )


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> jax.Array:
    """Return class logits [b, h, w, k]."""
    outputs, _ = forward(nets, batch, rng, config)
    return split_heads(outputs)[0]


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return the discriminator's view of each patch [b, h', w'], for pictures: 0 fake, 1 real, 1/2 where it decides.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k].
        config: the run's config.
    """
    scores, _ = nets.apply("discriminator", image, mask)
    return adversarial.realness(scores[..., 0], adversarial.create(config.losses.adversarial))

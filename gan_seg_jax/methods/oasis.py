"""OASIS: trains a generator of images from label maps against a discriminator that segments them.

Choose it where images must show their label map pixel by pixel, and noise is to make them vary; it learns slowly.

    L_D = E[w_y -log p_y(x)] + E[-log p_fake(G)] + w_mix E[(D(M x + (1 - M) G) - (M D(x) + (1 - M) D(G)))^2]
    L_G = w_adv E[w_y -log p_y(G)]

Sushko, Schönfeld, Zhang, Gall, Schiele, Khoreva: You Only Need Adversarial Supervision for Semantic Image Synthesis,
ICLR 2021, arXiv:2012.04781. With y the one-hot truth of an image x, z noise (`config.noise`) and G = G(y, z) the
generator's image, D finds for each pixel of an image its class or "fake": k + 1 logits. w_y is the inverse frequency of
the class in the batch (`losses.balanced`), M a LabelMix mask. D's score, for accuracy and pictures, is that of "not
fake": log sum_{c <= k} exp D_c - D_fake.

Pixels of unknown class are treated as in `synthesis`: 0 (mid grey) in x and G alike, and without a gradient.
"""

import chex
import flax.linen as nn
import jax
from ml_collections import ConfigDict

from gan_seg_jax.augment.mixing import labelmix_mask, mix
from gan_seg_jax.errors import unknown
from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.losses.segmentation_gan import label_mix_consistency, oasis_discriminator, oasis_generator
from gan_seg_jax.losses.weighted import expect_a_loss
from gan_seg_jax.methods import generators
from gan_seg_jax.models import build_network, that_make
from gan_seg_jax.models.network import CLASS_SCORES
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "generation"
STREAMS = ("labelled",)
FIELDS = {
    **generators.FIELDS,
    "losses": {"adversarial_weight": float, "label_mix": float, "balanced": bool},
}

forward = generators.forward_label_to_image
predict = generators.predict_label_to_image
discriminator_inputs = None  # those of `score_map`


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator and discriminator.

    Raises:
        InputError: the generator is not label-to-image, the discriminator does not segment, or no loss has a weight.
    """
    network = config.networks.discriminator
    if network.name not in that_make(CLASS_SCORES):
        raise unknown("discriminator of oasis, networks.discriminator.name:", network.name, that_make(CLASS_SCORES))
    expect_a_loss(config.losses, "generator", "adversarial_weight")
    return {
        "generator": generators.build_label_to_image(config),
        "discriminator": build_network(network, dtype=config.dtype, num_classes=config.num_classes),
    }


def losses(nets: Networks, outputs: jax.Array, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    options, label, num_classes = config.losses, batch["labelled"]["label"], config.num_classes
    known = segmentation.known(label, num_classes)
    real, fake = (generators.hide(x, known) for x in (batch["labelled"]["image"], outputs))
    real_logits, nets = nets.apply("discriminator", real)
    # Further passes start from the same statistics and drop their own, so that all see the same discriminator.
    fake_logits, nets = nets.apply("discriminator", fake, update=False)
    discriminator = oasis_discriminator(real_logits, fake_logits, label, balanced=options.balanced)
    generator = oasis_generator(fake_logits, label, balanced=options.balanced)
    real_scores, fake_scores = _not_fake(real_logits), _not_fake(fake_logits)
    metrics = {
        "adversarial": generator,
        "discriminator_accuracy": adversarial.accuracy(real_scores, fake_scores, known),
    }
    if options.label_mix > 0:
        chosen = labelmix_mask(fold_name(rng, "label_mix"), label, num_classes=num_classes)
        mixed_logits, nets = nets.apply("discriminator", mix(chosen, real, fake), update=False)
        metrics["label_mix"] = label_mix_consistency(mixed_logits, chosen, real_logits, fake_logits, known)
        discriminator += options.label_mix * metrics["label_mix"]
    return LossOutput(
        {"discriminator": discriminator, "generator": options.adversarial_weight * generator}, nets, metrics
    )


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each pixel of an image [b, h, w]: 0 fake, 1 real.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: one-hot labels [b, h, w, k], zeros where the class is unknown: the discriminator sees no more of it.
        config: the run's config.
    """
    del config
    logits, _ = nets.apply("discriminator", generators.hide(image, (mask > 0).any(axis=-1)))
    return jax.nn.sigmoid(_not_fake(logits))


def _not_fake(logits: jax.Array) -> jax.Array:
    """Return the logit of "not fake" of k + 1 logits: float32 [b, h, w]."""
    return jax.nn.logsumexp(logits[..., :-1], axis=-1) - logits[..., -1]

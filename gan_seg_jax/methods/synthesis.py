"""Label-to-image synthesis: pix2pix, SPADE and OASIS.

With y the one-hot truth of an image x, z noise (`config.noise`; none for size 0) and G(y, z) the generator's image, the
networks of the config decide which of two games is played.

A discriminator of (x, y) (pix2pix: Isola et al. 2017, arXiv:1611.07004; SPADE: Park et al. 2019, arXiv:1903.07291):

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(G, y), fake) ] + penalties
    L_G = w_adv loss(D(G, y), real) + w_L1 mean|G - x| + w_FM sum_i mean|f_i(x, y) - f_i(G, y)|

by `game`, with f_i the discriminator's features, averaged over its scales. pix2pix: a U-Net on y, whose noise is
dropout, non-saturating, w_L1 = 100. SPADE: hinge, two scales, w_FM = 10.

"unet_discriminator", which finds for each pixel of an image its class or "fake" (OASIS: Sushko et al. 2021,
arXiv:2012.04781), with k + 1 logits D(x):

    L_D = E[w_y -log p_y(x)] + E[-log p_fake(G)] + w_mix E[(D(M x + (1 - M) G) - (M D(x) + (1 - M) D(G)))^2]
    L_G = w_adv E[w_y -log p_y(G)]

w_y the inverse frequency of the class in the batch (`losses.balanced`), M a LabelMix mask. Its score, for accuracy and
pictures, is that of "not fake": log sum_{c <= k} exp D_c - D_fake.

What is void has no class, so the generator cannot know what belongs there. Pixels of unknown class are 0 (mid grey) in
x and G alike wherever a discriminator looks, their one-hot truth is zero, and no term has a gradient there. What the
generator does in such places is not judged.

Differences from the papers: SPADE's VGG loss and the encoder of its VAE are left out (both need weights that are not
part of the project; its noise, if there is any, is not of an image). Halves of L_D are averaged in the first game.
pix2pix keeps dropout and the statistics of what it sees when it is used (`config.sample_as_trained`): those of each
image by itself, as the authors' code has it, whose batch is one then.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment.mixing import labelmix_mask, mix
from gan_seg_jax.errors import unknown
from gan_seg_jax.losses import adversarial, segmentation
from gan_seg_jax.losses.segmentation_gan import label_mix_consistency, oasis_discriminator, oasis_generator
from gan_seg_jax.losses.weighted import expect_a_loss
from gan_seg_jax.methods import game, generators
from gan_seg_jax.models import build_network
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "generation"
STREAMS = ("labelled",)
discriminator_inputs = None  # those of `score_map`


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator and discriminator.

    Raises:
        InputError: the generator is not label-to-image, the options of the game do not fit the networks, or no loss
            has a weight.
    """
    networks, derived = config.networks, {}
    if networks.generator.name not in generators.LABEL_TO_IMAGE:
        raise unknown("networks.generator.name", networks.generator.name, generators.LABEL_TO_IMAGE)
    if _segments(config):
        expect_a_loss(config.losses, "generator", "adversarial_weight")
        derived = {"num_classes": config.num_classes}
    else:
        game.check(config)
        expect_a_loss(config.losses, "generator", "adversarial_weight", "feature_matching", "image_l1")
    return {
        "generator": generators.build_generator(config),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype, **derived),
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[jax.Array, Networks]:
    """Return the generator's images of the labels, float32 [b, h, w, 3] in [-1, 1]."""
    return generators.label_to_image(nets, batch["labelled"]["label"], rng, config)


def losses(nets: Networks, outputs: jax.Array, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    label = batch["labelled"]["label"]
    known = segmentation.known(label, config.num_classes)
    real, fake = (jnp.where(known[..., None], x, 0.0) for x in (batch["labelled"]["image"], outputs))
    if _segments(config):
        return _pixel_classes(nets, real, fake, label, rng, config)
    return _real_or_fake(nets, real, fake, label, rng, config)


def _real_or_fake(nets, real, fake, label, rng, config) -> LossOutput:
    """Play the game of a discriminator that sees image and label map."""
    options, mask = config.losses, segmentation.one_hot(label, config.num_classes)
    played = game.play(
        nets, game.DiscriminatorInputs((real,), (mask,)), game.DiscriminatorInputs((fake,), (mask,)), rng, config
    )
    loss, metrics = played.term, dict(played.metrics)
    if options.image_l1 > 0:
        metrics["l1"] = segmentation.l1(fake, real, segmentation.known(label, config.num_classes))
        loss += options.image_l1 * metrics["l1"]
    return LossOutput({"discriminator": played.discriminator, "generator": loss}, played.nets, metrics, played.accept)


def _pixel_classes(nets, real, fake, label, rng, config) -> LossOutput:
    """Play the game of a discriminator that gives each pixel of an image its class or "fake"."""
    options, num_classes = config.losses, config.num_classes
    known = segmentation.known(label, num_classes)
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


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> dict[str, jax.Array]:
    """Return images made of the true labels of `batch["labelled"]`, with noise drawn from `rng`.

    Returns:
        `image`, float32 [b, h, w, 3] in [-1, 1], and `label`, int32 [b, h, w], what it was made of.
    """
    label = batch["labelled"]["label"]
    image, _ = generators.label_to_image(nets.replace(rng=rng), label, rng, config, as_trained=config.sample_as_trained)
    return {"image": image, "label": label}


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return the discriminator's view of each patch or pixel [b, h', w'], for pictures: 0 fake, 1 real.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: one-hot labels [b, h, w, k], zeros where the class is unknown.
        config: the run's config.
    """
    image = jnp.where(jnp.any(mask > 0, axis=-1, keepdims=True), image, 0.0)
    if _segments(config):
        logits, _ = nets.apply("discriminator", image)
        return jax.nn.sigmoid(_not_fake(logits))
    outputs, _ = nets.apply("discriminator", image, mask)
    return game.realness(outputs, config)


def _segments(config: ConfigDict) -> bool:
    return config.networks.discriminator.name == "unet_discriminator"


def _not_fake(logits: jax.Array) -> jax.Array:
    """Return the logit of "not fake" of k + 1 logits: float32 [b, h, w]."""
    return jax.nn.logsumexp(logits[..., :-1], axis=-1) - logits[..., -1]

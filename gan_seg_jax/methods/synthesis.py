"""pix2pix and SPADE: trains a generator of images from label maps against a discriminator of image and label map.

Choose it to make images of given masks: pix2pix where the image itself is to be hit, SPADE where it is to look real.

    L_D = 1/2 [ loss(D(x, y), real) + loss(D(G, y), fake) ] + penalties
    L_G = w_adv loss(D(G, y), real) + w_L1 mean|G - x| + w_FM sum_i mean|f_i(x, y) - f_i(G, y)|

Isola et al. 2017, arXiv:1611.07004; Park et al. 2019, arXiv:1903.07291. y is the one-hot truth of an image x, z noise
(`config.noise`; none for size 0), G = G(y, z) the generator's image; f_i are the discriminator's features, averaged
over its scales; `game` plays it. pix2pix: a U-Net on y, whose noise is dropout, non-saturating, w_L1 = 100. SPADE:
hinge, two scales, w_FM = 10.

What is void has no class, so the generator cannot know what belongs there. Pixels of unknown class are 0 (mid grey) in
x and G alike before any discriminator, their one-hot truth is zero, and no term has a gradient there. What the
generator does in such places is not judged.

Differences from the papers: SPADE's VGG loss and the encoder of its VAE are left out (both need weights that are not
part of the project; its noise, if there is any, is not of an image). Halves of L_D are averaged. pix2pix keeps dropout
and the statistics of its input when it is used (`config.sample_as_trained`): those of each image by itself, as the
authors' code has it, whose batch is one then.
"""

import chex
import flax.linen as nn
import jax
from ml_collections import ConfigDict

from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss
from gan_seg_jax.methods import game, generators
from gan_seg_jax.models import build_network
from gan_seg_jax.state import LossOutput, Networks

TASK = "generation"
STREAMS = ("labelled",)
FIELDS = {**generators.FIELDS, "losses": {**game.LOSSES, "image_l1": float}}

forward = generators.forward_label_to_image
predict = generators.predict_label_to_image
discriminator_inputs = None  # those of `score_map`


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator and discriminator.

    Raises:
        InputError: the generator is not label-to-image, the options of the game do not fit the networks, or no loss
            has a weight.
    """
    game.check(config)
    expect_a_loss(config.losses, "generator", "adversarial_weight", "feature_matching", "image_l1")
    return {
        "generator": generators.build_label_to_image(config),
        "discriminator": build_network(config.networks.discriminator, dtype=config.dtype),
    }


def losses(nets: Networks, outputs: jax.Array, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    options, label = config.losses, batch["labelled"]["label"]
    known = segmentation.known(label, config.num_classes)
    real, fake = (generators.hide(x, known) for x in (batch["labelled"]["image"], outputs))
    mask = segmentation.one_hot(label, config.num_classes)
    pair = (game.DiscriminatorInputs((x,), (mask,)) for x in (real, fake))
    outcome = game.play(nets, *pair, rng, config)
    loss, metrics = outcome.term, dict(outcome.metrics)
    if options.image_l1 > 0:
        metrics["l1"] = segmentation.l1(fake, real, known)
        loss += options.image_l1 * metrics["l1"]
    return LossOutput(
        {"discriminator": outcome.discriminator, "generator": loss}, outcome.nets, metrics, outcome.accept
    )


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each patch of image and mask [b, h', w']: 0 fake, 1 real.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: one-hot labels [b, h, w, k], zeros where the class is unknown.
        config: the run's config.
    """
    outputs, _ = nets.apply("discriminator", generators.hide(image, (mask > 0).any(axis=-1)), mask)
    return game.realness(outputs, config)

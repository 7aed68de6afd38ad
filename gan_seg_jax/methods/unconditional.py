"""DCGAN: trains a generator of images, or of pairs of image and mask, from noise.

Choose it where images are wanted without giving anything, or with `joint` more pairs than there are.

    L_D = 1/2 [ loss(D(x), real) + loss(D(G(z)), fake) ] + penalties
    L_G = w_adv loss(D(G(z)), real) + w_MSE mean|G(z) - x|^2 + w_FM mean_i mean_j (E[f_ij(x)] - E[f_ij(G(z))])^2

Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks,
ICLR 2016, arXiv:1511.06434. z is noise (`config.noise`), G the generator and x an image. `game` plays it: any of its
losses and stabilisers. In the joint form (`networks.generator.heads="joint"`) G makes an image and the class logits of
its mask, and D sees (image, one-hot map of the likeliest classes) against (image, one-hot truth); the gradient is that
of softmax (`straight_through`). Softmax itself is never as crisp as a truth: D, which told them apart by that alone,
won within a hundred steps, and G collapsed.

A mask without a label on some pixels would be known as real by its holes, so the holes of a row's truth are cut into
that row's fake mask too: holes are as frequent in both, and these pixels of the fake mask get no gradient. What they
cannot be is in the place where the fake's own content would have them; where much is void, D may learn that.

The MSE term is that of some articles and off by default. z is paired with no image, so the term's minimum is the same
for every z: the mean image of the data. It only blurs and calms; pix2pix's L1 has a meaning because its G sees what
belongs to x. Feature matching (Salimans et al. 2016, arXiv:1606.03498, section 3.1) compares means over the batch
instead, which needs no pairs; f_i are the layers of a discriminator that shows them (`features=True`).

Differences from the paper: those of the networks (`models.generators`, `models.discriminators`), and the halves of the
discriminator's loss are averaged. Fakes are drawn anew for each step and round.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.feature_matching import mean_feature_matching
from gan_seg_jax.losses.weighted import expect_a_loss
from gan_seg_jax.methods import game, generators
from gan_seg_jax.models import build_network
from gan_seg_jax.state import LossOutput, Networks

TASK = "generation"
STREAMS = ("labelled",)
FIELDS = {"noise": generators.FIELDS["noise"], "losses": {**game.LOSSES, "mse_weight": float}}

discriminator_inputs = None  # those of `score_map`


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return generator, which makes images of `config.crop_size`, and discriminator.

    Raises:
        InputError: the generator does not make images of noise, or the game's options or those of the noise are bad.
    """
    game.check(config, paired=False)
    expect_a_loss(config.losses, "generator", "adversarial_weight", "feature_matching", "mse_weight")
    networks = config.networks
    if networks.generator.name not in generators.UNCONDITIONAL:
        raise unknown("networks.generator.name", networks.generator.name, generators.UNCONDITIONAL)
    if config.noise.size < 1:
        raise InputError(f"noise.size is {config.noise.size}; give a positive whole number.")
    generators.check_noise(config)
    derived = {"size": tuple(config.crop_size), "num_classes": config.num_classes}
    return {
        "generator": build_network(networks.generator, dtype=config.dtype, **derived),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the generator's output, as many examples as there are labelled images.

    Images float32 [b, h, w, 3] in [-1, 1]; in the joint form a pair of them and of class logits [b, h, w, k].
    """
    return nets.apply("generator", generators.draw_noise(rng, len(batch["labelled"]["image"]), config))


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of both networks (module docstring)."""
    options, image, label = config.losses, batch["labelled"]["image"], batch["labelled"]["label"]
    generated, logits = _parts(outputs)
    if logits is None:
        real, fake = game.DiscriminatorInputs((image,)), game.DiscriminatorInputs((generated,))
    else:
        known = segmentation.known(label, config.num_classes)[..., None]
        real = game.DiscriminatorInputs((image,), (segmentation.one_hot(label, config.num_classes),))
        fake = game.DiscriminatorInputs((generated,), (straight_through(logits) * known,))
    outcome = game.play(nets, real, fake, rng, config, paired=False)
    loss, metrics = outcome.term, outcome.metrics
    if options.mse_weight > 0:
        metrics = {**metrics, "mse": segmentation.mse(generated, image)}
        loss += options.mse_weight * metrics["mse"]
    if options.feature_matching > 0:
        metrics = {**metrics, "feature_matching": _feature_distance(outcome, config)}
        loss += options.feature_matching * metrics["feature_matching"]
    return LossOutput(
        {"discriminator": outcome.discriminator, "generator": loss}, outcome.nets, metrics, outcome.accept
    )


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> dict[str, jax.Array]:
    """Return images of noise drawn from `rng`, as many as there are labelled images.

    Returns:
        `image`, float32 [b, h, w, 3] in [-1, 1]; in the joint form also `label`, int32 [b, h, w], the likeliest class.
    """
    outputs, _ = forward(nets, batch, rng, config)
    image, logits = _parts(outputs)
    return {"image": image} | ({} if logits is None else {"label": jnp.argmax(logits, axis=-1).astype(jnp.int32)})


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each patch [b, h', w'], or the whole [b, 1, 1]: 0 fake, 1 real.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k]; an input in the joint form only.
        config: the run's config.
    """
    outputs, _ = nets.apply("discriminator", image, *([mask] if _is_joint(config) else []))
    return game.realness(outputs, config)


def straight_through(logits: jax.Array) -> jax.Array:
    """Return the one-hot map of the likeliest class, with the gradient of softmax(logits).

    The straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).

    Args:
        logits: float [b, h, w, k].

    Returns:
        float [b, h, w, k], each pixel 1 once and 0 elsewhere.
    """
    soft = jax.nn.softmax(logits)
    hard = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=soft.dtype)
    return soft + jax.lax.stop_gradient(hard - soft)


def _is_joint(config: ConfigDict) -> bool:
    return config.networks.generator.heads == "joint"


def _parts(outputs: Any) -> tuple[jax.Array, jax.Array | None]:
    """Return image and class logits of a generator's output, None where it has no mask."""
    return outputs if isinstance(outputs, tuple) else (outputs, None)


def _feature_distance(outcome: game.Outcome, config: ConfigDict) -> jax.Array:
    """Return the mean over layers of the squared distance of the mean features of real and fake."""
    if outcome.real_features is None:
        raise InputError(
            f"losses.feature_matching is {config.losses.feature_matching}, but {config.networks.discriminator.name} "
            "shows no features; use 'patchgan' with networks.discriminator.features=True, or 'multiscale_patchgan'."
        )
    pairs = zip(jax.tree.leaves(outcome.real_features), jax.tree.leaves(outcome.fake_features), strict=True)
    return jnp.stack([mean_feature_matching(*pair, pool=False, squared=True) for pair in pairs]).mean()

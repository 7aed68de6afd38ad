"""Adversarial refinement: trains a generator that refines a segmenter's result, against a discriminator of it.

Choose it where a segmenter is there and its masks are to be refined, with the segmenter frozen or trained on.

    R(x) = S(x) + G(p, f, x, z)          (`config.refiner_residual`; else G(p, f, x, z) alone)
    L_D  = 1/2 [ loss(D(x, y), real) + loss(D(x, softmax(R(x))), fake) ]
    L_R  = supervised(R(x), y) + adversarial_weight loss(D(x, softmax(R(x))), real) + supervised(S(x), y)
    L_S  = L_R where the refiner moves, too, and supervised(S(x), y) where it does not

After CARSSS (Kassapis et al., Calibrated Adversarial Refinement for Stochastic Semantic Segmentation, ICCV 2021,
arXiv:2006.13144), whose refiner is a small U-Net over the image and the class probabilities of another network, and
whose discriminator scores maps with their images. x is the image, y the one-hot truth, S(x) the segmenter's logits, p =
softmax(S(x)), f its features (the last map before its logits, resized to the image) and z noise of each pixel. The
inputs of G are `config.refiner_inputs`, any of INPUTS, always in that order. The last term of L_R is a constant for the
refiner: one shared loss, so that the step pulls it back once. Pixels without a label are zero in both maps of D.

Three stages are three phases: the segmenter alone (supervised; D and R have no loss then); discriminator and refiner
over a segmenter that does not move; discriminator, then refiner and segmenter together. A segmenter that does not move
is in inference mode and, where it keeps an average of its weights (`config.ema_decay`), is that average: the one that
evaluation scores. The third stage goes on from the weights themselves.

Evaluation scores R(x) in every stage. In the residual form, with a last layer of G that starts at 0
(`networks.refiner.logits_init`), R(x) is S(x) until the refiner moves, so the scores of the stages are comparable, the
best step may lie in any of them, and what comes after the first stage is the refiner's gain. The plain form starts from
noise and has to learn again what the segmenter knows.

Differences from the paper: a supervised loss of the refiner where the paper samples several maps and ties their mean to
the segmenter's by KL (there is one truth an image here); D and R in turn at every step in place of 50 and 200; noise is
one more input in place of three injections into the decoder; D is any of `configs/discriminators.py`. The paper's code
weighs the adversarial term by 10 (the KL by 5), has an R1 penalty of weight 10 and learns by Adam at 2e-4, D at 1e-5;
`configs/refine_seg.py` weighs it by 0.01 (`losses.adversarial_weight`) beside a supervised loss of weight 1, has no
penalty (`losses.r1`, `penalty_every`) and rates of 1e-3 and, for D, 2e-4. As in the paper's code, D rests while its
accuracy is above `losses.accuracy_bound`; there it is that of the batch before.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, expect, unknown
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, weighted_sum, with_heads
from gan_seg_jax.methods import game
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.models.layers import resize
from gan_seg_jax.models.network import MOST_CHANNELS
from gan_seg_jax.state import LossOutput, Networks, fold_name

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = {"refiner_inputs": [str], "refiner_residual": bool, "noise_channels": int, "losses": game.LOSSES}
INPUTS = ("probabilities", "features", "image", "noise")

discriminator_inputs = None  # those of `score_map`


class Outputs(NamedTuple):
    """The outputs of segmenter and refiner for an image: class logits [b, h, w, k], float32."""

    segmenter: jax.Array
    heads: dict[str, jax.Array]  # of the segmenter, where it has auxiliary ones
    refiner: jax.Array


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return segmenter, refiner and discriminator.

    Raises:
        InputError: an input of the refiner or the adversarial loss is unknown, or a phase has no loss with a weight.
    """
    game.check(config)
    for name in config.refiner_inputs:
        if name not in INPUTS:
            raise unknown("input in config.refiner_inputs:", name, INPUTS)
    if not config.refiner_inputs:
        raise InputError(f"config.refiner_inputs is empty; give some of {', '.join(INPUTS)}.")
    ok = 0 <= config.noise_channels <= MOST_CHANNELS
    expect(ok, "noise_channels", config.noise_channels, f"zero or at most {MOST_CHANNELS}")
    if "noise" in config.refiner_inputs and config.noise_channels < 1:
        raise InputError(f"config.noise_channels is {config.noise_channels}; with noise as input give at least 1.")
    # Where the segmenter trains alone, the supervised loss is all there is.
    alone = any({role for group in updates for role in group} == {"segmenter"} for _, updates in config.phases)
    weights = () if alone else ("adversarial_weight", "feature_matching")
    expect_a_loss(config.losses, "segmenter" if alone else "refiner", *weights, "weights")
    networks = config.networks
    return {
        "segmenter": build_network(networks.segmenter, dtype=config.dtype, num_classes=config.num_classes),
        "refiner": build_network(networks.refiner, dtype=config.dtype, num_classes=config.num_classes),
        "discriminator": build_network(networks.discriminator, dtype=config.dtype),
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Outputs, Networks]:
    """Return the logits of both networks; where the segmenter is trained alone, its own stand for the refiner's."""
    image, features = batch["labelled"]["image"], None
    if _alone(nets):
        outputs, nets = nets.apply("segmenter", image)
        logits, heads = split_heads(outputs)
        return Outputs(logits, heads, logits), nets
    averaged = "segmenter" not in nets.moving and nets.has_average("segmenter")
    if "features" in config.refiner_inputs:
        (outputs, features), nets = nets.apply("segmenter", image, ema=averaged, capture="decoder")
        features = resize(features, image.shape[1:3]).astype(jnp.float32)
    else:
        outputs, nets = nets.apply("segmenter", image, ema=averaged)
    logits, heads = split_heads(outputs)
    inputs = {"probabilities": jax.nn.softmax(logits), "features": features, "image": image}
    if "noise" in config.refiner_inputs:
        shape = (*image.shape[:3], config.noise_channels)
        inputs["noise"] = jax.random.normal(fold_name(rng, "refiner"), shape)
    joined = jnp.concatenate([inputs[name] for name in INPUTS if name in config.refiner_inputs], axis=-1)
    refined, nets = nets.apply("refiner", joined)
    return Outputs(logits, heads, logits + refined if config.refiner_residual else refined), nets


def losses(nets: Networks, outputs: Outputs, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of the three networks (module docstring), those of segmenter and refiner side by side."""
    options, image, label = config.losses, batch["labelled"]["image"], batch["labelled"]["label"]
    own, terms = with_heads(outputs.segmenter, outputs.heads, label, options)
    metrics = {f"{name}/segmenter": value for name, value in terms.items()}
    if _alone(nets):
        return LossOutput({"segmenter": own}, nets, metrics)
    refined, terms = weighted_sum(outputs.refiner, label, options)
    metrics |= {f"{name}/refiner": value for name, value in terms.items()}
    known = segmentation.known(label, config.num_classes)[..., None]
    real = game.DiscriminatorInputs((image,), (segmentation.one_hot(label, config.num_classes),))
    fake = game.DiscriminatorInputs((image,), (jax.nn.softmax(outputs.refiner) * known,))
    outcome = game.play(nets, real, fake, rng, config)
    through = refined + outcome.term + own
    values = {
        "discriminator": outcome.discriminator,
        "refiner": through,
        "segmenter": through if "refiner" in nets.moving else own,
    }
    return LossOutput(values, outcome.nets, {**metrics, **outcome.metrics}, outcome.accept)


def _alone(nets: Networks) -> bool:
    """Return whether the segmenter trains alone: then no game is played, and none is paid for."""
    return nets.moving == {"segmenter"}


def predict(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> jax.Array:
    """Return the refiner's class logits [b, h, w, k]."""
    return forward(nets, batch, rng, config)[0].refiner


def score_map(nets: Networks, image: jax.Array, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Return how real the discriminator finds each patch [b, h', w']: 0 fake, 1 real, 1/2 where it decides.

    Args:
        nets: a view in inference mode.
        image: [b, h, w, 3] in [-1, 1].
        mask: class probabilities [b, h, w, k].
        config: the run's config.
    """
    outputs, _ = nets.apply("discriminator", image, mask)
    return game.realness(outputs, config)

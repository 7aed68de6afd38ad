"""What methods of adaptation share: the passes of both domains, and a game between what the segmenter says of them.

    L_Di = 1/2 [ loss(D_i(m(S_i(x))), real) + loss(D_i(m(S_i(u))), fake) ]
    L_S  = supervised(S_1(x), y) + auxiliary_weight supervised(S_2(x), y)
           + adversarial_weight loss(D_1(m(S_1(u))), real) + adversarial_weight_aux loss(D_2(m(S_2(u))), real)

(x, y) are an image and label of the source, u is an image of the target, S are the segmenter's logits at each level i
(1 its own, 2 those of its auxiliary head), and m is the map that the method shows to the discriminators. *Real is the
source*: predictions on the source are the model for those on the target, and the segmenter is moved by its predictions
on the target alone (a relativistic loss, which compares the two, moves it by both). A level plays where the config has
its discriminator's role. What is padding or void in the source's label, and what is padding in the target's image, is
zero in both maps, row by row.

Both domains pass through the segmenter one after the other, each normalised by its own statistics in training, as in
the papers' code; but the running statistics, which count when the target is segmented, are the target's
(`config.statistics = "target"`; the code's are of both: "both"). That alone adapts a network with BatchNorm: the
control lambda0, which is one and the same for all these methods, shows by how much.
"""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import game
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks, fold_name

STREAMS = ("labelled", "target")
LOSSES = {**game.LOSSES, "adversarial_weight_aux": float}  # the fields of `config.losses`, and their kinds
STATISTICS = ("target", "both")
LEVELS = {"discriminator": "", "discriminator_aux": "auxiliary"}  # role -> the head whose maps it sees; "" the main one
WEIGHTS = {"discriminator": "adversarial_weight", "discriminator_aux": "adversarial_weight_aux"}  # of their terms


def build(config: ConfigDict, *weights: str) -> dict[str, nn.Module]:
    """Return the segmenter, and a discriminator for each level that the config has.

    Args:
        config: the run's config.
        *weights: fields of `config.losses`, of the method's terms beside the supervised loss and the games.

    Raises:
        InputError: an unknown loss, an unknown choice of statistics, penalties that would never be due, or no loss that
            has a weight.
    """
    networks = config.networks
    roles = [role for role in LEVELS if role in networks]
    if roles:
        game.check(config, paired=False)
        if config.losses.feature_matching > 0:
            raise InputError(
                f"config.losses.feature_matching is {config.losses.feature_matching}, but images of source and target "
                "are no pairs; leave it 0."
            )
    if config.statistics not in STATISTICS:
        raise unknown("statistics", config.statistics, STATISTICS)
    expect_a_loss(config.losses, "segmenter", *(WEIGHTS[role] for role in roles), *weights, "weights")
    return {
        "segmenter": build_network(networks.segmenter, dtype=config.dtype, num_classes=config.num_classes),
        **{role: build_network(networks[role], dtype=config.dtype) for role in roles},
    }


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[Any, Networks]:
    """Return the segmenter's output for the source and for the target: logits, or pairs with auxiliary heads."""
    del rng
    source, nets = nets.apply("segmenter", batch["labelled"]["image"], update=config.statistics == "both")
    target, nets = nets.apply("segmenter", batch["target"]["image"])
    return (source, target), nets


def losses(
    nets: Networks,
    outputs: Any,
    batch,
    rng: chex.PRNGKey,
    config: ConfigDict,
    *,
    maps: Callable[[jax.Array], jax.Array],
) -> LossOutput:
    """Return the losses of all networks (module docstring).

    Args:
        nets: the view.
        outputs: of `forward`.
        batch: both streams.
        rng: a key.
        config: the run's config.
        maps: from logits [b, h, w, k] to what the discriminators see, [b, h, w, k].

    Raises:
        InputError: there is a second discriminator, but the segmenter has no auxiliary head.
    """
    options, label = config.losses, batch["labelled"]["label"]
    (logits, heads), (target_logits, target_heads) = map(split_heads, outputs)
    source, target = {"": logits, **heads}, {"": target_logits, **target_heads}
    loss, metrics = with_heads(logits, heads, label, options)
    values, accept = {}, {}
    both = (segmentation.known(label, config.num_classes) & paired.shown(batch["target"]["image"]))[..., None]
    for role, head in LEVELS.items():
        if role not in config.networks:
            continue
        if head not in source:
            raise InputError(
                f"config.networks.{role} judges an auxiliary head, but {config.networks.segmenter.name} has none; use "
                "the config's word multi with unet, deeplabv2 or pspnet."
            )
        real, fake = (game.DiscriminatorInputs(maps=(maps(domain[head]) * both,)) for domain in (source, target))
        outcome = game.play(nets, real, fake, fold_name(rng, role), config, role=role, paired=False)
        nets = outcome.nets
        values[role] = outcome.discriminator
        loss += options[WEIGHTS[role]] * outcome.generator
        metrics |= outcome.metrics
        accept |= outcome.accept
    return LossOutput({**values, "segmenter": loss}, nets, metrics, accept)

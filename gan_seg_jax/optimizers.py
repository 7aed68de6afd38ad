"""`config.optimizers.ROLE` -> optax transform."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gan_seg_jax.errors import unknown
from gan_seg_jax.models.depths import depths
from gan_seg_jax.models.network import BACKBONE
from gan_seg_jax.phases import phase_ends, updates_of


def learning_rate(options: ConfigDict, horizon: int) -> optax.Schedule:
    """Return the schedule of one role over its own `horizon` updates.

    `constant`; `poly`: rate (1 - t/T)^poly_power (DeepLab: 0.9); `cosine`; `linear`: flat for the first half, then
    linearly to 0 (pix2pix); `step`: times `decay_factor` at each share `decay_at` of the horizon. `warmup_steps`
    updates of linear warm-up come first and are part of the horizon.

    Args:
        options: with `schedule`, `learning_rate`, `warmup_steps`, and those of the schedule.
        horizon: T, updates in the whole run.
    """
    rate, warmup = options.learning_rate, options.warmup_steps
    rest = max(horizon - warmup, 1)
    schedules = {
        "constant": lambda: optax.constant_schedule(rate),
        "poly": lambda: optax.polynomial_schedule(rate, 0.0, options.poly_power, rest),
        "cosine": lambda: optax.cosine_decay_schedule(rate, rest),
        "linear": lambda: optax.linear_schedule(rate, 0.0, rest - rest // 2, transition_begin=rest // 2),
        "step": lambda: optax.piecewise_constant_schedule(
            rate, {round(share * rest): options.decay_factor for share in options.decay_at}
        ),
    }
    if options.schedule not in schedules:
        raise unknown("learning-rate schedule", options.schedule, schedules)
    schedule = schedules[options.schedule]()
    if warmup == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), schedule], [warmup])


def create_optimizer(options: ConfigDict, horizon: int, *, hold: bool = False) -> optax.GradientTransformation:
    """Return the optax transform that `options` describes.

    Regularisation is part of the loss, l1 |w| + l2 / 2 w^2, so its gradient passes through momentum and Adam's scaling;
    it comes after clipping. Weight decay is decoupled from them (Loshchilov and Hutter 2019, arXiv:1711.05101: `adamw`
    is `adam` with weight_decay). Both leave vectors alone (biases, scales of normalisation layers).

    Of a network with a backbone, the rate is multiplied by `head_factor` for what is not the backbone, and by
    backbone_factor layer_decay^d for what is, d being the layers up to the head (`models.depths`): as in BEiT (Bao et
    al. 2021, https://arxiv.org/abs/2106.08254), weight decay is scaled alike. A backbone that is frozen first has
    moments of its own, counted from its first update on; by the head's count, Adam would take the zeros of the frozen
    steps for gradients, and its first updates would be (1 - beta1) / sqrt(1 - beta2) times too long.

    Args:
        options: `config.optimizers.ROLE`; its fields are explained in `configs/common.py`.
        horizon: how often this role is updated in the planned steps.
        hold: whether updates beyond them, of a run that is extended, keep the last rate; poly would give 0.

    Raises:
        InputError: unknown optimizer or schedule.
    """
    constructors = {
        "adam": lambda: optax.scale_by_adam(b1=options.beta1, b2=options.beta2),
        "adamw": lambda: optax.scale_by_adam(b1=options.beta1, b2=options.beta2),
        "sgd": lambda: optax.trace(decay=options.beta1),
    }
    if options.name not in constructors:
        raise unknown("optimizer", options.name, constructors)
    parts = [optax.clip_by_global_norm(options.clip_norm)] if options.clip_norm > 0 else []
    if options.l2 > 0:
        parts.append(optax.add_decayed_weights(options.l2, mask=_matrices))
    if options.l1 > 0:
        parts.append(optax.masked(optax.stateless(partial(_add_sign, options.l1)), _matrices))
    moments = constructors[options.name]()
    if options.backbone_frozen_steps > 0:
        moments = optax.partition({BACKBONE: moments, "head": moments}, _parts)
    parts.append(moments)
    if options.weight_decay > 0:
        parts.append(optax.add_decayed_weights(options.weight_decay, mask=_matrices))
    if (options.head_factor, options.backbone_factor, options.layer_decay) != (1.0, 1.0, 1.0):
        parts.append(optax.stateless(partial(_at_own_rates, options)))
    rate = learning_rate(options, horizon)
    held = lambda count: rate(jnp.minimum(count, max(horizon - 1, 0)))
    parts.append(optax.scale_by_learning_rate(held if hold else rate))
    if options.clip_weights > 0:
        parts.append(optax.stateless(partial(_into_bounds, options.clip_weights)))
    return optax.chain(*parts)


def _into_bounds(bound, updates, params):
    """Return updates that leave every weight within [-bound, bound]: the clipping of WGAN (arXiv:1701.07875)."""
    return jax.tree.map(lambda update, weight: jnp.clip(weight + update, -bound, bound) - weight, updates, params)


def _matrices(params):
    """Return a mask of the leaves that are not vectors or scalars."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _parts(params):
    """Return a tree that says of each parameter whether it belongs to the network's backbone or to its head."""
    part = {name: BACKBONE if name == BACKBONE else "head" for name in params}
    return {name: jax.tree.map(lambda _, name=name: part[name], tree) for name, tree in params.items()}


def _at_own_rates(options, updates, params):
    """Return the updates times the factors of their parameters' rates."""
    del params
    layers = depths(updates[BACKBONE])

    def scale(path, update):
        part, *rest = (key.key for key in path)
        if part != BACKBONE:
            return update * options.head_factor
        return update * (options.backbone_factor * options.layer_decay ** layers[tuple(rest)])

    return jax.tree_util.tree_map_with_path(scale, updates)


def _add_sign(strength, gradients, params):
    """Add the gradient of strength |w|."""
    return jax.tree.map(lambda gradient, weight: gradient + strength * jnp.sign(weight), gradients, params)


def create_optimizers(config: ConfigDict) -> Mapping[str, optax.GradientTransformation]:
    """Return role -> optax transform for every role that moves in some phase."""
    moving = {role for _, updates in phase_ends(config) for group in updates for role in group}
    hold = config.planned_steps > 0
    return {
        role: create_optimizer(config.optimizers[role], updates_of(config, role), hold=hold) for role in sorted(moving)
    }

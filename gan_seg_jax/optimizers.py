"""`config.optimizers.ROLE` -> optax transform."""

from collections.abc import Mapping

import jax
import optax
from ml_collections import ConfigDict

from gan_seg_jax.config import phase_ends, updates_of
from gan_seg_jax.errors import unknown


def learning_rate(options: ConfigDict, horizon: int) -> optax.Schedule:
    """Return the schedule of one role over its own `horizon` updates.

    `constant`; `poly`: rate (1 - t/T)^0.9 (DeepLab); `cosine`; `linear`: flat for the first half, then linearly to 0
    (pix2pix). `warmup_steps` updates of linear warm-up come first and are part of the horizon.

    Args:
        options: with `schedule`, `learning_rate`, `warmup_steps`.
        horizon: T, updates in the whole run.
    """
    rate, warmup = options.learning_rate, options.warmup_steps
    rest = max(horizon - warmup, 1)
    schedules = {
        "constant": lambda: optax.constant_schedule(rate),
        "poly": lambda: optax.polynomial_schedule(rate, 0.0, 0.9, rest),
        "cosine": lambda: optax.cosine_decay_schedule(rate, rest),
        "linear": lambda: optax.linear_schedule(rate, 0.0, rest - rest // 2, transition_begin=rest // 2),
    }
    if options.schedule not in schedules:
        raise unknown("learning-rate schedule", options.schedule, schedules)
    schedule = schedules[options.schedule]()
    if warmup == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), schedule], [warmup])


def create_optimizer(options: ConfigDict, horizon: int) -> optax.GradientTransformation:
    """Return the optax transform that `options` describes.

    Weight decay is decoupled and leaves vectors alone (biases, scales of normalisation layers). `clip_norm` 0 is off.

    Args:
        options: `config.optimizers.ROLE`: name, learning_rate, schedule, warmup_steps, beta1, beta2, weight_decay,
            clip_norm.
        horizon: how often this role is updated in the whole run.

    Raises:
        InputError: unknown optimizer or schedule.
    """
    makers = {
        "adam": lambda: optax.scale_by_adam(b1=options.beta1, b2=options.beta2),
        "sgd": lambda: optax.trace(decay=options.beta1),
    }
    if options.name not in makers:
        raise unknown("optimizer", options.name, makers)
    parts = [optax.clip_by_global_norm(options.clip_norm)] if options.clip_norm > 0 else []
    parts.append(makers[options.name]())
    if options.weight_decay > 0:
        parts.append(optax.add_decayed_weights(options.weight_decay, mask=_matrices))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate(options, horizon)))


def _matrices(params):
    """Return a mask of the leaves that are not vectors or scalars."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def create_optimizers(config: ConfigDict) -> Mapping[str, optax.GradientTransformation]:
    """Return role -> optax transform for every role that moves in some phase."""
    moving = {role for _, updates in phase_ends(config) for group in updates for role in group}
    return {role: create_optimizer(config.optimizers[role], updates_of(config, role)) for role in sorted(moving)}

"""What every command does with a config: check, hash, write, read and compare it.

A config is a locked `ml_collections.ConfigDict`; its fields are explained in `configs/common.py`.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gan_seg_jax import optimizer_fields as optimizers
from gan_seg_jax import phases
from gan_seg_jax.augment import fields as augment
from gan_seg_jax.data import fields as data
from gan_seg_jax.losses import fields as losses
from gan_seg_jax.training import fields as training

MAY_CHANGE_ON_RESUME = (
    "steps",
    "log_every",
    "eval_every",
    "patience",
    "checkpoint_every",
    "samples_every",
    "keep_checkpoints",
    "num_workers",
    "prefetch",
    "spatial_shards",
    "rematerialize",
    "data_dir",
    "max_pixels",
    "tensorboard",
    "extend",
    "planned_steps",
)
OWNERS = (training, data, augment, losses, optimizers, phases)  # who checks its fields, in this order


def check(config: ConfigDict) -> None:
    """Check the values that the types cannot, of a config and of those of the runs before it.

    Each owner knows its fields. A method's own are checked when it is built, those of networks by `models.check`: both
    are JAX's, which need not be loaded for this.

    Raises:
        InputError: a value is out of its range; the message names field, value and range.
    """
    for owner in OWNERS:
        owner.check(config)
    for prior in config.prior_runs.values():
        check(prior)


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Return the config as plain JSON values (tuples become lists)."""
    return json.loads(config.to_json_best_effort())


def from_json(values: dict[str, Any]) -> ConfigDict:
    """Return the locked config that `to_json` wrote (lists become tuples)."""

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return tuple(plain(inner) for inner in value) if isinstance(value, list) else value

    return ConfigDict(plain(values)).lock()


def digest(config: ConfigDict) -> str:
    """Return the SHA-256 of the config's fields, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return (field, old value, new value) wherever two configs in JSON form differ in what a resumed run must keep.

    A field that one side lacks is shown as "(absent)".
    """
    found = []
    for name in sorted(old.keys() | new.keys()):
        field = prefix + name
        if field in MAY_CHANGE_ON_RESUME:
            continue
        a, b = old.get(name, "(absent)"), new.get(name, "(absent)")
        if field == "phases":  # their lengths may change, who moves in them may not
            a, b = [updates for _, updates in a], [updates for _, updates in b]
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, field + ".")
        elif a != b:
            found.append((field, a, b))
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the single fields of a config in JSON form, each by its whole name, such as "networks.segmenter.name"."""
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found

"""The fields of a config that say how long a run is, what it keeps and how it computes."""

from ml_collections import ConfigDict

from gan_seg_jax.errors import expect

POSITIVE = (
    "steps",
    "batch_size",
    "spatial_shards",
    "rounds",
    "keep_checkpoints",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "max_bad_steps",
)
NOT_NEGATIVE = ("seed", "penalty_every", "samples_every", "patience")
# No more than any machine could hold.
MOST = {"steps": 2**31 - 1, "batch_size": 2**16, "rounds": 2**10, "spatial_shards": 2**10}
DTYPES = ("float32", "bfloat16")
KINDS = {  # as of `config_fields`
    "method": str,
    "seed": int,
    "steps": int,
    "extend": str,
    "planned_steps": int,
    "rounds": int,
    "share_forward": bool,
    "rematerialize": bool,
    "penalty_every": int,
    "batch_size": int,
    "spatial_shards": int,
    "dtype": str,
    "feature_network": str,
    "ema_decay": float,
    "eval_every": int,
    "patience": int,
    "checkpoint_every": int,
    "keep_checkpoints": int,
    "log_every": int,
    "samples_every": int,
    "max_bad_steps": int,
    "tensorboard": bool,
    "baselines": [str],
}


def check(config: ConfigDict) -> None:
    """Check the lengths and intervals of a run; a classical method, which has no networks, has no steps.

    Raises:
        InputError: a value is out of its range.
    """
    trains = len(config.networks) > 0
    for name in POSITIVE:
        ok = config[name] > 0 or (name == "steps" and not trains)
        expect(ok, name, config[name], "a positive whole number")
    for name in NOT_NEGATIVE:
        expect(config[name] >= 0, name, config[name], "zero or a positive whole number")
    for name, most in MOST.items():
        expect(config[name] <= most, name, config[name], f"at most {most}")
    expect(config.seed < 2**32, "seed", config.seed, "less than 2**32")
    expect(0.0 <= config.ema_decay < 1.0, "ema_decay", config.ema_decay, "at least 0 and less than 1")
    expect(config.dtype in DTYPES, "dtype", config.dtype, f"one of {', '.join(DTYPES)}")
    expect(config.extend in ("", "constant"), "extend", config.extend, "'' or 'constant'")
    planned = config.planned_steps
    expect(0 <= planned <= config.steps, "planned_steps", planned, "0 (all) or at most config.steps")
    expect(trains or config.steps == 0, "steps", config.steps, "0 for a method without networks")

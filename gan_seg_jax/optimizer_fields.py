"""The fields of `config.optimizers.ROLE`, which `optimizers` reads."""

import math

from ml_collections import ConfigDict

from gan_seg_jax.errors import expect

KINDS = {  # of one role; as of `config_fields`
    "name": str,
    "learning_rate": float,
    "schedule": str,
    "poly_power": float,
    "decay_at": [float],
    "decay_factor": float,
    "warmup_steps": int,
    "head_factor": float,
    "backbone_factor": float,
    "layer_decay": float,
    "backbone_frozen_steps": int,
    "beta1": float,
    "beta2": float,
    "l1": float,
    "l2": float,
    "weight_decay": float,
    "clip_norm": float,
    "clip_weights": float,
}

ALIKE = {"head_factor": 1, "backbone_factor": 1, "layer_decay": 1, "backbone_frozen_steps": 0}  # backbone and head


def check(config: ConfigDict) -> None:
    """Check the optimizer of each role, and that only a network with a backbone treats it and the head differently.

    Raises:
        InputError: a value is out of its range.
    """
    for role, options in config.optimizers.items():
        field, rate = f"optimizers.{role}", options.learning_rate
        expect(math.isfinite(rate) and rate > 0, f"{field}.learning_rate", rate, "a positive number")
        for name in ("beta1", "beta2"):
            expect(0.0 <= options[name] < 1.0, f"{field}.{name}", options[name], "at least 0 and less than 1")
        for name in ("weight_decay", "clip_norm", "clip_weights", "warmup_steps", "backbone_frozen_steps", "l1", "l2"):
            expect(0 <= options[name] < math.inf, f"{field}.{name}", options[name], "0 (off) or a positive number")
        for name in ("head_factor", "backbone_factor", "layer_decay", "poly_power", "decay_factor"):
            expect(0 < options[name] < math.inf, f"{field}.{name}", options[name], "a positive number")
        shares = options.decay_at
        ok = all(isinstance(share, (int, float)) and 0 < share < 1 for share in shares)
        expect(ok, f"{field}.decay_at", shares, "shares of the run, between 0 and 1")
        if role in config.networks and "backbone" not in config.networks[role]:
            network = config.networks[role].name
            for name, alike in ALIKE.items():
                expect(
                    options[name] == alike,
                    f"{field}.{name}",
                    options[name],
                    f"{alike}, since {network} has no backbone",
                )

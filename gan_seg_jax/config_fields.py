"""The fields of a stored config and their kinds: what a config.json is held against before anything acts on it.

On the command line ml_collections sees to it that fields exist and keep their types. A folder may come from anybody, so
its config.json is checked in the same way here; the ranges of values are `config.check`'s. The shared fields are those
of configs/common.py, which tests/test_config_fields.py compares with this list. A method's own field needs a line in
OF_METHODS, one of its losses in LOSSES_OF_METHODS; attributes of networks are known to the networks.
"""

import math
import os
from typing import Any

from gan_seg_jax.errors import InputError, unknown

LONGEST_TEXT = 4096
LONGEST_LIST = 4096
DEEPEST = 8  # prior runs of prior runs
LARGEST = 2**63

# A kind is a type (float takes whole numbers, too), [kind] for a list, or a dict of fields.
OPTIMIZER = {
    "name": str,
    "learning_rate": float,
    "schedule": str,
    "poly_power": float,
    "decay_at": [float],
    "decay_factor": float,
    "warmup_steps": int,
    "head_factor": float,
    "beta1": float,
    "beta2": float,
    "l1": float,
    "l2": float,
    "weight_decay": float,
    "clip_norm": float,
    "clip_weights": float,
}
LOSSES = {
    "weights": dict.fromkeys(
        ("cross_entropy", "focal", "dice", "tversky", "lovasz", "boundary", "hard_pixel", "l1", "mse"), float
    ),
    "auxiliary_weight": float,
    "label_smoothing": float,
    "class_weights": [float],
    "class_weighting": str,
    "focal_gamma": float,
    "tversky_alpha": float,
    "tversky_beta": float,
    "boundary_strength": float,
    "boundary_sigma": float,
    "hard_pixel_fraction": float,
}
LOSSES_OF_METHODS = {
    "adversarial": str,
    "adversarial_weight": float,
    "adversarial_smoothing": float,
    "r1": float,
    "gradient_penalty": float,
    "diff_augment": [str],
    "instance_noise": float,
    "instance_noise_steps": int,
    "accuracy_bound": float,
    "feature_matching": float,
    "adversarial_weight_aux": float,
    "discriminator_input": str,
    "truth_softness": float,
    "image_level": bool,
    "conditional": bool,
    "mse_weight": float,
    "legacy": bool,
    "semi": str,
    "unlabelled_adversarial_weight": float,
    "unlabelled_fakes": bool,
    "self_training_weight": float,
    "self_training_threshold": float,
    "self_training_start": float,
    "consistency": str,
    "consistency_weight": float,
    "consistency_ramp": float,
    "confidence_threshold": float,
    "cutmix_share": float,
    "image_l1": float,
    "label_mix": float,
    "balanced": bool,
}
SHARED = {
    "method": str,
    "seed": int,
    "steps": int,
    "extend": str,
    "planned_steps": int,
    "rounds": int,
    "share_forward": bool,
    "penalty_every": int,
    "batch_size": int,
    "dtype": str,
    "dataset": str,
    "data_dir": str,
    "scenes": {"size": [int], "counts": [int], "seed": int, "look": str},
    "labelled": {"fraction": float, "seed": int, "index_file": str},
    "source": {"dataset": str, "data_dir": str, "look": str, "seed": int},
    "synthetic": {"share": float, "folder": str},
    "allow_duplicates": bool,
    "group_pattern": str,
    "max_pixels": int,
    "image_bits": int,
    "num_classes": int,
    "class_names": [str],
    "class_colors": [[int]],
    "resize": str,
    "canvas_size": [int],
    "crop_size": [int],
    "num_workers": int,
    "prefetch": int,
    "augment": {
        "flip_horizontal": bool,
        "flip_vertical": bool,
        "transpose": bool,
        "scale": [float],
        "brightness": float,
        "contrast": float,
        "saturation": float,
        "class_balance": float,
    },
    "judge": str,
    "ema_decay": float,
    "losses": LOSSES,
    "eval_every": int,
    "checkpoint_every": int,
    "keep_checkpoints": int,
    "log_every": int,
    "samples_every": int,
    "max_bad_steps": int,
    "tensorboard": bool,
    "baselines": [str],
}
OF_METHODS = {
    "statistics": str,
    "noise": {"distribution": str, "size": int, "truncation": float},
    "sample_as_trained": bool,
    "output": str,
    "refiner_inputs": [str],
    "refiner_residual": bool,
    "noise_channels": int,
    "backbone": str,
    "input": str,
    "target": str,
}
BY_ROLE = {"networks": None, "optimizers": OPTIMIZER, "init": str, "pretrained": str, "prior_runs": None}
WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def check_fields(values: Any, prefix: str = "", depth: int = 0) -> None:
    """Check that JSON values are a config: every field, no other, each of its kind, and none beyond all bounds.

    Raises:
        InputError: they are not; the first field that is wrong is named.
    """
    if not isinstance(values, dict):
        raise _wrong(prefix[:-1] or "(all)", values, "fields by their names")
    if depth > DEEPEST:
        raise InputError(f"config.{prefix[:-1]} is nested too deeply; expected at most {DEEPEST} runs within runs.")
    groups = {**SHARED, "phases": None, **BY_ROLE}
    _check_names(values, groups, OF_METHODS, prefix)
    for name, value in values.items():
        if name in BY_ROLE:
            _expect(isinstance(value, dict), prefix + name, value, "fields by their names")
            for role, inner in value.items():
                _expect(_is_name(role), prefix + name, role, "names of roles")
                _check_role(name, inner, f"{prefix}{name}.{role}", depth)
        elif name == "phases":
            _check_phases(value, prefix + name)
        elif name == "losses" and isinstance(value, dict):
            _check_group(value, LOSSES, f"{prefix}{name}", LOSSES_OF_METHODS)
        else:
            _check_kind(value, {**SHARED, **OF_METHODS}[name], prefix + name)


def _check_role(group: str, value: Any, field: str, depth: int) -> None:
    """Check what a config holds for one role."""
    if group == "prior_runs":
        check_fields(value, f"{field}.", depth + 1)
    elif group == "networks":
        ok = isinstance(value, dict) and isinstance(value.get("name"), str)
        _expect(ok, field, value, "fields by their names, `name` among them")
        for name, attribute in value.items():
            _expect(_is_name(name), field, name, "names of attributes")
            kind = type(attribute) if isinstance(attribute, (bool, str)) else float
            _check_kind(attribute, [kind] if isinstance(attribute, list) else kind, f"{field}.{name}")
        _check_kind(value.get("ema"), bool, f"{field}.ema")
    else:
        _check_kind(value, BY_ROLE[group], field)


def _check_group(values: Any, fields: dict[str, Any], field: str, optional: dict[str, Any] | None = None) -> None:
    """Check that a group has its fields, and none but those and the optional ones."""
    _expect(isinstance(values, dict), field, values, "fields by their names")
    _check_names(values, fields, optional or {}, f"{field}.")
    for name, value in values.items():
        _check_kind(value, {**fields, **(optional or {})}[name], f"{field}.{name}")


def _check_names(values: dict[str, Any], fields: dict[str, Any], optional: dict[str, Any], prefix: str) -> None:
    for name in sorted(values.keys() - fields.keys() - optional.keys()):
        raise unknown("config field", f"{prefix}{name[:80]}", [prefix + known for known in (*fields, *optional)])
    for name in sorted(fields.keys() - values.keys()):
        raise InputError(f"config.{prefix}{name} is missing.")


def _check_kind(value: Any, kind: Any, field: str) -> None:
    if isinstance(kind, dict):
        _check_group(value, kind, field)
    elif isinstance(kind, list):
        _expect(isinstance(value, list) and len(value) <= LONGEST_LIST, field, value, "a list, not beyond all bounds")
        for inner in value:
            _check_kind(inner, kind[0], field)
    elif kind is str:
        ok = isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value and _can_be_path(value)
        _expect(ok, field, value, f"text of at most {LONGEST_TEXT} letters")
    elif kind is bool:
        _expect(isinstance(value, bool), field, value, WORDS[bool])
    else:
        types = (int,) if kind is int else (int, float)
        ok = isinstance(value, types) and not isinstance(value, bool)
        ok = ok and (math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST)
        _expect(ok, field, value, f"{WORDS[kind]}, not beyond all bounds")


def _check_phases(value: Any, field: str) -> None:
    """Check that phases are [[length, [[role, ...], ...]], ...]."""
    _expect(isinstance(value, list) and len(value) <= LONGEST_LIST, field, value, "a list")
    for phase in value:
        _expect(isinstance(phase, list) and len(phase) == 2, field, phase, "pairs of a length and groups of roles")
        _check_kind(phase[0], float, field)
        _check_kind(phase[1], [[str]], field)


def _is_name(text: str) -> bool:
    """Tell whether text can be the name of a role or an attribute; ConfigDict keeps those with an underscore."""
    return text.isidentifier() and not text.startswith("_") and len(text) < 80


def _can_be_path(text: str) -> bool:
    """Tell whether text can name a file: JSON can also hold halves of letters, which nothing can."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _expect(ok: bool, field: str, found: Any, expected: str) -> None:
    if not ok:
        raise _wrong(field, found, expected)


def _wrong(field: str, found: Any, expected: str) -> InputError:
    """Return the error for a value of another kind; it may be of any size and depth."""
    try:
        text = repr(found)[:80]
    except (RecursionError, ValueError):  # ValueError: of more digits than Python shows
        text = type(found).__name__
    return InputError(f"config.{field} is {text}; expected {expected}.")

"""The fields of a stored config and their kinds: what a config.json is held against before anything acts on it.

On the command line ml_collections sees to it that fields exist and keep their types. A folder may come from anybody, so
its config.json is checked in the same way here; the ranges of values are `config.check`'s. The shared fields are those
of configs/common.py, whose owners name their kinds; a method's own stand in its file as `FIELDS`, and attributes of
networks are known to the networks.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from gan_seg_jax import optimizer_fields as optimizers
from gan_seg_jax.augment import fields as augment
from gan_seg_jax.data import fields as data
from gan_seg_jax.errors import InputError, expect, unknown
from gan_seg_jax.losses import fields as losses
from gan_seg_jax.training import fields as training

LONGEST_TEXT = 4096
LONGEST_LIST = 4096
DEEPEST = 8  # prior runs of prior runs
LARGEST = 2**63
RENAMED = {"judge": "feature_network"}  # fields, and runs of `prior_runs`, by the names that they had before
# Fields that older runs lack, and what they did without them.
ADDED = {"patience": 0, "rematerialize": False, "spatial_shards": 1}

# A kind is a type (float takes whole numbers, too), [kind] for a list, or a dict of fields.
SHARED = training.KINDS | data.KINDS | augment.KINDS | losses.KINDS
OPTIONAL = {"backbone": str}  # the short name of a network's field, where it has one
BY_ROLE = {"networks": None, "optimizers": optimizers.KINDS, "init": str, "pretrained": str, "prior_runs": None}
WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def present_names(values: Any, depth: int = 0) -> Any:
    """Return a stored config with the names that its fields have now; what is no config is left to `check_fields`."""
    if not isinstance(values, dict) or depth > DEEPEST:
        return values
    found = {RENAMED.get(name, name): value for name, value in values.items()}
    if isinstance(found.get("prior_runs"), dict):
        priors = found["prior_runs"].items()
        found["prior_runs"] = {RENAMED.get(name, name): present_names(prior, depth + 1) for name, prior in priors}
    return found


def present_fields(values: Any, depth: int = 0) -> Any:
    """Return a stored config with the fields that it would have now, by their present names."""
    if depth == 0:
        values = present_names(values)
    if not isinstance(values, dict) or depth > DEEPEST:
        return values
    found = ADDED | values
    if isinstance(found.get("prior_runs"), dict):
        found["prior_runs"] = {name: present_fields(prior, depth + 1) for name, prior in found["prior_runs"].items()}
    return found


def check_fields(values: Any, own: Mapping[str, Any], prefix: str = "", depth: int = 0) -> None:
    """Check that JSON values are a config: every field, no other, each of its kind, and none beyond all bounds.

    Args:
        values: read from a file that may be anybody's.
        own: the kinds of the fields that single methods read (`methods.fields_of`), all of which may be missing. Any
            config may have those of any method: a method can be set over the config of another.
        prefix: of the fields' names in a message.
        depth: of runs within runs.

    Raises:
        InputError: they are not; the first field that is wrong is named.
    """
    expect(isinstance(values, dict), prefix[:-1] or "(all)", values, "fields by their names")
    if depth > DEEPEST:
        raise InputError(f"config.{prefix[:-1]} is nested too deeply; expected at most {DEEPEST} runs within runs.")
    optional = OPTIONAL | {name: kind for name, kind in own.items() if name != "losses"}
    _check_names(values, {**SHARED, "phases": None, **BY_ROLE}, optional, prefix)
    for name, value in values.items():
        if name in BY_ROLE:
            expect(isinstance(value, dict), prefix + name, value, "fields by their names")
            for role, inner in value.items():
                expect(_is_name(role), prefix + name, role, "names of roles")
                if name == "prior_runs":
                    check_fields(inner, own, f"{prefix}{name}.{role}.", depth + 1)
                else:
                    _check_role(name, inner, f"{prefix}{name}.{role}")
        elif name == "phases":
            _check_phases(value, prefix + name)
        elif name == "losses":
            _check_group(value, SHARED["losses"], f"{prefix}{name}", own["losses"])
        else:
            _check_kind(value, {**SHARED, **optional}[name], prefix + name)


def _check_role(group: str, value: Any, field: str) -> None:
    """Check what a config holds for one role."""
    if group == "networks":
        ok = isinstance(value, dict) and isinstance(value.get("name"), str)
        expect(ok, field, value, "fields by their names, `name` among them")
        for name, attribute in value.items():
            expect(_is_name(name), field, name, "names of attributes")
            kind = type(attribute) if isinstance(attribute, (bool, str)) else float
            _check_kind(attribute, [kind] if isinstance(attribute, list) else kind, f"{field}.{name}")
        _check_kind(value.get("ema"), bool, f"{field}.ema")
    else:
        _check_kind(value, BY_ROLE[group], field)


def _check_group(values: Any, fields: dict[str, Any], field: str, optional: dict[str, Any] | None = None) -> None:
    """Check that a group has its fields, and none but those and the optional ones."""
    expect(isinstance(values, dict), field, values, "fields by their names")
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
        expect(isinstance(value, list) and len(value) <= LONGEST_LIST, field, value, "a list, not beyond all bounds")
        for inner in value:
            _check_kind(inner, kind[0], field)
    elif kind is str:
        ok = isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value and _can_be_path(value)
        expect(ok, field, value, f"text of at most {LONGEST_TEXT} letters")
    elif kind is bool:
        expect(isinstance(value, bool), field, value, WORDS[bool])
    else:
        types = (int,) if kind is int else (int, float)
        ok = isinstance(value, types) and not isinstance(value, bool)
        ok = ok and (math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST)
        expect(ok, field, value, f"{WORDS[kind]}, not beyond all bounds")


def _check_phases(value: Any, field: str) -> None:
    """Check that phases are [[length, [[role, ...], ...]], ...]."""
    expect(isinstance(value, list) and len(value) <= LONGEST_LIST, field, value, "a list")
    for phase in value:
        expect(isinstance(phase, list) and len(phase) == 2, field, phase, "pairs of a length and groups of roles")
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

"""Which of the project's configs a stored one was made of: the file and the words from which it differs least.

A run keeps all fields and not the command line that set them; from these comes a command line that sets the same.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gan_seg_jax.cli import commands, config_files, listing
from gan_seg_jax.cli.config_files import PROJECT
from gan_seg_jax.config import flat, to_json
from gan_seg_jax.errors import InputError

FOUND_IN_DATA = ("num_classes", "class_names", "class_colors", "image_bits", "planned_steps")
"""Fields that a start fills in."""
_ABSENT = "(absent)"
_OTHERS = (
    "__init__.py",
    "auto.py",
    "common.py",
    "networks.py",
    "discriminators.py",
)  # that are no configs of their own
_OTHER_METHOD = 10**6  # fields, as a measure of it


class Nearest(NamedTuple):
    """A config of the project and what a stored one has instead.

    Attributes:
        config: as behind `--config=`, such as configs/cgan_seg.py:smoke.
        differences: (field, value of the config, stored value).
        arguments: for `gan-seg train`, that make the stored config; () where single fields cannot.
    """

    config: str
    differences: list[tuple[str, Any, Any]]
    arguments: tuple[str, ...]


def find(stored: Mapping[str, Any]) -> Nearest | None:
    """Return the project's config that is nearest to a stored one, as JSON values; None where none has its method."""
    wanted = flat(stored)
    best: tuple[int, str, str] | None = None
    for file in sorted(PROJECT.glob("*.py")):
        if file.name in _OTHERS:
            continue
        known = sorted(set(re.findall(r"\w+", " ".join(listing.words(listing.docstring(file))))))
        found = _best_words(file, known, wanted)
        if found is not None and (best is None or found[0] < best[0]):
            best = (found[0], file.name, found[1])
    if best is None:
        return None
    _, name, words = best
    config = f"configs/{name}{':' * bool(words)}{words}"
    differing = _differences(_load(PROJECT / name, words) or {}, wanted)
    return Nearest(config, differing, _arguments(config, differing, wanted))


def _best_words(file: Path, known: list[str], wanted: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return how many fields differ, and with which words of a file the fewest; None where none gives the method."""
    chosen: tuple[str, ...] = ()
    least = _distance(_load(file, ""), wanted)
    while True:
        tried = {(*chosen, word): _load(file, ",".join((*chosen, word))) for word in known if word not in chosen}
        distances = {words: _distance(fields, wanted) for words, fields in tried.items()}
        words = min(distances, key=distances.__getitem__, default=())
        if not words or distances[words] >= min(least, _OTHER_METHOD):
            break
        chosen, least = words, distances[words]
    return None if least >= _OTHER_METHOD else (least, ",".join(chosen))


def _distance(fields: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> int:
    if fields is None:
        return 2 * _OTHER_METHOD
    return len(_differences(fields, wanted)) + _OTHER_METHOD * (fields["method"] != wanted["method"])


def _differences(fields: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    pairs = [(name, fields.get(name, _ABSENT), wanted.get(name, _ABSENT)) for name in fields.keys() | wanted.keys()]
    return sorted(((n, a, b) for n, a, b in pairs if a != b and n not in FOUND_IN_DATA), key=lambda row: row[0])


@functools.cache
def _load(file: Path, words: str) -> dict[str, Any] | None:
    """Return the fields of a config by their names; None where the words are none of it, or exclude each other."""
    try:
        return flat(to_json(config_files.project_config(file.stem, words)))
    except InputError:
        return None


def _arguments(config: str, differing: list[tuple[str, Any, Any]], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the command line that makes the stored config, tried; () where there is none."""
    words = (f"--config={config}", *(f"--config.{name}={_written(value)}" for name, _, value in differing))
    try:
        made = flat(to_json(commands.load_config([f"--config={PROJECT.parent}/{config}", *words[1:]])))
    except Exception:  # whatever ml_collections says of a field that another network has
        return ()
    return () if _differences(made, wanted) else words


def _written(value: Any) -> str:
    return value if isinstance(value, str) else repr(_tuples(value))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

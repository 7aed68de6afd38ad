"""Look at every file of a folder set once, and say in a sentence what is wrong.

A broken or mislabelled file that shows up after hours of training costs the hours, so all of them are decoded when the
folder is opened. What was found in a sound file is remembered in the user's cache under its name, size and time of
change: the next start reads no pixels. Files that are not sound are looked at again each time.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import tqdm

from gan_seg_jax.data import images
from gan_seg_jax.data.catalog import IGNORE, DatasetInfo
from gan_seg_jax.errors import InputError

_SCHEMA = 1  # raise it when the facts or the meaning of the reading of files change
_NAMED = 5  # files named in a message
_WORKERS = 8
_SECONDS_BEFORE_PROGRESS = 3.0
_COUNTS_FROM_ONE = "Usual cause: ids that count from 1; subtract 1"


class File(NamedTuple):
    """A file as the folder lists it: its path in the set, its size in bytes and its time of change in nanoseconds."""

    path: str
    size: int
    changed: int


class Problem(NamedTuple):
    """Something wrong with one file: `reason` is shared by all files with the same trouble, `detail` is its own."""

    path: str
    reason: str
    detail: str = ""


def inspect(
    root: str, image_files: Iterable[File], mask_files: Iterable[File]
) -> tuple[dict[str, images.MaskFacts], list[Problem]]:
    """Decode every file that is new or has changed since the last time.

    Args:
        root: Absolute path of the set.
        image_files: Its images.
        mask_files: Its masks.

    Returns:
        Facts of each sound file by path (images have no values), and the problems of the others.
    """
    jobs = [(file, _image_facts) for file in image_files] + [(file, images.inspect_mask) for file in mask_files]
    known = _load_cache(root)
    entries = {file.path: known[file.path] for file, _ in jobs if _is_known(file, known)}
    todo = [job for job in jobs if job[0].path not in entries]
    problems = []
    for (file, _), result in zip(todo, _run_all(root, todo), strict=True):
        if isinstance(result, images.ImageError):
            problems.append(Problem(file.path, result.reason))
        else:
            entries[file.path] = [file.size, file.changed, *result]
    if len(entries) != len(known) or any(known.get(path) is not entry for path, entry in entries.items()):
        _save_cache(root, entries)
    return {path: _facts(entry) for path, entry in entries.items()}, problems


def compare_sizes(
    pairs: Iterable[tuple[str, str]], facts: Mapping[str, images.MaskFacts], *, partner: str = "mask"
) -> list[Problem]:
    """Return a problem for each (image, mask) pair, or other `partner`, of sound files that differ in size."""
    problems = []
    for image, mask in pairs:
        if image not in facts or mask not in facts:
            continue
        (height, width), (rows, columns) = facts[image][:2], facts[mask][:2]
        if (height, width) == (rows, columns):
            continue
        reason = f"{partner} of another size than its image (height x width); save it at the size of the image."
        if (height, width) == (columns, rows):
            reason = (
                f"{partner} on its side compared with its image (height x width). Usual cause: the photograph has an "
                f"EXIF rotation, which is applied here, and the {partner} was made of the unrotated pixels; rotate it."
            )
        problems.append(Problem(mask, reason, f"{rows} x {columns}, image {height} x {width}"))
    return problems


def check_values(
    masks: Iterable[str],
    facts: Mapping[str, images.MaskFacts],
    info: DatasetInfo,
    *,
    ignore_is_meant: bool,
) -> list[Problem]:
    """Return a problem for each mask of one split whose values cannot be ids of these classes.

    Args:
        masks: Paths of the masks of a split.
        facts: What `inspect` found.
        info: The classes.
        ignore_is_meant: Whether a split with no values but 0 and 255 is to be believed.
    """
    masks = [mask for mask in masks if mask in facts]
    allowed = {*range(info.num_classes), IGNORE}
    found = {value for mask in masks for value in facts[mask].values}
    if IGNORE in found and found <= {0, IGNORE} and info.num_classes > 1 and not ignore_is_meant:
        reason = (
            f"the masks hold nothing but {_listed(found)}, and 255 means ignore, so that at most class 0 is ever seen. "
            "Usual cause: 0/255 masks; write the id of the class, such as 1, in place of 255."
        )
        return [Problem(mask, reason, "value 255") for mask in masks if IGNORE in facts[mask].values]
    problems = []
    cause = _usual_cause(found, info)
    for mask in masks:
        outside = set(facts[mask].values) - allowed
        if outside:
            reason = (
                f"values outside the {info.num_classes} classes (0 to {info.num_classes - 1}, 255 = ignore). {cause}."
            )
            problems.append(Problem(mask, reason, _listed(outside)))
        elif _colors_disagree(facts[mask], info):
            reason = (
                "palette mask in which the indices stand for other classes than the colours do. Usual cause: a "
                "colour-coded mask reduced to a palette; write the id of each colour's line in classes.txt instead."
            )
            problems.append(Problem(mask, reason))
    return problems


def raise_problems(root: str, problems: list[Problem], num_files: int):
    """Raise one InputError that counts all problems and names the first of each kind; return if there are none."""
    if not problems:
        return
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.reason, []).append(problem)
    sentences = []
    for reason, group in groups.items():
        names = [images.printable(path) + (f" ({detail})" if detail else "") for path, _, detail in group[:_NAMED]]
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        sentences.append(f"{', '.join(names)}{more}: {reason}")
    counted = f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {num_files} files"
    raise InputError(f"{images.printable(root)}: {counted}.\n" + "\n".join(sentences))


def _usual_cause(found: set[int], info: DatasetInfo) -> str:
    """Say what most likely went wrong in a split whose masks hold the values `found`."""
    ids = found - {IGNORE}
    # What Pillow makes of a colour in grey (ITU-R 601-2).
    greys = {(19595 * red + 38470 * green + 7471 * blue + 32768) >> 16 for red, green, blue in info.class_colors}
    if ids <= greys:
        return (
            "Usual cause: colour-coded masks that were saved as grey; write the id of each colour's line in classes.txt"
        )
    if max(ids) == info.num_classes and 0 not in ids:
        return _COUNTS_FROM_ONE
    if max(ids) == info.num_classes:
        return f"{_COUNTS_FROM_ONE} and write 255 where nothing is labelled, or add the missing class to classes.txt"
    if found >= {0, 255} and len(ids) > info.num_classes:
        return "Usual cause: 0/255 masks that were resized smoothly or stored as JPEG; cut them at 128 into ids 0 and 1"
    return (
        "Usual causes: 0/255 masks, colour-coded masks saved as grey, ids that count from 1, or a class that is "
        "missing in classes.txt; write the ids of classes.txt"
    )


def _colors_disagree(facts: images.MaskFacts, info: DatasetInfo) -> bool:
    """Tell whether all palette colours in use are colours of classes, but of others than the indices say."""
    pairs = [(value, tuple(color)) for value, color in zip(facts.values, facts.colors, strict=False) if value != IGNORE]
    ids = {color: value for value, color in enumerate(info.class_colors)}
    known = len(pairs) > 1 and all(color in ids for _, color in pairs)
    return known and any(info.class_colors[value] != color for value, color in pairs)


def _listed(values: set[int]) -> str:
    shown = sorted(values)[:_NAMED]
    dots = ", ..." if len(values) > len(shown) else ""
    return f"{'values' if len(values) > 1 else 'value'} {', '.join(map(str, shown))}{dots}"


def _image_facts(path: str) -> images.MaskFacts:
    height, width, _ = images.read_image(path).shape
    return images.MaskFacts(height, width, (), ())


def _run_all(root: str, jobs: list[tuple[File, Callable]]) -> list[images.MaskFacts | images.ImageError]:
    """Run the jobs on a few threads (Pillow decodes without the interpreter's lock), with a bar if it takes long."""

    def run(job):
        file, inspect_file = job
        try:
            return inspect_file(os.path.join(root, file.path))
        except images.ImageError as error:
            return error

    pool = concurrent.futures.ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1))
    try:
        progress = tqdm.tqdm(
            pool.map(run, jobs),
            total=len(jobs),
            desc="checking files",
            unit="file",
            delay=_SECONDS_BEFORE_PROGRESS,
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        return list(progress)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the rest


def _is_known(file: File, known: dict[str, list]) -> bool:
    return file.path in known and known[file.path][:2] == [file.size, file.changed]


def _facts(entry: list) -> images.MaskFacts:
    _, _, height, width, values, colors = entry
    return images.MaskFacts(height, width, tuple(values), tuple(map(tuple, colors)))


def _cache_file(root: str) -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path.home() / ".cache"
    return folder / "gan_seg_jax" / "checks" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"


def _load_cache(root: str) -> dict[str, list]:
    """Return what is remembered of `root`, {path: [size, changed, *facts]}; nothing where there is no usable cache."""
    try:
        content = json.loads(_cache_file(root).read_text())
        if content["schema"] != _SCHEMA or content["root"] != root:
            return {}
        for entry in content["files"].values():
            _facts(entry)
        return content["files"]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _save_cache(root: str, entries: dict[str, list]):
    """Remember `entries`; a cache that cannot be written is no reason to stop."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _cache_file(root)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"schema": _SCHEMA, "root": root, "files": entries}, file)
            os.replace(temporary, path)  # whole or not at all, also with two processes at once
        except OSError:
            os.unlink(temporary)
            raise

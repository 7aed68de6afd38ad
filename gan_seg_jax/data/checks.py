"""Look at every file of a folder set once, and say in a sentence what is wrong.

A broken or mislabelled file that shows up after hours of training costs the hours, so all of them are decoded when the
folder is opened. What was found in a sound file is remembered in the user's cache under its name, size and time of
change: the next start reads no pixels. Files that are not sound are looked at again each time.
"""

import concurrent.futures
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import tqdm

from gan_seg_jax.data import images, remembered
from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.system import files

_NAMED = 5  # files named in a message
_WORKERS = 8
_SECONDS_BEFORE_PROGRESS = 3.0
_COUNTS_FROM_ONE = "Usual cause: ids that count from 1; subtract 1"
Job, Found = TypeVar("Job"), TypeVar("Found")


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
    root: str, image_files: Iterable[File], mask_files: Iterable[File], *, max_pixels: int = images.MAX_PIXELS
) -> tuple[dict[str, images.Facts], list[Problem]]:
    """Decode every file that is new or has changed since the last time.

    Args:
        root: Absolute path of the set.
        image_files: Its images.
        mask_files: Its masks.
        max_pixels: How many pixels a file may have.

    Returns:
        Facts of each sound file by path (images have no values), and the problems of the others.
    """
    jobs = [(file, images.inspect_image) for file in image_files] + [(file, images.inspect_mask) for file in mask_files]
    known = _known_facts(remembered.load(root))
    entries = {file.path: known[file.path] for file, _ in jobs if _is_known(file, known, max_pixels)}
    todo = [job for job in jobs if job[0].path not in entries]
    problems = []
    for (file, _), result in zip(todo, _run_all(root, todo, max_pixels), strict=True):
        if isinstance(result, images.ImageError):
            problems.append(Problem(file.path, result.reason))
        else:
            entries[file.path] = [file.size, file.changed, *dataclasses.astuple(result)]
    if len(entries) != len(known) or any(known.get(path) is not entry for path, entry in entries.items()):
        remembered.save(root, entries)
    return {path: _facts(entry) for path, entry in entries.items()}, problems


def remember(root: str, facts: Mapping[File, images.Facts]) -> None:
    """Remember what was found in sound files by other means than `inspect`, which then need not read them.

    Args:
        root: Absolute path of the set.
        facts: All that are known of it.
    """
    entries = {file.path: [file.size, file.changed, *dataclasses.astuple(found)] for file, found in facts.items()}
    remembered.save(root, entries)


def compare_sizes(
    pairs: Iterable[tuple[str, str]], facts: Mapping[str, images.Facts], *, partner: str = "mask"
) -> list[Problem]:
    """Return a problem for each (image, mask) pair, or other `partner`, of sound files that differ in size."""
    problems = []
    for image, mask in pairs:
        if image not in facts or mask not in facts:
            continue
        height, width, turned = facts[image].height, facts[image].width, facts[image].orientation
        rows, columns, mask_turned = facts[mask].height, facts[mask].width, facts[mask].orientation
        if (height, width) == (rows, columns):
            tells = (turned in images.QUARTER_TURNS) != (mask_turned in images.QUARTER_TURNS) and height != width
            if turned != mask_turned and not tells:
                reason = _turned_both_ways(partner)
                problems.append(Problem(image, reason, f"EXIF orientation {turned}, {partner} {mask_turned}"))
            continue
        reason = f"{partner} of another size than its image (height x width); save it at the size of the image."
        if (height, width) == (columns, rows):
            reason = (
                f"{partner} on its side compared with its image (height x width). Usual cause: the photograph has an "
                f"EXIF rotation, which is applied here, and the {partner} was made of the unrotated pixels; rotate it."
            )
        problems.append(Problem(mask, reason, f"{rows} x {columns}, image {height} x {width}"))
    return problems


def _turned_both_ways(partner: str) -> str:
    return (
        f"EXIF rotation that the {partner} does not have, and the {partner} fits the turned and the stored picture, so "
        f"that nothing says which is meant. If the {partner} was made of the upright picture, turn the pixels of the "
        f"image and drop the tag (`mogrify -auto-orient FILE`); if of the stored pixels, drop the tag alone "
        "(`exiftool -Orientation= FILE`)."
    )


def check_values(
    masks: Iterable[str],
    facts: Mapping[str, images.Facts],
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


def expect_labels(root: str, masks: Mapping[str, list[str]], facts: Mapping[str, images.Facts]) -> None:
    """Refuse a val without any labelled pixel, by which no step can be chosen; of a test, say that it has no scores.

    Args:
        root: The set, for errors.
        masks: Split -> paths of its masks.
        facts: What `inspect` found.
    """
    for split in ("val", "test"):
        if split in masks and not any(set(facts[path].values) - {IGNORE} for path in masks[split]):
            without_labels(root, split)


def without_labels(where: str, split: str) -> None:
    """Refuse a val without labels, warn of other splits."""
    if split == "val":
        raise InputError(
            f"{files.shown(where)}: no pixel of val is labelled (its masks hold nothing but 255, which means ignore), "
            "so the best step cannot be chosen; write class ids into them, or make a val of labelled images (where "
            "there is none, a tenth of train is taken)."
        )
    follows = "it will have no scores" if split == "test" else "nothing can be learnt from its labels"
    print(
        f"warning: {files.shown(where)}: no pixel of {split} is labelled (all is 255, ignore); {follows}.",
        file=sys.stderr,
    )


def raise_problems(root: str, problems: list[Problem], num_files: int):
    """Raise one InputError that counts all problems and names the first of each kind; return if there are none."""
    if not problems:
        return
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.reason, []).append(problem)
    sentences = []
    for reason, group in groups.items():
        names = [files.shown(path) + (f" ({detail})" if detail else "") for path, _, detail in group[:_NAMED]]
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        sentences.append(f"{', '.join(names)}{more}: {reason}")
    counted = f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {num_files} files"
    raise InputError(f"{files.shown(root)}: {counted}.\n" + "\n".join(sentences))


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


def _colors_disagree(facts: images.Facts, info: DatasetInfo) -> bool:
    """Tell whether all palette colours in use are colours of classes, but of others than the indices say."""
    pairs = [(value, tuple(color)) for value, color in zip(facts.values, facts.colors, strict=False) if value != IGNORE]
    ids = {color: value for value, color in enumerate(info.class_colors)}
    known = len(pairs) > 1 and all(color in ids for _, color in pairs)
    return known and any(info.class_colors[value] != color for value, color in pairs)


def _listed(values: set[int]) -> str:
    shown = sorted(values)[:_NAMED]
    dots = ", ..." if len(values) > len(shown) else ""
    return f"{'values' if len(values) > 1 else 'value'} {', '.join(map(str, shown))}{dots}"


def _run_all(root: str, jobs: list[tuple[File, Callable]], max_pixels: int) -> list[images.Facts | images.ImageError]:
    def run(job):
        file, inspect_file = job
        try:
            return inspect_file(os.path.join(root, file.path), max_pixels=max_pixels)
        except images.ImageError as error:
            return error

    return on_threads(run, jobs)


def on_threads(run: Callable[[Job], Found], jobs: Sequence[Job]) -> list[Found]:
    """Run all jobs on a few threads (Pillow decodes without the interpreter's lock), with a bar if it takes long."""
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


def _known_facts(entries: dict[str, list]) -> dict[str, list]:
    """Return what is remembered, nothing if it is damaged."""
    try:
        for entry in entries.values():
            _facts(entry)
        return entries
    except (ValueError, TypeError):
        return {}


def _is_known(file: File, known: dict[str, list], max_pixels: int) -> bool:
    entry = known.get(file.path)
    return entry is not None and entry[:2] == [file.size, file.changed] and entry[2] * entry[3] <= max_pixels


def _facts(entry: list) -> images.Facts:
    _, _, *plain, values, counts, colors = entry
    return images.Facts(*plain, tuple(values), tuple(counts), tuple(map(tuple, colors)))

"""From the flags to the finished folder: list, split, read and write each example, record what was done."""

import collections
import dataclasses
import os
from pathlib import Path
from typing import Any

from gan_seg_jax.data import checks
from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import FORMATS, splitting, writer
from gan_seg_jax.preparing.lines import Line, stamps, void_pixels
from gan_seg_jax.preparing.source import Item, LeftOut, Options, Source, Unclear
from gan_seg_jax.preparing.writer import Target
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import track

COMMON = frozenset(
    "format source output lists val_fraction test_fraction seed group_pattern skip_damaged skip_duplicates "
    "max_pixels".split()
)
"""Flags of every format."""
MOST_PROBLEMS = 100
_PATIENCE = 20  # masks of nothing but 0 and 255 before they are taken for 0/255 masks
_LISTED = 1000  # names of what is left out, in PREPARED.json
_DUPLICATE = "equal to an image of another split"


def prepare(options: Options) -> dict[str, Any]:
    """Write the folder that the flags ask for; return what PREPARED.json says of it.

    Raises:
        InputError: A flag, the source or the target cannot be used, or examples have problems (all are named).
    """
    options = _checked(options)
    source = FORMATS[options.format].open_source(options)
    items, not_listed = splitting.assign(source.items, options)
    left_out = {why: list(paths) for why, paths in source.left_out.items()}
    left_out[splitting.NOT_LISTED] = not_listed
    _check_items(items, options)
    record = {
        "format": options.format,
        "version": writer.version(),
        "flags": _given(options),
        "plan": writer.plan(items),
    }
    with writer.open_target(Path(options.output), record) as target:
        lines = _write_all(target, source, items, options)
        for line in lines:
            if line.left_out:
                left_out.setdefault(line.left_out, []).append(f"{line.split}/{line.id}")
        written = [line for line in lines if not line.left_out]
        record |= _summary(source, written, {why: paths for why, paths in left_out.items() if paths})
        target.finish(record, lines, _classes(source, written))
    return record


def _checked(options: Options) -> Options:
    """Return the flags with whole paths.

    Raises:
        InputError: One is missing, wrong, or not read by the format; source and target are not apart.
    """
    if not options.format:
        raise InputError(f"--format is missing; expected one of: {', '.join(FORMATS)}.")
    if options.format not in FORMATS:
        raise unknown("--format", options.format, FORMATS)
    for name in ("source", "output"):
        if not getattr(options, name):
            raise InputError(f"--{name} is missing. See --help.")
    source, output = (os.path.abspath(os.path.expanduser(path)) for path in (options.source, options.output))
    if not os.path.isdir(source):
        found = "is a file: unpack it" if os.path.exists(source) else "does not exist"
        raise InputError(f"--source {files.shown(source)} {found}; expected the folder of the data set.")
    one, other = os.path.realpath(source), os.path.realpath(output)
    if os.path.commonpath((one, other)) in (one, other):
        raise InputError(
            f"--output {files.shown(output)} and --source {files.shown(source)} lie in each other; name a folder "
            "outside."
        )
    for flag in sorted(set(_given(options)) - COMMON - FORMATS[options.format].FLAGS):
        readers = ", ".join(name for name, module in FORMATS.items() if flag in module.FLAGS)
        raise InputError(f"--{flag} is not read with --format={options.format}; it is for {readers}. Leave it away.")
    return dataclasses.replace(options, source=source, output=output)


def _given(options: Options) -> dict[str, Any]:
    """Return the flags that are not at their defaults."""
    default = dataclasses.asdict(Options())
    return {name: value for name, value in dataclasses.asdict(options).items() if value != default[name]}


def _check_items(items: list[Item], options: Options) -> None:
    """Refuse a source without training images, and names that no file of a data set may have."""
    where = files.shown(options.source)
    if not any(item.split == "train" for item in items):
        raise InputError(f"{where}: no image is of train; expected some to learn from. See --splits and --lists.")
    seen: set[tuple[str, str]] = set()
    for item in items:
        if item.id != files.shown(item.id) or item.id.startswith(".") or "/" in item.id:
            raise InputError(
                f"{files.shown(item.files[0])}: this name cannot be kept (letters that are none); rename it."
            )
        if (item.split, item.id) in seen:
            raise InputError(f"{where}: {item.split} has two images {files.shown(item.id)}; rename one.")
        seen.add((item.split, item.id))


def _write_all(target: Target, source: Source, items: list[Item], options: Options) -> list[Line]:
    """Write every example that is not there yet; go on past problems, so that all are known at the end."""
    lines: list[Line] = []
    problems: list[checks.Problem] = []
    digests: dict[str, str] = {}
    values: set[str] = set()
    for number, item in enumerate(track(items, len(items)), start=1):
        line = target.kept(item)
        if line is None:
            try:
                line = _make(target, item, digests, options)
            except ImageError as error:
                path, detail = os.path.relpath(error.args[0], options.source), getattr(error, "detail", "")
                problem = checks.Problem(path, error.reason, detail)
                problems += [problem] if problem not in problems else []  # every slice of a volume has it
        if line is not None:
            lines.append(line)
            digests.setdefault(line.digest, item.split)
            values |= set(line.classes)
        if len(problems) >= MOST_PROBLEMS:
            break
        if number == _PATIENCE and not problems:
            _expect_ids(source, values)
    if problems:
        more = "" if len(problems) < MOST_PROBLEMS else " (and perhaps more; it stopped here)"
        checks.raise_problems(options.source + more, problems, len(items))
    _expect_ids(source, values)
    if not any(line.split == "train" and not line.left_out for line in lines):
        raise InputError(f"{files.shown(options.source)}: all images of train were left out; see {writer.LINES}.")
    return lines


def _make(target: Target, item: Item, digests: dict[str, str], options: Options) -> Line:
    """Read and write one example, or leave it out."""
    why = ""
    try:
        example = item.read()
        other = digests.get(example.image.digest, item.split)
        if other != item.split:
            why = _DUPLICATE
            if not options.skip_duplicates:
                raise Unclear(
                    item.files[0],
                    "image that is equal to one of another split; scores would be of what is trained on. "
                    "--skip_duplicates leaves the later one out.",
                )
    except LeftOut as error:
        why = str(error)
    except ImageError as error:
        if not options.skip_damaged or isinstance(error, Unclear):
            raise
        why = f"damaged: {error.reason}"
    line = Line(item.split, item.id, stamps(item), left_out=why) if why else target.write(item, example)
    target.add(line)
    return line


def _expect_ids(source: Source, values: set[str]) -> None:
    """Refuse masks of nothing but 0 and 255, of which nobody has said that 255 is void."""
    if not source.void_is_meant and str(IGNORE) in values and values <= {"0", str(IGNORE)}:
        raise InputError(
            "The masks hold nothing but 0 and 255. If 255 is the foreground: --mask_values=binary; if it is void, so "
            "that all that is known is class 0: --void=255."
        )


def _classes(source: Source, lines: list[Line]) -> str:
    """Return classes.txt, with a line for void where there is some."""
    if source.info is None:
        return ""
    pairs = zip(source.info.class_names, source.info.class_colors, strict=True)
    rows = [f"{n} {name} {' '.join(map(str, color))}" for n, (name, color) in enumerate(pairs)]
    void = [f"{IGNORE} void 224 224 192"] if any(map(void_pixels, lines)) else []
    return "\n".join(["# id name R G B", *rows, *void, ""])


def _summary(source: Source, lines: list[Line], left_out: dict[str, list[str]]) -> dict[str, Any]:
    """Return what PREPARED.json says at the end."""
    splits: dict[str, Any] = {}
    notes: collections.Counter[str] = collections.Counter()
    names = source.info.class_names if source.info else ()
    for line in lines:
        split = splits.setdefault(
            line.split, {"images": 0, "labelled": 0, "pixels": dict.fromkeys(names, 0), "void": 0}
        )
        split["images"] += 1
        split["labelled"] += bool(line.classes)
        split["void"] += void_pixels(line)
        for value, count in line.classes.items():
            if int(value) != IGNORE:
                split["pixels"][names[int(value)]] += count
        notes.update(line.notes)
    return {
        "classes": list(names),
        "values": dict(source.mapping),
        "void": IGNORE,
        "splits": splits,
        "official_counts": dict(source.info.counts if source.info else ()),
        "notes": dict(notes),
        "left_out": {why: {"count": len(paths), "such_as": paths[:_LISTED]} for why, paths in left_out.items()},
    }

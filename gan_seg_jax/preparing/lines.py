"""The lines of PREPARED.jsonl: what was written of each example, and of what."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing.source import Item
from gan_seg_jax.system import files


@dataclasses.dataclass
class Line:
    """What PREPARED.jsonl says of one example.

    Attributes:
        split: Its split.
        id: Its name.
        source: Size in bytes and time of change in nanoseconds of each file that it was read from.
        files: Path below the target -> SHA-256.
        digest: That of the image; equal for equal images.
        classes: Class id -> pixels; "255": void.
        notes: What else was counted.
        spacing: As of `Example`.
        left_out: Why it was left out; "" where it was not.
    """

    split: str
    id: str
    source: list[list[int]]
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    digest: str = ""
    classes: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: dict[str, int] = dataclasses.field(default_factory=dict)
    spacing: list[float] = dataclasses.field(default_factory=list)
    left_out: str = ""


def stamps(item: Item) -> list[list[int]]:
    """Return size and time of change of the files of an example; -1 of what is missing."""
    found = []
    for path in item.files:
        try:
            state = os.stat(path)
            found.append([state.st_size, state.st_mtime_ns])
        except OSError:
            found.append([-1, -1])
    return found


def void_pixels(line: Line) -> int:
    """Return how many pixels of an example are void."""
    return line.classes.get(str(IGNORE), 0)


def read_lines(path: Path) -> dict[tuple[str, str], Line]:
    """Return the lines by split and id; what a killed process left unfinished at the end is no line."""
    lines = {}
    try:
        content = files.read_bytes(path, limit=2**32)
    except FileNotFoundError:
        return {}
    if content and not content.endswith(b"\n"):
        content = content[: content.rfind(b"\n") + 1]
        files.write_bytes(path, content)
    for text in content.splitlines():
        try:
            line = Line(**json.loads(text))
            if all(map(_is_below, line.files.items())) and {*map(type, line.classes.values())} <= {int}:
                lines[line.split, line.id] = line
        except (ValueError, TypeError, AttributeError):  # it may be anybody's; whatever has no line is made anew
            continue
    return lines


def _is_below(entry: tuple[str, str]) -> bool:
    """Tell whether the name of a file stays below the target."""
    return not os.path.isabs(entry[0]) and os.pardir not in entry[0].split("/")


def as_json(line: Line) -> bytes:
    """Return a line as it is written."""
    values = {key: value for key, value in dataclasses.asdict(line).items() if value or key == "source"}
    return json.dumps(values).encode() + b"\n"


def spacing_table(lines: Sequence[Line]) -> str:
    """Return a row for each image of a volume: its split and id, and millimetres of a pixel and between slices."""
    head = ("split", "id", "row_mm", "column_mm", "slice_mm")
    return files.csv_text([head, *((line.split, line.id, *line.spacing) for line in lines if line.spacing)])

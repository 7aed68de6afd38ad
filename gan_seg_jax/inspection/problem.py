"""One thing that is wrong with a set."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from gan_seg_jax.inspection.look import Look

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""The worst first: training refuses it, or learns or scores what is not meant; it usually harms; one should know it."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        severity: One of SEVERITIES.
        name: A word for it, the same in every report.
        title: What was found.
        meaning: What follows from it, and what to do.
        files: (path, detail) of each file concerned; a detail may be "".
        command: What mends it on a command line, "" where nobody can say it; {files} stands for the file that lists
            the paths, each ended by a NUL.
        count: How many there are, where that is not the number of files.
        beside: Of some of the files, the path of another that it is to be seen beside.
    """

    severity: str
    name: str
    title: str
    meaning: str
    files: tuple[tuple[str, str], ...] = ()
    command: str = ""
    count: int = 0
    beside: Mapping[str, str] = dataclasses.field(default_factory=dict)


def with_partners(files: Iterable[tuple[str, str]], partner_of: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return files (path, detail) with the partner behind each, the mask of an image or the image of a mask."""
    whole = dict(files)
    for path in list(whole):
        if path in partner_of:
            whole.setdefault(partner_of[path], f"belongs to {path}")
    return tuple(whole.items())


def paths(looks: Iterable[Look]) -> tuple[tuple[str, str], ...]:
    """Return the files of some looks, without details."""
    return tuple((one.path, "") for one in looks)


def counted(things: Sequence, one: str, more: str = "") -> str:
    """Return how many there are, in words: "1 mask", "2 masks"."""
    return f"{len(things)} {one if len(things) == 1 else more or one + 's'}"

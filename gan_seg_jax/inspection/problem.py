"""One thing that is wrong with a set, and the commands that mend it."""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence

from gan_seg_jax.inspection.look import Look

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""The worst first: training refuses it, or learns or scores what is not meant; it usually harms; one should know it."""

_MOVE = """'mkdir -p "$0/${1%/*}" && mv -n "$1" "$0/$1"'"""  # keeps the folders below the root


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


def set_aside(root: str) -> str:
    """Return the command that moves the files listed in {files} out of the set, their folders kept."""
    return f"cd {shlex.quote(root)} && xargs -0 -n 1 sh -c {_MOVE} {shlex.quote(root + '-set-aside')} < {{files}}"


def to_unlabelled(root: str) -> str:
    """Return the command that moves the images listed in {files} to those without labels."""
    move = "xargs -0 -I FILE mv -n FILE unlabeled/images/ < {files}"
    return f"cd {shlex.quote(root)} && mkdir -p unlabeled/images && {move}"


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

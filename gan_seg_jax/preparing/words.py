"""Read the values of flags that hold several words."""

import os
from collections.abc import Collection, Sequence

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

SPLITS = ("train", "val", "test", "unlabelled")


def one_of(flag: str, found: str, choices: Sequence[str], why: str = "") -> str:
    """Return the value of a flag.

    Args:
        flag: Its name.
        found: Its value.
        choices: What it may be.
        why: A sentence that says what it decides, for the error.

    Raises:
        InputError: It is not among the choices.
    """
    if found not in choices:
        start = f"--{flag} is {found!r}" if found else f"--{flag} is missing"
        raise InputError(f"{start}; expected one of: {', '.join(filter(None, choices))}.{' ' if why else ''}{why}")
    return found


def by_split(flag: str, text: str) -> dict[str, str]:
    """Return split -> word of a flag such as `train=training,val=validation`.

    Raises:
        InputError: It has another form, or a split that is not known.
    """
    pairs = [word.strip().partition("=") for word in text.split(",") if word.strip()]
    for split, _, value in pairs:
        if split not in SPLITS or not value:
            raise InputError(
                f"--{flag} is {text!r}; expected SPLIT=NAME with commas between, where SPLIT is {', '.join(SPLITS)}: "
                f"--{flag}=train=NAME,val=NAME."
            )
    found = {split: value for split, _, value in pairs}
    if len(found) < len(pairs) or len(set(found.values())) < len(pairs):
        raise InputError(f"--{flag} is {text!r}; expected every split and every name once.")
    return found


def numbers(flag: str, text: str, *, count: int | None = None, low: float = 0, high: float = 2**32) -> list[float]:
    """Return the numbers of a flag such as `1,99`.

    Raises:
        InputError: It holds anything else, or another `count` of numbers, or some outside of `low` to `high`.
    """
    try:
        found = [float(word) for word in text.split(",")] if text else []
    except ValueError:
        found = [float("nan")]
    if not all(low <= number <= high for number in found) or (count is not None and len(found) != count):
        many = "numbers" if count is None else f"{count} numbers"
        raise InputError(f"--{flag} is {text!r}; expected {many} from {low:g} to {high:g} with commas between.")
    return found


def folder(root: str, name: str, what: str, *, known: Collection[str] = ()) -> str:
    """Return the path of a folder of the source.

    Args:
        root: The source.
        name: The folder in it.
        what: What it should hold, for the error.
        known: Names of which one is expected in `root`, for the error; () for this one.

    Raises:
        InputError: It is missing or no folder.
    """
    path = os.path.join(root, name)
    if not os.path.isdir(path):
        try:
            found = sorted(entry for entry in os.listdir(root) if not entry.startswith("."))
        except OSError:
            found = []
        held = files.shown(", ".join(found[:8]) + (", ..." if len(found) > 8 else "")) or "nothing"
        wanted = " or ".join(known or (name,))
        raise InputError(f"{files.shown(root)} has no folder {files.shown(wanted)}, {what}; it has {held}.")
    return path

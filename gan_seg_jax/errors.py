"""What can end a command, each with its exit code.

Every command turns these into one clear sentence on stderr (`commands.run`), without a traceback.
"""

import difflib
from typing import Any

LONGEST_SHOWN = 200  # letters of a value in a message


class InputError(Exception):
    """Bad input: a config, a file or a folder that cannot be used as it is.

    The message names the thing, what was found, what was expected and what to do, in one or two sentences.
    """

    exit_code = 2


class DivergedError(Exception):
    """Training diverged: too many steps in a row had losses or gradients that are not finite."""

    exit_code = 3


class PreemptedError(Exception):
    """Interrupted by a signal after everything was saved; the same command continues."""

    exit_code = 75


class LostPeerError(PreemptedError):
    """Another process of a run on several hosts is gone; the process ends at once, for JAX would wait for it."""

    def __init__(self):
        """Say so."""
        super().__init__(
            "Another process of this run has died or cannot be reached. What was saved stays; the same command, on all "
            "hosts, continues."
        )


def expect(ok: bool, field: str, found: Any, expected: str) -> None:
    """Raise InputError unless a field of a config holds what it should.

    Args:
        ok: whether it does.
        field: its name behind `config.`.
        found: its value, of any size and depth; what is shown of it is cut.
        expected: what it may be, in words.
    """
    if not ok:
        try:
            text = repr(found)
        except (RecursionError, ValueError):  # ValueError: of more digits than Python shows
            text = type(found).__name__
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."
        raise InputError(f"config.{field} is {shown}; expected {expected}.")


def unknown(kind: str, name: str, choices) -> InputError:
    """Return the error for a name that is not among `choices`, with the nearest one suggested."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(choices)}.")

"""The part of every side: it prints what it is, then runs what it is told to, a line on standard input at a time.

    step 3          three times the work "step"
    (end of input)  print the peak memory and end

Answers are lines of JSON on standard output; whatever libraries print goes to standard error.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class MissingError(Exception):
    """A package that this side needs is not installed; its text says how to install it."""


def arguments() -> argparse.Namespace:
    """Return the flags that the driver gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", required=True)
    parser.add_argument("--side", required=True)
    parser.add_argument("--device", required=True, choices=("cpu", "gpu", "tpu"))
    parser.add_argument("--dtype", required=True, choices=("float32", "bfloat16"))
    parser.add_argument("--threads", required=True, type=int)
    return parser.parse_args()


def serve(make: Callable[[argparse.Namespace], tuple[Mapping[str, Callable[[int], None]], Mapping[str, Any]]]) -> None:
    """Run a side.

    Args:
        make: from the flags to the works, by name, each a function of how often to do it that returns when all is done,
            and to what is known of the side: "parameters" {role: count}, "flops" {work: count}, "versions", "device",
            of ours also "images" {work: how many one call takes}, and "memory", a function that returns the peak of a
            device in bytes, or None for the process's own.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        works, facts = make(arguments())
    except MissingError as error:
        return answer(missing=str(error))
    memory, first = facts.get("memory"), {}
    for name, work in works.items():
        first[name] = _seconds(work, 1)
    reset = _reset_peak()
    answer(**{key: value for key, value in facts.items() if key != "memory"}, first=first)
    for line in sys.stdin:
        name, count = line.split()
        answer(seconds=_seconds(works[name], int(count)))
    answer(memory=memory() if memory else _peak(reset))


def _seconds(work: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    work(count)
    return time.perf_counter() - start


def _reset_peak() -> bool:
    """Forget the peak memory so far, that of compilation; return whether the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak(reset: bool) -> int:
    """Return the peak resident memory in bytes: since it was reset, or of the whole process."""
    if reset:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

"""Call a function in a process of its own, which a fault of a library's machine code may end."""

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any


class CrashedError(Exception):
    """The process has died."""


def call(function: Callable, *arguments: Any) -> Any:
    """Return what a function returns, or raise what it raises; both are pickled on the way.

    Args:
        function: Of a module's top level.
        *arguments: Of it.

    Raises:
        CrashedError: Its process has died, such as by a signal.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn, initializer=_silence) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise CrashedError from error


def _silence() -> None:
    """Drop what libraries write of their own faults: pages of addresses. Errors of Python's reach the caller."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

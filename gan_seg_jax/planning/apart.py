"""Call a function in a process of its own, which a fault of a library's machine code may end."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class CrashedError(Exception):
    """The process has died.

    Attributes:
        signal: Name of the signal that ended it, such as "SIGSEGV", or "exit code N".
    """

    def __init__(self, code: int):
        """Take the exit code of a `multiprocessing.Process`: below zero it is a signal's."""
        names = {-each: each.name for each in signal.Signals}
        self.signal = names.get(code, f"exit code {code}")
        super().__init__(self.signal)


def call(function: Callable, *arguments: Any) -> Any:
    """Return what a function returns, or raise what it raises; both are pickled on the way.

    Args:
        function: Of a module's top level.
        *arguments: Of it.

    Raises:
        CrashedError: Its process has died, such as by a signal.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()  # ours: the pipe ends with the process
    with receiver:
        try:
            result, error = receiver.recv()
        except EOFError:
            process.join()
            raise CrashedError(process.exitcode) from None
    process.join()
    if error is not None:
        raise error
    return result


def _answer(sender: Connection, function: Callable, arguments: tuple) -> None:
    """Send what a function returns or raises.

    What libraries write of their own faults is dropped: pages of addresses.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        answer = function(*arguments), None
    except Exception as error:
        answer = None, error
    sender.send(answer)

"""Run a command so that signals reach it once: what Ctrl-C and SIGTERM do to the cell of a table."""

import collections
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import records

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MESSAGE_LINES = 20  # of a cell's last words that are searched for its error


class Interrupts:
    """Context that passes SIGINT and SIGTERM on to the running cell and remembers them.

    The cell runs in a process group of its own, so that Ctrl-C reaches it once, through here: its first signal makes
    it save and end.
    """

    def __init__(self):
        """Start without a signal."""
        self.noted = False
        self._child: subprocess.Popen | None = None
        self._pending: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        self._previous = {number: signal.signal(number, self._pass_on) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _pass_on(self, number, frame) -> None:
        del frame
        self.noted = True
        if self._child is None:
            self._pending = number
        else:
            self._child.send_signal(number)

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a command from the root of the repository; return its exit code and the error it printed."""
        process = subprocess.Popen(
            command,
            cwd=records.ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
        self._child = process
        pending, self._pending = self._pending, None
        if pending is not None:  # it came while the process was being started
            process.send_signal(pending)
        tail: collections.deque[str] = collections.deque(maxlen=MESSAGE_LINES)
        reader = threading.Thread(target=_forward, args=(process.stderr, tail), daemon=True)
        reader.start()
        code = process.wait()
        self._child = None
        reader.join(timeout=5.0)  # processes that the cell left behind may still hold the pipe
        errors = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
        return code, (errors or list(tail) or [""])[-1]


def _forward(stream, tail: collections.deque[str]) -> None:
    """Copy a cell's stderr to ours and keep its last lines."""
    for line in stream:
        with contextlib.suppress(OSError):  # nobody listens any more
            sys.stderr.write(line)
            sys.stderr.flush()
        if line.strip():
            tail.append(line.strip())

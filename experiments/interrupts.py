"""Run commands so that a signal reaches each once: what Ctrl-C, SIGTERM and the end of the time do to cells."""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, TextIO

import records

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MESSAGE_LINES = 20  # of a cell's last words that are searched for its error


class Interrupts:
    """Context that passes SIGINT and SIGTERM on to the running cells and remembers them.

    A cell runs in a process group of its own, so that Ctrl-C reaches it once, through here: its first signal makes it
    save and end. Cells may be run by several threads at once.

    Attributes:
        noted: whether cells were asked to end; then none is to be started.
        jobs: how many cells run at once.
    """

    def __init__(self, *, jobs: int = 1):
        """Start without a signal.

        Args:
            jobs: how many cells run at once; each line of theirs begins with the cell's name if there are several.
        """
        self.noted = False
        self.jobs = jobs
        self._lock = threading.RLock()  # a handler may run while its thread is starting a process
        self._signal: int | None = None
        self._told: dict[int, bool] = {}  # id of each running process -> whether a signal was passed on to it
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        # Where what started us ignores SIGCHLD, as some supervisors do, the system would keep no exit code of a cell.
        self._previous = {signal.SIGCHLD: signal.signal(signal.SIGCHLD, signal.SIG_DFL)}
        self._previous |= {number: signal.signal(number, self._pass_on) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stop(self) -> None:
        """Ask all running cells to save and end, as Ctrl-C does."""
        self._pass_on(signal.SIGINT, None)

    def _pass_on(self, number, frame) -> None:
        del frame
        self.noted = True
        with self._lock:
            self._signal = number
            for process in self._told:
                self._tell(process)

    def _tell(self, process: int) -> None:
        self._told[process] = True
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(process, self._signal)

    def run(self, command: Sequence[str], name: str = "") -> tuple[int, str, float]:
        """Run a command from the root of the repository.

        Args:
            command: the program and its arguments.
            name: of its cell.

        Returns:
            (exit code, the error that it printed, CPU time of its processes in seconds).
        """
        prefix = f"{name}: " if self.jobs > 1 else ""
        with self._lock:
            process = subprocess.Popen(
                command,
                cwd=records.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if prefix else None,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                process_group=0,
            )
            self._told[process.pid] = False
            if self._signal is not None and not self._told[process.pid]:  # it came while the process was being started
                self._tell(process.pid)
        tail: collections.deque[str] = collections.deque(maxlen=MESSAGE_LINES)
        last_words = collections.deque(maxlen=0)
        streams = [(process.stderr, sys.stderr, tail), *([(process.stdout, sys.stdout, last_words)] if prefix else [])]
        readers = [threading.Thread(target=_forward, args=(*stream, prefix), daemon=True) for stream in streams]
        for reader in readers:
            reader.start()
        _, status, usage = os.wait4(process.pid, 0)
        with self._lock:
            del self._told[process.pid]
        process.returncode = os.waitstatus_to_exitcode(status)
        for reader in readers:
            reader.join(timeout=5.0)  # processes that the cell left behind may still hold the pipe
        errors = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
        return process.returncode, (errors or list(tail) or [""])[-1], usage.ru_utime + usage.ru_stime


def _forward(source: TextIO, target: TextIO, tail: collections.deque[str], prefix: str) -> None:
    """Copy what a cell prints to a stream of ours and keep its last lines."""
    for line in source:
        with contextlib.suppress(OSError):  # nobody listens any more
            target.write(prefix + line)
            target.flush()
        if line.strip():
            tail.append(line.strip())

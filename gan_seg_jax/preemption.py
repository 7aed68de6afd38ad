"""SIGTERM and SIGINT: remember the request; the run saves and ends at its next safe point."""

import signal

from gan_seg_jax import parallel


class Preemption:
    """Context in which the first SIGTERM or SIGINT is noted instead of ending the process; a second one ends it."""

    def __init__(self):
        """Start without a request."""
        self.requested = False
        self._previous = {}

    def __enter__(self) -> "Preemption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error) -> None:
        self._restore()

    def _note(self, number, frame) -> None:
        del number, frame
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Return whether any process was asked to end; every process must call this at the same point."""
        return parallel.any_process(self.requested)

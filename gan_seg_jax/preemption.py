"""SIGTERM and SIGINT: remember the request; the run saves and ends at its next safe point."""

import signal

import jax

from gan_seg_jax import parallel

POLL_EVERY = 10


class Preemption:
    """Context in which the first SIGTERM or SIGINT is noted instead of ending the process; a second one ends it."""

    def __init__(self):
        """Start without a request."""
        self.requested = False
        self._calls = 0
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

    def due(self) -> bool:
        """Return whether the run should save and end now.

        On several hosts every process must call this equally often, at the same points: they agree at every
        POLL_EVERY-th call, since agreeing costs a collective.
        """
        if jax.process_count() == 1:
            return self.requested
        self._calls += 1
        return self._calls % POLL_EVERY == 0 and parallel.any_process(self.requested)

"""SIGTERM, SIGINT and SIGHUP in a run: remember the request; the run saves and ends at its next safe point."""

import signal

import jax

from gan_seg_jax import parallel
from gan_seg_jax.system import process

POLL_EVERY = 10
IMPATIENT = 3  # so many Ctrl-C end the process at once


class Preemption:
    """Context in which signals are noted instead of ending the process; outside of it they do what they did before.

    Further signals do not disturb what is being saved: a session that is closed sends several of them, a few
    milliseconds apart. Only whoever presses Ctrl-C for the third time is taken at his word.
    """

    def __init__(self):
        """Start without a request."""
        self.requested = False
        self._calls = 0
        self._interrupts = 0
        self._previous = {}

    def __enter__(self) -> "Preemption":
        self._previous = process.take(self._note)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        del frame
        self.requested = True
        self._interrupts += number == signal.SIGINT
        if self._interrupts == IMPATIENT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def due(self) -> bool:
        """Return whether the run should save and end now.

        On several hosts every process must call this equally often, at the same points: they agree at every
        POLL_EVERY-th call, since agreeing costs a collective.
        """
        if jax.process_count() == 1:
            return self.requested
        self._calls += 1
        return self._calls % POLL_EVERY == 0 and parallel.any_process(self.requested)

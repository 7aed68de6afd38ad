"""How far a command is, on stderr: a bar on a terminal, else a line at most every 10 s and at the end."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

SECONDS_BETWEEN_LINES = 10.0
Item = TypeVar("Item")


class Progress:
    """Shows how much is done; use it as a context manager, or call `close`."""

    def __init__(self, total: int, unit: str = "image", *, bar: bool | None = None, active: bool = True):
        """Show nothing yet.

        Args:
            total: how much there is to do.
            unit: what is counted.
            bar: True shows a bar, False plain lines; None shows a bar where stderr is a terminal.
            active: False shows nothing, as on all processes but the first.
        """
        self._total, self._unit, self._active = total, unit, active
        self._shows_bar = sys.stderr.isatty() if bar is None else bar
        self._bar: tqdm.tqdm | None = None
        self._started: tuple[float, int] | None = None  # (time, done) of the first call of `show`
        self._line_time = -math.inf

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def show(self, done: int, *values: str, rate: float | None = None) -> None:
        """Show that `done` are done, with values beside it; without any, how many a second.

        Time left is from the mean speed since the first call, so that compiling does not count; at the first call from
        `rate`, how many a second, where that is known.
        """
        if not self._active:
            return
        now = time.monotonic()
        if self._started is None:
            self._started = (now, done)
        values = values or (self._speed(now, done),)
        if self._shows_bar:
            if self._bar is None:
                self._bar = _new_bar(self._total, self._unit, initial=done)
            self._bar.set_postfix_str("  ".join(values), refresh=False)
            self._bar.update(done - self._bar.n)
            if done >= self._total:
                self._bar.refresh()
        elif now - self._line_time >= SECONDS_BETWEEN_LINES or done >= self._total:
            self._line_time = now
            parts = [f"{self._unit} {done}/{self._total}", *values, f"left {self._time_left(now, done, rate)}"]
            print("  ".join(parts), file=sys.stderr, flush=True)

    def _speed(self, now: float, done: int) -> str:
        began, first = self._started
        return f"{(done - first) / (now - began):.1f} {self._unit}s/s" if now > began else f"- {self._unit}s/s"

    def _time_left(self, now: float, done: int, rate: float | None) -> str:
        (began, first), left = self._started, max(0, self._total - done)
        if done > first:
            rate = (done - first) / (now - began) if now > began else None
        if left and not rate:
            return "?"
        seconds = left / rate if left else 0
        return tqdm.tqdm.format_interval(seconds).removeprefix("0")

    def message(self, text: str, *, file=None) -> None:
        """Print `text`, to stdout unless `file` says otherwise, without breaking the bar."""
        if not self._active:
            return
        if self._bar is None:
            print(text, file=file, flush=True)
        else:
            tqdm.tqdm.write(text, file=file or sys.stdout)
            (file or sys.stdout).flush()

    def close(self) -> None:
        """Leave the bar as it stands; may be called twice."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def track(items: Iterable[Item], total: int, unit: str = "image", *, active: bool = True) -> Iterator[Item]:
    """Yield the items, and show how many of `total` the caller has done with."""
    with Progress(total, unit, active=active) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress.show(done)


def _new_bar(total: int, unit: str, *, initial: int) -> tqdm.tqdm:
    return tqdm.tqdm(
        total=total,
        initial=initial,
        file=sys.stderr,
        dynamic_ncols=True,
        smoothing=0,  # time left from the mean speed: validation makes the current one jump
        bar_format=f"{{percentage:3.0f}}%|{{bar}}| {unit} {{n_fmt}}/{{total_fmt}}, {{remaining}} left{{postfix}}",
    )

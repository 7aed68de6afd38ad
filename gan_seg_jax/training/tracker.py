"""Where a run is: what it remembers besides its state, and what its latest steps took and found."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.errors import DivergedError
from gan_seg_jax.runs.step_log import StepLog

STEPS_IN_FLIGHT = 2  # dispatched ahead of the devices, so that neither side waits for the other


@dataclasses.dataclass
class Progress:
    """What a run remembers besides its state; stored with every checkpoint.

    Attributes:
        step: training steps done; also the position of the data: batches drawn.
        best_step: step of the best validation so far, None before the first.
        best_scores: all of its scores.
        evaluated: step of the latest validation, 0 before the first.
        unimproved: validations in a row, the latest one included, that the last phase has had without a better score.
        seconds: wall time of all processes so far, compilation included.
        compile_seconds: of it, compilation.
        images: images trained on, and `image_seconds`: the time they took, without compilation, validation and saving.
        flops: floating-point operations of all steps (`parallel.flops`), None where they are not known.
        log: what the next line of metrics.jsonl is made of.
    """

    step: int = 0
    best_step: int | None = None
    best_scores: dict[str, Any] | None = None
    evaluated: int = 0
    unimproved: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    images: int = 0
    image_seconds: float = 0.0
    flops: float | None = 0.0
    log: StepLog = dataclasses.field(default_factory=StepLog)

    @classmethod
    def restored(cls, meta: dict[str, Any]) -> "Progress":
        """Return what a checkpoint's meta holds; older ones lack `unimproved` and `flops`."""
        meta = {"unimproved": 0, "flops": None, **meta}
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{**{name: meta[name] for name in names}, "log": StepLog(**meta["log"])})


class Tracker:
    """Follows the steps of a run in this process; the devices work while it does.

    Attributes:
        progress: what is booked so far; time and metrics of the latest steps only after `pause`.
        saved: the `position` of the newest checkpoint, None where there is none.
    """

    def __init__(
        self, config: ConfigDict, workdir: Path, progress: Progress, *, began: float, bad_steps: int, saved: bool
    ):
        """Go on from `progress`.

        Args:
            config: the run's config.
            workdir: its folder.
            progress: of the checkpoint that the run goes on from, or a new one.
            began: `time.monotonic()` when this process began with the run.
            bad_steps: how many of the last steps in a row were skipped.
            saved: whether `progress` is of a checkpoint.
        """
        self.progress = progress
        self._config, self._workdir, self._bad_steps = config, workdir, bad_steps
        self._started = began - progress.seconds
        self.saved = self.position if saved else None
        self._clock: tuple[float, int] | None = None  # time and step at which uninterrupted steps began
        self._pending: list[dict[str, jax.Array]] = []  # metrics of the latest steps, perhaps still being computed

    def start(self) -> None:
        """Start the clock unless it runs."""
        self._clock = self._clock or (time.monotonic(), self.progress.step)

    def add(self, metrics: dict[str, jax.Array], *, flops: float | None) -> None:
        """Count a step that was dispatched, and its `flops`; wait for the devices where they are too far behind."""
        self.progress.step += 1
        known = self.progress.flops is not None and flops is not None
        self.progress.flops = self.progress.flops + flops if known else None
        self._pending.append(metrics)
        if len(self._pending) > STEPS_IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - STEPS_IN_FLIGHT])

    def pause(self) -> None:
        """Wait for the devices, stop the clock, book the time and the metrics of the latest steps.

        Raises:
            DivergedError: too many of them in a row were not finite.
        """
        progress, values = self.progress, jax.device_get(self._pending)
        self._pending = []
        if self._clock is not None:
            (began, first), self._clock = self._clock, None
            images = (progress.step - first) * self._config.batch_size * self._config.rounds
            seconds = time.monotonic() - began
            progress.images += images
            progress.log.images += images
            progress.image_seconds += seconds
            progress.log.seconds += seconds
        for metrics in values:
            progress.log.add(metrics)
        for number, metrics in enumerate(values, start=progress.step - len(values) + 1):
            self._bad_steps = self._bad_steps + 1 if metrics["skipped"] else 0
            if self._bad_steps >= self._config.max_bad_steps:
                raise DivergedError(_divergence(metrics, number, self._bad_steps, self._workdir))

    @property
    def position(self) -> tuple[int, int]:
        """What a checkpoint of now would hold: its step, and that of the latest validation."""
        return self.progress.step, self.progress.evaluated

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Book the time of a compilation, apart from that of the steps."""
        began = time.monotonic()
        yield
        self.progress.compile_seconds += time.monotonic() - began

    def book_seconds(self) -> None:
        """Bring `progress.seconds` up to now."""
        self.progress.seconds = time.monotonic() - self._started


def _divergence(metrics: dict[str, np.ndarray], step: int, count: int, workdir: Path) -> str:
    """Return the sentence that says which step and loss diverged."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    bad.sort(key=lambda name: not name.startswith("loss/"))  # a loss says more than what follows from it
    named = f"{bad[0]} was {metrics[bad[0]]}" if bad else "batch statistics were not finite"
    return (
        f"Training diverged: at step {step} {named}, the {count}th step in a row without finite losses and gradients. "
        f"{workdir} holds the last good weights; lower a learning rate or a loss weight, or set clip_norm."
    )

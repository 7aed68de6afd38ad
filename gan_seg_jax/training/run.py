"""A run in its folder: what it is, and how it is restored, saved and interrupted."""

import dataclasses
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import config as config_lib
from gan_seg_jax import parallel, tasks
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import DivergedError, InputError, PreemptedError
from gan_seg_jax.runs import checkpoint, integrity
from gan_seg_jax.runs.checkpoint_store import Checkpoints
from gan_seg_jax.runs.preemption import Preemption
from gan_seg_jax.runs.writer import Writer
from gan_seg_jax.state import AdversarialState
from gan_seg_jax.training import digests
from gan_seg_jax.training.tracker import Progress, Tracker


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What is trained, on what, and where it is written.

    Attributes:
        config: of the run, with the classes of the data.
        method: of the config.
        task: of the method.
        dataset: whose split "train" it learns from.
        mesh: the devices.
        workdir: folder of the run.
        digests: of what it is trained on, for every checkpoint.
        writer: of metrics, pictures and messages.
        checkpoints: of the run.
        preemption: whether a signal has asked it to end.
    """

    config: ConfigDict
    method: Any
    task: tasks.Task
    dataset: Dataset
    mesh: Mesh
    workdir: Path
    digests: dict[str, Any]
    writer: Writer
    checkpoints: Checkpoints
    preemption: Preemption

    def restore(self, state: AdversarialState, began: float) -> tuple[AdversarialState, Tracker]:
        """Return the state to start from, on the devices, and what it has behind it: the newest checkpoint's, if any.

        Args:
            state: before the first step.
            began: `time.monotonic()` when this process began with the run.

        Raises:
            InputError: the checkpoint is of other data, or of another version.
        """
        progress = Progress()
        found = self.checkpoints.load_latest(limit=integrity.room(state))
        if found is not None:
            arrays, meta, problems = found
            for problem in problems:
                self.writer.message(f"{problem} Moved aside; an earlier one is used.")
            digests.check_same(self.digests, meta, self.config, self.workdir)
            state = checkpoint.fill(state, arrays, origin=f"The checkpoint in {self.workdir}")
            try:
                progress = Progress.restored(meta)
            except (KeyError, TypeError) as error:
                raise InputError(
                    f"The checkpoint of step {meta['step']} in {self.workdir} lacks or does not know {error}: another "
                    "version of gan_seg_jax saved it. Use that version, or name another --workdir."
                ) from error
            self.writer.message(f"Continuing from step {progress.step} of {self.config.steps}.")
        self.writer.rewind(progress.step, validated=progress.evaluated)
        more = {"began": began, "bad_steps": int(state.bad_steps), "saved": found is not None}
        tracker = Tracker(self.config, self.workdir, progress, **more)
        return parallel.place(state, parallel.replicated(self.mesh)), tracker

    def pause(self, state: AdversarialState, tracker: Tracker) -> None:
        """Wait for the devices and book the latest steps.

        Raises:
            DivergedError: they have diverged; the last good state is saved.
        """
        try:
            tracker.pause()
        except DivergedError:
            self._save(state, tracker)
            raise

    def save(self, state: AdversarialState, tracker: Tracker) -> None:
        """Book the latest steps; start to save a checkpoint of them, unless it is there already."""
        self.pause(state, tracker)
        self._save(state, tracker)

    def _save(self, state: AdversarialState, tracker: Tracker) -> None:
        if tracker.saved != tracker.position:
            tracker.saved = tracker.position
            tracker.book_seconds()
            meta = {**dataclasses.asdict(tracker.progress), **self.digests, "config": config_lib.to_json(self.config)}
            self.checkpoints.save(tracker.progress.step, state, meta)

    def poll(self, state: AdversarialState, tracker: Tracker) -> None:
        """End the process, everything saved, if a signal asked for it.

        Raises:
            PreemptedError: it did.
        """
        if self.preemption.due():
            self.save(state, tracker)
            self.checkpoints.wait()
            step = f"step {tracker.progress.step} of {self.config.steps}"
            raise PreemptedError(f"Interrupted at {step}; saved. The same command continues.")

    def stop(self) -> None:
        """End the process on a signal while the final scores are taken: training itself is saved already.

        Raises:
            PreemptedError: there was one.
        """
        if self.preemption.due():
            raise PreemptedError("Interrupted after training, before the final scores; the same command takes them.")

"""The run: data, state, restore, compile, loop, scores.

`train_and_evaluate` may be killed at any time and called again on the same folder: it continues with the same bits.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax import config as config_lib
from gan_seg_jax import parallel, tasks
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data import class_weights, pipeline
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import DivergedError, InputError, PreemptedError, unknown
from gan_seg_jax.methods import get_method
from gan_seg_jax.phases import phase_ends
from gan_seg_jax.runs import checkpoint, integrity, workdirs
from gan_seg_jax.runs.preemption import Preemption
from gan_seg_jax.runs.step_log import StepLog
from gan_seg_jax.runs.writer import Writer
from gan_seg_jax.state import AdversarialState
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import report, start

DATA_FIELDS = (  # that a prior run takes from the run it serves
    "dataset",
    "data_dir",
    "scenes",
    "labelled",
    "source",
    "resize",
    "canvas_size",
    "crop_size",
    "seed",
    "num_workers",
    "prefetch",
    "allow_duplicates",
    "group_pattern",
    "max_pixels",
    "image_bits",
)
STEPS_IN_FLIGHT = 2  # dispatched ahead of the devices, so that neither side waits for the other


@dataclasses.dataclass
class Progress:
    """What a run remembers besides its state; stored with every checkpoint.

    Attributes:
        step: training steps done; also the position of the data: batches drawn.
        best_step: step of the best validation so far, None before the first.
        best_scores: all of its scores.
        evaluated: step of the latest validation, 0 before the first.
        seconds: wall time of all processes so far, compilation included.
        compile_seconds: of it, compilation.
        images: images trained on, and `image_seconds`: the time they took, without compilation, validation and saving.
        log: what the next line of metrics.jsonl is made of.
    """

    step: int = 0
    best_step: int | None = None
    best_scores: dict[str, Any] | None = None
    evaluated: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    images: int = 0
    image_seconds: float = 0.0
    log: StepLog = dataclasses.field(default_factory=StepLog)

    @classmethod
    def restored(cls, meta: dict[str, Any]) -> "Progress":
        """Return what a checkpoint's meta holds."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{**{name: meta[name] for name in names}, "log": StepLog(**meta["log"])})


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Train as the config says, keep the best checkpoint by validation, score the test split once with it.

    Args:
        config: the run's config; classes are filled in from the data set.
        workdir: folder of the run, made if it is missing; an unfinished run in it is continued.

    Returns:
        The run's summary, as in `summary.json`.

    Raises:
        InputError: config, data or folder cannot be used as they are.
        DivergedError: `max_bad_steps` steps in a row were not finite.
        PreemptedError: a signal asked to end; everything is saved.
    """
    return _train(config, workdir, Preemption())


def _train(config: ConfigDict, workdir: Path, preemption: Preemption) -> dict[str, Any]:
    """Train; `preemption` is shared with the runs that are trained before this one."""
    began = time.monotonic()
    method = get_method(config)
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.batch_size, mesh)
    for name in set(config.baselines) - set(BASELINES):
        raise unknown("baseline", name, BASELINES)
    _train_prior_runs(method, config, workdir, preemption)
    with workdirs.lock(workdir):
        dataset = pipeline.open_dataset(config)
        with config.unlocked():
            pipeline.resolve_classes(config, dataset)
            workdirs.adopt_architectures(config, workdir)
            class_weights.resolve_class_weights(config, dataset, workdirs.begun_config(workdir))
        start.check(method, config, dataset)
        summary = workdirs.finished(workdir, config)
        if summary is not None:
            if parallel.is_first_process():
                print(f"{workdir} is finished.\n{report.summary_text(summary)}")
            return summary
        fresh = not workdirs.has_checkpoints(workdir)
        data = {
            start.TRAINING_DATA: start.training_data(method, config, dataset, workdir, fresh=fresh),
            start.LABELLED: start.labelled(config, dataset),
            start.CHECKED: start.checked(config, dataset),
            start.DATA: start.data(method, dataset),
        }
        state = start.initial_state(method, config, workdir, fresh=fresh)
        start.check_training(method, config, state)
        tasks.of(method).check_canvas(method, config, dataset, state)
        workdirs.claim(workdir, config)
        with preemption, _Run(config, method, dataset, state, mesh, workdir, preemption, began, data) as run:
            run.train()
            return run.finish()


def _train_prior_runs(method: Any, config: ConfigDict, workdir: Path, preemption: Preemption) -> None:
    """Train what this run needs and was not given: `config.prior_runs`, each on the data of this run."""
    missing = []
    for name in config.prior_runs:
        folder = workdirs.prior(workdir, name)
        begun = workdirs.has_checkpoints(workdir) and (folder / "summary.json").exists()
        if not begun and workdirs.source(config, workdir, name) == str(folder):
            missing.append(name)
    if missing:  # what is wrong with this run is said before others have trained for it
        dataset = pipeline.open_dataset(config)
        with config.unlocked():
            pipeline.resolve_classes(config, dataset)
        start.check(method, config, dataset)
        start.check_training(method, config, start.state_shapes(method, config))
    for name in missing:
        folder, prior = workdirs.prior(workdir, name), ConfigDict(config.prior_runs[name])
        with prior.unlocked():
            for field in DATA_FIELDS:
                prior[field] = config[field]
            prior.baselines = ()
        if parallel.is_first_process():
            print(f"First, for {name}: a {prior.method} run of {prior.steps} steps in {folder}.", flush=True)
        _train(prior, folder, preemption)
        if parallel.any_process(preemption.requested):  # too late for that run, which has ended
            raise PreemptedError(f"Interrupted after the run for {name}. The same command continues.")


class _Run:
    """One process's part of a run: what the loop needs at hand."""

    def __init__(
        self,
        config,
        method,
        dataset: Dataset,
        state: AdversarialState,
        mesh,
        workdir: Path,
        preemption,
        began,
        data: dict[str, Any],
    ):
        self.config, self.method, self.dataset, self.mesh = config, method, dataset, mesh
        self.workdir, self.preemption = workdir, preemption
        self.started = began
        self.data = data  # digests of what it is trained on, for every checkpoint
        self.progress = Progress()
        self.steps: dict[tuple, Callable] = {}  # compiled, by (updates, penalty)
        self.pending: list[dict[str, jax.Array]] = []  # metrics of the latest steps, perhaps still being computed
        self.clock: tuple[float, int] | None = None  # time and step at which uninterrupted steps began
        self.bad_steps = 0
        self.saved: tuple[int, int] | None = None  # step and `evaluated` of the newest checkpoint
        self.checkpoints = checkpoint.Checkpoints(workdir, keep=config.keep_checkpoints)
        self.writer = Writer(
            workdir, total_steps=config.steps, tensorboard=config.tensorboard, active=parallel.is_first_process()
        )
        self.state = self._restore(state)
        self.task = tasks.of(method)
        self.evaluator = self.task.evaluator(method, config, dataset.splits["val"], mesh, workdir)
        self.sheet = self.task.sheet(method, config, dataset.splits["val"])
        process = (jax.process_index(), jax.process_count())
        self.batches = pipeline.train_batches(
            dataset, config, method.STREAMS, start=self.progress.step, process=process
        )

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *error) -> None:
        self.batches.close()
        self.checkpoints.close()
        self.writer.close()

    def _restore(self, state: AdversarialState) -> AdversarialState:
        """Return the state to start from: the newest checkpoint's if there is one."""
        found = self.checkpoints.load_latest(limit=integrity.room(state))
        if found is not None:
            arrays, meta, problems = found
            for problem in problems:
                self.writer.message(f"{problem} Moved aside; an earlier one is used.")
            start.check_data(self.data, meta, self.config, self.workdir)
            state = checkpoint.fill(state, arrays, origin=f"The checkpoint in {self.workdir}")
            try:
                self.progress = Progress.restored(meta)
            except (KeyError, TypeError) as error:
                raise InputError(
                    f"The checkpoint of step {meta['step']} in {self.workdir} lacks or does not know {error}: another "
                    "version of gan_seg_jax saved it. Use that version, or name another --workdir."
                ) from error
            self.bad_steps = int(state.bad_steps)
            self.saved = (self.progress.step, self.progress.evaluated)
            self.writer.message(f"Continuing from step {self.progress.step} of {self.config.steps}.")
        self.writer.rewind(self.progress.step, validated=self.progress.evaluated)
        self.started -= self.progress.seconds
        return parallel.place(state, parallel.replicated(self.mesh))

    # The loop

    def train(self) -> None:
        """Take every step that is left."""
        config, progress = self.config, self.progress
        ends = phase_ends(config)
        while True:
            due = progress.step > 0 and (progress.step % config.eval_every == 0 or progress.step >= config.steps)
            if due and progress.evaluated != progress.step:
                self._pause()
                self._validate()
                self.save()
            elif progress.step > 0 and progress.step % config.checkpoint_every == 0:
                self._pause()
                self.save()
            if progress.step >= config.steps:
                return
            self._poll()
            updates = next(updates for end, updates in ends if progress.step < end)
            penalty = config.penalty_every > 0 and progress.step % config.penalty_every == 0
            self.clock = self.clock or (time.monotonic(), progress.step)
            batch = parallel.place(self._next_batch(), parallel.batch_sharding(self.mesh, rounds=config.rounds))
            if (updates, penalty) not in self.steps:
                self._pause()
                self._compile(updates, penalty, batch)
                self.clock = (time.monotonic(), progress.step)
            self.state, metrics = self.steps[updates, penalty](self.state, batch)
            progress.step += 1
            self.pending.append(metrics)
            if len(self.pending) > STEPS_IN_FLIGHT:
                jax.block_until_ready(self.pending[-1 - STEPS_IN_FLIGHT])
            if progress.step % config.log_every == 0 or progress.step >= config.steps:
                self._pause()
                self._log()

    def _next_batch(self) -> dict[str, dict[str, np.ndarray]]:
        """Return this process's part of the next batch."""
        try:
            return next(self.batches)
        except Exception:  # a signal to the whole group of processes has ended the workers, too
            self._poll()
            raise

    def _compile(self, updates, penalty: bool, batch) -> None:
        """Compile the step for one phase."""
        began = time.monotonic()
        moving = " then ".join(" + ".join(group) for group in updates)
        self.writer.message(f"Compiling the step ({moving}{', with penalties' if penalty else ''}) ...")
        step = functools.partial(train_step, method=self.method, config=self.config, updates=updates, penalty=penalty)
        self.steps[updates, penalty] = parallel.compile_step(
            step, self.state, batch, self.mesh, rounds=self.config.rounds
        )
        self.progress.compile_seconds += time.monotonic() - began

    def _pause(self) -> None:
        """Wait for the devices, book the time and the metrics of the latest steps.

        Raises:
            DivergedError: too many of them in a row were not finite.
        """
        progress, values = self.progress, jax.device_get(self.pending)
        self.pending = []
        if self.clock is not None:
            (began, first), self.clock = self.clock, None
            images = (progress.step - first) * self.config.batch_size * self.config.rounds
            seconds = time.monotonic() - began
            progress.images += images
            progress.log.images += images
            progress.image_seconds += seconds
            progress.log.seconds += seconds
        for metrics in values:
            progress.log.add(metrics)
        for number, metrics in enumerate(values, start=progress.step - len(values) + 1):
            self.bad_steps = self.bad_steps + 1 if metrics["skipped"] else 0
            if self.bad_steps >= self.config.max_bad_steps:
                self.save()
                raise DivergedError(_divergence(metrics, number, self.bad_steps, self.workdir))

    def _log(self) -> None:
        """Write the means of the metrics since the last line."""
        step, line = self.progress.step, self.progress.log.line()
        self.writer.scalars(step, "train", line)
        losses = {name: value for name, value in line.items() if name.startswith("loss/")}
        self.writer.progress(step, images_per_second=line["images_per_second"], losses=losses)

    def _validate(self) -> None:
        """Score the validation split, note the best, draw samples."""
        progress, config = self.progress, self.config
        scores = self.evaluator(self.state, poll=self._poll)
        progress.evaluated = progress.step
        values = {name: value for name, value in scores.items() if name != "iou_per_class"}
        self.writer.scalars(progress.step, "val", values)
        if self.task.is_better(scores, progress.best_scores):
            progress.best_step, progress.best_scores = progress.step, scores
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
        self.writer.message(
            f"step {progress.step} val: {shown}{' (best)' if progress.best_step == progress.step else ''}"
        )
        if scores.get("collapsed"):
            self.writer.message("The generator has collapsed: it makes few images again and again.")
        if config.samples_every and (progress.step % config.samples_every == 0 or progress.step >= config.steps):
            if parallel.is_first_process():
                self.writer.images(progress.step, "val", self.sheet(self.state))

    def _poll(self) -> None:
        """End the process, everything saved, if a signal asked for it."""
        if self.preemption.due():
            self._pause()
            self.save()
            self.checkpoints.wait()
            raise PreemptedError(
                f"Interrupted at step {self.progress.step} of {self.config.steps}; saved. The same command continues."
            )

    def save(self) -> None:
        """Start to save a checkpoint of the current step, unless it is there already."""
        if self.saved == (self.progress.step, self.progress.evaluated):
            return
        self.saved = (self.progress.step, self.progress.evaluated)
        self.progress.seconds = time.monotonic() - self.started
        meta = {**dataclasses.asdict(self.progress), **self.data, "config": config_lib.to_json(self.config)}
        self.checkpoints.save(self.progress.step, self.state, meta)

    def finish(self) -> dict[str, Any]:
        """Score the best checkpoint on the test split and the baselines beside it; write the summary."""
        progress, config = self.progress, self.config
        self.checkpoints.wait()
        skipped = int(self.state.skipped_steps)
        test, evaluator, last = self.dataset.splits.get("test"), None, None
        if test is not None:
            evaluator = self.task.evaluator(self.method, config, test, self.mesh, self.workdir)
        if progress.best_step != progress.step:
            last = {"val": self.evaluator(self.state, poll=self._stop), "test": None}
            if evaluator is not None:
                last["test"] = evaluator(self.state, poll=self._stop)
            arrays, _ = self.checkpoints.load(progress.best_step)
            best = checkpoint.fill(self.state, arrays, origin=f"The checkpoint in {self.workdir}")
            self.state = parallel.place(best, parallel.replicated(self.mesh))
        scores = {"test": None, "val": progress.best_scores}
        image_counts = None
        if test is not None:
            image_counts = {} if self.task.has_image_counts else None
            more = {"image_counts": image_counts} if self.task.has_image_counts else {}
            scores["test"] = evaluator(self.state, poll=self._stop, **more)
        scores["last"] = {"step": progress.step, **(last or {name: scores[name] for name in ("val", "test")})}
        beside = self.task.has_baselines
        scores["baselines"] = report.baseline_scores(self.dataset, config, self._stop) if beside else {}
        progress.seconds = time.monotonic() - self.started
        summary = report.summarize(config, self.task, scores, self.state, progress, skipped)
        if image_counts is not None:
            image_counts = report.gathered(image_counts, len(test), config.num_classes)
        if parallel.is_first_process():
            if test is not None:
                sheet = self.task.sheet(self.method, config, test)
                self.writer.images(progress.best_step, "test", sheet(self.state))
            report.write(self.workdir, summary, self.writer, image_counts)
        return summary

    def _stop(self) -> None:
        """End the process on a signal while the final scores are taken: training itself is saved already."""
        if self.preemption.due():
            raise PreemptedError("Interrupted after training, before the final scores; the same command takes them.")


def _divergence(metrics: dict[str, np.ndarray], step: int, count: int, workdir: Path) -> str:
    """Return the sentence that says which step and loss diverged."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    bad.sort(key=lambda name: not name.startswith("loss/"))  # a loss says more than what follows from it
    named = f"{bad[0]} was {metrics[bad[0]]}" if bad else "batch statistics were not finite"
    return (
        f"Training diverged: at step {step} {named}, the {count}th step in a row without finite losses and gradients. "
        f"{workdir} holds the last good weights; lower a learning rate or a loss weight, or set clip_norm."
    )

"""The run: data, state, restore, loop, scores.

`train_and_evaluate` may be killed at any time and called again on the same folder: it continues with the same bits.
"""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import parallel, tasks
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data import class_weights, pipeline
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import PreemptedError, unknown
from gan_seg_jax.methods import get_method
from gan_seg_jax.metrics import single_numbers
from gan_seg_jax.phases import frozen_backbones, is_complete, last_phase, phase_ends
from gan_seg_jax.runs import prepared, workdirs
from gan_seg_jax.runs.checkpoint_store import Checkpoints
from gan_seg_jax.runs.preemption import Preemption
from gan_seg_jax.runs.writer import Writer
from gan_seg_jax.state import AdversarialState
from gan_seg_jax.train_step import Updates, train_step
from gan_seg_jax.training import augmented, checks, digests, prior_runs, report, start
from gan_seg_jax.training.final_scores import score
from gan_seg_jax.training.run import TrainingRun
from gan_seg_jax.training.tracker import Progress, Tracker


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
    method, mesh, first = get_method(config), parallel.make_mesh(), parallel.is_first_process()
    parallel.check_batch_size(config.batch_size, parallel.make_mesh(spatial=config.spatial_shards))
    for name in set(config.baselines) - set(BASELINES):
        raise unknown("baseline", name, BASELINES)
    _train_prior_runs(method, config, workdir, preemption)
    with workdirs.lock(workdir):
        dataset = _open_dataset(config, workdir)
        checks.check(method, config, dataset)
        summary = workdirs.finished(workdir, config)
        if summary is not None:
            if first:
                early = f" {_why_stopped(config, summary)}" if summary["steps"] < config.steps else ""
                print(f"{workdir} is finished.{early}\n{report.summary_text(summary)}")
            return summary
        fresh = not workdirs.has_checkpoints(workdir)
        found = digests.of(method, config, dataset, workdir, fresh=fresh)
        state = start.initial_state(method, config, workdir, fresh=fresh)
        checks.check_training(method, config, state)
        tasks.of(method).check_canvas(method, config, dataset, state)
        workdirs.claim(workdir, config)
        with (
            preemption,
            Writer(workdir, total_steps=config.steps, tensorboard=config.tensorboard, active=first) as writer,
            contextlib.closing(Checkpoints(workdir, keep=config.keep_checkpoints)) as checkpoints,
        ):
            services = writer, checkpoints, preemption
            run = TrainingRun(config, method, tasks.of(method), dataset, mesh, workdir, found, *services)
            state, tracker = run.restore(state, began)
            if first:  # its data are those of its checkpoints
                prepared.keep(workdir, config.data_dir)
            if tracker.progress.step == 0 and first and augmented.is_due(config):
                writer.images(None, "augmented", augmented.sheet(config, dataset))
            evaluator = run.task.evaluator(method, config, dataset.splits["val"], mesh, workdir)
            sheet = run.task.sheet(method, config, dataset.splits["val"])
            state = train_loop(run, state, tracker, evaluator, sheet)
            return score(run, state, tracker, evaluator, sheet)


def _train_prior_runs(method: Any, config: ConfigDict, workdir: Path, preemption: Preemption) -> None:
    """Train what this run needs and was not given: `config.prior_runs`, each on the data of this run."""
    for name in prior_runs.missing(method, config, workdir):
        folder, prior = workdirs.prior(workdir, name), prior_runs.config_of(config, name)
        if parallel.is_first_process():
            print(f"First, for {name}: a {prior.method} run of {prior.steps} steps in {folder}.", flush=True)
        _train(prior, folder, preemption)
        if parallel.any_process(preemption.requested):  # too late for that run, which has ended
            raise PreemptedError(f"Interrupted after the run for {name}. The same command continues.")


def _open_dataset(config: ConfigDict, workdir: Path) -> Dataset:
    """Return the data; what follows from them and from an earlier start is filled in to the config."""
    dataset = pipeline.open_dataset(config)
    with config.unlocked():
        pipeline.resolve_classes(config, dataset)
        workdirs.adopt_architectures(config, workdir)
        class_weights.resolve_class_weights(config, dataset, workdirs.begun_config(workdir))
    return dataset


def train_loop(
    run: TrainingRun,
    state: AdversarialState,
    tracker: Tracker,
    evaluator: Callable[..., dict[str, Any]],
    sheet: Callable[[AdversarialState], np.ndarray],
) -> AdversarialState:
    """Take every step that is left; return the last state.

    Args:
        run: the run.
        state: to start from; its buffers are donated.
        tracker: where it is.
        evaluator: scores a state on the validation split.
        sheet: draws what it makes of that split.

    Raises:
        DivergedError: `max_bad_steps` steps in a row were not finite; the last good state is saved.
        PreemptedError: a signal asked to end; everything is saved.
    """
    config, progress = run.config, tracker.progress
    mesh = parallel.make_mesh(spatial=config.spatial_shards)
    sharding = parallel.batch_sharding(mesh, rounds=config.rounds)
    process = (jax.process_index(), jax.process_count())
    batches = pipeline.train_batches(run.dataset, config, run.method.STREAMS, start=progress.step, process=process)
    ends, first = phase_ends(config), progress.step + 1
    constants = parallel.place(start.constants(config), parallel.replicated(mesh))
    steps: dict[Variant, Callable] = {}  # compiled
    flops: dict[Variant, float | None] = {}
    with contextlib.closing(batches):
        while True:
            if progress.evaluated != progress.step and _is_due(config.eval_every, config, progress):
                run.pause(state, tracker)
                _validate(run, state, tracker, evaluator, sheet)
                if progress.log.sums and is_complete(config, progress.step, progress.unimproved):
                    _log(run, progress)
                run.save(state, tracker)
            elif progress.step > 0 and progress.step % config.checkpoint_every == 0:
                run.save(state, tracker)
            if is_complete(config, progress.step, progress.unimproved):
                if progress.step < config.steps:
                    run.writer.message(_why_stopped(config, {**vars(progress), "steps": progress.step}))
                return state
            run.poll(state, tracker)
            variant = _variant(config, ends, progress.step)
            tracker.start()
            batch = parallel.place(_next(batches, run, state, tracker), sharding)
            if variant not in steps:
                run.pause(state, tracker)
                with tracker.compiling():
                    steps[variant] = _compile(run, state, batch, constants, variant, mesh)
                    flops[variant] = parallel.flops(steps[variant], run.mesh)
                tracker.start()
            state, metrics = steps[variant](state, batch, *constants)
            tracker.add(metrics, flops=flops[variant])
            if _is_due(config.log_every, config, progress):
                run.pause(state, tracker)
                _log(run, progress)
            elif progress.step == first:  # how long it will take is said at once
                run.pause(state, tracker)
                _show(run, progress, dataclasses.replace(progress.log).line())


def _is_due(every: int, config: ConfigDict, progress: Progress) -> bool:
    """Return whether what is done every so many steps, and after the last one, is to be done now."""
    return progress.step > 0 and (progress.step % every == 0 or progress.step >= config.steps)


def _why_stopped(config: ConfigDict, found: dict[str, Any]) -> str:
    """Return the sentence that says why a run ends before its last step, by the names of its summary."""
    older = found["best_step"] < found["steps"]  # else the best step is the latest, for want of scores
    were = f"were no better than that of step {found['best_step']}" if older else "had no score"
    return (
        f"Stopped at step {found['steps']} of {config.steps}: {found['unimproved']} validations in a row {were} "
        f"(config.patience is {config.patience}; with more than {found['unimproved']}, training goes on)."
    )


def _next(batches: Iterator, run: TrainingRun, state: AdversarialState, tracker: Tracker) -> dict[str, Any]:
    """Return this process's part of the next batch."""
    try:
        return next(batches)
    except Exception:  # a signal to the whole group of processes has ended the workers, too
        run.poll(state, tracker)
        raise


class Variant(NamedTuple):
    """What a step is compiled for; the arguments of `train_step`."""

    updates: Updates
    penalty: bool
    frozen: frozenset[str]


def _variant(config: ConfigDict, ends: list[tuple[int, Updates]], step: int) -> Variant:
    """Return who moves after `step` steps, by `phase_ends`, whether lazy penalties are due, and what is frozen."""
    updates = next(updates for end, updates in ends if step < end)
    due = config.penalty_every > 0 and step % config.penalty_every == 0
    return Variant(updates, due, frozen_backbones(config, step) & {role for group in updates for role in group})


def _compile(
    run: TrainingRun, state: AdversarialState, batch: Any, constants: tuple, variant: Variant, mesh: Mesh
) -> Callable:
    """Return the compiled step of one variant."""
    moving = " then ".join(" + ".join(group) for group in variant.updates)
    frozen = "".join(f", the backbone of {role} frozen" for role in sorted(variant.frozen))
    run.writer.message(f"Compiling the step ({moving}{frozen}{', with penalties' if variant.penalty else ''}) ...")
    fixed = {**variant._asdict(), "images": parallel.image_sharding(mesh)}
    step = functools.partial(train_step, method=run.method, config=run.config, **fixed)
    return parallel.compile_step(step, state, batch, mesh, rounds=run.config.rounds, constants=constants)


def _log(run: TrainingRun, progress: Progress) -> None:
    """Write the means of the metrics since the last line."""
    line = progress.log.line()
    run.writer.scalars(progress.step, "train", line)
    _show(run, progress, line)


def _show(run: TrainingRun, progress: Progress, line: dict[str, float | None]) -> None:
    """Show on the console what a line of metrics.jsonl says, and the time left."""
    losses = {name: value for name, value in line.items() if name.startswith("loss/")}
    images, speed = run.config.batch_size * run.config.rounds, line["images_per_second"]
    run.writer.progress(progress.step, images_per_second=speed, images=images, losses=losses)


def _validate(run: TrainingRun, state: AdversarialState, tracker: Tracker, evaluator, sheet) -> None:
    """Score the validation split, note the best, draw samples."""
    config, progress = run.config, tracker.progress
    scores = evaluator(state, poll=lambda: run.poll(state, tracker))
    progress.evaluated = progress.step
    values = single_numbers(scores)
    run.writer.scalars(progress.step, "val", values)
    if run.task.is_better(scores, progress.best_scores):
        progress.best_step, progress.best_scores = progress.step, scores
    if progress.best_step == progress.step and scores[run.task.selected_by] is not None:
        progress.unimproved = 0
    elif progress.step > last_phase(config):
        progress.unimproved += 1
    shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
    run.writer.message(f"step {progress.step} val: {shown}{' (best)' if progress.best_step == progress.step else ''}")
    if scores.get("collapsed"):
        run.writer.message("The generator has collapsed: it makes few images again and again.")
    last = is_complete(config, progress.step, progress.unimproved)
    if config.samples_every and (last or _is_due(config.samples_every, config, progress)):
        if parallel.is_first_process():
            run.writer.images(progress.step, "val", sheet(state))


if __name__ == "__main__":  # where it is looked for by those who know the command `train`
    print("error: gan_seg_jax.train is no command; use gan-seg train or python -m gan_seg_jax.main.", file=sys.stderr)
    sys.exit(2)

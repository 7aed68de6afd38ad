"""The scores that a run ends with: of its best checkpoint, and of the classical baselines beside it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gan_seg_jax import parallel
from gan_seg_jax.runs import checkpoint
from gan_seg_jax.state import AdversarialState
from gan_seg_jax.training import report
from gan_seg_jax.training.run import TrainingRun
from gan_seg_jax.training.tracker import Tracker


def score(
    run: TrainingRun,
    state: AdversarialState,
    tracker: Tracker,
    evaluator: Callable[..., dict[str, Any]],
    sheet: Callable[[AdversarialState], np.ndarray],
) -> dict[str, Any]:
    """Score the best checkpoint on the test split and the baselines beside it; write the summary and return it.

    Args:
        run: the run.
        state: after the last step.
        tracker: where it is.
        evaluator: of the validation split, as a `Task` has it.
        sheet: likewise.
    """
    config, progress, stop = run.config, tracker.progress, run.stop
    run.checkpoints.wait()
    skipped = int(state.skipped_steps)
    test, test_evaluator, last = run.dataset.splits.get("test"), None, None
    if test is not None:
        test_evaluator = evaluator.on(test)
    if progress.best_step != progress.step:
        last = {"val": evaluator(state, poll=stop), "test": None}
        if test_evaluator is not None:
            last["test"] = test_evaluator(state, poll=stop)
        arrays, _ = run.checkpoints.load(progress.best_step)
        best = checkpoint.fill(state, arrays, origin=f"The checkpoint in {run.workdir}")
        state = parallel.place(best, parallel.replicated(run.mesh))
    scores = {"test": None, "val": progress.best_scores}
    image_counts = None
    if test is not None:
        image_counts = {} if run.task.has_image_counts else None
        more = {"image_counts": image_counts} if run.task.has_image_counts else {}
        scores["test"] = test_evaluator(state, poll=stop, **more)
    scores["last"] = {"step": progress.step, **(last or {name: scores[name] for name in ("val", "test")})}
    scores["baselines"] = report.baseline_scores(run.dataset, config, stop) if run.task.has_baselines else {}
    tracker.book_seconds()
    summary = report.summarize(config, run.task, run.dataset, scores, state, progress, skipped)
    if image_counts is not None:
        image_counts = report.gathered(image_counts, len(test), config.num_classes)
    if parallel.is_first_process():
        if test is not None:
            run.writer.images(progress.best_step, "test", sheet.on(test)(state))
        report.write(run.workdir, config, summary, run.writer, image_counts)
    return summary

"""The run of a classical baseline: fit on the training split, score, leave the files of a trained run.

    python -m gan_seg_jax.main --config=configs/classical.py:METHOD [--workdir=DIR] [--config.FIELD=VALUE ...]

There are no steps, checkpoints or curves: what was killed starts again, with the same result. The fitted model is not
kept, so `evaluate` and `predict` do not take such a run.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax import metrics, parallel
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data import pipeline, provenance
from gan_seg_jax.data.catalog import Dataset, Example, Split
from gan_seg_jax.errors import PreemptedError, unknown
from gan_seg_jax.judging.counts import Counts
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.pictures import panels
from gan_seg_jax.runs import workdirs
from gan_seg_jax.runs.preemption import Preemption
from gan_seg_jax.runs.tables import per_class_table, scores_table
from gan_seg_jax.runs.writer import Writer
from gan_seg_jax.system.files import write_json
from gan_seg_jax.tasks.segmentation import SAMPLES
from gan_seg_jax.training import report

PACKAGES = ("numpy", "scipy", "scikit-image", "scikit-learn", "jax", "jaxlib")
EDGE_COLORS = ((255, 255, 255), (0, 0, 0))  # of the sheet of boundaries
EDGE_NAMES = ("interior", "boundary")


def fit_and_evaluate(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Fit the baseline that `config.method` names, score val and test, and write what a trained run leaves.

    Args:
        config: from `configs/classical.py`; classes are filled in from the data set.
        workdir: folder of the run, made if it is missing; a finished run in it is printed again.

    Returns:
        The summary, as in `summary.json`: the keys of a trained run, those without a meaning here null or empty.
        Methods that find edges have further scores, "edge_f1", "edge_precision" and "edge_recall", of their raw edges
        as boundaries of no class.

    Raises:
        InputError: config, data or folder cannot be used as they are.
        PreemptedError: a signal asked to end.
    """
    began = time.monotonic()
    baseline = _baseline(config.method)
    for name in config.baselines:
        _baseline(name)
    with Preemption() as preemption, workdirs.lock(workdir):
        dataset = pipeline.open_dataset(config)
        with config.unlocked():
            pipeline.resolve_classes(config, dataset)
        summary = workdirs.finished(workdir, config)
        if summary is not None:
            if parallel.is_first_process():
                print(f"{workdir} is finished.\n{summary_text(summary)}")
            return summary
        provenance.check(dataset, {}, provenance.made_sets(config.data_dir, config.source.data_dir))
        workdirs.claim(workdir, config)

        def poll():  # processes read different numbers of images, so several cannot agree on the way
            if preemption.requested and jax.process_count() == 1:
                raise PreemptedError("Interrupted before the scores were taken; the same command starts again.")

        with Writer(
            workdir, total_steps=0, tensorboard=config.tensorboard, active=parallel.is_first_process()
        ) as writer:
            writer.rewind(-1)  # of a run that was killed nothing is kept
            writer.message(f"Fitting {config.method} on {len(dataset.splits['train'])} images ...")
            train = _Polled(dataset.splits["train"], poll)
            model = baseline.fit(train, num_classes=config.num_classes, seed=config.seed)
            scores: dict[str, Any] = {"test": None, "val": None}
            for name in ("val", "test"):
                if name in dataset.splits:
                    split = dataset.splits[name]
                    writer.message(f"Scoring {len(split)} images of {name} ...")
                    scores[name] = _score(baseline, model, _Polled(split, poll), config)
                    writer.scalars(0, name, metrics.single_numbers(scores[name]))
                    _draw(baseline, model, split, name, config, writer)
            scores["baselines"] = report.baseline_scores(dataset, config, poll)
            summary = _summarize(config, dataset, scores, time.monotonic() - began)
            if parallel.is_first_process():
                write_json(workdir / "summary.json", summary)
                writer.message(f"\n{summary_text(summary)}\n\nEverything is in {workdir}.")
            return summary


def summary_text(summary: dict[str, Any]) -> str:
    """Return the table of a finished run: its scores, its edges as boundaries, and the IoU of each class."""
    rows = report.rows(summary)
    scores = rows[0][1]
    edges = ""
    if scores.get("edge_f1") is not None:
        shares = ", ".join(
            f"{name} {'-' if scores[key] is None else format(scores[key], '.4f')}"
            for name, key in (("precision", "edge_precision"), ("recall", "edge_recall"))
        )
        edges = f"Edges as boundaries of no class: F1 {scores['edge_f1']:.4f} ({shares}).\n\n"
    return (
        f"{report.heading(summary)}\n\n{scores_table(rows)}\n\n"
        f"{edges}{per_class_table(list(scores['iou_per_class']), rows)}"
    )


class _Polled:
    """A split that looks for a signal whenever it is read."""

    def __init__(self, split: Split, poll: Callable[[], None]):
        self._split, self._poll = split, poll

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> Example:
        self._poll()
        return self._split[index]


def _baseline(name: str) -> Any:
    if name not in BASELINES:
        raise unknown("baseline", name, BASELINES)
    return BASELINES[name]


def _score(baseline: Any, model: Any, split: _Polled, config: ConfigDict) -> dict[str, Any]:
    """Return the scores of a split, those of the raw edges among them where the baseline finds edges."""
    counts, edges = Counts(config.num_classes), np.zeros(4, np.int64)
    finds_edges = baseline.boundaries is not None
    for index in range(jax.process_index(), len(split), jax.process_count()):
        example = split[index]
        image, label = example["image"], example["label"]
        counts.add(label, baseline.predict(model, image))
        if finds_edges:
            edges += metrics.edge_counts(label, baseline.boundaries(model, image), num_classes=config.num_classes)
    scores = counts.scores(config.class_names)
    return {**scores, **metrics.edge_scores(parallel.sum_over_processes(edges))} if finds_edges else scores


def _draw(baseline: Any, model: Any, split: Split, name: str, config: ConfigDict, writer: Writer) -> None:
    """Save a few images spread over the split with truth, prediction and error, and the same of the boundaries."""
    rows = np.linspace(0, len(split) - 1, min(SAMPLES, len(split))).astype(int).tolist()
    examples = [split[row] for row in rows]
    size = tuple(np.max([example["label"].shape for example in examples], axis=0))
    stack = lambda arrays, value=0: np.stack([pipeline.pad(array, size, value) for array in arrays])
    images = stack([example["image"] for example in examples])
    labels = stack([example["label"] for example in examples], IGNORE)
    predictions = stack([baseline.predict(model, example["image"]) for example in examples], IGNORE)
    colors, names = config.class_colors, config.class_names
    writer.images(0, name, panels.sample_panel(images, labels, predictions, class_colors=colors, class_names=names))
    if baseline.boundaries is not None:
        true = [metrics.true_edges(label, num_classes=config.num_classes).astype(np.uint8) for label in labels]
        true = np.where(labels < config.num_classes, true, IGNORE)
        found = stack([baseline.boundaries(model, example["image"]).astype(np.uint8) for example in examples])
        sheet = panels.sample_panel(images, true, found, class_colors=EDGE_COLORS, class_names=EDGE_NAMES)
        writer.images(0, f"boundaries-{name}", sheet)


def _summarize(config: ConfigDict, dataset: Dataset, scores: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the contents of `summary.json`."""
    training = {
        "last": None,
        "selected_by": None,
        "best_step": None,
        "steps": 0,
        "unimproved": 0,
        "seconds": seconds,
        "compile_seconds": None,
        "images_per_second": None,
        "flops": None,
        "parameters": {},
        "skipped_steps": 0,
    }
    return report.contents(config, "segmentation", dataset, {**scores, **training}, PACKAGES)

"""What a run leaves for people: sample panels, final scores beside the baselines, the summary and the table."""

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax import metrics, parallel
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.config import flat, to_json
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.judging.counts import score_labelling
from gan_seg_jax.pictures import panels
from gan_seg_jax.runs.writer import Writer
from gan_seg_jax.state import AdversarialState, parameter_counts
from gan_seg_jax.system.files import write_json
from gan_seg_jax.tasks import TASKS, Task

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def baseline_scores(dataset: Dataset, config: ConfigDict, poll: Callable[[], None]) -> dict[str, Any]:
    """Return the scores of each baseline: fitted on train, scored on test (on val where there is no test split)."""
    split = dataset.splits.get("test", dataset.splits["val"])
    if jax.process_count() > 1:
        poll = lambda: None  # processes score different numbers of images, so they cannot agree on the way
    scores = {}
    for name in config.baselines:
        model = BASELINES[name].fit(dataset.splits["train"], num_classes=config.num_classes, seed=config.seed)
        predict = functools.partial(BASELINES[name].predict, model)
        scores[name] = score_labelling(predict, split, config.class_names, poll=poll)
    return scores


def summarize(
    config: ConfigDict,
    task: Task,
    dataset: Dataset,
    scores: dict[str, Any],
    state: AdversarialState,
    progress: Any,
    skipped_steps: int,
) -> dict[str, Any]:
    """Return the contents of `summary.json`."""
    rate = progress.images / progress.image_seconds if progress.image_seconds else None
    training = {
        "selected_by": task.selected_by,
        "best_step": progress.best_step,
        "steps": progress.step,
        "unimproved": progress.unimproved,
        "seconds": progress.seconds,
        "compile_seconds": progress.compile_seconds,
        "images_per_second": rate,
        "flops": progress.flops,
        "parameters": parameter_counts(state),
        "skipped_steps": skipped_steps,
    }
    return contents(config, task.name, dataset, {**scores, **training}, PACKAGES)


def contents(
    config: ConfigDict, task: str, dataset: Dataset, found: dict[str, Any], packages: Sequence[str]
) -> dict[str, Any]:
    """Return the contents of `summary.json`, of a run of any kind.

    Args:
        config: the run's config.
        task: name of its task.
        dataset: what it was trained on.
        found: its scores, and what its training was.
        packages: whose versions matter.
    """
    return {
        "method": config.method,
        "task": task,
        "dataset": config.dataset,
        "labelled": labelled(dataset),
        **found,
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()],
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def labelled(dataset: Dataset) -> dict[str, Any]:
    """Return which training images have labels: {"images": how many, "sha256": of their sorted ids, a line each}."""
    ids = sorted(dataset.splits["train"].ids)
    lines = "".join(f"{image_id}\n" for image_id in ids)
    return {"images": len(ids), "sha256": hashlib.sha256(os.fsencode(lines)).hexdigest()}


def heading(summary: dict[str, Any]) -> str:
    """Return the line above the table of a finished run, of any kind, with a note where val stands for test."""
    split, trained = scored_split(summary), summary["best_step"] is not None
    chosen = ", by which the best step was chosen" if trained else ""
    note = "" if split == "test" else f"This data set has no test split: the scores are of val{chosen}.\n"
    step = f", checkpoint of step {summary['best_step']}" if trained else ""
    rate = summary["images_per_second"]
    speed = "" if rate is None else f", {rate:.1f} images/s in training"
    return f"{note}{summary['dataset']}, {split} split{step} ({summary['seconds']:.0f} s in all{speed}):"


def scored_split(summary: dict[str, Any]) -> str:
    """Return the split whose scores are shown: "test", or "val" where there is no test."""
    return "val" if summary["test"] is None else "test"


def rows(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, scores) of a finished run and of the baselines beside it."""
    return [(summary["method"], summary[scored_split(summary)]), *summary["baselines"].items()]


def summary_text(summary: dict[str, Any]) -> str:
    """Return the table of a finished run, by its task: its scores, beside the baselines' where there are any."""
    return f"{heading(summary)}\n\n{TASKS[summary['task']].table(rows(summary))}"


def gathered(image_counts: dict[int, np.ndarray], images: int, num_classes: int) -> np.ndarray:
    """Return the counts of all processes' images, int64 [images, k, 3]; see `metrics.class_counts`."""
    counts = np.zeros((images, num_classes, 3), np.int64)
    for row, values in image_counts.items():
        counts[row] = values
    return parallel.sum_over_processes(counts)


def write(
    workdir: Path, config: ConfigDict, summary: dict[str, Any], writer: Writer, image_counts: np.ndarray | None
) -> None:
    """Write the test scores, the curves and the summary; then print the table. The first process's work.

    Args:
        workdir: folder of the run.
        config: of the run.
        summary: from `summarize`.
        writer: of the run.
        image_counts: of the test images, int64 [n, k, 3] (`metrics.class_counts`), in the order of the split; None
            where there are none. They go to `image_counts-test.json`, a list for each image, of the classes it has.
    """
    if image_counts is not None:
        per_image = [{str(c): image[c].tolist() for c in np.flatnonzero(image.any(axis=1))} for image in image_counts]
        write_json(workdir / "image_counts-test.json", {"num_classes": image_counts.shape[1], "images": per_image})
    split = scored_split(summary)
    values = metrics.single_numbers(summary[split] or {})
    if split == "test":
        writer.scalars(summary["best_step"], split, values)
    panels.plot_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    write_json(workdir / "summary.json", summary)
    writer.hparams(flat(to_json(config)), [f"{split}/{name}" for name in values])
    writer.message("\n" + summary_text(summary) + f"\n\nEverything is in {workdir}.")

"""What a run leaves for people: sample panels, final scores beside the baselines, the summary and the table."""

import functools
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_seg_jax import generation, panels, parallel, translation_scores
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import IGNORE, Dataset, Split
from gan_seg_jax.evaluate import TASKS, score_labelling
from gan_seg_jax.scoring import make_chooser, make_views, prepare
from gan_seg_jax.state import AdversarialState, inference_view, parameter_counts
from gan_seg_jax.writer import Writer, per_class_table, scores_table, values_table, write_json

SAMPLES = 4
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class SampleSheet:
    """Draws a few images of a split, spread over it, with truth, prediction and error; one image at a time.

    A method with `score_map(nets, image, mask, config)` adds the discriminator's view of its prediction.
    """

    def __init__(self, method: Any, config: ConfigDict, split: Split):
        """Read the images."""
        self._config = config
        rows = np.linspace(0, len(split) - 1, min(SAMPLES, len(split))).astype(int).tolist()
        self._box = tuple(split.sizes()[rows].max(axis=0).tolist())
        examples = [pipeline.eval_example(split, row, config) for row in rows]
        self._streams = [{name: value[None] for name, value in example.items()} for example in examples]
        self._images = [split[row]["image"] for row in rows]
        look, choose = make_views(method, config), make_chooser(config)

        def step(state, stream):
            label = stream.pop("label")
            views = look(state, stream)
            prediction, _ = choose(views, stream, label.shape[1:])
            if not hasattr(method, "score_map"):
                return prediction, None
            image, mask = prepare(stream, config)["image"], jax.nn.softmax(views[0][0])
            scores = method.score_map(inference_view(state, jax.random.key(0)), image, mask, config)
            return prediction, jax.image.resize(scores[..., None], (*image.shape[:3], 1), "nearest")[..., 0]

        self._step = jax.jit(step)

    def __call__(self, state: AdversarialState) -> np.ndarray:
        """Return the picture, uint8 [H, W, 3]; images of different sizes are scaled to fit cells of one size."""
        local = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state)
        found = [jax.device_get(self._step(local, stream)) for stream in self._streams]
        labels, sizes, contents = (
            [stream[name][0] for stream in self._streams] for name in ("label", "size", "content")
        )
        nearest, bilinear = Image.Resampling.NEAREST, Image.Resampling.BILINEAR
        labels = self._cells(labels, sizes, nearest, IGNORE)
        predictions = self._cells([prediction[0] for prediction, _ in found], sizes, nearest, IGNORE)
        images, maps = self._cells(self._images, sizes, bilinear, 0), None
        if found[0][1] is not None:
            maps = self._cells([scores[0] for _, scores in found], contents, nearest, 0)
        return panels.sample_panel(
            images,
            labels,
            predictions,
            class_colors=self._config.class_colors,
            class_names=self._config.class_names,
            score_maps=maps,
        )

    def _cells(self, arrays, sizes, resampling: Image.Resampling, padding: int) -> np.ndarray:
        """Return the first `sizes` pixels of each array, scaled until they just fit the box, stacked."""
        cells = []
        for array, (height, width) in zip(arrays, sizes, strict=True):
            scale = min(self._box[0] / height, self._box[1] / width)
            target = (min(round(height * scale), self._box[0]), min(round(width * scale), self._box[1]))
            cell = np.full((*self._box, *array.shape[2:]), padding, array.dtype)
            content = Image.fromarray(np.ascontiguousarray(array[:height, :width]))
            cell[: target[0], : target[1]] = np.asarray(content.resize(target[::-1], resampling))
            cells.append(cell)
        return np.stack(cells)


SHEETS: dict[str, Callable] = {
    "segmentation": SampleSheet,
    "generation": generation.SampleSheet,
    "translation": translation_scores.SampleSheet,
}
"""What is drawn of a run, by its task: (method, config, split) -> a callable from a state to a picture."""


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
    config: ConfigDict, task: str, scores: dict[str, Any], state: AdversarialState, progress: Any, skipped_steps: int
) -> dict[str, Any]:
    """Return the contents of `summary.json`."""
    rate = progress.images / progress.image_seconds if progress.image_seconds else None
    return {
        "method": config.method,
        "task": task,
        "dataset": config.dataset,
        **scores,
        "selected_by": TASKS[task].selected_by,
        "best_step": progress.best_step,
        "steps": progress.step,
        "seconds": progress.seconds,
        "compile_seconds": progress.compile_seconds,
        "images_per_second": rate,
        "parameters": parameter_counts(state),
        "skipped_steps": skipped_steps,
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def summary_text(summary: dict[str, Any]) -> str:
    """Return the table of a finished run: its scores beside the baselines', and the IoU of each class."""
    split = "val" if summary["test"] is None else "test"
    note = (
        "This data set has no test split: the scores are of val, by which the best step was chosen.\n"
        if split == "val"
        else ""
    )
    rows = [(summary["method"], summary[split]), *summary["baselines"].items()]
    rate = summary["images_per_second"]
    speed = "" if rate is None else f", {rate:.1f} images/s in training"
    if summary["task"] == "segmentation":
        classes = list(summary[split]["iou_per_class"])
        table = f"{scores_table(rows)}\n\n{per_class_table(classes, rows)}"
    else:
        table = values_table(summary[split])
    return (
        f"{note}{summary['dataset']}, {split} split, checkpoint of step {summary['best_step']} "
        f"({summary['seconds']:.0f} s in all{speed}):\n\n{table}"
    )


def gathered(image_counts: dict[int, np.ndarray], images: int, num_classes: int) -> np.ndarray:
    """Return the counts of all processes' images, int64 [images, k, 3]; see `metrics.class_counts`."""
    counts = np.zeros((images, num_classes, 3), np.int64)
    for row, values in image_counts.items():
        counts[row] = values
    return parallel.sum_over_processes(counts)


def write(workdir: Path, summary: dict[str, Any], writer: Writer, image_counts: np.ndarray | None) -> None:
    """Write the test scores, the curves and the summary; then print the table. The first process's work.

    Args:
        workdir: folder of the run.
        summary: from `summarize`.
        writer: of the run.
        image_counts: of the test images, int64 [n, k, 3] (`metrics.class_counts`), in the order of the split; None
            where there are none. They go to `image_counts-test.json`, a list for each image, of the classes it has.
    """
    if image_counts is not None:
        per_image = [{str(c): image[c].tolist() for c in np.flatnonzero(image.any(axis=1))} for image in image_counts]
        write_json(workdir / "image_counts-test.json", {"num_classes": image_counts.shape[1], "images": per_image})
    split = "val" if summary["test"] is None else "test"
    if split == "test":
        values = {name: value for name, value in summary["test"].items() if name != "iou_per_class"}
        writer.scalars(summary["best_step"], "test", values)
    panels.plot_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    write_json(workdir / "summary.json", summary)
    writer.message("\n" + summary_text(summary) + f"\n\nEverything is in {workdir}.")

"""Score a segmentation over a whole split: networks on all devices, and anything else that labels images.

    python -m gan_seg_jax.evaluate --workdir=DIR [--split=test] [--checkpoint=best|latest|STEP] [--data_dir=..]
        [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

Without the flags of the second line it writes DIR/evaluation-SPLIT.json, with them evaluation-SPLIT-TAG.json, where the
tag says what is on (`scales+flip`) and the file holds all values.

Every image counts once, at its label's own size: logits are resized to the label, never the label to the logits. One
confusion matrix holds the split; from it come all scores but the boundary F1, whose counts are pooled likewise.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import commands, feature_space, generation, metrics, parallel, translation_scores
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import Run, load_run
from gan_seg_jax.inference_options import PLAIN, Options, define_flags, options_from_flags
from gan_seg_jax.parallel import local_rows
from gan_seg_jax.postprocess import morphology
from gan_seg_jax.progress import Progress
from gan_seg_jax.scoring import Labeller, images_at_once
from gan_seg_jax.state import AdversarialState
from gan_seg_jax.writer import per_class_table, scores_table, values_table, write_json


class Tally:
    """Counts of a split, and the scores that follow from them."""

    def __init__(self, num_classes: int):
        """Start from nothing, for class ids 0..num_classes-1."""
        self.confusion = np.zeros((num_classes, num_classes), np.int64)
        self.boundary = np.zeros((num_classes, 4), np.int64)

    def add(self, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Count one image: label uint8 [h, w] with 255 = ignore, prediction uint8 [h, w] of class ids.

        Returns:
            The image's own confusion matrix, int64 [k, k].
        """
        k = len(self.confusion)
        known = label < k
        cells = label[known].astype(np.int64) * k + prediction[known]
        confusion = np.bincount(cells, minlength=k * k).reshape(k, k)
        self.confusion += confusion
        self.boundary += metrics.boundary_counts(label, prediction, num_classes=k)
        return confusion

    def scores(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the contract's scores, over all processes."""
        confusion, boundary = parallel.sum_over_processes((self.confusion, self.boundary))
        return {**metrics.scores(confusion, class_names), "boundary_f1": metrics.boundary_f1(boundary)}


class Evaluator:
    """Scores a state on one split; compiled once for each size of canvas."""

    def __init__(self, method: Any, config: ConfigDict, split: Split, mesh: Mesh, *, options: Options = PLAIN):
        """Prepare to score `split` on all devices of the mesh, as many images at once as `images_at_once` says."""
        self._config, self._split, self._mesh, self._options = config, split, mesh, options
        self._label = Labeller(method, config, options, mesh)

    def __call__(
        self,
        state: AdversarialState,
        *,
        poll: Callable[[], None] = lambda: None,
        image_counts: dict[int, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Return the scores of a state over the whole split.

        Args:
            state: the state; averaged weights are used where there are any.
            poll: called between batches; may raise to stop.
            image_counts: gets `metrics.class_counts` of each image that this process has scored, by its place in the
                split.
        """
        tally, clean_up = Tally(self._config.num_classes), self._options.clean_up
        for batch, prediction in self._predictions(state):
            poll()
            for row in np.flatnonzero(batch["valid"]):
                height, width = batch["size"][row]
                window = (row, slice(0, height), slice(0, width))
                label, labelled = batch["label"][window], prediction[window]
                if clean_up:
                    labelled = morphology.clean(labelled, **clean_up, num_classes=self._config.num_classes)
                confusion = tally.add(label, labelled)
                if image_counts is not None:
                    image_counts[int(batch["id"][row])] = metrics.class_counts(confusion)
        return tally.scores(self._config.class_names)

    def _predictions(self, state) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield host batches with what the devices made of them, one batch behind, so that both work at once."""
        process = (jax.process_index(), jax.process_count())
        pending = None
        at_once = lambda size: images_at_once(self._config, self._options, size, self._mesh)
        more = {"scales": self._options.scales, "original": self._options.crf is not None, "at_once": at_once}
        for batch in pipeline.eval_batches(self._split, self._config, process=process, **more):
            out_size = batch["label"].shape[1:]
            seen = {name: value for name, value in batch.items() if name != "label"}
            prediction, _ = self._label(state, parallel.place(seen, parallel.batch_sharding(self._mesh)), out_size)
            if pending is not None:
                yield pending[0], local_rows(pending[1])
            pending = (batch, prediction)
        if pending is not None:
            yield pending[0], local_rows(pending[1])


class Task(NamedTuple):
    """How methods of one task are scored.

    Attributes:
        selected_by: name of the score that chooses the best checkpoint.
        lower_is_better: whether the best is the lowest.
        evaluator: (method, config, split, mesh, workdir) -> a callable from a state to its scores, as `Evaluator`.
    """

    selected_by: str
    lower_is_better: bool
    evaluator: Callable[..., Callable]

    def is_better(self, scores: dict[str, Any], best: dict[str, Any] | None) -> bool:
        """Return whether `scores` are better than the best so far (None: there are none yet)."""
        new, old = scores[self.selected_by], best and best[self.selected_by]
        if old is None:
            return True
        return new is not None and (new < old if self.lower_is_better else new > old)


def _segmentation(method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path) -> Callable:
    del workdir
    return Evaluator(method, config, split, mesh)


def _generation(method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path) -> Callable:
    return generation.Evaluator(method, config, split, mesh, judge=feature_space.open_judge(config, workdir))


def _translation(method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path) -> Callable:
    del workdir
    return translation_scores.Evaluator(method, config, split, mesh)


TASKS: dict[str, Task] = {
    "segmentation": Task("miou", False, _segmentation),
    "generation": Task("frechet", True, _generation),
    "translation": Task("l1", True, _translation),
}


def score_labelling(
    predict: Callable[[np.ndarray], np.ndarray],
    split: Split,
    class_names: Sequence[str],
    *,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Score any function from an image uint8 [h, w, 3] to class ids uint8 [h, w], such as a classical baseline."""
    tally = Tally(len(class_names))
    for index in range(jax.process_index(), len(split), jax.process_count()):
        poll()
        example = split[index]
        tally.add(example["label"], predict(example["image"]))
    return tally.scores(class_names)


def evaluate_run(run: Run, split_name: str, options: Options = PLAIN) -> dict[str, Any]:
    """Return the scores of a run on a split of its data set.

    Raises:
        InputError: the data set has no such split, or other classes than the run.
    """
    split, mesh = open_split(run, split_name)
    state = parallel.place(run.state, parallel.replicated(mesh))
    evaluator, counted = Evaluator(run.method, run.config, split, mesh, options=options), {}
    with Progress(-(-len(split) // jax.process_count()), active=parallel.is_first_process()) as progress:
        scores = evaluator(state, poll=lambda: progress.show(len(counted)), image_counts=counted)
        progress.show(len(counted))
    return scores


def open_split(run: Run, name: str) -> tuple[Split, Mesh]:
    """Return a split of a run's data set, and the mesh; the run's batch size becomes one that the mesh can share.

    Raises:
        InputError: the data set has no such split, or other classes than the run.
    """
    config = run.config
    dataset = pipeline.open_dataset(config)
    pipeline.resolve_classes(config, dataset)
    if name not in dataset.splits:
        raise InputError(f"{dataset.info.name} has no split {name!r}; it has: {', '.join(dataset.splits)}.")
    if run.data.get(name) != dataset.digests.get(name) and parallel.is_first_process():
        print(
            f"The images or labels of {name} are not those that the run knew at step {run.step}; its own scores are of "
            "others.",
            file=sys.stderr,
        )
    mesh = parallel.make_mesh()
    config.batch_size = -(-config.batch_size // mesh.size) * mesh.size
    return dataset.splits[name], mesh


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir = Path(commands.required("workdir"))
    options = options_from_flags(workdir)
    run = load_run(workdir, values.checkpoint, values.data_dir)
    start = time.monotonic()
    name, about = f"step {run.step}, {values.split}", {"step": run.step, "split": values.split}
    file = f"evaluation-{values.split}.json"
    if run.method.TASK == "segmentation":
        scores = evaluate_run(run, values.split, options)
        shown = f"{scores_table([(name, scores)])}\n\n{per_class_table(run.config.class_names, [(name, scores)])}"
    else:
        if options != PLAIN:
            raise InputError(f"{workdir} is a run of {run.method.TASK}: only --split and --checkpoint have a meaning.")
        scores = _other_scores(run, values.split, workdir)
        shown = f"{name}\n\n{values_table(scores)}"
    if options.tag:
        name, file = f"{name}, {options.tag}", f"evaluation-{values.split}-{options.tag}.json"
        about |= {"options": options.to_json(), "seconds": time.monotonic() - start}
    if parallel.is_first_process():
        write_json(workdir / file, {**about, **scores})
        print(shown)


def _other_scores(run: Run, split_name: str, workdir: Path) -> dict[str, Any]:
    """Return the scores of a run that does not segment."""
    split, mesh = open_split(run, split_name)
    evaluator = TASKS[run.method.TASK].evaluator(run.method, run.config, split, mesh, workdir)
    return evaluator(parallel.place(run.state, parallel.replicated(mesh)))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of the run.")
    flags.DEFINE_string("split", "test", "Which split to score.")
    flags.DEFINE_string("checkpoint", "best", "Which checkpoint: best (by validation), latest, or a step.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set, where it is not the one of the training.")
    define_flags()
    commands.run(main, __doc__)

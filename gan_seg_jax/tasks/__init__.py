"""What a method can be for: to segment, to generate, to translate; each task scores and draws its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax.data.catalog import Split
from gan_seg_jax.tasks import feature_network, generation, segmentation, translation


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
    return segmentation.Evaluator(method, config, split, mesh)


def _generation(method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path) -> Callable:
    return generation.Evaluator(method, config, split, mesh, judge=feature_network.open_judge(config, workdir))


def _translation(method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path) -> Callable:
    del workdir
    return translation.Evaluator(method, config, split, mesh)


TASKS: dict[str, Task] = {
    "segmentation": Task("miou", False, _segmentation),
    "generation": Task("frechet", True, _generation),
    "translation": Task("l1", True, _translation),
}


SHEETS: dict[str, Callable] = {
    "segmentation": segmentation.SampleSheet,
    "generation": generation.SampleSheet,
    "translation": translation.SampleSheet,
}
"""What is drawn of a run, by its task: (method, config, split) -> a callable from a state to a picture."""

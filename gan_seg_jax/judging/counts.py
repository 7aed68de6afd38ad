"""Counts of a split that is labelled image by image, from which the scores of a segmentation follow.

Every image counts once, at its label's own size. One confusion matrix holds the split; from it come all scores but the
boundary F1, whose counts are pooled likewise.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gan_seg_jax import metrics, parallel
from gan_seg_jax.data.catalog import Split


class Counts:
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
        """Return the contract's scores, over all processes; "confusion" is [k][k] pixels, rows truth."""
        confusion, boundary = parallel.sum_over_processes((self.confusion, self.boundary))
        return {
            **metrics.scores(confusion, class_names),
            "boundary_f1": metrics.boundary_f1(boundary),
            "confusion": confusion.tolist(),
        }


def score_labelling(
    predict: Callable[[np.ndarray], np.ndarray],
    split: Split,
    class_names: Sequence[str],
    *,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Score any function from an image uint8 [h, w, 3] to class ids uint8 [h, w], such as a classical baseline."""
    counts = Counts(len(class_names))
    for index in range(jax.process_index(), len(split), jax.process_count()):
        poll()
        example = split[index]
        counts.add(example["label"], predict(example["image"]))
    return counts.scores(class_names)

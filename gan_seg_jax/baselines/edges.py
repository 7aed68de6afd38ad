"""What edge detectors share: the threshold learnt on the training split, and the regions between edges.

A detector is a function `detect(image uint8 [h, w, 3], thresholds) -> (strength float [h, w], [edges bool [h, w], one
for each threshold])`. As a boundary detector it is scored by its edge map (`metrics.edge_counts`); as a segmentation,
its edges become regions by watershed, and regions classes by the rule of `regions`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from skimage import feature, segmentation
from sklearn.ensemble import ExtraTreesClassifier

from gan_seg_jax import metrics
from gan_seg_jax.baselines import regions

THRESHOLD_IMAGES = 50  # of the training split, by which the threshold is chosen
SEED_DISTANCE = 5  # pixels; least distance between the seeds of two regions

Detector = Callable[[np.ndarray, Sequence[float]], tuple[np.ndarray, list[np.ndarray]]]


class EdgeModel(NamedTuple):
    """The threshold with the best boundary F1 on the training split, and the rule that names regions."""

    threshold: float
    rule: ExtraTreesClassifier


class EdgeBaseline(NamedTuple):
    """A detector as a baseline.

    Attributes:
        detect: the detector.
        thresholds: to choose from.
    """

    detect: Detector
    thresholds: Sequence[float]

    def fit(self, train_split: Any, *, num_classes: int, seed: int) -> EdgeModel:
        """Choose the threshold by the F1 of the boundaries, pooled over images; learn the rule for its regions.

        Args:
            train_split: as `regions.fit` takes it.
            num_classes: number of classes k.
            seed: fixes the choice of images and the trees.

        Returns:
            The model for `predict` and `boundaries`.

        Raises:
            InputError: no pixel has a class.
        """
        counts = np.zeros((len(self.thresholds), 4), np.int64)
        for index in regions.choose_images(len(train_split), seed=seed, limit=THRESHOLD_IMAGES):
            example = train_split[index]
            _, maps = self.detect(example["image"], self.thresholds)
            counts += [metrics.edge_counts(example["label"], edges, num_classes=num_classes) for edges in maps]
        best = int(np.argmax([metrics.edge_scores(row)["edge_f1"] or 0.0 for row in counts]))
        threshold = float(self.thresholds[best])
        cut = lambda image: segment(self.detect, threshold, image)
        return EdgeModel(threshold, regions.fit(cut, train_split, num_classes=num_classes, seed=seed))

    def predict(self, model: EdgeModel, image: np.ndarray) -> np.ndarray:
        """Return class ids uint8 [h, w] of image uint8 [h, w, 3]."""
        return regions.name_regions(model.rule, image, segment(self.detect, model.threshold, image))

    def boundaries(self, model: EdgeModel, image: np.ndarray) -> np.ndarray:
        """Return the thin edges, bool [h, w], of image uint8 [h, w, 3]."""
        return self.detect(image, (model.threshold,))[1][0]


def segment(detect: Detector, threshold: float, image: np.ndarray) -> np.ndarray:
    """Cut an image into the regions between its edges, closed where edges have gaps.

    Watershed (Beucher and Lantuejoul 1979) floods the strength of the edges from seeds: the points that are farthest
    from any edge within SEED_DISTANCE.

    Args:
        detect: the detector.
        threshold: of an edge.
        image: uint8 [h, w, 3], RGB.

    Returns:
        int32 [h, w], connected regions 0..n-1; one region where there is no edge.
    """
    strength, (edges,) = detect(image, (threshold,))
    if not edges.any():
        return np.zeros(edges.shape, np.int32)
    seeds = feature.peak_local_max(
        ndimage.distance_transform_edt(~edges), min_distance=SEED_DISTANCE, exclude_border=False
    )
    if not len(seeds):
        return np.zeros(edges.shape, np.int32)
    markers = np.zeros(edges.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    return segmentation.watershed(strength, markers) - 1

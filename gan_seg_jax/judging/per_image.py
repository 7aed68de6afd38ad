"""The scores of single images, class by class: IoU, Dice, HD95 and ASSD; as rows, and as means over images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gan_seg_jax import parallel
from gan_seg_jax.judging.surfaces import surface_distances
from gan_seg_jax.runs.tables import table, text

COLUMNS = ("image", "class_id", "class", "iou", "dice", "hd95", "assd", "true_pixels", "predicted_pixels")
_SPECS = {"dice": ".4f", "hd95": ".3f", "assd": ".3f"}  # of the means in the table


class ImageScores:
    """Collects `surface_distances` of the images that this process scores."""

    def __init__(self, num_classes: int, spacings: Sequence[tuple[float, float]] | None = None):
        """Start from nothing.

        Args:
            num_classes: k.
            spacings: millimetres a row and a column of each image of the split; None measures in pixels.
        """
        self._num_classes, self._spacings = num_classes, spacings
        self._distances: dict[int, np.ndarray] = {}

    def add(self, place: int, label: np.ndarray, prediction: np.ndarray) -> None:
        """Measure an image, by its place in the split: label uint8 [h, w] with 255 = ignore, and the predicted one."""
        spacing = (1.0, 1.0) if self._spacings is None else self._spacings[place]
        more = {"num_classes": self._num_classes, "spacing": spacing}
        self._distances[place] = surface_distances(label, prediction, **more)

    def scores(self, counts: np.ndarray) -> np.ndarray:
        """Return IoU, Dice, HD95 and ASSD of each image and class, over all processes.

        With TP, FP and FN pixels of a class: IoU = TP / (TP + FP + FN), Dice = 2 TP / (2 TP + FP + FN), each 0 for a
        class that only truth or prediction has. Distances are as in `surfaces`.

        Args:
            counts: int64 [n, k, 3], `metrics.class_counts` of each image of the split, all processes' images.

        Returns:
            float32 [n, k, 4]; nan for a class that an image has in neither.
        """
        n, k, _ = counts.shape
        rows = [np.concatenate([[place], found.ravel()]) for place, found in self._distances.items()]
        rows = parallel.gather_rows(np.array(rows, np.float32).reshape(-1, 1 + 2 * k))
        found = np.full((n, k, 4), np.nan, np.float32)
        found[rows[:, 0].astype(int), :, 2:] = rows[:, 1:].reshape(-1, k, 2)
        hits, union = counts[..., 0], counts.sum(axis=-1)
        with np.errstate(invalid="ignore"):
            found[..., 0], found[..., 1] = hits / union, 2 * hits / (hits + union)
        return found

    @property
    def unit(self) -> str:
        """What distances are in."""
        return "pixels" if self._spacings is None else "mm"


def rows(scores: np.ndarray, counts: np.ndarray, ids: Sequence[str], class_names: Sequence[str]) -> list[tuple]:
    """Return `COLUMNS` and below them a row for each image and each class that it has in truth or prediction.

    Args:
        scores: of `ImageScores.scores`.
        counts: int64 [n, k, 3], true and false positives and false negatives.
        ids: name of each image.
        class_names: k names.
    """
    found: list[tuple] = [COLUMNS]
    for place, number in np.argwhere(counts.any(axis=-1)):
        hits, more, missed = counts[place, number].tolist()
        values = (f"{value:.6g}" for value in scores[place, number])
        found.append((ids[place], number, class_names[number], *values, hits + missed, hits + more))
    return found


def means(scores: np.ndarray, counts: np.ndarray, class_names: Sequence[str], unit: str) -> dict[str, Any]:
    """Return the means over the images that have a class in truth or prediction, None where no image has it.

    Returns:
        "unit" of distances; by class name "dice_per_class", "hd95_per_class", "assd_per_class", "images_per_class",
        how many have it, and "one_sided_per_class", how many of those only in truth or only in the prediction.
    """
    has = counts.any(axis=-1)
    one_sided = has & ((counts[..., :2].sum(axis=-1) == 0) | (counts[..., [0, 2]].sum(axis=-1) == 0))
    found: dict[str, Any] = {"unit": unit}
    for column, name in ((1, "dice"), (2, "hd95"), (3, "assd")):
        values = [scores[has[:, c], c, column] for c in range(len(class_names))]
        averages = [float(np.mean(value, dtype=np.float64)) if len(value) else None for value in values]
        found[f"{name}_per_class"] = dict(zip(class_names, averages, strict=True))
    found["images_per_class"] = dict(zip(class_names, has.sum(axis=0).tolist(), strict=True))
    found["one_sided_per_class"] = dict(zip(class_names, one_sided.sum(axis=0).tolist(), strict=True))
    return found


def means_table(found: Mapping[str, Any]) -> str:
    """Return `means` as text, a row for each class."""
    lines = [["mean over images", "Dice", f"HD95 ({found['unit']})", f"ASSD ({found['unit']})", "images", "one-sided"]]
    for name, images in found["images_per_class"].items():
        values = [text(found[f"{score}_per_class"][name], spec) for score, spec in _SPECS.items()]
        lines.append([name, *values, str(images), str(found["one_sided_per_class"][name])])
    return table(lines)

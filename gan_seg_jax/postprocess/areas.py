"""How much of an image each class covers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gan_seg_jax.labels import IGNORE


def class_areas(
    labels: np.ndarray, class_names: Sequence[str], spacing: tuple[float, float] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the area of each class, 0 for those that are not there.

    Args:
        labels: uint8 [h, w], class ids 0..k-1; 255, where nothing is known, counts nowhere.
        class_names: k different names.
        spacing: millimetres from one row to the next, and from one column to the next; None where it is unknown.

    Returns:
        name -> {"pixels": int, "share": of those that count, 0 to 1, and with a spacing "mm2": square millimetres}.
    """
    counts = np.bincount(labels[labels != IGNORE], minlength=len(class_names)).tolist()
    areas = {name: {"pixels": n, "share": n / max(1, sum(counts))} for name, n in zip(class_names, counts, strict=True)}
    if spacing is not None:
        areas = {name: {**area, "mm2": area["pixels"] * spacing[0] * spacing[1]} for name, area in areas.items()}
    return areas

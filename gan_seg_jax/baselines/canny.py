"""Canny edges: as boundaries, and as regions by watershed.

Canny, "A computational approach to edge detection", PAMI 1986: gradient of the smoothed grey image, non-maximum
suppression, and hysteresis. The upper threshold is learnt, the lower one is a fixed share of it, as Canny advises.
"""

from collections.abc import Sequence

import numpy as np
from skimage import color, feature, filters

from gan_seg_jax.baselines import edges

SIGMA = 2.0  # of the smoothing, in pixels
LOWER = 0.4  # the lower threshold over the upper one
THRESHOLDS = tuple(np.geomspace(0.03, 1.2, 12).tolist())  # upper ones, of the gradient as `skimage` scales it


def detect(image: np.ndarray, thresholds: Sequence[float]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the strength of the smoothed gradient, float [h, w], and the edges bool [h, w] for each threshold."""
    grey = color.rgb2gray(image)
    strength = filters.sobel(filters.gaussian(grey, SIGMA))
    return strength, [
        feature.canny(grey, SIGMA, low_threshold=LOWER * high, high_threshold=high, mode="nearest")
        for high in thresholds
    ]


BASELINE = edges.EdgeBaseline(detect, THRESHOLDS)

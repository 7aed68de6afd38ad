"""Sobel edges: as boundaries, and as regions by watershed.

The 3x3 operator of Sobel and Feldman (1968) on the grey image, thinned by non-maximum suppression across the gradient.
"""

from collections.abc import Sequence

import numpy as np
from skimage import color, filters

from gan_seg_jax.baselines import edges
from gan_seg_jax.postprocess.thinning import non_maximum_suppression

THRESHOLDS = tuple(np.geomspace(0.01, 0.4, 12).tolist())  # of the strength of `skimage.filters.sobel`, 0..1


def detect(image: np.ndarray, thresholds: Sequence[float]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the strength of the edges, float [h, w] in 0..1, and the thin edges bool [h, w] above each threshold."""
    grey = color.rgb2gray(image)
    down, right = filters.sobel_h(grey), filters.sobel_v(grey)
    strength = np.hypot(down, right) / np.sqrt(2.0)
    thin = non_maximum_suppression(strength, np.arctan2(down, right))
    return strength, [thin >= threshold for threshold in thresholds]


BASELINE = edges.EdgeBaseline(detect, THRESHOLDS)

"""Roberts edges: as boundaries, and as regions by watershed.

The 2x2 cross of Roberts ("Machine perception of three-dimensional solids", 1963) on the grey image,
thinned by non-maximum suppression across the gradient.
"""

from collections.abc import Sequence

import numpy as np
from skimage import color, filters

from gan_seg_jax.baselines import edges
from gan_seg_jax.postprocess.thinning import non_maximum_suppression

THRESHOLDS = tuple(np.geomspace(0.01, 0.4, 12).tolist())  # of the strength of `skimage.filters.roberts`, 0..1


def detect(image: np.ndarray, thresholds: Sequence[float]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the strength of the edges, float [h, w] in 0..1, and the thin edges bool [h, w] above each threshold."""
    grey = color.rgb2gray(image)
    falling, rising = filters.roberts_pos_diag(grey), filters.roberts_neg_diag(grey)
    strength = np.hypot(falling, rising) / np.sqrt(2.0)
    thin = non_maximum_suppression(strength, np.arctan2(falling + rising, falling - rising))
    return strength, [thin >= threshold for threshold in thresholds]


BASELINE = edges.EdgeBaseline(detect, THRESHOLDS)

"""SLIC superpixels, each with the class that the learnt rule gives it.

Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", PAMI 2012: k-means on CIELAB and
position within windows, by scikit-image.
"""

from typing import Any

import numpy as np
from skimage import segmentation
from sklearn.ensemble import ExtraTreesClassifier

from gan_seg_jax.baselines import regions

boundaries = None  # it finds no edges
SEGMENTS = 600  # an image
LEAST_PIXELS = 25  # a superpixel, in small images
COMPACTNESS = 10.0  # weight of position against colour, the paper's range is 1 to 40
ITERATIONS = 10


def segment(image: np.ndarray) -> np.ndarray:
    """Return superpixels 0..n-1, int64 [h, w], of image uint8 [h, w, 3]."""
    count = max(1, min(SEGMENTS, image.shape[0] * image.shape[1] // LEAST_PIXELS))
    found = segmentation.slic(image, count, COMPACTNESS, max_num_iter=ITERATIONS, start_label=0, channel_axis=-1)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def fit(train_split: Any, *, num_classes: int, seed: int) -> ExtraTreesClassifier:
    """Learn the rule that names superpixels, see `regions.fit`."""
    return regions.fit(segment, train_split, num_classes=num_classes, seed=seed)


def predict(model: ExtraTreesClassifier, image: np.ndarray) -> np.ndarray:
    """Return class ids uint8 [h, w] of image uint8 [h, w, 3]."""
    return regions.name_regions(model, image, segment(image))

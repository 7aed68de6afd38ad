"""DBSCAN on colour and position, each cluster with the class that the learnt rule gives it.

Ester et al., "A density-based algorithm for discovering clusters in large spatial databases with noise", KDD 1996, by
scikit-learn. Clustering every pixel of an image would take minutes and gigabytes, so the image is reduced until its
longer side has LONGEST pixels, and every pixel takes the cluster of the reduced pixel that it lies in. Noise, pixels
without enough neighbours (two fifths of CamVid: textures and outlines), joins the cluster with the nearest member in
colour and position.
"""

from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree
from skimage import color
from sklearn.cluster import DBSCAN
from sklearn.ensemble import ExtraTreesClassifier

from gan_seg_jax.baselines import regions

boundaries = None  # it finds no edges
LONGEST = 160  # pixels
EPSILON = 0.02  # radius of a neighbourhood: 2 of CIELAB's 100, or 3.2 reduced pixels; a larger one joins road and sky
MIN_SAMPLES = 5  # neighbours of a core point, itself included


def segment(image: np.ndarray) -> np.ndarray:
    """Return clusters 0..n-1, int64 [h, w], of image uint8 [h, w, 3]; a cluster need not be connected."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    reduced = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX))
    lab = color.rgb2lab(reduced.astype(np.float32) / 255.0) / 100.0
    position = np.stack(np.mgrid[: size[0], : size[1]], axis=-1) / LONGEST
    points = np.concatenate([lab, position], axis=-1).reshape(-1, 5)
    clusters = DBSCAN(eps=EPSILON, min_samples=MIN_SAMPLES, n_jobs=1).fit(points).labels_
    noise = clusters < 0
    if noise.all():
        return np.zeros((height, width), np.int64)
    clusters[noise] = clusters[~noise][cKDTree(points[~noise]).query(points[noise])[1]]
    rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), size, strict=True))
    return clusters.reshape(size)[rows[:, None], columns]


def fit(train_split: Any, *, num_classes: int, seed: int) -> ExtraTreesClassifier:
    """Learn the rule that names clusters, see `regions.fit`."""
    return regions.fit(segment, train_split, num_classes=num_classes, seed=seed)


def predict(model: ExtraTreesClassifier, image: np.ndarray) -> np.ndarray:
    """Return class ids uint8 [h, w] of image uint8 [h, w, 3]."""
    return regions.name_regions(model, image, segment(image))

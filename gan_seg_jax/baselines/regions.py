"""From regions to classes: what a region looks like, and the rule, learnt on the training split, that names it.

Every method that only cuts an image into regions (watershed of edges, DBSCAN, SLIC) is turned into a semantic labelling
by the same rule, so that their scores differ by the regions alone: extremely randomised trees (Geurts, Ernst and
Wehenkel, "Extremely randomized trees", Machine Learning 2006) on the numbers of `describe`, with the class that most
pixels of a training region have, each region weighted by its number of pixels with a class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from skimage import color, filters
from sklearn.ensemble import ExtraTreesClassifier

from gan_seg_jax.errors import InputError

MAX_IMAGES = 200
TREES = 64
_TINY = 1e-6


def describe(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Describe each region by colour, texture, position, size and shape.

    Args:
        image: uint8 [h, w, 3], RGB.
        regions: integer [h, w], ids 0..n-1, each at least once; a region need not be connected.

    Returns:
        float32 [n, 14]: mean and standard deviation of CIELAB / 100 (3 + 3), mean strength of Sobel edges of the
        lightness, mean y and x, standard deviation of y and x (positions in 0..1 of height and width), logarithm of the
        share of the image's pixels, elongation (ratio of the principal standard deviations, 0 a line, 1 round), and
        compactness (pixels over the area of the ellipse of equal second moments, 1 an ellipse).
    """
    height, width = regions.shape
    ids = regions.ravel()
    size = np.bincount(ids)

    def mean(values):
        return np.bincount(ids, values.ravel(), len(size)) / size

    def covariance(one, other):
        return mean(one * other) - mean(one) * mean(other)

    lab = color.rgb2lab(image.astype(np.float32) / 255.0).astype(np.float64) / 100.0
    channels = [lab[..., channel] for channel in range(3)]
    y, x = np.mgrid[:height, :width].astype(np.float64) + 0.5
    # 1/12: the extent of a pixel itself, so that a single one is a square and not a point
    yy, xx, xy = covariance(y, y) + 1 / 12, covariance(x, x) + 1 / 12, covariance(y, x)
    determinant = np.maximum(yy * xx - xy**2, _TINY)
    half_trace = (yy + xx) / 2
    largest = half_trace + np.sqrt(np.maximum(half_trace**2 - determinant, 0.0))
    columns = [
        *(mean(channel) for channel in channels),
        *(np.sqrt(np.maximum(covariance(channel, channel), 0.0)) for channel in channels),
        mean(filters.sobel(channels[0])),
        mean(y) / height,
        mean(x) / width,
        np.sqrt(yy) / height,
        np.sqrt(xx) / width,
        np.log(size / ids.size),
        np.sqrt(determinant) / largest,
        size / (4 * np.pi * np.sqrt(determinant)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def choose_images(count: int, *, seed: int, limit: int = MAX_IMAGES) -> list[int]:
    """Return at most `limit` of the numbers 0..count-1, ascending, drawn by `seed`."""
    return np.sort(np.random.default_rng(seed).choice(count, min(limit, count), replace=False)).tolist()


def fit(
    segment: Callable[[np.ndarray], np.ndarray], train_split: Any, *, num_classes: int, seed: int
) -> ExtraTreesClassifier:
    """Learn the rule that names regions.

    Args:
        segment: image uint8 [h, w, 3] -> regions as `describe` takes them.
        train_split: `Split`, or anything with `__len__` and `__getitem__` returning `image` uint8 [h, w, 3] and
            `label` uint8 [h, w], 255 = ignore; at most MAX_IMAGES of it are used.
        num_classes: number of classes k.
        seed: fixes the choice of images and the trees.

    Returns:
        The rule for `name_regions`.

    Raises:
        InputError: no pixel has a class.
    """
    described, classes, weights = [], [], []
    chosen = choose_images(len(train_split), seed=seed)
    for index in chosen:
        example = train_split[index]
        regions = segment(example["image"])
        known = example["label"] < num_classes
        cells = regions[known].astype(np.int64) * num_classes + example["label"][known]
        votes = np.bincount(cells, minlength=(int(regions.max()) + 1) * num_classes).reshape(-1, num_classes)
        seen = votes.any(axis=1)
        described.append(describe(example["image"], regions)[seen])
        classes.append(votes[seen].argmax(axis=1))
        weights.append(votes[seen].sum(axis=1))
    if not sum(map(len, classes)):
        raise InputError(
            f"None of the {len(chosen)} training masks looked at has a pixel with a class in 0..{num_classes - 1}; "
            "check the masks and classes.txt."
        )
    rule = ExtraTreesClassifier(TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
    return rule.fit(np.concatenate(described), np.concatenate(classes), sample_weight=np.concatenate(weights))


def name_regions(rule: ExtraTreesClassifier, image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return class ids uint8 [h, w]: every region of image uint8 [h, w, 3] under the name that the rule gives it."""
    return rule.predict(describe(image, regions)).astype(np.uint8)[regions]

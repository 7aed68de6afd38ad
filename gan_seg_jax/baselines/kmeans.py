"""k-means on colour and position, each cluster with the majority label of its training pixels.

What can be had without any learning of shape: sky is blue and above, road is grey and below. Colours are CIELAB, where
equal distances look about equally different; positions are relative to the image, so that sizes may differ.
"""

from typing import Any, NamedTuple

import numpy as np
from skimage import color
from sklearn.cluster import MiniBatchKMeans

from gan_seg_jax.errors import InputError

boundaries = None  # it finds no edges
NUM_CLUSTERS = 64
MAX_IMAGES = 200
MAX_PIXELS = 100_000
POSITION_WEIGHT = 1.0  # the image's height or width counts as much as the way from black to white
_CHUNK = 1024  # pixels at a time: their distances stay in cache, and the product is too small to wake BLAS threads


class KMeans(NamedTuple):
    """Clusters and what each is called.

    centres: float32 [n, 5], lightness, a, b, y, x as `features` makes them.
    labels: uint8 [n], class ids.
    """

    centres: np.ndarray
    labels: np.ndarray


def features(image: np.ndarray) -> np.ndarray:
    """Describe each pixel by colour and position.

    Args:
        image: uint8 [h, w, 3], RGB.

    Returns:
        float32 [h, w, 5]: CIELAB / 100 (lightness 0..1, a and b about -1..1), then y and x in 0..1 times
        POSITION_WEIGHT.
    """
    height, width = image.shape[:2]
    described = np.empty((height, width, 5), np.float32)
    described[..., :3] = color.rgb2lab(image.astype(np.float32) / 255.0) / 100.0
    described[..., 3] = POSITION_WEIGHT * ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    described[..., 4] = POSITION_WEIGHT * ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, :]
    return described


def fit(train_split: Any, *, num_classes: int, seed: int) -> KMeans:
    """Cluster a sample of the training pixels and name each cluster by majority.

    Args:
        train_split: `Split`, or anything with `__len__` and `__getitem__` returning `image` uint8 [h, w, 3] and
            `label` uint8 [h, w], 255 = ignore.
        num_classes: number of classes k.
        seed: fixes the sample (at most MAX_IMAGES images, MAX_PIXELS pixels with a class) and the clustering.

    Returns:
        The model for `predict`; a cluster without pixels has the label of the majority of all.

    Raises:
        InputError: no pixel has a class.
    """
    rng = np.random.default_rng(seed)
    samples, labels = _sample(train_split, num_classes, rng)
    num_clusters = min(NUM_CLUSTERS, len(samples))
    clustering = MiniBatchKMeans(num_clusters, random_state=seed, batch_size=4096, n_init=3, max_iter=30)
    centres = clustering.fit(samples).cluster_centers_.astype(np.float32)
    votes = np.zeros((num_clusters, num_classes), np.int64)
    np.add.at(votes, (_nearest(samples, centres), labels), 1)
    names = np.where(votes.any(axis=1), votes.argmax(axis=1), votes.sum(axis=0).argmax())
    return KMeans(centres=centres, labels=names.astype(np.uint8))


def predict(model: KMeans, image: np.ndarray) -> np.ndarray:
    """Label each pixel by its nearest cluster.

    Args:
        model: from `fit`.
        image: uint8 [h, w, 3], RGB.

    Returns:
        uint8 [h, w], class ids.
    """
    nearest = _nearest(features(image).reshape(-1, 5), model.centres)
    return model.labels[nearest].reshape(image.shape[:2])


def _sample(train_split: Any, num_classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 [n, 5] and labels uint8 [n] of pixels with a class, equally many an image."""
    num_images = min(MAX_IMAGES, len(train_split))
    samples, labels = [], []
    for index in np.sort(rng.choice(len(train_split), num_images, replace=False)):
        example = train_split[int(index)]
        pixels = np.flatnonzero(example["label"].ravel() < num_classes)
        pixels = rng.choice(pixels, min(len(pixels), MAX_PIXELS // num_images), replace=False)
        samples.append(features(example["image"]).reshape(-1, 5)[pixels])
        labels.append(example["label"].ravel()[pixels])
    if not sum(map(len, labels)):
        raise InputError(
            f"None of the {num_images} training masks looked at has a pixel with a class in 0..{num_classes - 1}; "
            "check the masks and classes.txt."
        )
    return np.concatenate(samples), np.concatenate(labels)


def _nearest(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return int [n]: the nearest centre of each sample x, by |c|^2 - 2 x.c since |x|^2 is the same for all c."""
    offsets = np.sum(centres**2, axis=1)
    nearest = np.empty(len(samples), np.intp)
    for start in range(0, len(samples), _CHUNK):
        chunk = samples[start : start + _CHUNK]
        nearest[start : start + _CHUNK] = np.argmin(offsets - 2.0 * chunk @ centres.T, axis=1)
    return nearest

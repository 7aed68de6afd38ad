"""The class that most training pixels have, everywhere: what a score has to beat to mean anything."""

from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.errors import InputError

boundaries = None  # it finds no edges


class Majority(NamedTuple):
    """The most frequent class and how many training pixels each class has (int64 [k])."""

    label: int
    counts: np.ndarray


def fit(train_split: Any, *, num_classes: int, seed: int = 0) -> Majority:
    """Count the classes of all training pixels; ties go to the lower class id.

    Args:
        train_split: `Split`, or anything with `__len__` and `__getitem__` returning `label` uint8 [h, w], 255 = ignore.
        num_classes: number of classes k.
        seed: not used; every baseline takes it.

    Returns:
        The model for `predict`.

    Raises:
        InputError: no pixel has a class.
    """
    del seed
    counts = np.zeros(256, np.int64)
    for index in range(len(train_split)):
        counts += np.bincount(train_split[index]["label"].ravel(), minlength=256)
    counts = counts[:num_classes]
    if not counts.any():
        raise InputError(
            f"None of the {len(train_split)} training masks has a pixel with a class in 0..{num_classes - 1}; "
            "check the masks and classes.txt."
        )
    return Majority(label=int(counts.argmax()), counts=counts)


def predict(model: Majority, image: np.ndarray) -> np.ndarray:
    """Return uint8 [h, w], the majority class at every pixel of image uint8 [h, w, 3]."""
    return np.full(image.shape[:2], model.label, np.uint8)

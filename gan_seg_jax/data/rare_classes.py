"""Rare-class sampling: a labelled image is drawn by a class that it shows, rare classes more often than others.

    f_c = share of class c among the known pixels of all labels
    P(c) = exp((1 - f_c) / temperature) / sum over j of exp((1 - f_j) / temperature)

Hoyer, Dai, Van Gool: DAFormer, CVPR 2022, arXiv:2111.14887. A class is drawn by P, then an image, evenly, of those in
which the class has at least the share `area` of the pixels (of those in which it occurs at all, where none has as
much). A class that never occurs is never drawn. A high temperature draws all classes alike, a low one the rarest.

Differences from the paper's code: `area` 0.003 is its 3,000 of 1280 x 720 pixels. It draws up to ten crops until one
shows half as many pixels of the class; here the crop is any (`config.augment.class_balance` places crops by classes).
"""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.data.catalog import Split

_STREAM = 11  # keeps these draws apart from others by the same seed


@dataclasses.dataclass(frozen=True, eq=False)
class RareClasses:
    """Which labelled image is at which position of a run; picklable for worker processes.

    Attributes:
        bounds: Sums of the probabilities of the classes that occur, up to and with each; the last is 1.
        images: For each of these classes, the indices of the images that it may draw.
        seed: Of the draws.
    """

    bounds: np.ndarray
    images: tuple[np.ndarray, ...]
    seed: int

    def find(self, position: int) -> int:
        """Return the index of the image at a position of the run: a function of the seed and the position alone."""
        rng = np.random.default_rng((self.seed, _STREAM, position))
        images = self.images[np.searchsorted(self.bounds[:-1], rng.random(), side="right")]
        return int(images[rng.integers(len(images))])


def probabilities(pixels: np.ndarray, temperature: float) -> np.ndarray:
    """Return P(c) of the module docstring, float64 [k], 0 of classes that do not occur.

    Args:
        pixels: How many pixels are of each class, int [k]; one at least is not 0.
        temperature: Above 0.
    """
    rarity = np.where(pixels > 0, 1.0 - pixels / pixels.sum(), -np.inf)
    with np.errstate(over="ignore"):  # to minus infinity, of which the exponential is 0
        weights = np.exp((rarity - rarity.max()) / temperature)
    return weights / weights.sum()


def open_rare_classes(config: ConfigDict, split: Split) -> RareClasses | None:
    """Return how the labelled images of a run are drawn; None where they are taken in turn.

    Args:
        config: rare_classes, seed.
        split: The labelled images.
    """
    if config.rare_classes.temperature == 0:
        return None
    pixels = split.class_pixels()
    shares = pixels / split.sizes().prod(axis=1, dtype=np.int64)[:, None]
    found = probabilities(pixels.sum(axis=0), config.rare_classes.temperature)
    occurs = np.flatnonzero(found)
    images = []
    for class_id in occurs:
        shown = np.flatnonzero(shares[:, class_id] >= max(config.rare_classes.area, np.finfo(float).tiny))
        images.append(shown if len(shown) else np.flatnonzero(pixels[:, class_id]))
    return RareClasses(np.cumsum(found[occurs]), tuple(images), config.seed)

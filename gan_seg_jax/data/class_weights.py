"""Weights of classes from how often they occur in the training labels.

With n_c the pixels of class c, N_c all known pixels of the images in which c occurs, and n the mean of n_c over the
classes that occur at all:

- inverse: w_c ~ 1 / n_c.
- median_frequency: w_c = median(f) / f_c, f_c = n_c / N_c (Eigen and Fergus 2015, arXiv:1411.4734;
  SegNet, Badrinarayanan et al. 2017, arXiv:1511.00561).
- root_median_frequency and fourth_root_median_frequency: its square root and the root of that, milder forms.
- effective_number: w_c ~ (1 - beta) / (1 - beta^n_c) (Cui et al. 2019, arXiv:1901.05555, equation 7).

The first and the last are scaled to a mean of 1. A class that does not occur gets 0: no pixel can ask for its weight.
Pixels are those of the labels as they lie on disk; ignored ones count for no class.
"""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.data.catalog import Dataset, Split
from gan_seg_jax.errors import InputError, unknown


def count_classes(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each class over all labels of a split.

    Args:
        split: the split.

    Returns:
        Pixels of each class, int64 [k]; and the known pixels of the images in which the class occurs, int64 [k].
    """
    return totals(split.class_pixels())


def totals(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `count_classes` returns for labels with so many pixels of each class, [n, k]."""
    return found.sum(axis=0), np.sum((found > 0) * found.sum(axis=1, keepdims=True), axis=0)


def _inverse(pixels: np.ndarray, pixels_of_images: np.ndarray) -> np.ndarray:
    weights = 1.0 / pixels
    return weights / weights.mean()


def _median_frequency(pixels: np.ndarray, pixels_of_images: np.ndarray) -> np.ndarray:
    frequency = pixels / pixels_of_images
    return np.median(frequency) / frequency


def _root_median_frequency(pixels: np.ndarray, pixels_of_images: np.ndarray) -> np.ndarray:
    return np.sqrt(_median_frequency(pixels, pixels_of_images))


def _fourth_root_median_frequency(pixels: np.ndarray, pixels_of_images: np.ndarray) -> np.ndarray:
    return np.sqrt(_root_median_frequency(pixels, pixels_of_images))


def _effective_number(pixels: np.ndarray, pixels_of_images: np.ndarray, beta: float | None = None) -> np.ndarray:
    log_beta = np.log1p(-1.0 / pixels.mean()) if beta is None else np.log(beta)
    weights = 1.0 / -np.expm1(pixels * log_beta)
    return weights / weights.mean()


# Rule -> (pixels, pixels of images) of the classes that occur -> weights.
RULES: dict[str, Callable[..., np.ndarray]] = {
    "inverse": _inverse,
    "median_frequency": _median_frequency,
    "root_median_frequency": _root_median_frequency,
    "fourth_root_median_frequency": _fourth_root_median_frequency,
    "effective_number": _effective_number,
}


def class_weights(counts: tuple[np.ndarray, np.ndarray], rule: str, *, beta: float | None = None) -> np.ndarray:
    """Return the weight of each class (module docstring).

    Args:
        counts: what `count_classes` returns.
        rule: a key of RULES.
        beta: of effective_number, between 0 and 1. None is 1 - 1/n: the paper's (N - 1)/N with N the size of the set of
            all samples that differ, which is not known for pixels; with n in its place classes rarer than the mean are
            weighted nearly as by `inverse`, those more frequent nearly alike, whatever the resolution.

    Returns:
        float64 [k], 0 for classes that do not occur.

    Raises:
        InputError: the rule is unknown, or no class occurs.
    """
    if rule not in RULES:
        raise unknown("rule of class weights:", rule, RULES)
    pixels, pixels_of_images = counts
    occurs = pixels > 0
    if not occurs.any():
        raise InputError("The labels of the training split hold no class, so there are no class weights to compute.")
    options = {"beta": beta} if rule == "effective_number" else {}
    weights = np.zeros(len(pixels))
    weights[occurs] = RULES[rule](pixels[occurs], pixels_of_images[occurs], **options)
    return weights


def rounded(weights: np.ndarray) -> tuple[float, ...]:
    """Return the weights as floats of four significant digits, as configs hold them."""
    return tuple(float(f"{weight:.4g}") for weight in weights)


def resolve_class_weights(config: ConfigDict, dataset: Dataset, begun: ConfigDict | None) -> None:
    """Fill `config.losses.class_weights` by `config.losses.class_weighting`; nothing happens where that is "".

    A run that has begun takes the weights that it has stored, whatever has become of the data.

    Args:
        config: the run's config, with `num_classes` filled in; changed.
        dataset: its data set; its training labels are counted.
        begun: the config that the run has stored, None for a new one.

    Raises:
        InputError: the rule is unknown, or weights are given besides it.
    """
    rule, given = config.losses.class_weighting, tuple(config.losses.class_weights)
    if not rule:
        return
    if rule not in RULES:
        raise unknown("config.losses.class_weighting", rule, RULES)
    stored = ()
    if begun is not None and begun.losses.class_weighting == rule:
        stored = tuple(begun.losses.class_weights)
    if given and given != stored:
        raise InputError(
            f"config.losses.class_weights is {given} and class_weighting is {rule!r}; give one of them: weights, or "
            "the rule to compute them by."
        )
    if not stored:
        stored = rounded(class_weights(count_classes(dataset.splits["train"]), rule))
    config.losses.class_weights = stored

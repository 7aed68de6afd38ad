"""How a score of a split would vary over other images of its kind: the paired bootstrap over images."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
BOOTSTRAP_SEED = 0  # of the draws of images: the same counts give the same interval


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Return the IoU of each class from pooled counts, tp / (tp + fp + fn).

    Args:
        counts: number [..., k, 3]: true positives, false positives, false negatives.

    Returns:
        float64 [..., k]; nan for a class that is not there.
    """
    union = counts.sum(axis=-1)
    return np.divide(counts[..., 0], union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Return mIoU from pooled counts: mean over classes of tp / (tp + fp + fn), absent classes left out.

    Args:
        counts: number [..., k, 3]: true positives, false positives, false negatives.

    Returns:
        float64 [...]; nan where no class is there.
    """
    union = counts.sum(axis=-1)
    iou = np.divide(counts[..., 0], union, out=np.zeros(union.shape), where=union > 0)
    present = (union > 0).sum(axis=-1)
    return np.divide(iou.sum(axis=-1), present, out=np.full(present.shape, np.nan), where=present > 0)


def same_images(first: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two runs were scored on the same images in the same order: by the truth of each.

    Args:
        first: counts of single images, int [n, k, 3].
        other: the same.
    """
    truth = [counts[..., 0] + counts[..., 2] for counts in (first, other)]
    return np.array_equal(*truth)


def bootstrap_difference(
    first: Mapping[int, np.ndarray],
    other: Mapping[int, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    score: Callable[[np.ndarray], np.ndarray] = mean_iou,
) -> tuple[Any, Any] | None:
    """Return the 95% interval of the difference of mIoU over draws of test images: the paired bootstrap.

    Each resample b draws as many images as there are, with replacement, the same for both arms. With w_bi how often
    image i was drawn and c_i the counts of an image,

        d_b = 1/S sum_s [ mIoU(sum_i w_bi c_i(other, s)) - mIoU(sum_i w_bi c_i(first, s)) ]

    over the S seeds that both have. Seeds that share their test images share their draws; others have their own. The
    interval is from the 2.5th to the 97.5th percentile of the d_b (the percentile interval of Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 13). It says how the difference would vary over other test images,
    not over other trainings: those are the seeds.

    Args:
        first: seed -> counts of single test images, int [n, k, 3]: true positives, false positives, false negatives.
        other: the same; seeds at which the images differ are left out.
        resamples: how many draws.
        score: pooled counts number [..., k, 3] -> score [...], or `class_iou` for an interval of each class.

    Returns:
        (low, high): float; of `class_iou` float64 [k], nan for a class that is in none of the images. None where the
        arms have no seed with the same images in common.
    """
    seeds = [seed for seed in sorted(other) if seed in first and same_images(first[seed], other[seed])]
    if not seeds:
        return None
    rng, draws, total = np.random.default_rng(BOOTSTRAP_SEED), {}, 0.0
    for seed in seeds:
        counts = (first[seed], other[seed])
        images = len(counts[0])
        key = (counts[0][..., 0] + counts[0][..., 2]).tobytes()
        if key not in draws:
            draws[key] = _draws(rng, images, resamples)
        pooled = [_pooled(draws[key], one) for one in counts]
        total = total + score(pooled[1]) - score(pooled[0])
    return _interval(total / len(seeds))


def bootstrap_interval(
    counts: np.ndarray, *, resamples: int = RESAMPLES, score: Callable[[np.ndarray], np.ndarray] = mean_iou
) -> tuple[Any, Any]:
    """Return the 95% interval of a score over draws of images, (low, high), as of `bootstrap_difference`.

    Args:
        counts: of single images, int [n, k, 3]: true positives, false positives, false negatives; n at least 1.
        resamples: how many draws.
        score: as of `bootstrap_difference`.
    """
    draws = _draws(np.random.default_rng(BOOTSTRAP_SEED), len(counts), resamples)
    return _interval(score(_pooled(draws, counts)))


def _draws(rng: np.random.Generator, images: int, resamples: int) -> np.ndarray:
    """Return how often each resample draws each image, float64 [resamples, images]."""
    return rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)


def _pooled(draws: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the counts [resamples, k, 3] of each resample."""
    return (draws @ counts.reshape(len(counts), -1)).reshape(len(draws), *counts.shape[1:])


def _interval(values: np.ndarray) -> tuple[Any, Any]:
    tail = 100 * (1 - CONFIDENCE) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a class that is never there: it stays nan
        low, high = np.nanpercentile(values, [tail, 100 - tail], axis=0)
    return (low, high) if np.ndim(low) else (float(low), float(high))

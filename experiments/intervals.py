"""How sure a difference is: over seeds (Student's t) and over test images (the paired bootstrap)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
RESAMPLES = 2000
BOOTSTRAP_SEED = 0  # of the draws of images: the same records give the same interval


def mean_interval(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the mean and half the 95% t-interval of the values that are defined.

    m +- t(0.975, n - 1) s / sqrt(n), with s the standard deviation of the sample (n - 1 below).

    Args:
        values: one per seed; None is undefined.

    Returns:
        (mean, None if no value is defined; half width, None for fewer than two).
    """
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)
    quantile = float(stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2))
    return mean, quantile * math.sqrt(variance / len(known))


def paired_differences(
    first: Mapping[int, float | None], other: Mapping[int, float | None]
) -> tuple[int, float | None, float | None]:
    """Return (pairs, mean, half the t-interval) of `other - first` over the seeds that both have.

    Args:
        first: seed -> value.
        other: seed -> value.
    """
    seeds = [seed for seed in other if other[seed] is not None and first.get(seed) is not None]
    return len(seeds), *mean_interval([other[seed] - first[seed] for seed in seeds])


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
    first: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray], *, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
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

    Returns:
        (low, high); None where the arms have no seed with the same images in common.
    """
    seeds = [seed for seed in sorted(other) if seed in first and same_images(first[seed], other[seed])]
    if not seeds:
        return None
    rng, draws, total = np.random.default_rng(BOOTSTRAP_SEED), {}, np.zeros(resamples)
    for seed in seeds:
        counts = (first[seed], other[seed])
        images = len(counts[0])
        key = (counts[0][..., 0] + counts[0][..., 2]).tobytes()
        if key not in draws:
            draws[key] = rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
        pooled = [(draws[key] @ one.reshape(images, -1)).reshape(resamples, *one.shape[1:]) for one in counts]
        total += mean_iou(pooled[1]) - mean_iou(pooled[0])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(total / len(seeds), [tail, 100 - tail])
    return float(low), float(high)


def stopped_rising(record: Mapping) -> bool | None:
    """Return whether validation had stopped rising when a run ended: its best step is not its last validation.

    Where the best is the last, more steps may well have given more, so a table of such runs ranks early speed.

    Args:
        record: of a cell.

    Returns:
        None for a method that is not trained in steps.
    """
    if not record["steps"] or record["best_step"] is None:
        return None
    validations = record.get("validations") or [[record["steps"], None]]  # the last step is always validated
    return record["best_step"] < validations[-1][0]

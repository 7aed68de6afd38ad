"""How sure a difference is: over seeds (Student's t) and over test images (the paired bootstrap of the package)."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy.special import stdtr, stdtrit

sys.path.append(str(Path(__file__).resolve().parents[1]))  # of a checkout that is not installed
from gan_seg_jax.judging.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    bootstrap_difference,
    class_iou,
    mean_iou,
    same_images,
)

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "bootstrap_difference",
    "class_iou",
    "holm",
    "mean_interval",
    "mean_iou",
    "paired_differences",
    "paired_p",
    "same_images",
    "stopped_rising",
]


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

    Where all differences are the same and not 0 the seed changes nothing, as in a method without chance: they are no
    sample of anything, so there is no half width.

    Args:
        first: seed -> value.
        other: seed -> value.
    """
    seeds = [seed for seed in other if other[seed] is not None and first.get(seed) is not None]
    mean, half = mean_interval([other[seed] - first[seed] for seed in seeds])
    same = half is not None and mean != 0 and half <= 1e-9 * abs(mean)  # to rounding
    return len(seeds), mean, None if same else half


def paired_p(first: Mapping[int, float | None], other: Mapping[int, float | None]) -> float | None:
    """Return the two-sided p-value of the paired t-test over the seeds that both have, None without an interval.

    t = m / (s / sqrt(n)) with n - 1 degrees of freedom, m and s the mean and standard deviation of `other - first`.

    Args:
        first: seed -> value.
        other: seed -> value.
    """
    pairs, mean, half = paired_differences(first, other)
    if half is None:
        return None
    if half == 0:  # all differences are 0
        return 1.0
    quantile = float(stdtrit(pairs - 1, (1 + CONFIDENCE) / 2))
    return 2 * float(stdtr(pairs - 1, -abs(mean) * quantile / half))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for a family of claims: below a level, they are so with that family-wise error.

    The i-th smallest of m becomes the largest of min(1, (m - j + 1) p_j) over j = 1 .. i (Holm, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979).

    Args:
        values: p-values; None is a claim that has none yet, and counts: else a table would be surer half run than run.
    """
    order = sorted((index for index, value in enumerate(values) if value is not None), key=lambda index: values[index])
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = largest
    return adjusted


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

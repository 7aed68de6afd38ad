"""Discriminators and uncertainties as detectors: real from fake, wrong pixels from right ones; on the host."""

from typing import NamedTuple

import numpy as np
import scipy.stats
from scipy.special import entr
from sklearn.metrics import average_precision_score, roc_auc_score

from gan_seg_jax.errors import InputError

CELL_BITS = 20  # of a float32: sign, exponent and 11 bits of the mantissa


class RealFake(NamedTuple):
    """How a discriminator tells real from fake; all in 0..1, `auc_low` and `auc_high` bound the AUC.

    `accuracy` is the mean of `real_accuracy` and `fake_accuracy`, so it does not depend on the counts.
    """

    auc: float
    auc_low: float
    auc_high: float
    accuracy: float
    real_accuracy: float
    fake_accuracy: float


def real_fake(real: np.ndarray, fake: np.ndarray, *, threshold: float = 0.0, level: float = 0.95) -> RealFake:
    """Return how well a discriminator's scores tell held-out real pictures from fakes.

    AUC = P(real > fake) + P(real = fake) / 2, with the interval of DeLong et al., "Comparing the areas under two or
    more correlated receiver operating characteristic curves", 1988. Where all pairs are right (or all wrong) that
    interval has no width, and the exact binomial one of min(n, m) disjoint pairs is used instead.

    Samples: unbiased at any count; the interval needs some tens of each, and one score per independent picture: average
    a patch discriminator's map first. A discriminator that sees one-hot truth and soft fakes may look at crispness
    only: score arg-maxed fakes too.

    Args:
        real: float [n], scores of real pictures, n >= 2.
        fake: float [m], scores of fakes, m >= 2.
        threshold: a score above it says real: 0 for logits, 0.5 for probabilities and least squares; a critic
            (Wasserstein, relativistic) has none, so only its AUC means something.
        level: of the interval.

    Returns:
        RealFake.

    Raises:
        ValueError: if an array is not one-dimensional and finite, or `level` is out of range.
        InputError: if there are fewer than two scores of one kind.
    """
    real, fake = (_scores(scores, name) for scores, name in ((real, "real"), (fake, "fake")))
    if not 0 < level < 1:
        raise ValueError(f"found level = {level}, expected a number between 0 and 1")
    # Share of fakes below each real score, and of real scores above each fake; a tie is half.
    ranks = scipy.stats.rankdata(np.concatenate([real, fake]))
    below = (ranks[: len(real)] - scipy.stats.rankdata(real)) / len(fake)
    above = 1 - (ranks[len(real) :] - scipy.stats.rankdata(fake)) / len(real)
    auc = float(below.mean())
    alpha = (1 - level) / 2
    if 0 < auc < 1:
        error = np.sqrt(below.var(ddof=1) / len(real) + above.var(ddof=1) / len(fake))
        low, high = np.clip(auc + error * scipy.stats.norm.ppf([alpha, 1 - alpha]), 0, 1)
    else:
        width = 1 - alpha ** (1 / min(len(real), len(fake)))
        low, high = max(0.0, auc - width), min(1.0, auc + width)
    right = float(np.mean(real > threshold)), float(np.mean(fake <= threshold))
    return RealFake(auc, float(low), float(high), sum(right) / 2, *right)


class ErrorDetection:
    """How well a score per pixel finds the pixels that are wrong, over a split, in 34 MB whatever its size.

    Scores are counted in cells of the float32 line, as wide as 2^-11 of the score (0.05%) on any scale, and scores in
    one cell are tied. So give what is small where it is sure (1 - confidence, not -confidence: near 1 the cells are
    wide). Logits and other negative scores are fine. The result is exact for scores rounded to these cells; how far the
    AUC may be from that of the scores as given is part of the result.

    Samples: pixels of an image are alike, so the error depends on the number of images, not of pixels.

    Args:
        num_classes: k.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._counts = np.zeros((2, 2**CELL_BITS), np.int64)

    def add(self, label: np.ndarray, prediction: np.ndarray, score: np.ndarray) -> None:
        """Add pixels.

        Args:
            label: integer [...], true class ids; pixels with an id outside 0..k - 1 are ignored.
            prediction: integer [...], predicted class ids; pixels with an id outside are ignored too.
            score: float [...], larger where the prediction is more likely to be wrong; kept as float32.

        Raises:
            ValueError: if shapes differ or the score of a pixel that counts is not finite.
        """
        label, prediction, score = np.asarray(label), np.asarray(prediction), np.asarray(score)
        if not label.shape == prediction.shape == score.shape:
            raise ValueError(f"found shapes {label.shape}, {prediction.shape} and {score.shape}, expected one shape")
        known = (label >= 0) & (label < self.num_classes) & (prediction >= 0) & (prediction < self.num_classes)
        wrong = label[known] != prediction[known]
        cells = _cell(score[known]) + wrong * 2**CELL_BITS
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)

    def scores(self) -> dict[str, float | None]:
        """Return the scores of all pixels so far.

        AUPR is the average precision sum_n (R_n - R_(n-1)) P_n with wrong pixels as positives, without interpolation,
        whose value for a random score is `wrong_share`; it compares detectors on the same predictions only.

        Returns:
            {"aupr", "auc"}: float in 0..1, or None unless there are wrong and right pixels; "auc_resolution": the AUC
            before rounding to cells is at most so far away; "wrong_share": share of wrong pixels, or None without
            pixels.
        """
        total = self._counts.sum()
        share = float(self._counts[1].sum() / total) if total else None
        if not self._counts.any(axis=1).all():
            return {"aupr": None, "auc": None, "auc_resolution": None, "wrong_share": share}
        cells = np.flatnonzero(self._counts.any(axis=0))
        counts = self._counts[:, cells].astype(np.float64)
        right, wrong = counts / counts.sum(axis=1, keepdims=True)
        sample = {
            "y_true": np.repeat([0, 1], len(cells)),
            "y_score": np.tile(cells, 2),
            "sample_weight": counts.reshape(-1),
        }
        return {
            "aupr": float(average_precision_score(**sample)),
            "auc": float(roc_auc_score(**sample)),
            "auc_resolution": float(right @ wrong / 2),
            "wrong_share": share,
        }


def uncertainty(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return the two scores of a softmax that any detector of wrong pixels must beat.

    "max_softmax" is 1 - max_c p_c (Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples in Neural Networks", 2017), "entropy" is -sum_c p_c log p_c in nats.

    Args:
        probabilities: float [..., k], each pixel's sum 1.

    Returns:
        {"max_softmax", "entropy"}: float64 [...].
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    # The sum of the others, since 1 - p of a float32 is 0 wherever the network is sure, and the order there is lost.
    others = probabilities.copy()
    np.put_along_axis(others, probabilities.argmax(axis=-1)[..., None], 0, axis=-1)
    return {"max_softmax": others.sum(axis=-1), "entropy": entr(probabilities).sum(axis=-1)}


def _scores(scores: np.ndarray, name: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"{name} scores have shape {scores.shape}, expected finite values [n], one for each picture")
    if len(scores) < 2:
        raise InputError(f"An AUC needs at least 2 {name} scores, found {len(scores)}; add pictures.")
    return scores


def _cell(score: np.ndarray) -> np.ndarray:
    """Return int64, the leading bits of float32 in an order that is that of the numbers."""
    score = score.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
    if not np.isfinite(score).all():
        raise ValueError("found a score that is not finite in float32")
    bits = score.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> (32 - CELL_BITS)).astype(np.int64)

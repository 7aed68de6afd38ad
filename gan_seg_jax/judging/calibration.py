"""Do probabilities of pixels mean what they say: calibration error, Brier score, likelihood, temperature; on the host.

Everything streams: sums over all pixels of a split, whatever the batches. Pixels whose label is no class (255 = ignore)
count nowhere, and may hold anything. Scores need millions of pixels for rare bins, which one split has; pixels of an
image are alike, though, so the error of a score depends on the number of images.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import softmax

from gan_seg_jax.errors import InputError

SUM_TOLERANCE = 1e-2  # of probabilities that were computed or stored in bfloat16
SMALLEST = float(np.finfo(np.float32).tiny)  # probabilities below it were rounded to 0 by float32
TEMPERATURES = (0.01, 100.0)


class Diagram(NamedTuple):
    """A reliability diagram: edges [m + 1], pixel counts [m], mean confidence and accuracy [m] (NaN in empty bins)."""

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class Reliability:
    """Confidence against accuracy in bins of equal width, for whatever claims to be right with a probability.

    Bin m of M holds confidences in ((m - 1) / M, m / M], the first one 0 too (Guo et al., "On Calibration of Modern
    Neural Networks", 2017).

    Args:
        bins: M.

    Raises:
        ValueError: if there is no bin.
    """

    def __init__(self, bins: int = 15):
        if bins < 1:
            raise ValueError(f"found {bins} bins, expected at least 1")
        self._count = np.zeros(bins, np.int64)
        self._right = np.zeros(bins, np.int64)
        self._confidence = np.zeros(bins, np.float64)

    def add(self, confidence: np.ndarray, correct: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Add pixels.

        Args:
            confidence: float [...], claimed probability of being right: the largest softmax probability, or a
                discriminator's confidence map after the sigmoid.
            correct: bool [...], whether it was right.
            valid: bool [...] or None, which pixels count.

        Raises:
            ValueError: if shapes differ or a valid confidence is not in 0..1.
        """
        confidence, correct = np.asarray(confidence), np.asarray(correct, dtype=bool)
        valid = np.ones(correct.shape, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
        if not confidence.shape == correct.shape == valid.shape:
            raise ValueError(
                f"confidence has shape {confidence.shape}, correct {correct.shape}, valid {valid.shape}; expected one"
            )
        confidence, correct = confidence[valid].astype(np.float64), correct[valid]
        if not ((confidence >= 0) & (confidence <= 1)).all():  # false for NaN too
            raise ValueError(
                "found a confidence outside of 0..1, expected probabilities (after the sigmoid or softmax)"
            )
        bins = len(self._count)
        index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
        self._count += np.bincount(index, minlength=bins)
        self._right += np.bincount(index[correct], minlength=bins)
        self._confidence += np.bincount(index, weights=confidence, minlength=bins)

    def diagram(self) -> Diagram:
        """Return what a reliability diagram shows."""
        count = np.where(self._count, self._count, np.nan)
        edges = np.linspace(0, 1, len(self._count) + 1)
        return Diagram(edges, self._count.copy(), self._confidence / count, self._right / count)

    def ece(self) -> float | None:
        """Return the expected calibration error, sum_m n_m / n |accuracy_m - confidence_m| (Guo et al. 2017).

        It depends on the number of bins: over- and underconfidence within one bin cancel, so it is a lower bound, while
        noise in bins of few pixels adds to it.

        Returns:
            float in 0..1, or None without pixels.
        """
        count = self._count.sum()
        return float(np.abs(self._right - self._confidence).sum() / count) if count else None


class Calibration:
    """Calibration of class probabilities over the pixels of a split.

    Args:
        num_classes: k.
        bins: of the reliability diagram.

    Attributes:
        reliability: the `Reliability` of the predicted class, for the diagram.

    Raises:
        ValueError: if there is no bin.
    """

    def __init__(self, num_classes: int, bins: int = 15):
        self.num_classes = num_classes
        self.reliability = Reliability(bins)
        self._pixels = self._right = 0
        self._brier = self._nll = 0.0

    def add(self, label: np.ndarray, probabilities: np.ndarray) -> None:
        """Add pixels.

        Args:
            label: integer [...], class ids; ids outside 0..k - 1 are ignored.
            probabilities: float [..., k], each pixel's sum 1.

        Raises:
            ValueError: if the shapes do not fit or a pixel's values are no probabilities.
        """
        label, probabilities = _known_pixels(label, probabilities, self.num_classes)
        near_one = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE
        if not (near_one.all() and (probabilities >= 0).all()):
            raise ValueError(
                "found values that do not sum to 1 over classes, expected probabilities (after the softmax)"
            )
        predicted = probabilities.argmax(axis=1)
        correct = predicted == label
        of = lambda classes: np.take_along_axis(probabilities, classes[:, None], axis=1)[:, 0].astype(np.float64)
        truth = of(label)
        self.reliability.add(np.minimum(of(predicted), 1), correct)  # rounding may carry a softmax above 1
        self._pixels += len(label)
        self._right += int(correct.sum())
        self._brier += float(np.einsum("nk,nk->", probabilities, probabilities, dtype=np.float64))
        self._brier += float(np.sum(1 - 2 * truth))
        self._nll -= float(np.log(np.maximum(truth, SMALLEST)).sum())

    def scores(self) -> dict[str, float | None]:
        """Return the scores of all pixels so far.

        Brier = mean of sum_c (p_c - y_c)^2, in 0..2 (Brier, "Verification of forecasts", 1950; some divide it by k or,
        for two classes, by 2); NLL = mean of -log p_label in nats, where probabilities of 0 count as the smallest
        normal float32 (87.3 nats). Both are unbiased at any count; for `ece` see `Reliability.ece`.

        Returns:
            {"ece", "brier", "nll", "accuracy"}: float, or None without pixels.
        """
        if not self._pixels:
            return dict.fromkeys(("ece", "brier", "nll", "accuracy"))
        sums = {"brier": self._brier, "nll": self._nll, "accuracy": self._right}
        return {"ece": self.reliability.ece()} | {name: total / self._pixels for name, total in sums.items()}


class TemperatureScaling:
    """One temperature T for all pixels, by which softmax(logits / T) is most likely on validation (Guo et al. 2017).

    Of all pixels added a uniform random sample is kept, the same for the same order of pixels however they are split
    into batches. The arg max does not change, so neither does any score of the confusion matrix. Fit on validation, and
    report on test: on the pixels it was fitted on the gain is too large.

    Args:
        num_classes: k.
        max_pixels: size of the sample; 100,000 pixels from at least some tens of images pin T to about a percent.
        seed: of the sample.

    Raises:
        ValueError: if `max_pixels` is below 1.
    """

    def __init__(self, num_classes: int, max_pixels: int = 100_000, seed: int = 0):
        if max_pixels < 1:
            raise ValueError(f"found max_pixels = {max_pixels}, expected at least 1")
        self.num_classes = num_classes
        self.max_pixels = max_pixels
        self._rng = np.random.default_rng(seed)
        self._keys = np.zeros(0)  # the sample is the pixels with the smallest random keys
        self._labels = np.zeros(0, np.int64)
        self._logits = np.zeros((0, num_classes), np.float32)

    def add(self, label: np.ndarray, logits: np.ndarray) -> None:
        """Add pixels.

        Args:
            label: integer [...], class ids; ids outside 0..k - 1 are ignored.
            logits: float [..., k].

        Raises:
            ValueError: if the shapes do not fit or a logit is not finite.
        """
        label, logits = _known_pixels(label, logits, self.num_classes)
        if not np.isfinite(logits).all():
            raise ValueError("found logits that are not finite")
        keys = self._rng.random(len(label))
        if len(self._keys) == self.max_pixels:
            near = keys < self._keys[-1]
            keys, label, logits = keys[near], label[near], logits[near]
        logits = logits - logits.max(axis=1, keepdims=True)
        keys = np.concatenate([self._keys, keys])
        order = np.argsort(keys)[: self.max_pixels]
        self._keys = keys[order]
        self._labels = np.concatenate([self._labels, label])[order]
        self._logits = np.concatenate([self._logits, logits.astype(np.float32)])[order]

    def fit(self) -> float:
        """Return the temperature T > 0; above 1 the network was overconfident.

        The negative log-likelihood is convex in 1 / T; the root of its slope, mean of sum_c p_c z_c - z_label, is
        found by bisection and interpolation.

        Returns:
            float in 0.01..100; a bound if the sample has no minimum in between, as where every pixel is right.

        Raises:
            InputError: if no pixel was added.
        """
        if not len(self._labels):
            raise InputError("No pixel to fit a temperature on: all are ignored; check the labels of validation.")
        logits = self._logits.astype(np.float64)
        truth = np.take_along_axis(logits, self._labels[:, None], axis=1).mean()
        slope = lambda log_t: float((softmax(logits / np.exp(log_t), axis=1) * logits).sum(axis=1).mean() - truth)
        low, high = np.log(TEMPERATURES)
        if slope(low) <= 0:
            return TEMPERATURES[0]
        if slope(high) >= 0:
            return TEMPERATURES[1]
        return float(np.exp(scipy.optimize.brentq(slope, low, high)))


def _known_pixels(label: np.ndarray, values: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [n] and [n, k] of the pixels that have a class."""
    label, values = np.asarray(label), np.asarray(values)
    if values.shape != (*label.shape, num_classes):
        raise ValueError(f"found shape {values.shape}, expected {(*label.shape, num_classes)} for these labels")
    known = (label >= 0) & (label < num_classes)
    return label[known].astype(np.int64), values[known]

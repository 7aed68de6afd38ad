"""The patches of a discriminator as detectors of fakes, over a split of any size; on the host."""

import numpy as np
from scipy.special import logit

from gan_seg_jax.errors import InputError

KEPT = 2**22  # scores, 16 MB, by which the bins are chosen
BINS = 1024  # more of them cost memory for each image
LIMIT = 16.0  # of the logits in a picture; the sigmoid of float32 is 1 from 17 on
DRAWN = 64  # bars in a picture


class PatchScores:
    """How a discriminator tells real patches from fake ones, where many patches make an image.

    Patches of an image are alike, so the interval is over images: they are drawn again with replacement, each with all
    its real and fake patches (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 8.3). For that a
    histogram is kept for each image. Its bins end at the scores themselves where these are few, so that the AUC is
    exact, and else at quantiles of the first millions, so that a bin, in which scores are tied, holds about 0.1%.
    """

    def __init__(self):
        self._kept, self._edges, self._counts = [], None, []
        self._right, self._total = np.zeros(2, np.int64), np.zeros(2, np.int64)
        self._drawn = np.zeros((2, DRAWN), np.int64)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._kept) + len(self._counts)

    def add(self, real: np.ndarray, fake: np.ndarray) -> None:
        """Add the patches of one image, which need not be as many in both.

        Args:
            real: float [n], n >= 1, scores of the truth in 0..1, 1/2 where the discriminator decides.
            fake: float [m], m >= 1, scores of the fake.

        Raises:
            ValueError: if there is no patch or a score is not in 0..1.
        """
        pair = _scores(real), _scores(fake)
        self._right += [np.sum(pair[0] > 0.5), np.sum(pair[1] <= 0.5)]
        self._total += [len(scores) for scores in pair]
        for row, scores in zip(self._drawn, pair, strict=True):
            row += np.histogram(np.clip(logit(scores), -LIMIT, LIMIT), DRAWN, (-LIMIT, LIMIT))[0]
        if self._edges is not None:
            self._counts.append(self._count(pair))
            return
        self._kept.append(pair)
        if self._total.sum() >= KEPT:
            self._choose_bins()

    def scores(self, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> dict[str, float]:
        """Return the scores of all patches so far.

        AUC = P(real > fake) + P(real = fake) / 2 for a real and a fake patch of any images, each patch counting alike.
        The interval holds the middle `level` of the resampled AUCs; where all pairs are right (or all wrong) those do
        not vary, and it is the exact binomial one of n images, as in `detection.real_fake`.

        Args:
            level: of the interval.
            resamples: number of draws.
            seed: of the draws.

        Returns:
            The fields of `detection.RealFake`.

        Raises:
            InputError: if there are fewer than two images.
        """
        count = len(self)
        if count < 2:
            raise InputError(f"An AUC of patches needs at least 2 labelled images, found {count}; add images.")
        if self._edges is None:
            self._choose_bins()
        counts = np.array(self._counts, np.float64)
        auc, alpha = float(_auc(counts.sum(axis=0))), (1 - level) / 2
        if 0 < auc < 1:
            drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
            low, high = np.quantile(_auc(np.tensordot(drawn, counts, axes=1)), [alpha, 1 - alpha])
        else:
            width = 1 - alpha ** (1 / count)
            low, high = max(0.0, auc - width), min(1.0, auc + width)
        real, fake = (self._right / self._total).tolist()
        return {
            "auc": auc,
            "auc_low": float(low),
            "auc_high": float(high),
            "accuracy": (real + fake) / 2,
            "real_accuracy": real,
            "fake_accuracy": fake,
        }

    def histogram(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return edges [m + 1] in logits, and the shares of real and of fake patches [m] between them.

        The first and the last bin also hold what lies beyond them.
        """
        return np.linspace(-LIMIT, LIMIT, DRAWN + 1), *(self._drawn / self._total[:, None])

    def _choose_bins(self):
        pooled = np.concatenate([scores for pair in self._kept for scores in pair])
        edges = np.unique(pooled)
        if len(edges) > BINS:
            edges = np.unique(np.quantile(pooled, np.linspace(0, 1, BINS), method="inverted_cdf"))
        self._edges = edges
        self._counts, self._kept = [self._count(pair) for pair in self._kept], []

    def _count(self, pair):
        """Return int32 [2, len(edges) + 1]: scores up to each edge and above the one before, and above all."""
        places = [np.searchsorted(self._edges, scores) for scores in pair]
        return np.array([np.bincount(place, minlength=len(self._edges) + 1) for place in places], np.int32)


def _scores(scores):
    scores = np.asarray(scores, np.float32).reshape(-1)
    if not len(scores) or not ((scores >= 0) & (scores <= 1)).all():  # false for NaN too
        raise ValueError(f"found {len(scores)} scores, not all in 0..1; expected one score in 0..1 or more")
    return scores


def _auc(counts):
    """Return [...] from counts [..., 2, bins] of real and fake scores."""
    real, fake = np.moveaxis(counts / counts.sum(axis=-1, keepdims=True), -2, 0)
    return np.sum(real * (np.cumsum(fake, axis=-1) - fake / 2), axis=-1)

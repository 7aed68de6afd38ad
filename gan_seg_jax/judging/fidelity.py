"""Generated against real pictures, both as features float [n, d] of one network, on the host.

No figure here means anything without the network, the size and the resizing filter of the pictures, and the counts n:
compare only what was measured alike. `FeatureStatistics` streams; everything else needs both sets in memory (50,000
features of 2,048 dimensions: 0.4 GB each) and holds only blocks of the n x n distances.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.stats
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from gan_seg_jax.errors import InputError

BLOCK_MEBIBYTES = 64  # of distances at a time
DUPLICATE_QUANTILE = 0.05


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches, in float64, without loss by cancellation.

    Batches are merged by the update of Chan, Golub and LeVeque ("Algorithms for computing the sample variance", 1983),
    not by sums of squares, whose difference loses all digits where the mean is large.
    """

    def __init__(self):
        self.count = 0
        self.mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def add(self, features: np.ndarray) -> None:
        """Add a batch of features.

        Args:
            features: float [n, d], n >= 1, all finite.

        Raises:
            ValueError: if the shape is wrong, d changes between batches or a value is not finite.
        """
        features = _features(features, "batch", least=1).astype(np.float64)
        if self.count and features.shape[1] != len(self.mean):
            raise ValueError(f"features have {features.shape[1]} dimensions, those before had {len(self.mean)}")
        count, mean = len(features), features.mean(axis=0)
        centred = features - mean
        if not self.count:
            self.mean, self._scatter = np.zeros_like(mean), np.zeros((len(mean), len(mean)))
        total, move = self.count + count, mean - self.mean
        self._scatter += centred.T @ centred + np.outer(move, move) * (self.count * count / total)
        self.mean = self.mean + move * (count / total)
        self.count = total

    def covariance(self) -> np.ndarray:
        """Return the unbiased covariance, float64 [d, d].

        Raises:
            InputError: if there are fewer than two features.
        """
        if self.count < 2:
            raise InputError(f"A covariance needs at least 2 features, found {self.count}; add more pictures.")
        return self._scatter / (self.count - 1)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Return the squared Frechet distance of the Gaussians with these moments ("FID" for Inception features).

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2) (Dowson and Landau 1982; Heusel et al., "GANs Trained by a Two
    Time-Scale Update Rule", 2017). The last trace is the sum of the singular values of R1^T R2, where C = R R^T and R
    comes from the eigenvalues of C. The usual `sqrtm(C1 @ C2)` acts on a matrix that is not symmetric: without full
    rank it returns imaginary parts or fails; here nothing is dropped or added to the diagonal.

    Samples: n > d gives the covariance full rank; 10,000 or more are usual for d = 2048. The estimate is biased
    upwards by about c / n, with c depending on the generator, so two values compare only at equal counts (Chong and
    Forsyth, "Effectively Unbiased FID and Inception Score", 2020). Below some 2,000 pictures use `kernel_distance`.

    Args:
        first: statistics of at least two features.
        second: statistics of at least two features, of the same d.

    Returns:
        float >= 0, in squared units of the features; symmetric.

    Raises:
        ValueError: if d differs.
        InputError: if a set has fewer than two features.
    """
    covariances = first.covariance(), second.covariance()
    if len(first.mean) != len(second.mean):
        raise ValueError(f"features have {len(first.mean)} and {len(second.mean)} dimensions, expected the same")
    roots = [_root(covariance) for covariance in covariances]
    overlap = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    spread = sum(np.trace(covariance) for covariance in covariances) - 2 * overlap
    return float(max(0.0, np.sum((first.mean - second.mean) ** 2) + spread))


class KernelDistance(NamedTuple):
    """`mean` and standard deviation `std` of MMD^2 over subsets of `subset_size` features."""

    mean: float
    std: float
    subset_size: int


def kernel_distance(
    real: np.ndarray, fake: np.ndarray, *, subsets: int = 100, subset_size: int | None = None, seed: int = 0
) -> KernelDistance:
    """Return the kernel distance ("KID"): the unbiased MMD^2 with the kernel (x . y / d + 1)^3.

    For m features of each set, sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] / (m (m - 1)) - 2 mean k(x_i, y_j) (Binkowski
    et al., "Demystifying MMD GANs", 2018), over random subsets drawn without replacement.

    Samples: it has no bias at any count, and may be negative where the sets are alike; a few hundred are of use.
    `std` is the spread of one subset's value, not the error of the mean: subsets overlap.

    Args:
        real: float [n, d].
        fake: float [m, d].
        subsets: number of subsets.
        subset_size: features of each set in a subset; by default 1000 as in the paper, but at most half of the smaller
            set, since subsets that hold everything would not differ.
        seed: of the draws.

    Returns:
        KernelDistance.

    Raises:
        ValueError: if shapes do not fit, a value is not finite or an argument is out of range.
        InputError: if a set has fewer features than a subset, or fewer than four.
    """
    real, fake = _pair(real, fake, least=4)
    smaller = min(len(real), len(fake))
    size = min(1000, smaller // 2) if subset_size is None else subset_size
    if subsets < 1 or size < 2:
        raise ValueError(f"found {subsets} subsets of {size} features, expected at least 1 subset of 2")
    if size > smaller:
        raise InputError(f"A subset of {size} features does not fit into {smaller}; lower subset_size or add pictures.")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            features[rng.choice(len(features), size, replace=False)].astype(np.float64) for features in (real, fake)
        )
        within = sum(kernel.sum() - np.trace(kernel) for kernel in (_cubic(x, x), _cubic(y, y)))
        values.append(within / (size * (size - 1)) - 2 * _cubic(x, y).mean())
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)


class PrecisionRecall(NamedTuple):
    """`precision`: share of fakes that look real; `recall`: share of the real ones that the fakes cover; 0..1."""

    precision: float
    recall: float


def precision_recall(real: np.ndarray, fake: np.ndarray, *, neighbours: int = 3) -> PrecisionRecall:
    """Return improved precision and recall (Kynkaanniemi et al., "Improved Precision and Recall Metric", 2019).

    The manifold of a set is the union of balls around its features, each with the distance to the k-th nearest other
    feature as its radius. Precision is the share of fakes inside the real manifold, recall the other way round.

    Samples: both depend on the counts (balls shrink as n grows) and stay below 1 for fresh samples of the same
    distribution. The paper uses 50,000 of each; use equal counts, some 1,000 at least. An outlier makes a large ball,
    so both are too high for sets with outliers.

    Args:
        real: float [n, d], n > `neighbours`.
        fake: float [m, d], m > `neighbours`.
        neighbours: k.

    Returns:
        PrecisionRecall.

    Raises:
        ValueError: if shapes do not fit, a value is not finite or `neighbours` is below 1.
        InputError: if a set is not larger than `neighbours`.
    """
    if neighbours < 1:
        raise ValueError(f"found neighbours = {neighbours}, expected at least 1")
    real, fake = _pair(real, fake, least=neighbours + 1)
    return PrecisionRecall(_inside(fake, real, neighbours), _inside(real, fake, neighbours))


def diversity(features: np.ndarray) -> float:
    """Return the mean Euclidean distance of two different features of a set, over all pairs.

    Unbiased at any count from 2; a few hundred are enough. It is blind to repetition: ten pictures repeated for ever
    have nine tenths of the diversity of all (see `collapse`).

    Args:
        features: float [n, d].

    Returns:
        float >= 0, in units of the features.

    Raises:
        ValueError: if the shape is wrong or a value is not finite.
        InputError: if there are fewer than two features.
    """
    features = _features(features, "set", least=2)
    rows = pairwise_distances_chunked(
        features, reduce_func=lambda block, _: block.sum(axis=1, dtype=np.float64), working_memory=BLOCK_MEBIBYTES
    )
    return float(sum(row.sum() for row in rows) / (len(features) * (len(features) - 1)))


class Collapse(NamedTuple):
    """Diversity of fakes and of real pictures, the share of duplicates among the fakes, and the alarm `collapsed`."""

    diversity: float
    real_diversity: float
    duplicates: float
    collapsed: bool


def collapse(
    real: np.ndarray, fake: np.ndarray, *, least_diversity: float = 0.5, most_duplicates: float = 0.5, seed: int = 0
) -> Collapse:
    """Return whether a generator makes few pictures again and again.

    Two signs: the mean distance of two fakes is below a share of that of two real pictures (all fakes are alike), or
    many fakes are duplicates (a few modes far apart). A fake is a duplicate if another fake is as near as only 5% of
    the real pictures have another real one. Distances to the nearest shrink as the count grows, so both sets are first
    cut, at random, to the smaller count.

    Samples: 20 or more of each, some hundreds to be sure. Training pictures that are copies of each other (frames of a
    video) make duplicates harder to see.

    Args:
        real: float [n, d].
        fake: float [m, d].
        least_diversity: alarm below this ratio of the diversities.
        most_duplicates: alarm above this share of duplicates; fresh real pictures have 0.05.
        seed: of the cut.

    Returns:
        Collapse.

    Raises:
        ValueError: if shapes do not fit or a value is not finite.
        InputError: if a set has fewer than 20 features.
    """
    real, fake = _pair(real, fake, least=math.ceil(1 / DUPLICATE_QUANTILE))
    rng = np.random.default_rng(seed)
    count = min(len(real), len(fake))
    real, fake = (features[np.sort(rng.permutation(len(features))[:count])] for features in (real, fake))
    near = np.quantile(_nearest(real)[0], DUPLICATE_QUANTILE)
    duplicates = float(np.mean(_nearest(fake)[0] <= near))
    made, wanted = diversity(fake), diversity(real)
    return Collapse(made, wanted, duplicates, made < least_diversity * wanted or duplicates > most_duplicates)


class Copies(NamedTuple):
    """Each fake's `distance` to the `nearest` training picture, whether it is `copied`, and the `threshold` for that.

    `share` is the part copied; `p_value` is small if fakes are nearer to the training pictures than real pictures are.
    """

    distance: np.ndarray
    nearest: np.ndarray
    copied: np.ndarray
    threshold: float
    share: float
    p_value: float


def copy_check(
    train: np.ndarray, fake: np.ndarray, *, held_out: np.ndarray | None = None, quantile: float = 0.01
) -> Copies:
    """Compare each fake's distance to the nearest training picture with that of real pictures.

    Real pictures are the held-out ones or, without them, the training pictures themselves, each against all others. A
    fake is called copied if it is as near as the nearest `quantile` of real pictures are, so an honest generator has a
    `share` of about `quantile`. The rank test over all distances (Mann-Whitney, one-sided) is that of Meehan et al., "A
    Non-Parametric Test to Detect Data-Copying in Generative Models", 2020, without their cells.

    Samples: 1 / `quantile` real pictures at least. Near-duplicates among the training pictures hide copies: use
    held-out pictures of other sequences or patients. Pixels are poor features here, since a shifted copy is far away.
    A generator of poor pictures is far from everything: no copies is no praise.

    Args:
        train: float [n, d], all that the generator was trained on.
        fake: float [m, d].
        held_out: float [r, d] of the same distribution but not trained on, or None.
        quantile: of the real distances, in (0, 1).

    Returns:
        Copies, arrays of m: float distance, integer row of `train`, bool.

    Raises:
        ValueError: if shapes do not fit, a value is not finite or `quantile` is out of range.
        InputError: if there are too few real pictures for the quantile.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"found quantile = {quantile}, expected a number between 0 and 1")
    train, fake = _pair(train, fake, least=1, names=("training", "generated"))
    if held_out is not None:
        train, held_out = _pair(train, held_out, least=1, names=("training", "held-out"))
    count, least = len(train if held_out is None else held_out), math.ceil(1 / quantile - 1e-9)  # 1/(1/49) > 49
    if count < max(2, least):
        raise InputError(f"Quantile {quantile} needs {least} real pictures, found {count}; raise it or add pictures.")
    real_distance, _ = _nearest(train, held_out)
    distance, nearest = _nearest(train, fake)
    threshold = np.quantile(real_distance, quantile)
    copied = distance <= threshold
    p_value = scipy.stats.mannwhitneyu(distance, real_distance, alternative="less").pvalue
    return Copies(distance, nearest, copied, float(threshold), float(np.mean(copied)), float(p_value))


def _features(features: np.ndarray, name: str, *, least: int) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"{name} of features has shape {features.shape}, expected [n, d]")
    if features.dtype not in (np.float32, np.float64):
        features = features.astype(np.float64)
    if not np.isfinite(features).all():
        raise ValueError(f"{name} of features has values that are not finite")
    if len(features) < least:
        raise InputError(f"The {name} has {len(features)} features, expected at least {least}; use more pictures.")
    return features


def _pair(
    first: np.ndarray, second: np.ndarray, *, least: int, names: tuple[str, str] = ("real", "generated")
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (
        _features(each, f"{name} set", least=least) for each, name in zip((first, second), names, strict=True)
    )
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features have {first.shape[1]} and {second.shape[1]} dimensions, expected the same")
    return first, second


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return R [d, rank] with R R^T = covariance; eigenvalues that are rounding errors are no part of the rank."""
    values, vectors = scipy.linalg.eigh(covariance)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return polynomial_kernel(x, y, degree=3, gamma=1 / x.shape[1], coef0=1)


def _inside(queries: np.ndarray, points: np.ndarray, neighbours: int) -> float:
    """Return the share of queries in a ball around a point that reaches to the point's k-th nearest other point."""
    radius, _ = _nearest(points, neighbours=neighbours)
    found = pairwise_distances_chunked(
        queries,
        points,
        reduce_func=lambda block, _: (block <= radius).any(axis=1),
        working_memory=BLOCK_MEBIBYTES,
    )
    return float(np.concatenate(list(found)).mean())


def _nearest(
    points: np.ndarray, queries: np.ndarray | None = None, *, neighbours: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return distance and row of the k-th nearest point of each query; without queries, of each point's others."""
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points)
    row = search.kneighbors(queries, return_distance=False)[:, -1]
    # Again from differences: the search expands |x - y|^2, by which a copy is not at distance 0.
    return np.linalg.norm((points if queries is None else queries) - points[row], axis=1), row

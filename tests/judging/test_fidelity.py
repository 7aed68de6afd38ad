"""Distances of feature sets against known answers and brute force."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_seg_jax.errors import InputError
from gan_seg_jax.judging import fidelity


def normal(count, dimension, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimension))


def statistics(*batches):
    result = fidelity.FeatureStatistics()
    for batch in batches:
        result.add(batch)
    return result


def with_moments(mean, covariance, count=50, seed=0):
    """Return features whose sample mean and unbiased covariance are the given ones."""
    white = normal(count, len(mean), seed)
    white -= white.mean(axis=0)
    white = scipy.linalg.solve_triangular(np.linalg.cholesky(np.cov(white.T)), white.T, lower=True).T
    return white @ scipy.linalg.sqrtm(covariance) + mean


def random_covariance(dimension, seed):
    root = normal(dimension + 3, dimension, seed)
    return root.T @ root / 5


# Frechet distance


def test_statistics_are_those_of_numpy_however_they_are_split():
    features = normal(60, 4) * [1, 2, 3, 4] + 1e6  # a sum of squares would keep four digits only
    parts = statistics(features[:1], features[1:30], features[30:])
    np.testing.assert_allclose(parts.mean, features.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(parts.covariance(), np.cov(features.T), rtol=1e-8, atol=1e-8)
    assert parts.count == 60


def test_statistics_take_float16_and_float32():
    features = normal(30, 3).astype(np.float16)
    np.testing.assert_array_equal(
        statistics(features).covariance(), statistics(features.astype(np.float32)).covariance()
    )


def test_frechet_distance_of_axis_aligned_gaussians():
    first = with_moments(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    second = with_moments(np.array([1.0, 0.0, 2.0]), np.diag([4.0, 4.0, 1.0]), seed=1)
    # |m|^2 = 5, and (1 - 2)^2 + (2 - 2)^2 + (3 - 1)^2 = 5
    assert fidelity.frechet_distance(statistics(first), statistics(second)) == pytest.approx(10, rel=1e-9)


def test_frechet_distance_of_turned_gaussians_is_that_of_sqrtm():
    first, second = random_covariance(6, 0), random_covariance(6, 1)
    expected = np.trace(first) + np.trace(second) - 2 * np.trace(scipy.linalg.sqrtm(first @ second)).real
    sets = [statistics(with_moments(np.zeros(6), covariance)) for covariance in (first, second)]
    assert fidelity.frechet_distance(*sets) == pytest.approx(expected, rel=1e-7)
    assert fidelity.frechet_distance(*sets[::-1]) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("angle", "expected"), [(0, 1.0), (np.pi / 3, 3.0), (np.pi / 2, 5.0)])
def test_frechet_distance_of_lines_in_many_dimensions(angle, expected):
    """Rank 1 in 64 dimensions: variances 1 and 4 along two lines, 1 + 4 - 2 * 1 * 2 |cos angle|."""
    line = np.array([-1.0, 1.0])[:, None] / np.sqrt(2)  # unbiased variance 1
    first, second = np.zeros((2, 1, 64))
    first[0, 5], second[0, 5], second[0, 9] = 1, np.cos(angle), np.sin(angle)
    distance = fidelity.frechet_distance(statistics(line @ first), statistics(2 * line @ second))
    assert distance == pytest.approx(expected, rel=1e-7)


def test_frechet_distance_to_a_point_is_the_spread_and_the_shift():
    features = normal(20, 3)
    point = statistics(np.full((5, 3), 2.0))
    expected = np.cov(features.T).trace() + np.sum((features.mean(axis=0) - 2) ** 2)
    assert fidelity.frechet_distance(statistics(features), point) == pytest.approx(expected)
    assert fidelity.frechet_distance(point, point) == 0


@pytest.mark.parametrize("count", [5, 100])  # of rank below the dimension, and full
def test_frechet_distance_of_a_set_to_itself_is_zero(count):
    features = normal(count, 16)
    assert fidelity.frechet_distance(statistics(features), statistics(features)) < 1e-9
    shifted = fidelity.frechet_distance(statistics(features), statistics(features + 0.5))
    assert shifted == pytest.approx(16 * 0.25, rel=1e-9)


def test_frechet_distance_is_biased_upwards_less_with_more_features():
    distance = lambda count: fidelity.frechet_distance(statistics(normal(count, 8, 0)), statistics(normal(count, 8, 1)))
    assert distance(20) > 4 * distance(500) > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 12), st.floats(0.1, 10))
def test_frechet_distance_is_symmetric_and_does_not_turn(seed, count, scale):
    first, second = normal(count, 4, seed), scale * normal(8, 4, seed + 1) + 1
    turn = np.linalg.qr(normal(4, 4, seed + 2))[0]
    distance = fidelity.frechet_distance(statistics(first), statistics(second))
    assert distance >= 0
    assert fidelity.frechet_distance(statistics(second), statistics(first)) == pytest.approx(distance, rel=1e-6)
    turned = fidelity.frechet_distance(statistics(first @ turn), statistics(second @ turn))
    assert turned == pytest.approx(distance, rel=1e-6)


# Kernel distance


def mmd_by_loops(first, second):
    kernel = lambda x, y: (x @ y / len(x) + 1) ** 3
    within = [np.mean([kernel(x, y) for x, y in itertools.permutations(each, 2)]) for each in (first, second)]
    return sum(within) - 2 * np.mean([kernel(x, y) for x in first for y in second])


def test_kernel_distance_of_whole_sets_is_that_of_loops():
    real, fake = normal(9, 3), 1 + normal(9, 3, 1)
    result = fidelity.kernel_distance(real, fake, subsets=3, subset_size=9)
    assert result.mean == pytest.approx(mmd_by_loops(real, fake))
    assert result.std == pytest.approx(0, abs=1e-12)


def test_kernel_distance_of_two_points():
    """All k(x, x) = 8, k(y, y) = 1, k(x, y) = 1 for x = (1, 1), y = 0: 8 + 1 - 2."""
    result = fidelity.kernel_distance(np.ones((6, 2)), np.zeros((5, 2)))
    assert result == pytest.approx((7, 0, 2))


def test_kernel_distance_has_no_bias():
    """The mean over 300 pairs of small sets of one distribution is zero to within its error; the biased form is not."""
    values = [
        fidelity.kernel_distance(normal(8, 4, 2 * seed), normal(8, 4, 2 * seed + 1), subsets=1, subset_size=8).mean
        for seed in range(300)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert min(values) < 0


def test_kernel_distance_is_repeatable_and_finds_a_shift():
    real, fake = normal(300, 8), normal(200, 8, 1)
    same = fidelity.kernel_distance(real, fake, subsets=20)
    assert same == fidelity.kernel_distance(real, fake, subsets=20)
    assert same != fidelity.kernel_distance(real, fake, subsets=20, seed=1)
    assert same.subset_size == 100
    assert fidelity.kernel_distance(real, fake + 0.5, subsets=20).mean > 10 * abs(same.mean)


# Precision, recall, diversity


def test_precision_and_recall_on_a_line():
    real = np.array([[0.0], [1.0], [2.0], [3.0]])  # balls of radius 1
    fake = np.array([[0.5], [9.0], [9.5]])  # balls of radius 8.5, 0.5, 0.5
    result = fidelity.precision_recall(real, fake, neighbours=1)
    assert result == pytest.approx((1 / 3, 1.0))


def by_loops(queries, points, neighbours):
    distance = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=-1)
    radius = np.sort(distance(points, points), axis=1)[:, neighbours]
    return (distance(queries, points) <= radius).any(axis=1).mean()


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_and_recall_are_those_of_loops(neighbours, dtype):
    real, fake = normal(60, 5).astype(dtype), (0.5 + normal(45, 5, 1)).astype(dtype)
    result = fidelity.precision_recall(real, fake, neighbours=neighbours)
    assert result == pytest.approx((by_loops(fake, real, neighbours), by_loops(real, fake, neighbours)))
    assert 0 < result.precision < 1


def test_precision_and_recall_in_blocks_are_the_same(monkeypatch):
    real, fake = normal(400, 5), 0.5 + normal(300, 5, 1)
    whole = fidelity.precision_recall(real, fake), fidelity.diversity(real)
    monkeypatch.setattr(fidelity, "BLOCK_MEBIBYTES", 0.05)
    assert fidelity.precision_recall(real, fake) == whole[0]
    assert fidelity.diversity(real) == pytest.approx(whole[1], rel=1e-12)


def test_identical_sets_are_covered_and_disjoint_ones_are_not():
    real = normal(50, 8)
    assert fidelity.precision_recall(real, real) == (1, 1)
    assert fidelity.precision_recall(real, real + 100) == (0, 0)


def test_few_modes_have_precision_without_recall():
    real = np.concatenate([normal(100, 4), 50 + normal(100, 4, 1)])
    result = fidelity.precision_recall(real, normal(100, 4, 2))
    assert result.precision > 0.8
    assert result.recall < 0.55


def test_diversity_of_three_points():
    assert fidelity.diversity(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)


# Collapse and copies


def test_a_fresh_sample_is_no_collapse():
    result = fidelity.collapse(normal(300, 8), normal(200, 8, 1))
    assert not result.collapsed
    assert result.diversity == pytest.approx(result.real_diversity, rel=0.1)
    assert result.duplicates < 0.15


def test_one_mode_and_ten_modes_are_collapses():
    real = normal(200, 8)
    one = fidelity.collapse(real, 0.1 * normal(200, 8, 1))
    assert one.collapsed
    assert one.diversity < 0.15 * one.real_diversity
    ten = fidelity.collapse(real, np.repeat(normal(10, 8, 1), 20, axis=0) + 1e-3 * normal(200, 8, 2))
    assert ten.collapsed
    assert ten.diversity > 0.7 * ten.real_diversity  # which alone would not show it
    assert ten.duplicates == 1


def test_counts_are_made_equal_before_duplicates_are_counted():
    """Against 40 real features, the near ones of 2,000 fresh fakes would all be duplicates."""
    assert fidelity.collapse(normal(40, 3), normal(2000, 3, 1)).duplicates < 0.4


def test_copies_are_found_with_their_originals():
    train, fresh = normal(400, 8), normal(30, 8, 1)
    rows = np.array([7, 123, 399])
    result = fidelity.copy_check(train, np.concatenate([fresh, train[rows], train[rows] + 1e-3]))
    np.testing.assert_array_equal(result.nearest[30:], np.tile(rows, 2))
    np.testing.assert_array_equal(result.distance[30:33], 0)
    np.testing.assert_array_equal(np.flatnonzero(result.copied[30:]), np.arange(6))
    assert result.copied[:30].sum() <= 2
    assert result.share == pytest.approx(result.copied.mean())


@pytest.mark.parametrize("held_out", [None, normal(300, 4, 5)])
def test_an_honest_generator_has_the_share_of_the_quantile(held_out):
    result = fidelity.copy_check(normal(1000, 4), normal(2000, 4, 1), held_out=held_out, quantile=0.1)
    assert result.share == pytest.approx(0.1, abs=0.04)
    assert 0.01 < result.p_value < 0.99


def test_any_number_of_pictures_has_its_quantile():
    for count in (2, 3, 48, 49, 50, 93, 98, 103, 107, 123, 129):  # 1 / (1 / 49) is not 49, and so on
        fidelity.copy_check(normal(5, 2), normal(2, 2), held_out=normal(count, 2, 1), quantile=1 / count)


def test_the_rank_test_finds_noisy_copies_of_all_training_pictures():
    train = normal(200, 8)
    assert fidelity.copy_check(train, train + 0.3 * normal(200, 8, 1)).p_value < 1e-6


def test_held_out_pictures_show_copies_that_frames_of_a_video_hide():
    scenes = normal(100, 8)
    train = np.concatenate([scenes, scenes + 1e-2 * normal(100, 8, 1)])  # each picture twice, nearly
    fake = scenes[:50] + 5e-2 * normal(50, 8, 2)
    assert fidelity.copy_check(train, fake).share < 0.1
    assert fidelity.copy_check(train, fake, held_out=normal(100, 8, 3)).share > 0.9


# Bad input


@pytest.mark.parametrize("function", [fidelity.kernel_distance, fidelity.precision_recall, fidelity.collapse])
def test_bad_pairs_are_refused(function):
    good = normal(30, 4)
    with pytest.raises(ValueError, match=r"shape \(30,\), expected \[n, d\]"):
        function(good[:, 0], good)
    with pytest.raises(ValueError, match="30 dimensions|3 dimensions"):
        function(good, good[:, :3])
    with pytest.raises(ValueError, match="generated set .*not finite"):
        function(good, np.where(good > 2, np.nan, good))
    with pytest.raises(InputError, match="real set has 1 features, expected at least"):
        function(good[:1], good)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: statistics(normal(1, 3)).covariance(), InputError, "at least 2 features, found 1"),
        (lambda: statistics(normal(2, 3), normal(2, 4)), ValueError, "4 dimensions, those before had 3"),
        (lambda: statistics(np.zeros((0, 3))), InputError, "has 0 features"),
        (
            lambda: fidelity.frechet_distance(statistics(normal(5, 3)), statistics(normal(5, 2))),
            ValueError,
            "3 and 2 dimensions",
        ),
        (
            lambda: fidelity.kernel_distance(normal(9, 2), normal(9, 2), subset_size=10),
            InputError,
            "does not fit into 9",
        ),
        (lambda: fidelity.kernel_distance(normal(9, 2), normal(9, 2), subsets=0), ValueError, "at least 1 subset"),
        (lambda: fidelity.precision_recall(normal(9, 2), normal(9, 2), neighbours=0), ValueError, "neighbours = 0"),
        (lambda: fidelity.diversity(normal(1, 2)), InputError, "at least 2"),
        (lambda: fidelity.copy_check(normal(99, 2), normal(9, 2)), InputError, "needs 100 real pictures, found 99"),
        (lambda: fidelity.copy_check(normal(99, 2), normal(9, 2), quantile=1.0), ValueError, "between 0 and 1"),
        (lambda: fidelity.copy_check(normal(99, 2), normal(9, 3)), ValueError, "2 and 3 dimensions"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""Detection of fakes and of wrong pixels against known answers, scikit-learn and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from gan_seg_jax.errors import InputError
from gan_seg_jax.judging import detection

# Real and fake


def test_real_and_fake_by_hand():
    result = detection.real_fake([2.0, 1.0, -1.0, 0.5], [-3.0, 0.5, -2.0])
    assert result.auc == pytest.approx((3 + 3 + 2 + 2.5) / 12)
    assert result.real_accuracy == 3 / 4
    assert result.fake_accuracy == pytest.approx(2 / 3)
    assert result.accuracy == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert 0 <= result.auc_low < result.auc < result.auc_high <= 1
    assert detection.real_fake([2.0, 1.0, -1.0, 0.5], [-3.0, 0.5, -2.0], threshold=0.7).fake_accuracy == 1


def test_auc_and_interval_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    real, fake = np.round(rng.normal(1, 1, 40), 1), np.round(rng.normal(0, 1, 30), 1)  # rounded: with ties
    wins = (real[:, None] > fake) + 0.5 * (real[:, None] == fake)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 30)
    result = detection.real_fake(real, fake)
    assert result.auc == pytest.approx(wins.mean())
    assert result.auc == pytest.approx(sklearn_metrics.roc_auc_score([1] * 40 + [0] * 30, [*real, *fake]))
    assert result.auc_low == pytest.approx(wins.mean() - 1.959964 * error)
    assert result.auc_high == pytest.approx(min(1, wins.mean() + 1.959964 * error))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.7602499  # P(x + 1 > y) of two standard normals
    results = [detection.real_fake(rng.normal(1, 1, 60), rng.normal(0, 1, 60), level=0.9) for _ in range(400)]
    covered = np.mean([each.auc_low <= truth <= each.auc_high for each in results])
    assert covered == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("counts", [(2, 2), (30, 100)])
def test_perfect_detection_is_not_certain(counts):
    """0.95 two-sided from n pairs that are all right: lower bound 0.025^(1/n)."""
    real, fake = 10 + np.arange(counts[0]), -np.arange(counts[1])
    bound = 0.025 ** (1 / min(counts))
    assert detection.real_fake(real, fake)[:4] == pytest.approx((1, bound, 1, 1))
    assert detection.real_fake(-real, -fake)[:3] == pytest.approx((0, 0, 1 - bound))


def test_a_constant_discriminator_knows_nothing():
    result = detection.real_fake(np.zeros(5), np.zeros(7))
    assert (result.auc, result.accuracy) == (0.5, 0.5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 20), st.integers(2, 20))
def test_auc_depends_on_order_only_and_turns_over(seed, reals, fakes):
    rng = np.random.default_rng(seed)
    real, fake = rng.integers(0, 6, reals), rng.integers(0, 6, fakes)
    result = detection.real_fake(real, fake)
    assert detection.real_fake(np.exp(real), np.exp(fake))[:3] == pytest.approx(result[:3])
    turned = detection.real_fake(fake, real)
    assert (1 - turned.auc, 1 - turned.auc_high, 1 - turned.auc_low) == pytest.approx(result[:3])
    assert 0 <= result.auc_low <= result.auc <= result.auc_high <= 1


# Wrong pixels


def random_pixels(seed=0, shape=(6, 40, 50), num_classes=4):
    """Return labels with 255, predictions, and a score that is larger where the prediction is wrong."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, shape)
    prediction = np.where(rng.random(shape) < 0.8, label, rng.integers(0, num_classes, shape))
    score = rng.normal(size=shape) + (label != prediction)
    label[rng.random(shape) < 0.1] = 255
    return label, prediction, score.astype(np.float32)


def scores_of(label, prediction, score, num_classes=4):
    result = detection.ErrorDetection(num_classes)
    result.add(label, prediction, score)
    return result.scores()


def by_sklearn(label, prediction, score):
    known = label != 255
    wrong, score = (label != prediction)[known], score[known]
    return {
        "aupr": sklearn_metrics.average_precision_score(wrong, score),
        "auc": sklearn_metrics.roc_auc_score(wrong, score),
        "wrong_share": wrong.mean(),
    }


def test_five_pixels_by_hand():
    label, prediction = np.array([0, 1, 0, 1, 255, 0]), np.array([1, 1, 0, 0, 0, 7])
    scores = scores_of(label, prediction, np.array([3.0, 2.0, 1.0, 1.5, np.nan, np.nan]), num_classes=2)
    # In order: wrong, right, wrong, right. Precision at the wrong ones 1 and 2/3, pairs in order 3 of 4.
    assert scores == pytest.approx({"aupr": 5 / 6, "auc": 3 / 4, "auc_resolution": 0, "wrong_share": 1 / 2})


@pytest.mark.parametrize("score_of", [lambda s: s, lambda s: 1 / (1 + np.exp(-s)), lambda s: np.exp(15 * s), np.round])
def test_scores_are_those_of_sklearn(score_of):
    """As logits, probabilities, over fifty decades, and with ties."""
    label, prediction, score = random_pixels()
    score = score_of(score).astype(np.float32)
    scores, exact = scores_of(label, prediction, score), by_sklearn(label, prediction, score)
    assert scores["auc"] == pytest.approx(exact["auc"], abs=1e-4)
    assert abs(scores["auc"] - exact["auc"]) <= scores["auc_resolution"] + 1e-12
    assert scores["auc_resolution"] < 1e-3 or score_of is np.round
    assert scores["aupr"] == pytest.approx(exact["aupr"], abs=1e-3)
    assert scores["wrong_share"] == pytest.approx(exact["wrong_share"])


def test_scores_of_cells_are_exactly_those_of_sklearn():
    label, prediction, score = random_pixels()
    cell = detection._cell(score.ravel()).reshape(score.shape)
    scores, exact = scores_of(label, prediction, score), by_sklearn(label, prediction, cell)
    assert {name: scores[name] for name in exact} == pytest.approx(exact, rel=1e-12)


def test_the_resolution_is_a_bound_that_is_reached():
    """Four scores in one cell, in order and in reverse: the histogram sees ties, half a pair from both."""
    score = 1 + np.arange(4) * 1e-5
    label, prediction = np.zeros(4, int), np.array([0, 0, 1, 1])
    for order in (score, score[::-1]):
        exact = sklearn_metrics.roc_auc_score(prediction, order)
        scores = scores_of(label, prediction, order, num_classes=2)
        assert scores["auc"] == 0.5
        assert abs(scores["auc"] - exact) == scores["auc_resolution"] == 0.5


def test_perfect_and_random_scores():
    label, prediction, _ = random_pixels()
    perfect = scores_of(label, prediction, (label != prediction).astype(np.float32))
    assert (perfect["aupr"], perfect["auc"]) == (1, 1)
    random = scores_of(label, prediction, np.random.default_rng(1).random(label.shape))
    assert random["auc"] == pytest.approx(0.5, abs=0.03)
    assert random["aupr"] == pytest.approx(random["wrong_share"], abs=0.03)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_cells_keep_the_order_of_all_numbers(numbers):
    numbers = np.array(sorted(numbers), np.float32)
    cells = detection._cell(numbers)
    assert (np.diff(cells) >= 0).all()
    assert cells.min() >= 0
    assert cells.max() < 2**detection.CELL_BITS
    normal = np.abs(numbers) > 1e-37
    apart = np.diff(numbers) > 2**-10 * np.abs(numbers[1:]).clip(np.abs(numbers[:-1]))
    assert (np.diff(cells) > 0)[apart & normal[1:] & normal[:-1]].all()


def test_zero_has_one_cell():
    assert len(set(detection._cell(np.array([0.0, -0.0])))) == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 6))
def test_batches_and_dtypes_do_not_matter(seed, cut):
    label, prediction, score = random_pixels(seed, (6, 5, 7))
    parts = detection.ErrorDetection(4)
    parts.add(label[:cut].astype(np.uint8), prediction[:cut], score[:cut].astype(np.float64))
    parts.add(label[cut:], prediction[cut:].astype(np.uint8), score[cut:])
    assert parts.scores() == scores_of(label, prediction, score)


def test_without_wrong_or_right_pixels_there_is_no_curve():
    empty = {"aupr": None, "auc": None, "auc_resolution": None}
    assert detection.ErrorDetection(3).scores() == {**empty, "wrong_share": None}
    label = np.zeros(3, int)
    assert scores_of(label, label, np.ones(3)) == {**empty, "wrong_share": 0}
    assert scores_of(label, label + 1, np.ones(3)) == {**empty, "wrong_share": 1}


# Uncertainty


def test_uncertainty_of_known_probabilities():
    scores = detection.uncertainty(np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]))
    np.testing.assert_allclose(scores["max_softmax"], [0, 2 / 3, 1 / 2])
    np.testing.assert_allclose(scores["entropy"], [0, np.log(3), np.log(2)])


def test_uncertainty_keeps_its_order_where_float32_rounds_the_largest_to_one():
    logits = np.array([[20.0, 0.0, 0.0], [30.0, 0.0, 0.0], [40.0, 0.0, 0.0]], np.float32)
    probabilities = softmax(logits, axis=-1)
    assert (probabilities.max(axis=-1) == 1).all()
    scores = detection.uncertainty(probabilities)
    np.testing.assert_allclose(scores["max_softmax"], 2 * np.exp([-20.0, -30.0, -40.0]), rtol=1e-5)
    assert (np.diff(scores["entropy"]) < 0).all()


def test_uncertainty_finds_the_mistakes_of_calibrated_pixels():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(80, 100, 4))
    label = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1)
    for score in detection.uncertainty(softmax(logits, axis=-1)).values():
        scores = scores_of(label, logits.argmax(axis=-1), score)
        assert scores["auc"] > 0.7
        assert scores["aupr"] > 1.5 * scores["wrong_share"]


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: detection.real_fake(np.zeros((2, 3)), np.zeros(3)), ValueError, r"real scores have shape \(2, 3\)"),
        (lambda: detection.real_fake(np.zeros(3), [0, np.nan]), ValueError, "fake scores .*finite"),
        (lambda: detection.real_fake(np.zeros(3), np.zeros(1)), InputError, "at least 2 fake scores, found 1"),
        (lambda: detection.real_fake(np.zeros(3), np.zeros(3), level=1), ValueError, "level = 1"),
        (lambda: scores_of(np.zeros(3), np.zeros(2), np.zeros(3)), ValueError, "expected one shape"),
        (lambda: scores_of(np.zeros(2), np.zeros(2), np.array([0, np.inf])), ValueError, "not finite in float32"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

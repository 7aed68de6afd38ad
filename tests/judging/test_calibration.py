"""Calibration of pixels against known answers, scikit-learn and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn import metrics as sklearn_metrics

from gan_seg_jax.errors import InputError
from gan_seg_jax.judging import calibration


def calibrated(shape, num_classes, *, temperature=1.0, seed=0):
    """Return labels drawn from softmax(logits), and temperature * logits, for which T = temperature is right."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(*shape, num_classes))
    label = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1)
    return label, (temperature * logits).astype(np.float32)


def scores_of(label, probabilities, bins=15):
    result = calibration.Calibration(probabilities.shape[-1], bins)
    result.add(label, probabilities)
    return result.scores()


def test_four_pixels_by_hand():
    label = np.array([[0, 1], [1, 255]])
    probabilities = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.3, 0.7], [np.nan, 7.0]]])  # ignored pixels hold anything
    result = calibration.Calibration(2, bins=2)
    result.add(label, probabilities)
    scores = result.scores()
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["ece"] == pytest.approx(2.5 / 3 - 2 / 3)  # all in the bin (0.5, 1]
    assert scores["brier"] == pytest.approx((0.02 + 1.62 + 0.18) / 3)
    assert scores["nll"] == pytest.approx(-np.log([0.9, 0.1, 0.7]).mean())
    diagram = result.reliability.diagram()
    np.testing.assert_allclose(diagram.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(diagram.count, [0, 3])
    np.testing.assert_allclose(diagram.confidence, [np.nan, 2.5 / 3])
    np.testing.assert_allclose(diagram.accuracy, [np.nan, 2 / 3])


def test_bins_hold_their_upper_edge():
    reliability = calibration.Reliability(4)
    reliability.add(np.array([0.0, 0.25, 0.26, 0.5, 0.75, 1.0]), np.zeros(6, bool))
    np.testing.assert_array_equal(reliability.diagram().count, [2, 2, 1, 1])


def test_ece_of_one_bin_is_the_gap_and_of_many_is_larger():
    label, logits = calibrated((200, 50), 4)
    probabilities = softmax(2 * logits, axis=-1)
    one, many = scores_of(label, probabilities, bins=1), scores_of(label, probabilities, bins=15)
    assert one["ece"] == pytest.approx(probabilities.max(-1).mean() - one["accuracy"], rel=1e-5)
    assert many["ece"] >= one["ece"] > 0.05


def test_calibrated_probabilities_have_no_error_and_sharpened_ones_do():
    label, logits = calibrated((500, 200), 5)
    right, sharp = scores_of(label, softmax(logits, axis=-1)), scores_of(label, softmax(3 * logits, axis=-1))
    assert right["ece"] < 0.01
    assert sharp["ece"] > 0.1
    assert right["nll"] < sharp["nll"]
    assert right["brier"] < sharp["brier"]
    assert right["accuracy"] == sharp["accuracy"]


def test_scores_are_those_of_sklearn():
    label, logits = calibrated((40, 30), 3)
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    scores, flat = scores_of(label, probabilities), probabilities.reshape(-1, 3)
    assert scores["nll"] == pytest.approx(sklearn_metrics.log_loss(label.ravel(), flat))
    assert scores["brier"] == pytest.approx(np.mean(np.sum((flat - np.eye(3)[label.ravel()]) ** 2, axis=1)))
    label, probabilities = (label > 0).astype(int), np.stack([flat[:, 0], 1 - flat[:, 0]], -1).reshape(40, 30, 2)
    two = sklearn_metrics.brier_score_loss(label.ravel(), probabilities[..., 1].ravel())
    assert scores_of(label, probabilities)["brier"] == pytest.approx(2 * two)


def test_ece_is_that_of_a_loop_over_bins():
    label, logits = calibrated((60, 50), 4, temperature=2)
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    confidence, correct = probabilities.max(-1).ravel(), (probabilities.argmax(-1) == label).ravel()
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert scores_of(label, probabilities, bins=10)["ece"] == pytest.approx(expected)


def test_a_certain_mistake_is_finite():
    scores = scores_of(np.array([1]), np.array([[1.0, 0.0]], np.float32))
    assert scores["nll"] == pytest.approx(87.3, abs=0.1)
    assert (scores["brier"], scores["ece"], scores["accuracy"]) == (2, 1, 0)


def test_a_confidence_map_has_a_diagram_of_its_own():
    reliability = calibration.Reliability(10)
    rng = np.random.default_rng(0)
    confidence = rng.random((100, 300))
    valid = rng.random(confidence.shape) < 0.8
    reliability.add(confidence, rng.random(confidence.shape) < confidence**2, valid)
    assert reliability.diagram().count.sum() == valid.sum()
    assert reliability.ece() == pytest.approx(1 / 2 - 1 / 3, abs=0.01)  # mean of c - c^2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 5), st.floats(0.1, 8), st.integers(1, 20), st.integers(0, 60))
def test_batches_do_not_matter_and_scores_are_in_range(seed, num_classes, sharpness, bins, cut):
    label, logits = calibrated((60,), num_classes, seed=seed)
    label[seed % 7 :: 7] = 255
    probabilities = softmax(sharpness * logits, axis=-1)
    parts = calibration.Calibration(num_classes, bins)
    parts.add(label[:cut], probabilities[:cut])
    parts.add(label[cut:], probabilities[cut:])
    whole = scores_of(label, probabilities, bins)
    assert parts.scores() == pytest.approx(whole, rel=1e-6)
    assert 0 <= whole["ece"] <= 1
    assert 0 <= whole["brier"] <= 2
    assert whole["nll"] >= 0


def test_without_pixels_there_are_no_scores():
    result = calibration.Calibration(3)
    assert set(result.scores().values()) == {None}
    result.add(np.full((2, 2), 255), np.zeros((2, 2, 3)))
    assert set(result.scores().values()) == {None}
    assert result.reliability.ece() is None


# Temperature


def fitted(label, logits, **options):
    scaling = calibration.TemperatureScaling(logits.shape[-1], **options)
    scaling.add(label, logits)
    return scaling.fit()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 20.0])
def test_a_known_temperature_is_recovered(temperature):
    label, logits = calibrated((300, 200), 5, temperature=temperature)
    assert fitted(label, logits) == pytest.approx(temperature, rel=0.02)


def test_scaling_repairs_another_sample():
    found = fitted(*calibrated((200, 100), 5, temperature=3))
    label, logits = calibrated((200, 100), 5, temperature=3, seed=1)
    before, after = (scores_of(label, softmax(logits / t, axis=-1)) for t in (1, found))
    assert after["ece"] < 0.02 < 0.1 < before["ece"]
    assert after["nll"] < before["nll"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.2, 5))
def test_no_other_temperature_is_more_likely(seed, temperature):
    label, logits = calibrated((300,), 3, temperature=temperature, seed=seed)
    nll = lambda t: -np.take_along_axis(log_softmax(logits.astype(np.float64) / t, -1), label[:, None], -1).mean()
    found = fitted(label, logits)
    assert nll(found) <= min(nll(found * 1.01), nll(found / 1.01), nll(1.0)) + 1e-12


def test_ignored_pixels_and_shifts_of_all_logits_do_not_matter():
    label, logits = calibrated((50, 40), 4, temperature=2)
    expected = fitted(label, logits)
    shift = np.random.default_rng(1).integers(-8, 8, (50, 40, 1)).astype(np.float32)
    assert fitted(label, logits + shift) == pytest.approx(expected, rel=1e-5)
    padded = np.concatenate([logits, np.full((9, 40, 4), np.nan, np.float32)])
    assert fitted(np.concatenate([label, np.full((9, 40), 255)]), padded) == expected


def test_the_sample_does_not_depend_on_batches():
    label, logits = calibrated((90, 40), 4, temperature=2)
    whole = fitted(label, logits, max_pixels=500)
    scaling = calibration.TemperatureScaling(4, max_pixels=500)
    for start in range(0, 90, 7):
        scaling.add(label[start : start + 7], logits[start : start + 7])
    assert scaling.fit() == whole
    assert fitted(label, logits, max_pixels=500, seed=1) != whole
    assert whole == pytest.approx(2, rel=0.3)


def test_the_sample_is_uniform_over_the_stream():
    scaling = calibration.TemperatureScaling(2, max_pixels=3000)
    for batch in range(30):  # the batch is written into the logits
        scaling.add(np.zeros(1000, int), np.stack([np.zeros(1000), np.full(1000, -1.0 - batch)], -1))
    counts = np.bincount(np.round(-scaling._logits[:, 1]).astype(int) - 1, minlength=30)
    assert counts.sum() == 3000
    assert np.all(np.abs(counts - 100) < 50)


def test_without_a_minimum_a_bound_is_returned():
    label, logits = np.array([0, 1]), np.array([[5.0, 0.0], [0.0, 5.0]])
    assert fitted(label, logits) == calibration.TEMPERATURES[0]  # always right
    assert fitted(1 - label, logits) == calibration.TEMPERATURES[1]  # always wrong
    assert fitted(label, 0 * logits) == calibration.TEMPERATURES[0]  # says nothing: any temperature


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: calibration.Calibration(3, bins=0), ValueError, "0 bins"),
        (lambda: scores_of(np.zeros((2, 3)), np.zeros((2, 3, 4)) + 0.3), ValueError, "sum to 1"),
        (lambda: scores_of(np.zeros(1), np.array([[1.5, -0.5]])), ValueError, "expected probabilities"),
        (lambda: scores_of(np.zeros(1), np.array([[np.nan, 1.0]])), ValueError, "expected probabilities"),
        (
            lambda: calibration.Calibration(3).add(np.zeros((2, 3)), np.zeros((2, 3, 4))),
            ValueError,
            r"found shape \(2, 3, 4\), expected \(2, 3, 3\)",
        ),
        (lambda: calibration.Reliability().add(np.zeros(3), np.zeros(2)), ValueError, r"shape \(3,\), correct \(2,\)"),
        (lambda: calibration.Reliability().add(np.full(3, 1.2), np.zeros(3)), ValueError, "outside of 0..1"),
        (lambda: calibration.TemperatureScaling(3, max_pixels=0), ValueError, "max_pixels = 0"),
        (lambda: calibration.TemperatureScaling(3).fit(), InputError, "all are ignored"),
        (lambda: fitted(np.zeros(1), np.array([[np.inf, 1.0]])), ValueError, "not finite"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

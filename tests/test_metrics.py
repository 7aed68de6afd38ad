"""Scores against known answers, scikit-learn and brute force."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import NamedSharding, PartitionSpec
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from gan_seg_jax import metrics

LABEL = np.array([[0, 0, 1], [1, 2, 255]])
PREDICTION = np.array([[0, 1, 1], [1, 0, 2]])
CONFUSION = np.array([[1, 1, 0], [0, 2, 0], [1, 0, 0]])


def random_maps(seed=0, shape=(3, 17, 23), num_classes=5):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, shape)
    prediction = np.where(rng.random(shape) < 0.6, label, rng.integers(0, num_classes, shape))
    label[rng.random(shape) < 0.1] = 255
    return label, prediction


def by_sklearn(label, prediction, num_classes):
    valid = label < num_classes
    return sklearn_metrics.confusion_matrix(label[valid], prediction[valid], labels=range(num_classes))


def test_class_counts_of_six_pixels():
    label, prediction = np.array([[0, 0, 1], [1, 255, 2]], np.uint8), np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    counts = metrics.class_counts(by_sklearn(label, prediction, 4))
    assert counts.tolist() == [[1, 1, 1], [1, 2, 1], [0, 0, 1], [0, 0, 0]]  # hits, false alarms, misses


def test_confusion_matrix_of_six_pixels():
    counts = metrics.confusion_matrix(jnp.asarray(LABEL), jnp.asarray(PREDICTION), num_classes=3)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, CONFUSION)


def test_ids_outside_the_classes_are_dropped_on_both_sides():
    label = jnp.array([0, -1, 255, 3, 2, 1])
    prediction = jnp.array([0, 0, 0, 0, 3, -1])
    counts = metrics.confusion_matrix(label, prediction, num_classes=3)
    np.testing.assert_array_equal(counts, np.diag([1, 0, 0]))


@pytest.mark.parametrize("form", [metrics._count_by_scatter, metrics._count_by_product])
@pytest.mark.parametrize("num_classes", [2, 5, 150])
def test_forms_agree_with_sklearn(form, num_classes, monkeypatch):
    monkeypatch.setattr(metrics, "PIXELS_PER_PRODUCT", 100)  # several chunks, the last one partly padding
    label, prediction = random_maps(num_classes=num_classes)
    counts = form(jnp.asarray(label).reshape(3, -1), jnp.asarray(prediction).reshape(3, -1), num_classes=num_classes)
    np.testing.assert_array_equal(counts, by_sklearn(label, prediction, num_classes))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_jit_vmap_and_dtypes_agree(dtype):
    label, prediction = (jnp.asarray(x.astype(dtype)) for x in random_maps())

    def count(label, prediction):
        return metrics.confusion_matrix(label, prediction, num_classes=5)

    expected = by_sklearn(np.asarray(label), np.asarray(prediction), 5)
    np.testing.assert_array_equal(jax.jit(count)(label, prediction), expected)
    np.testing.assert_array_equal(jax.vmap(count)(label, prediction).sum(axis=0), expected)
    np.testing.assert_array_equal(count(label.ravel(), prediction.ravel()), expected)


def test_counts_beyond_float32_are_exact():
    pixels = 2**24 + 3
    label = jnp.zeros((1, pixels), jnp.uint8)
    for form in (metrics._count_by_scatter, metrics._count_by_product):
        counts = jax.jit(form, static_argnames="num_classes")(label.astype(jnp.int32), label, num_classes=1)
        assert int(counts[0, 0]) == pixels


def test_batch_may_be_sharded():
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    label, prediction = random_maps(shape=(2 * len(devices), 8, 9))
    placed = jax.device_put((label, prediction), NamedSharding(mesh, PartitionSpec("data")))
    counts = jax.jit(metrics.confusion_matrix, static_argnames="num_classes")(*placed, num_classes=5)
    np.testing.assert_array_equal(counts, by_sklearn(label, prediction, 5))


def test_shapes_must_agree():
    with pytest.raises(AssertionError):
        metrics.confusion_matrix(jnp.zeros((2, 3), int), jnp.zeros((3, 2), int), num_classes=2)


def test_scores_of_a_small_matrix():
    scores = metrics.scores(CONFUSION, ("a", "b", "c"))
    assert scores == {
        "miou": pytest.approx((1 / 3 + 2 / 3 + 0) / 3),
        "pixel_accuracy": pytest.approx(3 / 5),
        "mean_accuracy": pytest.approx((1 / 2 + 1 + 0) / 3),
        "iou_per_class": {"a": pytest.approx(1 / 3), "b": pytest.approx(2 / 3), "c": 0.0},
    }


def test_absent_classes():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    scores = metrics.scores(confusion, ("present", "only predicted", "absent"))
    assert scores["iou_per_class"] == {"present": 0.75, "only predicted": 0.0, "absent": None}
    assert scores["miou"] == pytest.approx(0.375)
    assert scores["mean_accuracy"] == pytest.approx(0.75)


def test_nothing_counted_means_no_scores():
    scores = metrics.scores(np.zeros((2, 2), np.int64), ("a", "b"))
    assert scores == {
        "miou": None,
        "pixel_accuracy": None,
        "mean_accuracy": None,
        "iou_per_class": {"a": None, "b": None},
    }


def test_scores_hold_for_more_pixels_than_int32():
    scores = metrics.scores(np.array([[3 * 10**10, 10**10], [0, 0]]), ("a", "b"))
    assert scores["pixel_accuracy"] == pytest.approx(0.75)


def test_scores_agree_with_sklearn():
    label, prediction = random_maps(3)
    valid = label < 5
    truth, predicted = label[valid], prediction[valid]
    scores = metrics.scores(by_sklearn(label, prediction, 5), tuple("abcde"))
    assert scores["miou"] == pytest.approx(sklearn_metrics.jaccard_score(truth, predicted, average="macro"))
    assert scores["pixel_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert scores["mean_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, predicted))
    np.testing.assert_allclose(
        list(scores["iou_per_class"].values()), sklearn_metrics.jaccard_score(truth, predicted, average=None)
    )


def test_scores_wants_a_matrix_that_fits_the_names():
    with pytest.raises(ValueError, match="k = 3"):
        metrics.scores(np.zeros((2, 2)), ("a", "b", "c"))


maps = hnp.arrays(np.int32, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 3, 255]))


@settings(max_examples=30, deadline=None)
@given(label=maps, prediction=maps, order=st.permutations(range(4)))
def test_renaming_classes_changes_no_mean(label, prediction, order):
    table = np.full(256, 255)
    table[:4] = order
    prediction = prediction % 255
    one = metrics.scores(metrics.confusion_matrix(label, prediction, num_classes=4), tuple("abcd"))
    renamed = metrics.confusion_matrix(table[label], table[prediction], num_classes=4)
    other = metrics.scores(renamed, tuple("abcd"))
    for name in ("miou", "pixel_accuracy", "mean_accuracy"):
        assert one[name] == (None if other[name] is None else pytest.approx(other[name]))


@settings(max_examples=30, deadline=None)
@given(label=maps, prediction=maps)
def test_ignored_pixels_count_as_if_they_were_not_there(label, prediction):
    prediction = prediction % 255
    kept = label != 255
    counts = metrics.confusion_matrix(label, prediction, num_classes=4)
    expected = np.zeros((4, 4), np.int32)
    np.add.at(expected, (label[kept], prediction[kept]), 1)
    np.testing.assert_array_equal(counts, expected)


def brute_force_counts(label, prediction, num_classes, tolerance):
    radius = max(1.0, tolerance * np.hypot(*label.shape))
    prediction = np.where(label < num_classes, prediction, 255)

    def edges(ids):
        found = np.zeros((num_classes, *ids.shape), bool)
        for (y, x), value in np.ndenumerate(ids):
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if value < num_classes and 0 <= near[0] < ids.shape[0] and 0 <= near[1] < ids.shape[1]:
                    found[value, y, x] |= ids[near] < num_classes and ids[near] != value
        return found

    def matched(edge, other):
        return int((edge & (ndimage.distance_transform_edt(~other) <= radius)).sum()) if other.any() else 0

    return np.array(
        [[matched(p, t), p.sum(), matched(t, p), t.sum()] for t, p in zip(edges(label), edges(prediction), strict=True)]
    )


@pytest.mark.parametrize(
    ("shape", "num_classes", "tolerance"),
    [((20, 31), 3, 0.0075), ((41, 23), 6, 0.1), ((25, 25), 70, 0.2), ((1, 9), 2, 0.3), ((5, 4), 2, 2.0)],
)
def test_boundary_counts_agree_with_distance_transforms(shape, num_classes, tolerance):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, num_classes, (shape[0] // 4 + 1, shape[1] // 4 + 1))
    label = np.kron(coarse, np.ones((4, 4), int))[: shape[0], : shape[1]].astype(np.uint8)
    prediction = np.roll(label, (1, 2), (0, 1))
    prediction[rng.random(shape) < 0.02] = 0
    label[rng.random(shape) < 0.03] = 255
    counts = metrics.boundary_counts(label, prediction, num_classes=num_classes, tolerance=tolerance)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, brute_force_counts(label, prediction, num_classes, tolerance))


@settings(max_examples=15, deadline=None)
@given(radius=st.floats(1, 40), seed=st.integers(0, 99))
@example(radius=9.0, seed=2)  # a run that grows beyond the border
def test_dilation_is_a_disc(radius, seed):
    rng = np.random.default_rng(seed)
    points = rng.random((37, 29)) < 0.01
    points[rng.integers(37), rng.integers(29)] = True
    grown = metrics._dilate(points.astype(np.uint8), radius) > 0
    np.testing.assert_array_equal(grown, ndimage.distance_transform_edt(~points) <= radius)


def test_boundary_of_two_halves():
    label = np.zeros((6, 10), np.uint8)
    label[:, 5:] = 1
    counts = metrics.boundary_counts(label, label, num_classes=3)
    np.testing.assert_array_equal(counts, [[6, 6, 6, 6], [6, 6, 6, 6], [0, 0, 0, 0]])
    assert metrics.boundary_f1(counts) == 1.0
    shifted = np.roll(label, 2, axis=1)  # two pixels to the right: beyond the tolerance of one
    shifted[:, :2] = 0
    assert metrics.boundary_f1(metrics.boundary_counts(label, shifted, num_classes=3)) == 0.0
    assert metrics.boundary_f1(metrics.boundary_counts(label, shifted, num_classes=3, tolerance=0.2)) == 1.0


def test_void_makes_no_boundary():
    label = np.zeros((6, 10), np.uint8)
    label[:, 5] = 255
    prediction = label.copy()
    prediction[:, 5] = 1  # what is predicted on void counts nowhere, nor is it a neighbour
    counts = metrics.boundary_counts(label, prediction, num_classes=2)
    np.testing.assert_array_equal(counts, np.zeros((2, 4)))
    assert metrics.boundary_f1(counts) is None


def test_boundary_f1_of_pooled_counts():
    counts = np.array([[3, 4, 2, 8], [0, 0, 0, 5], [0, 7, 0, 0], [0, 0, 0, 0]])
    precision, recall = 3 / 4, 2 / 8
    assert metrics.boundary_f1(counts) == pytest.approx(2 * precision * recall / (precision + recall) / 3)


def test_boundary_counts_wants_two_maps_of_one_shape():
    with pytest.raises(ValueError, match="one shape"):
        metrics.boundary_counts(np.zeros((4, 5), int), np.zeros((5, 4), int), num_classes=2)


def test_inputs_stay_as_they_are():
    label, prediction = random_maps(shape=(9, 11))
    before = label.copy(), prediction.copy()
    metrics.boundary_counts(label, prediction, num_classes=5)
    chex.assert_trees_all_equal((label, prediction), before)

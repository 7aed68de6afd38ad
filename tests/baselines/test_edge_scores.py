"""Edges of no class against the boundaries of the truth: counted by hand and by distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from gan_seg_jax import metrics


def halves(size=(20, 20), column=10):
    label = np.zeros(size, np.uint8)
    label[:, column:] = 1
    return label


def test_perfect_edges_shifted_edges_and_none():
    label = halves()
    truth = metrics.true_edges(label, num_classes=2)
    np.testing.assert_array_equal(np.flatnonzero(truth.any(axis=0)), [9, 10])
    assert metrics.edge_counts(label, truth, num_classes=2).tolist() == [40, 40, 40, 40]
    one = np.zeros((20, 20), bool)
    one[:, 9] = True
    assert metrics.edge_counts(label, one, num_classes=2).tolist() == [20, 20, 40, 40]  # within one pixel
    far = np.roll(one, -2, axis=1)
    assert metrics.edge_counts(label, far, num_classes=2).tolist() == [0, 20, 0, 40]
    assert metrics.edge_counts(label, far, num_classes=2, tolerance=2 / np.hypot(20, 20)).tolist() == [20, 20, 20, 40]
    none = np.zeros_like(one)
    assert metrics.edge_counts(label, none, num_classes=2).tolist() == [0, 0, 0, 40]


def test_edges_in_and_at_void_do_not_count_as_found():
    label = halves()
    label[5:10] = 255
    everywhere = np.ones((20, 20), bool)
    counts = metrics.edge_counts(label, everywhere, num_classes=2)
    assert counts[1] == 20 * (20 - 7) and counts[2] == counts[3] == 2 * 15


def test_scores_of_counts():
    assert metrics.edge_scores(np.array([3, 4, 1, 2])) == pytest.approx(
        {"edge_f1": 0.6, "edge_precision": 0.75, "edge_recall": 0.5}
    )
    assert metrics.edge_scores(np.array([0, 0, 0, 5])) == {"edge_f1": 0.0, "edge_precision": None, "edge_recall": 0.0}
    assert set(metrics.edge_scores(np.zeros(4, np.int64)).values()) == {None}


@settings(max_examples=50, deadline=None)
@given(
    label=npst.arrays(np.uint8, (11, 13), elements=st.sampled_from([0, 1, 255])),
    edges=npst.arrays(bool, (11, 13)),
    tolerance=st.floats(0.0, 0.3),
)
def test_counts_follow_from_distances(label, edges, tolerance):
    radius = max(1.0, tolerance * np.hypot(11, 13))
    near = lambda there: ndimage.distance_transform_edt(~there) <= radius if there.any() else np.zeros_like(there)
    truth = metrics.true_edges(label, num_classes=2)
    found = edges & ~near(label == 255)
    expected = [(found & near(truth)).sum(), found.sum(), (truth & near(edges)).sum(), truth.sum()]
    assert metrics.edge_counts(label, edges, num_classes=2, tolerance=tolerance).tolist() == expected

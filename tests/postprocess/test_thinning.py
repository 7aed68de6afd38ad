"""Non-maximum suppression: one pixel wide ridges where the strength is greatest, whichever way an edge runs."""

import numpy as np
import pytest
from skimage import measure

from gan_seg_jax.postprocess import thinning


def test_a_ridge_is_left_of_a_blurred_step():
    strength = np.tile([0.0, 1.0, 3.0, 2.0, 0.5, 0.0], (5, 1))
    kept = thinning.non_maximum_suppression(strength, np.zeros((5, 6)))
    np.testing.assert_array_equal(kept, np.where(strength == 3.0, strength, 0.0))
    for turned in (np.pi, -np.pi):  # the sign of the gradient does not matter
        np.testing.assert_array_equal(thinning.non_maximum_suppression(strength, np.full((5, 6), turned)), kept)
    across = thinning.non_maximum_suppression(strength.T, np.full((6, 5), np.pi / 2))
    np.testing.assert_array_equal(across, kept.T)


def test_of_two_equal_pixels_one_stays():
    strength = np.tile([0.0, 2.0, 2.0, 0.0], (3, 1))
    kept = thinning.non_maximum_suppression(strength, np.zeros((3, 4)))
    np.testing.assert_array_equal(kept > 0, np.tile([False, False, True, False], (3, 1)))


def test_a_flat_map_has_no_ridge():
    assert not thinning.non_maximum_suppression(np.zeros((4, 5)), np.zeros((4, 5))).any()
    assert not thinning.thin_boundaries(np.full((6, 7, 3), 1 / 3)).any()


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 135, 160])
def test_the_boundary_of_half_planes_is_thin_and_whole(degrees):
    y, x = np.mgrid[:41, :41] - 20.0
    angle = np.deg2rad(degrees)
    distance = x * np.cos(angle) + y * np.sin(angle) + 0.3
    found = thinning.thin_boundaries(np.eye(2)[(distance > 0).astype(int)])
    inside = np.s_[3:-3, 3:-3]
    assert np.abs(distance[found]).max() < 1.3
    assert measure.label(found[inside], connectivity=2).max() == 1  # no gaps
    # Across the steeper axis every line meets it once, twice at a step.
    lines = found[inside].sum(axis=1 if abs(np.cos(angle)) > 0.7 else 0)
    assert lines.min() >= 1 and lines.max() <= 2


def test_one_column_between_two_classes():
    label = np.repeat([0, 1, 2], 5)[None].repeat(9, axis=0)
    found = thinning.thin_boundaries(np.eye(3)[label])
    assert found.sum(axis=1).tolist() == [2] * 9
    assert found[:, 4:6].sum() == 9 and found[:, 9:11].sum() == 9

"""Weights near boundaries: distances by brute force and by SciPy, ignored pixels, the equation."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from gan_seg_jax.losses import boundary, segmentation


def _fast(function, **static):
    return jax.jit(lambda *arrays: function(*arrays, **static), compiler_options={"xla_backend_optimization_level": 0})


def _boundary(label):
    """Return whether one of a pixel's four neighbours is of another class."""
    height, width = label.shape
    found = np.zeros(label.shape, bool)
    for i in range(height):
        for j in range(width):
            for k, l in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= k < height and 0 <= l < width and 255 not in (label[i, j], label[k, l]):
                    found[i, j] |= label[i, j] != label[k, l]
    return found


def _random_label(seed, size=(11, 13), block=3):
    """Blocks of three classes with some void."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 4, (-(-size[0] // block), -(-size[1] // block)))
    label = np.kron(blocks, np.ones((block, block), int))[: size[0], : size[1]]
    return np.where(label == 3, 255, label)


@functools.cache
def _distance(radius):
    return _fast(boundary.squared_boundary_distance, num_classes=3, radius=radius)


def _squared(label, radius):
    distance = _distance(radius)
    return np.asarray(distance(label[None])[0])


def test_distance_to_a_straight_boundary():
    label = np.tile([0, 0, 0, 0, 1, 1, 1], (2, 1))
    np.testing.assert_array_equal(_squared(label, 5), np.tile([9, 4, 1, 0, 0, 1, 4], (2, 1)))


def test_ignored_pixels_and_the_border_of_the_image_make_no_boundary():
    label = np.array([[0, 0, 255, 1, 1], [0, 0, 255, 1, 1]])
    assert np.all(_squared(label, 4) == np.inf)
    assert np.all(_squared(np.zeros((3, 4), int), 4) == np.inf)
    label[0, 2] = 1
    np.testing.assert_array_equal(_squared(label, 4), [[1, 0, 0, 1, 4], [2, 1, 1, 2, 5]])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_distance_equals_scipy_within_the_radius(seed):
    label, radius = _random_label(seed), 4
    found, is_boundary = _squared(label, radius), _boundary(label)
    np.testing.assert_array_equal(found == 0, is_boundary)
    expected = ndimage.distance_transform_edt(~is_boundary) ** 2 if is_boundary.any() else np.full(label.shape, np.inf)
    near = expected <= radius**2
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-6)
    assert np.all(found[~near] > radius**2)


def test_weight_equals_its_equation():
    label = np.tile([0] * 8 + [1] * 3, (2, 1))[None]
    found = _fast(boundary.boundary_weight, num_classes=2, strength=10.0, sigma=2.0)(label)
    distance = np.array([7, 6, 5, 4, 3, 2, 1, 0, 0, 1, 2])
    expected = np.where(distance <= 6, 1 + 10 * np.exp(-(distance**2) / 8), 1.0)
    np.testing.assert_allclose(found, np.tile(expected, (2, 1))[None], rtol=1e-6)


@pytest.mark.parametrize("class_weights", [None, (1.0, 3.0, 0.5)])
def test_loss_is_the_weighted_mean(class_weights):
    rng = np.random.default_rng(0)
    label = np.stack([_random_label(1), _random_label(2)])
    logits = rng.normal(0, 2, (*label.shape, 3)).astype(np.float32)
    found = _fast(boundary.boundary_cross_entropy, strength=4.0, sigma=1.0, class_weights=class_weights)(logits, label)
    known = label != 255
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = -np.log(np.take_along_axis(probabilities, np.where(known, label, 0)[..., None], -1)[..., 0])[known]
    weight = np.asarray(_fast(boundary.boundary_weight, num_classes=3, strength=4.0, sigma=1.0)(label))[known]
    if class_weights:
        weight = weight * np.array(class_weights)[label[known]]
    np.testing.assert_allclose(found, np.average(losses, weights=weight), rtol=1e-5)


def test_no_strength_is_cross_entropy():
    label = _random_label(3)[None]
    logits = np.random.default_rng(3).normal(0, 2, (*label.shape, 3)).astype(np.float32)
    found = _fast(boundary.boundary_cross_entropy, strength=0.0, sigma=1.0)(logits, label)
    np.testing.assert_allclose(found, segmentation.cross_entropy(logits, label), rtol=1e-6)

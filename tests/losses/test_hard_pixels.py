"""Hard-pixel mining: which pixels count, how many, and ties."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.hard_pixels import hard_pixel_cross_entropy


def _random(seed, size=(3, 4, 5), num_classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (*size, num_classes)).astype(np.float32)
    label = rng.integers(0, num_classes + 1, size)
    return logits, np.where(label == num_classes, 255, label)


def _losses(logits, label):
    """Return the cross-entropies of the known pixels of one image, and their labels."""
    logits = np.asarray(logits, np.float64)[label != 255]
    label = label[label != 255]
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(label)), label], label


_gradient = jax.jit(jax.grad(hard_pixel_cross_entropy))


@pytest.mark.parametrize("class_weights", [None, (1.0, 2.0, 0.5, 4.0)])
@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 1.0])
def test_equals_sorting_each_image(fraction, class_weights):
    logits, label = _random(0)
    label[2] = np.where(np.arange(20).reshape(4, 5) < 17, 255, label[2])  # an image with few known pixels
    total = weights = 0.0
    for image in range(3):
        losses, classes = _losses(logits[image], label[image])
        weight = np.array(class_weights or (1.0,) * 4)[classes]
        chosen = np.argsort(-weight * losses)[: max(1, round(fraction * len(losses)))]
        total, weights = total + (weight * losses)[chosen].sum(), weights + weight[chosen].sum()
    found = hard_pixel_cross_entropy(logits, label, fraction=fraction, class_weights=class_weights)
    np.testing.assert_allclose(found, total / weights, rtol=1e-5)


def test_all_pixels_are_cross_entropy():
    logits, label = _random(1)
    found = hard_pixel_cross_entropy(logits, label, fraction=1.0)
    np.testing.assert_allclose(found, segmentation.cross_entropy(logits, label), rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_quarter_of_the_known_pixels_of_each_image_moves(seed):
    logits, label = _random(seed)
    moved = np.any(np.asarray(_gradient(logits, label)) != 0, axis=-1)
    assert not np.any(moved & (label == 255))
    known = (label != 255).sum(axis=(1, 2))
    np.testing.assert_array_equal(moved.sum(axis=(1, 2)), np.where(known > 0, np.maximum(np.round(known / 4), 1), 0))


def test_ties_share_what_is_left():
    logits, label = np.zeros((1, 2, 4, 3), np.float32), np.array([[[0, 1, 2, 0], [1, 1, 0, 255]]])
    logits[0, 0, 0] = (0.0, 5.0, 0.0)  # one pixel is harder; six tie for the remaining place of two
    loss = hard_pixel_cross_entropy(logits, label, fraction=2 / 7)
    np.testing.assert_allclose(loss, (np.log(2 + np.exp(5)) + np.log(3)) / 2, rtol=1e-6)
    gradient = jax.grad(lambda x: hard_pixel_cross_entropy(x, label, fraction=2 / 7))(logits)
    size = np.abs(gradient).sum(-1)[0].ravel()[:7]
    np.testing.assert_allclose(size[1:], size[1], rtol=1e-5)
    np.testing.assert_allclose(size[1], 4 / 3 / 2 / 6, rtol=1e-5)  # |p - y| sums to 4/3

"""Dice and Tversky: known answers, against optax, and classes that are absent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_seg_jax.losses import region, segmentation


def _hard(prediction, num_classes):
    return 100.0 * jax.nn.one_hot(jnp.asarray(prediction), num_classes)


def test_hard_predictions_have_the_counts_of_a_confusion_matrix():
    label = jnp.array([[[0, 0, 0, 1]]])
    logits = _hard([[[0, 0, 1, 1]]], 2)
    # Class 0: TP 2, FP 0, FN 1. Class 1: TP 1, FP 1, FN 0.
    np.testing.assert_allclose(region.dice(logits, label), 1 - (4 / 5 + 2 / 3) / 2, rtol=1e-6)
    expected = 1 - (2 / (2 + 0.7) + 1 / (1 + 0.3)) / 2
    np.testing.assert_allclose(region.tversky(logits, label, alpha=0.3, beta=0.7), expected, rtol=1e-6)
    jaccard = 1 - (2 / 3 + 1 / 2) / 2
    np.testing.assert_allclose(region.tversky(logits, label, alpha=1.0, beta=1.0), jaccard, rtol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7), (1.0, 1.0)])
def test_equals_optax_without_smoothing(alpha, beta):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 4, 5, 3)).astype(np.float32)
    label = rng.integers(0, 3, (2, 4, 5))
    expected = optax.losses.dice_loss(
        logits, segmentation.one_hot(label, 3), smooth=0.0, alpha=alpha, beta=beta, axis=(0, 1, 2)
    )
    np.testing.assert_allclose(region.tversky(logits, label, alpha=alpha, beta=beta), expected, rtol=1e-6)
    if alpha == beta == 0.5:
        np.testing.assert_allclose(region.dice(logits, label), expected, rtol=1e-6)


def test_classes_without_a_label_are_left_out_of_the_mean():
    label = jnp.array([[[0, 0, 1, 255]]])
    prediction = [[[0, 2, 1, 2]]]
    # Class 2 is predicted once, wrongly, and never labelled; class 3 is neither.
    expected = 1 - (2 / 3 + 1) / 2
    np.testing.assert_allclose(region.dice(_hard(prediction, 4), label), expected, rtol=1e-6)
    gradient = jax.grad(region.dice)(0.01 * _hard(prediction, 4), label)
    assert np.all(gradient[0, 0, :2, 2] > 0)  # what is given to class 2 is taken from the others


def test_a_false_negative_may_be_free():
    """With beta 0 a class that is never predicted has neither hits nor a size."""
    label = jnp.array([[[0, 1]]])
    loss, gradient = jax.value_and_grad(lambda x: region.tversky(x, label, alpha=1.0, beta=0.0))(
        jnp.array([[[[1e4, -1e4], [1e4, -1e4]]]])
    )
    np.testing.assert_allclose(loss, 1 - (1 / 2 + 0) / 2)
    assert np.all(np.isfinite(gradient))


def test_regions_are_those_of_the_whole_batch():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (2, 3, 4, 3)).astype(np.float32)
    label = rng.integers(0, 3, (2, 3, 4))
    found = region.dice(logits, label)
    np.testing.assert_allclose(found, region.dice(logits.reshape(1, 6, 4, 3), label.reshape(1, 6, 4)), rtol=1e-6)

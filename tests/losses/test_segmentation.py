"""Segmentation losses: known answers, ignored pixels, then jit, vmap and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_seg_jax.losses import segmentation

_LOGITS = jnp.log(jnp.array([[[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]]))  # softmax gives these back
_LABEL = jnp.array([[[0, 1]]])


def _random(seed, size=(2, 3, 4), num_classes=5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (*size, num_classes)).astype(np.float32)
    label = rng.integers(0, num_classes + 1, size).astype(np.int32)
    return logits, np.where(label == num_classes, 255, label)


def test_cross_entropy_known_answers():
    np.testing.assert_allclose(segmentation.cross_entropy(_LOGITS, _LABEL), -np.log([0.5, 0.1]).mean(), rtol=1e-6)
    np.testing.assert_allclose(segmentation.cross_entropy(_LOGITS * 0, _LABEL), np.log(3), rtol=1e-6)
    np.testing.assert_allclose(segmentation.cross_entropy(1e4 * jnp.eye(3)[_LABEL], _LABEL), 0.0, atol=1e-7)
    np.testing.assert_allclose(segmentation.cross_entropy(1e4 * jnp.eye(3)[_LABEL], 2 - _LABEL), 5e3, rtol=1e-6)


def test_cross_entropy_class_weights():
    weights = jnp.array([1.0, 3.0, 7.0])
    expected = (1 * -np.log(0.5) + 3 * -np.log(0.1)) / 4
    for scale in (1.0, 10.0):
        found = segmentation.cross_entropy(_LOGITS, _LABEL, class_weights=scale * weights)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = segmentation.cross_entropy(_LOGITS, _LABEL, class_weights=jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, -np.log(0.5), rtol=1e-6)
    assert segmentation.cross_entropy(_LOGITS, _LABEL, class_weights=jnp.zeros(3)) == 0.0


def test_cross_entropy_label_smoothing():
    logs = -np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    expected = np.mean(0.9 * logs[[0, 1], [0, 1]] + 0.1 * logs.mean(axis=1))
    found = segmentation.cross_entropy(_LOGITS, _LABEL, label_smoothing=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("no_class", [255, 254, 5, -1, -5])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": jnp.arange(1.0, 6.0)}])
def test_ignored_pixels_count_as_deleted(no_class, options):
    logits, label = _random(0)
    label = np.where(label == 255, no_class, label)
    kept = label[label != no_class]
    kept_logits = logits[label != no_class]
    assert 0 < len(kept) < label.size
    found = segmentation.cross_entropy(logits, label, **options)
    expected = segmentation.cross_entropy(kept_logits[None, None], kept[None, None], **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    gradient = jax.grad(lambda x: segmentation.cross_entropy(x, label, **options))(logits)
    assert not np.any(gradient[label == no_class])
    assert np.all(np.any(gradient != 0, axis=-1)[label != no_class])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": jnp.arange(1.0, 6.0)}])
def test_all_ignored_is_zero_with_zero_gradient(options):
    logits, label = _random(0)
    loss, gradient = jax.value_and_grad(lambda x: segmentation.cross_entropy(x, np.full_like(label, 255), **options))(
        logits
    )
    assert loss == 0.0
    chex.assert_trees_all_equal(gradient, jnp.zeros_like(logits))
    nothing = np.zeros(label.shape, bool)
    loss, gradient = jax.value_and_grad(lambda x: segmentation.l1(x, logits, nothing))(logits + 1)
    assert loss == 0.0
    chex.assert_trees_all_equal(gradient, jnp.zeros_like(logits))


def test_masked_class_may_have_no_probability():
    logits = jnp.array([[[[0.0, 1.0, -jnp.inf]]]])
    label = jnp.array([[[0]]])
    loss, gradient = jax.value_and_grad(segmentation.cross_entropy)(logits, label)
    np.testing.assert_allclose(loss, np.log(1 + np.e), rtol=1e-6)
    assert np.all(np.isfinite(gradient))


def test_half_precision_logits_are_computed_in_float32():
    logits, label = _random(1)
    half = jnp.asarray(logits, jnp.bfloat16)
    found = segmentation.cross_entropy(half, label)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, segmentation.cross_entropy(half.astype(jnp.float32), label), rtol=1e-6)


def test_one_hot_and_known():
    label = jnp.array([[[0, 2, 255, -1, 3]]], jnp.int32)
    expected = [[[[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]]]
    found = segmentation.one_hot(label, 3)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(segmentation.known(label), [[[True, True, False, False, True]]])
    np.testing.assert_array_equal(segmentation.known(label, 3), [[[True, True, False, False, False]]])
    np.testing.assert_array_equal(segmentation.one_hot(label.astype(jnp.uint8), 3)[0, 0, :3], expected[0][0][:3])


def test_l1_known_answers():
    prediction = jnp.array([[[[0.5, 0.5], [1.0, 0.0]]]])
    target = jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])
    np.testing.assert_allclose(segmentation.l1(prediction, target), 0.75)
    np.testing.assert_allclose(segmentation.l1(prediction, target, jnp.array([[[True, False]]])), 0.5)


def test_cross_entropy_gradient_is_softmax_minus_mask():
    logits, label = _random(2)
    gradient = jax.grad(segmentation.cross_entropy)(logits, label)
    is_known = np.asarray(segmentation.known(label))
    expected = (jax.nn.softmax(logits) - segmentation.one_hot(label, 5)) * is_known[..., None] / is_known.sum()
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_jit_and_vmap():
    logits, label = _random(3)
    found = jax.jit(segmentation.cross_entropy)(logits, label)
    np.testing.assert_allclose(found, segmentation.cross_entropy(logits, label), rtol=1e-6)
    found = jax.vmap(lambda x, y: segmentation.cross_entropy(x[None], y[None]))(logits, label)
    expected = [segmentation.cross_entropy(x[None], y[None]) for x, y in zip(logits, label, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    target = segmentation.one_hot(label, 5)
    found = jax.jit(segmentation.l1)(logits, target, segmentation.known(label))
    np.testing.assert_allclose(found, segmentation.l1(logits, target, segmentation.known(label)), rtol=1e-6)


def test_wrong_shapes_are_refused():
    logits, label = _random(4)
    with pytest.raises(AssertionError):
        segmentation.cross_entropy(logits, label[:, 1:])
    with pytest.raises(AssertionError):
        segmentation.cross_entropy(logits, label, class_weights=jnp.ones(4))
    with pytest.raises(AssertionError):
        segmentation.l1(logits, logits[..., 1:])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), smoothing=st.sampled_from([0.0, 0.2]))
def test_class_and_batch_permutations_change_nothing(seed, smoothing):
    logits, label = _random(seed)
    rng = np.random.default_rng(seed)
    classes, rows = rng.permutation(5), rng.permutation(2)
    renamed = np.where(label == 255, 255, np.argsort(classes)[np.where(label == 255, 0, label)])
    found = segmentation.cross_entropy(logits[rows][..., classes], renamed[rows], label_smoothing=smoothing)
    expected = segmentation.cross_entropy(logits, label, label_smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found >= 0


def test_focal_known_answers():
    expected = np.mean([0.5**2 * -np.log(0.5), 0.9**2 * -np.log(0.1)])
    np.testing.assert_allclose(segmentation.focal(_LOGITS, _LABEL), expected, rtol=1e-5)
    expected = (2 * 0.5**2 * -np.log(0.5) + 3 * 0.9**2 * -np.log(0.1)) / 5
    found = segmentation.focal(_LOGITS, _LABEL, class_weights=(2.0, 3.0, 7.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    logits, label = _random(5)
    found = segmentation.focal(logits, label, gamma=0.0)
    np.testing.assert_allclose(found, segmentation.cross_entropy(logits, label), rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_of_two_classes_equals_optax(gamma):
    rng = np.random.default_rng(0)
    score = rng.normal(0, 3, (2, 3, 4)).astype(np.float32)
    label = rng.integers(0, 2, (2, 3, 4))
    expected = optax.losses.sigmoid_focal_loss(score, label, gamma=gamma).mean()
    found = segmentation.focal(np.stack([0 * score, score], axis=-1), label, gamma=gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_a_certain_pixel_has_a_gradient(gamma):
    logits = jnp.array([[[[1e4, 0.0, 0.0], [0.0, 0.0, 0.0]]]])
    gradient = jax.grad(lambda x: segmentation.focal(x, jnp.array([[[0, 0]]]), gamma=gamma))(logits)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[0, 0, 0]) and np.any(gradient[0, 0, 1])


def test_mse_known_answers():
    prediction = jnp.array([[[[0.5, 0.5], [1.0, 0.0]]]])
    target = jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])
    np.testing.assert_allclose(segmentation.mse(prediction, target), 0.625)
    np.testing.assert_allclose(segmentation.mse(prediction, target, jnp.array([[[True, False]]])), 0.25)

"""Feature matching: means and pairs by hand, examples that do not count, gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.losses import feature_matching
from gan_seg_jax.losses.adversarial import ADVERSARIAL


def _features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_mean_features_by_hand():
    real = jnp.array([[1.0, 4.0], [3.0, 0.0]])  # means 2, 2
    fake = jnp.array([[0.0, 5.0]])
    np.testing.assert_allclose(feature_matching.mean_feature_matching(real, fake), (2 + 3) / 2)
    np.testing.assert_allclose(feature_matching.mean_feature_matching(real, fake, squared=True), (4 + 9) / 2)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_mean_features_equal_numpy(pool, squared):
    real, fake = _features(0, 3, 4, 5, 6), _features(1, 2, 4, 5, 6)
    axes = (0, 1, 2) if pool else 0
    difference = real.mean(axes) - fake.mean(axes)
    expected = (difference**2 if squared else np.abs(difference)).mean()
    found = feature_matching.mean_feature_matching(real, fake, pool=pool, squared=squared)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mean_features_do_not_see_the_order_of_examples_or_equal_means():
    real = _features(2, 4, 3, 3, 5)
    loss, gradient = jax.value_and_grad(feature_matching.mean_feature_matching)(real, real[::-1])
    np.testing.assert_allclose(loss, 0.0, atol=1e-7)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("pool", [False, True])
def test_invalid_examples_count_as_deleted(pool):
    real, fake = _features(3, 3, 2, 2, 4), _features(4, 4, 2, 2, 4)
    real_valid, fake_valid = np.array([True, False, True]), np.array([False, True, True, False])
    loss = jax.jit(lambda *arrays: feature_matching.mean_feature_matching(*arrays, pool=pool))
    found = loss(real, fake, real_valid, fake_valid)
    np.testing.assert_allclose(found, loss(real[real_valid], fake[fake_valid]), rtol=1e-5)
    gradient = jax.grad(loss, argnums=1)(real, fake, real_valid, fake_valid)
    assert not np.any(gradient[~fake_valid]) and np.any(gradient[fake_valid])
    value, gradient = jax.value_and_grad(loss, argnums=(0, 1))(real, fake, np.zeros(3, bool), fake_valid)
    assert value == 0.0
    chex.assert_trees_all_equal(gradient, (jnp.zeros_like(real), jnp.zeros_like(fake)))


def test_layers_by_hand():
    real = [jnp.array([[1.0, 2.0]]), jnp.array([[[0.0], [4.0]]])]
    fake = [jnp.array([[1.0, 0.0]]), jnp.array([[[1.0], [1.0]]])]
    np.testing.assert_allclose(feature_matching.layer_feature_matching(real, fake), 1 + 2)
    np.testing.assert_allclose(feature_matching.layer_feature_matching(real, fake, weights=(2.0, 0.5)), 2 + 1)
    gradient = jax.grad(feature_matching.layer_feature_matching, argnums=1)(real, fake)
    chex.assert_trees_all_close(gradient, [jnp.array([[0.0, -0.5]]), jnp.array([[[0.5], [-0.5]]])])


def test_layers_without_invalid_pairs():
    real = [_features(5, 3, 4, 4, 2), _features(6, 3, 2, 2, 8)]
    fake = [_features(7, 3, 4, 4, 2), _features(8, 3, 2, 2, 8)]
    valid = np.array([True, True, False])
    loss = feature_matching.layer_feature_matching
    expected = loss([x[:2] for x in real], [x[:2] for x in fake])
    np.testing.assert_allclose(loss(real, fake, valid), expected, rtol=1e-6)
    value, gradient = jax.value_and_grad(loss, argnums=1)(real, fake, np.zeros(3, bool))
    assert value == 0.0
    chex.assert_trees_all_equal(gradient, jax.tree.map(jnp.zeros_like, fake))


def test_half_precision_gives_float32():
    half = jnp.ones((2, 3), jnp.bfloat16)
    assert feature_matching.mean_feature_matching(half, half).dtype == jnp.float32
    assert feature_matching.layer_feature_matching([half], [half]).dtype == jnp.float32


def test_lists_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError):
        feature_matching.layer_feature_matching([jnp.zeros((1, 2))], [])
    with pytest.raises(AssertionError):
        feature_matching.layer_feature_matching([jnp.zeros((1, 2))], [jnp.zeros((1, 3))])
    with pytest.raises(AssertionError):
        feature_matching.mean_feature_matching(jnp.zeros((1, 2)), jnp.zeros((1, 3)))


def test_multi_scale_is_the_mean_over_discriminators():
    gan = ADVERSARIAL["hinge"]
    real, fake = [jnp.full((2, n, n, 1), n / 4) for n in (4, 2)], [jnp.zeros((2, n, n, 1)) for n in (4, 2)]
    found = feature_matching.multi_scale(gan.discriminator, real, fake)
    np.testing.assert_allclose(found, np.mean([0.5 * (0 + 1), 0.5 * (0.5 + 1)]))
    np.testing.assert_allclose(feature_matching.multi_scale(gan.generator, real), -0.75)
    with pytest.raises(ValueError):
        feature_matching.multi_scale(gan.discriminator, real, fake[:1])

"""Max-pooling and its undoing: known answers, the textbook's values and gradients, and no scatter in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_seg_jax.models import layers


def textbook(x, window, *, stride, padding=0):
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1), sides)


def test_max_pool_has_the_known_answer():
    x = -jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)  # negative: padding with zeros would win
    np.testing.assert_array_equal(layers.max_pool(x, 3, stride=2, padding=1)[0, :, :, 0], [[-1, -2], [-5, -6]])
    np.testing.assert_array_equal(layers.max_pool(x, 2, stride=2)[0, :, :, 0], [[-1, -3], [-9, -11]])
    np.testing.assert_array_equal(layers.max_pool(x[:, :3], 2, stride=2)[0, :, :, 0], [[-1, -3]])


def test_the_gradient_goes_to_the_first_of_equal_values():
    x = jnp.array([[5.0, 5.0, 1.0], [5.0, 0.0, 2.0]]).reshape(1, 2, 3, 1)
    gradient = jax.grad(lambda x: jnp.sum(layers.max_pool(x, 2, stride=1) * jnp.array([3.0, 7.0]).reshape(1, 1, 2, 1)))
    np.testing.assert_array_equal(gradient(x)[0, :, :, 0], [[3, 7, 0], [0, 0, 0]])


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    window=st.integers(1, 3),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_max_pool_equals_the_textbook_in_values_and_gradients(height, width, window, stride, seed):
    # Few different integers: many equal values.
    x = jnp.round(jax.random.normal(jax.random.key(seed), (2, height, width, 2)))
    options = {"stride": stride, "padding": window // 2}

    @jax.jit  # one program for each example: operation by operation, every new size compiles dozens
    def values_and_gradients(x):
        y, pullback = jax.vjp(lambda x: layers.max_pool(x, window, **options), x)
        expected, textbook_pullback = jax.vjp(lambda x: textbook(x, window, **options), x)
        g = jnp.round(4 * jax.random.normal(jax.random.key(1), y.shape))
        return (y, *pullback(g)), (expected, *textbook_pullback(g))

    for found, expected in zip(*values_and_gradients(x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_second_derivative_under_vmap_and_bfloat16():
    x = jax.random.normal(jax.random.key(0), (3, 2, 4, 6, 2))
    pool = lambda x: layers.max_pool(x, 2, stride=2)
    gradient = jax.grad(lambda x: 0.5 * jnp.sum(pool(x) ** 2))  # each maximum at its place, zeros elsewhere
    penalty = jax.grad(lambda x: 0.5 * jnp.sum(gradient(x) ** 2))
    np.testing.assert_array_equal(jax.vmap(penalty)(x), jax.vmap(gradient)(x))
    np.testing.assert_array_equal(jax.vmap(pool)(jax.vmap(jnp.abs)(x)), jnp.stack([pool(jnp.abs(part)) for part in x]))
    assert pool(x[0].astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_gradient_is_compiled_without_scatter():
    x = jnp.zeros((2, 8, 8, 4))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layers.max_pool(x, 3, stride=2, padding=1) ** 2)))
    for platform in ("cpu", "cuda", "tpu"):
        assert "scatter" not in gradient.trace(x).lower(lowering_platforms=(platform,)).as_text()


def test_pooling_with_indices_and_unpooling_have_the_known_answer():
    x = jnp.array([[1.0, 9.0, 4.0, 4.0, 7.0], [2.0, 3.0, 4.0, 4.0, 7.0], [8.0, 8.0, 8.0, 8.0, 8.0]]).reshape(1, 3, 5, 1)
    y, index = layers.max_pool_with_indices(x)
    assert index.dtype == jnp.int8
    np.testing.assert_array_equal(y[0, :, :, 0], [[9, 4]])
    np.testing.assert_array_equal(index[0, :, :, 0], [[1, 0]])
    expected = [[0, 9, 4, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(layers.max_unpool(y, index, (3, 5))[0, :, :, 0], expected)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_unpooling_is_the_transpose_of_pooling(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    (y, index), pullback = jax.vjp(layers.max_pool_with_indices, x)
    g = jax.random.normal(jax.random.key(1), y.shape)
    unpooled, unpool_pullback = jax.vjp(lambda g: layers.max_unpool(g, index, size), g)
    np.testing.assert_array_equal(pullback((g, np.zeros(index.shape, jax.dtypes.float0)))[0], unpooled)
    # What pooling picks out of any map at these places is what the gradient of unpooling picks.
    np.testing.assert_array_equal(unpool_pullback(x)[0], y)
    assert jax.jit(layers.max_unpool, static_argnums=2)(g.astype(jnp.bfloat16), index, size).dtype == jnp.bfloat16

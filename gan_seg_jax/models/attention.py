"""Attention by scaled products (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

LINEAR_INIT = 0.02  # standard deviation of a transformer's matrices at the start


def linear(features: int, *, dtype: jnp.dtype, name: str) -> nn.Dense:
    """Return a matrix and a bias on the last axis, as transformers have them."""
    return nn.Dense(features, kernel_init=nn.initializers.normal(LINEAR_INIT), dtype=dtype, name=name)


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Return softmax(query key^T / sqrt(c)) value for each example and head; the softmax in float32.

    Args:
        query: float [b, n, heads, c].
        key: float [b, m, heads, c], of query's dtype.
        value: float [b, m, heads, c], of query's dtype.

    Returns:
        float [b, n, heads, c], of query's dtype.
    """
    scores = jnp.einsum("bnhc,bmhc->bhnm", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bmhc->bnhc", weights, value)

"""Max-pooling and its undoing, as dense operations: no scatter, so deterministic everywhere and fast on CPU.

XLA's gradient of a max-pool is select-and-scatter, which on CPU is 4 to 20 times slower than these forms and on GPU not
deterministic.
"""

import functools

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, window: int, *, stride: int, padding: int = 0) -> jax.Array:
    """Return the largest value in each window, of each channel.

    The gradient goes to the first of equal largest values, by rows, as in PyTorch.

    Args:
        x: float [b, h, w, c].
        window: side of the window (static).
        stride: step of the window (static).
        padding: how many values of -inf lie around the map on each side (static).

    Returns:
        float [b, h', w', c] of x's dtype, with h' = floor((h + 2 padding - window) / stride) + 1.
    """
    return _max_pool(x, window, stride, padding)


def max_pool_with_indices(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pool 2x2 with stride 2 and say where each largest value was (SegNet, https://arxiv.org/abs/1511.00561).

    Args:
        x: float [b, h, w, c].

    Returns:
        The pooled map, float [b, floor(h / 2), floor(w / 2), c] of x's dtype, and int8 of the same shape: 2 * row +
        column, in its window, of the first largest value.
    """
    y = max_pool(x, 2, stride=2)
    index = jnp.full(y.shape, 3, jnp.int8)
    for place, part in reversed(list(enumerate(_windows(x, 2, 2, 0)))):
        index = jnp.where(part == y, jnp.int8(place), index)
    return y, index


def max_unpool(x: jax.Array, index: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Put every value where `max_pool_with_indices` found it, zeros elsewhere.

    Args:
        x: float [b, floor(h / 2), floor(w / 2), c].
        index: int8 of x's shape, from `max_pool_with_indices`.
        size: height and width of the result (static).

    Returns:
        float [b, *size, c] of x's dtype.
    """
    return sum(_place(jnp.where(index == place, x, 0), divmod(place, 2), 2, size) for place in range(4))


def _windows(x, window, stride, padding):
    """Return the value at each place of the window, by rows, for all windows at once: a list of [b, h', w', c]."""
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = jnp.pad(x, sides, constant_values=-jnp.inf) if padding else x
    bottom, right = x.shape[1] - window + 1, x.shape[2] - window + 1
    return [x[:, i : bottom + i : stride, j : right + j : stride] for i in range(window) for j in range(window)]


def _place(part, offset, stride, size):
    """Return [b, *size, c] with the values of `part` at stride * m + offset and zeros elsewhere."""
    config = [(0, 0, 0)] * 4
    for axis in (1, 2):
        start = offset[axis - 1]
        config[axis] = (start, size[axis - 1] - 1 - (part.shape[axis] - 1) * stride - start, stride - 1)
    return jax.lax.pad(part, jnp.zeros((), part.dtype), config)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, stride, padding):
    return functools.reduce(jnp.maximum, _windows(x, window, stride, padding))


def _forward(x, window, stride, padding):
    y = _max_pool(x, window, stride, padding)
    return y, (x, y)


def _backward(window, stride, padding, xy, dy):
    x, y = xy
    taken, dx = jnp.zeros(y.shape, bool), 0
    for place, part in enumerate(_windows(x, window, stride, padding)):
        largest = (part == y) & ~taken
        taken |= largest
        row, column = divmod(place, window)
        dx += _place(jnp.where(largest, dy, 0), (row - padding, column - padding), stride, x.shape[1:3])
    return (dx,)


_max_pool.defvjp(_forward, _backward)

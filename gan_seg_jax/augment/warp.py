"""What moves pixels of an image and is not separable: rotation, shear and elastic deformation.

A map says, for each pixel of a crop, where in the canvas it lies; images are interpolated there, labels picked. That is
a gather. Rotation alone could be three shears, but each shifts every row by its own amount, which is a gather again or
a matrix for each row, and three interpolations blur; zoom, aspect, shift and mirror are separable and stay matrix
products (`resample`). Own code: dm-pix interpolates in three dimensions, eight pixels where four do, and smooths its
elastic field with zeros from outside, so that borders hardly move.
"""

import math

import chex
import jax
import jax.numpy as jnp


def affine(rotation: chex.Numeric, shear: tuple[chex.Numeric, chex.Numeric]) -> jax.Array:
    """Return the matrix from places in the crop to places in the canvas, both (row, column) from the centre.

        [ cos r, sin r] [1, tan a]
        [-sin r, cos r] [tan b, 1]

    Args:
        rotation: r, radians; the picture turns counter-clockwise.
        shear: a and b, radians.
    """
    cos, sin = jnp.cos(rotation), jnp.sin(rotation)
    turn = jnp.array([[cos, sin], [-sin, cos]])
    slant = jnp.array([[1.0, jnp.tan(shear[0])], [jnp.tan(shear[1]), 1.0]])
    return jnp.matmul(turn, slant, precision=jax.lax.Precision.HIGHEST)


def displacement(key: jax.Array, size: tuple[int, int], *, sigma: float) -> jax.Array:
    """Draw a smooth random field for an elastic deformation, of standard deviation 1 at every place.

        d(p) = sum_q g(p - q) n(q) / sqrt(sum_q g(p - q)^2),   n ~ N(0, 1),   g(x) = exp(-|x|^2 / (2 sigma^2))
    Simard, Steinkraus, Platt: Best Practices for Convolutional Neural Networks, ICDAR 2003, whose noise is uniform and
    whose field is not normalised, so that its strength depends on sigma. q are the points of a grid of spacing sigma,
    which reaches beyond the borders: no smoother, and a sigma-th of the work, which is two matrix products.

    Args:
        key: a PRNG key.
        size: h, w (static).
        sigma: smoothness, pixels, positive (static).

    Returns:
        float32 [h, w, 2], of rows and columns.
    """
    weights = [_smoothing(n, sigma) for n in size]
    noise = jax.random.normal(key, (weights[0].shape[1], weights[1].shape[1], 2))
    return jnp.einsum("hp,wq,pqc->hwc", *weights, noise, precision=jax.lax.Precision.HIGHEST)


def _smoothing(size: int, sigma: float) -> jax.Array:
    """Return float32 [size, grid points], rows of length 1: the Gaussian around each pixel."""
    points = jnp.arange(-3, math.ceil(size / sigma) + 4)
    distance = jnp.arange(size)[:, None] / sigma - points
    weights = jnp.exp(-0.5 * jnp.square(distance))
    return weights / jnp.linalg.norm(weights, axis=1, keepdims=True)


def places(
    size: tuple[int, int],
    starts: tuple[chex.Numeric, chex.Numeric],
    steps: tuple[chex.Numeric, chex.Numeric],
    *,
    matrix: jax.Array | None = None,
    moved: jax.Array | None = None,
) -> jax.Array:
    """Return where in the canvas each pixel of a crop has its centre.

        p = start + (A (u - n / 2) + d(u) + n / 2) step - 1/2,   u = j + 1/2 for pixel j of n

    Args:
        size: of the crop, n of each axis (static).
        starts: of each axis, as in `resample.source_coordinates`.
        steps: likewise.
        matrix: A, float [2, 2]; None is the identity.
        moved: d, float [h, w, 2], pixels of the crop; None is none.

    Returns:
        float32 [h, w, 2], rows and columns; pixel j of the canvas has its centre at j.
    """
    grid = jnp.meshgrid(*(jnp.arange(n) + (0.5 - 0.5 * n) for n in size), indexing="ij")
    if matrix is not None:
        grid = [matrix[axis, 0] * grid[0] + matrix[axis, 1] * grid[1] for axis in range(2)]
    if moved is not None:
        grid = [grid[axis] + moved[..., axis] for axis in range(2)]
    return jnp.stack([starts[i] + (grid[i] + 0.5 * size[i]) * steps[i] - 0.5 for i in range(2)], axis=-1)


def within(where: jax.Array, content: jax.Array) -> jax.Array:
    """Return bool [h, w]: the places, of `places`, that lie in the first content[0] rows and content[1] columns."""
    return jnp.all((where >= -0.5) & (where < content - 0.5), axis=-1)


def pick(x: jax.Array, where: jax.Array, content: jax.Array) -> jax.Array:
    """Return x [H, W, ...] at the pixel of its content that is nearest to each place, [h, w, ...]."""
    index = jnp.clip(jnp.floor(where + 0.5), 0, content - 1).astype(jnp.int32)
    return x[index[..., 0], index[..., 1]]


def interpolate(x: jax.Array, where: jax.Array, content: jax.Array) -> jax.Array:
    """Return x, float [H, W, c], between the four pixels of its content around each place, [h, w, c]."""
    where = jnp.clip(where, 0.0, content - 1.0)
    first = jnp.floor(where).astype(jnp.int32)
    second = jnp.minimum(first + 1, content - 1)
    down, right = jnp.moveaxis(where - first, -1, 0)[..., None]
    upper, lower = (
        (1.0 - right) * x[row, first[..., 1]] + right * x[row, second[..., 1]]
        for row in (first[..., 0], second[..., 0])
    )
    return (1.0 - down) * upper + down * lower

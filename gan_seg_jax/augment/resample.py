"""Separable resampling as two matrix products, with sizes and offsets that may be traced.

Scaling, cropping and mirroring of an image are separable, so each is a matrix per axis: one compilation serves
images of every size, and on accelerators the work is a matrix product rather than a gather. Pixel centres are at
half integers (`align_corners=False`), as in Pillow and `jax.image.resize`.
"""

import chex
import jax
import jax.numpy as jnp


def source_coordinates(out_size: int, *, start: chex.Numeric, step: chex.Numeric, first: chex.Numeric = 0) -> jax.Array:
    """Return where in the source axis each output pixel has its centre.

    Args:
        out_size: number of output pixels (static).
        start: position in the source, in source pixels from the axis' left border, of the output's left border.
        step: source pixels per output pixel; negative mirrors.
        first: which pixel of the output is the first of these.

    Returns:
        float32 [out_size]; pixel j of the source has its centre at j.
    """
    return start + (jnp.arange(out_size, dtype=jnp.float32) + (first + 0.5)) * step - 0.5


def bilinear_weights(
    coordinates: jax.Array, *, in_size: int, content: chex.Numeric, step: chex.Numeric | None = None
) -> jax.Array:
    """Return the matrix that interpolates a source axis at `coordinates`.

    The kernel is a triangle of half-width max(1, step): plain bilinear when enlarging, anti-aliased when shrinking
    (as Pillow's BILINEAR). Only the first `content` source pixels are read; coordinates outside are clamped to them.

    Args:
        coordinates: float32 [n], from `source_coordinates` (equally spaced).
        in_size: length of the source axis (static).
        content: how many source pixels, from the start, hold the image; may be traced.
        step: source pixels per coordinate; None measures it, which is rounded otherwise for each part of an axis.

    Returns:
        float32 [n, in_size], rows sum to 1.
    """
    chex.assert_rank(coordinates, 1)
    if step is None:
        step = jnp.abs(coordinates[1] - coordinates[0]) if coordinates.shape[0] > 1 else jnp.float32(content)
    width = jnp.maximum(1.0, step)
    centre = jnp.clip(coordinates, 0.0, content - 1.0)
    pixel = jnp.arange(in_size, dtype=jnp.float32)
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(centre[:, None] - pixel) / width)
    weights = jnp.where(pixel < content, weights, 0.0)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def nearest_index(coordinates: jax.Array, *, content: chex.Numeric) -> jax.Array:
    """Return int32 [n]: the source pixel nearest to each coordinate, within the first `content` pixels."""
    return jnp.clip(jnp.floor(coordinates + 0.5), 0, content - 1).astype(jnp.int32)


def resize_bilinear(
    x: jax.Array, content: jax.Array, target: jax.Array, *, out_size: tuple[int, int], first: chex.Numeric = 0
) -> jax.Array:
    """Resize the content of each padded map to its own target size, or return some rows of the result.

    Args:
        x: float [b, h, w, c]; image i occupies rows < content[i, 0] and columns < content[i, 1].
        content: int32 [b, 2], height and width of what `x` holds.
        target: int32 [b, 2], height and width to resize to.
        out_size: height and width of the returned maps (static).
        first: which row of the result is the first that is returned; may be traced.

    Returns:
        float [b, *out_size, c]; pixels beyond `target` have no meaning.
    """
    chex.assert_rank([x, content, target], [4, 2, 2])

    def one(x, content, target):
        def weights(axis, first):
            step = content[axis] / target[axis].astype(jnp.float32)
            coordinates = source_coordinates(out_size[axis], start=0.0, step=step, first=first)
            return bilinear_weights(coordinates, in_size=x.shape[axis], content=content[axis], step=step)

        return apply_weights(x, weights(0, first), weights(1, 0))

    return jax.vmap(one)(x, content, target)


def apply_weights(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Return float [m, n, c] from x [h, w, c], rows [m, h] and columns [n, w], in full float32 precision."""
    precision = jax.lax.Precision.HIGHEST
    x = jnp.einsum("mh,hwc->mwc", rows, x, precision=precision)
    return jnp.einsum("nw,mwc->mnc", columns, x, precision=precision)

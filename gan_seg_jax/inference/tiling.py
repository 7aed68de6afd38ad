"""Sliding windows: a dense prediction on an image that is larger than what the network should see at once.

Windows lie on a fixed grid that is known when the program is compiled, overlap, and are blended with weights that fall
linearly from each window's centre to its border, so that no seam shows. The windows run one after the other: memory
beyond the image's own maps is that of one window.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np


def starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Return where the windows begin along one axis; the last one ends flush with the border.

    Args:
        length: of the axis, in pixels.
        window: of each window, in pixels; 1 to `length`.
        overlap: share of a window that its successor covers again, 0 <= overlap < 1.
    """
    stride = max(1, round(window * (1.0 - overlap)))
    return (*range(0, length - window, stride), length - window)


def blending_weights(window: int) -> np.ndarray:
    """Return float32 [window]: a triangle over one axis, highest in the middle, positive everywhere."""
    return (1.0 - np.abs(2.0 * (np.arange(window) + 0.5) / window - 1.0)).astype(np.float32)


def blend(
    function: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    *,
    window: tuple[int, int],
    overlap: float,
    channels: int,
) -> jax.Array:
    """Apply `function` to overlapping windows of an image; return the weighted mean of what it gives for each pixel.

        out(x) = sum_i w(x - x_i) function(window i)(x - x_i) / sum_i w(x - x_i),  x_i the corner of window i

    Exact for a function that looks at each pixel alone; any other sees less of the surroundings at a window's borders,
    where w is small.

    Args:
        function: from [b, h, w, c] to float [b, h, w, channels], at the size of the window.
        image: [b, H, W, c].
        window: (height, width) in pixels; cut to the image where it is larger (static).
        overlap: share of a window that its successor covers again (static).
        channels: what `function` returns for each pixel.

    Returns:
        float32 [b, H, W, channels].
    """
    chex.assert_rank(image, 4)
    batch, *size, depth = image.shape
    window = tuple(min(n, whole) for n, whole in zip(window, size, strict=True))
    rows, columns = (starts(whole, n, overlap) for whole, n in zip(size, window, strict=True))
    corners = np.array([(top, left) for top in rows for left in columns], np.int32)
    kernel = np.outer(blending_weights(window[0]), blending_weights(window[1]))[..., None]
    share = np.zeros((*size, 1), np.float32)
    for top, left in corners:
        share[top : top + window[0], left : left + window[1]] += kernel

    def add(total, corner):
        place = (0, corner[0], corner[1], 0)
        scores = function(jax.lax.dynamic_slice(image, place, (batch, *window, depth)))
        before = jax.lax.dynamic_slice(total, place, (batch, *window, channels))
        return jax.lax.dynamic_update_slice(total, before + kernel * scores, place), None

    total, _ = jax.lax.scan(add, jnp.zeros((batch, *size, channels)), corners)
    return total / share

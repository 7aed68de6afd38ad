"""Cross-entropy that counts pixels near the boundary between classes more, as U-Net's weight map does."""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.losses import segmentation


def boundary_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    strength: float = 10.0,
    sigma: float = 5.0,
    class_weights: chex.Array | Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Compute the cross-entropy weighted by `boundary_weight`, a mean over known pixels.

    With l_i the cross-entropy of pixel i, w the class weights and v the map:
        loss = sum_i w[y_i] v_i l_i / sum_i w[y_i] v_i

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        strength: of the map, not negative; 0 is `cross_entropy`.
        sigma: of the map, in pixels, above 0 (static).
        class_weights: k numbers, not negative; or None.
        label_smoothing: as in `cross_entropy`.

    Returns:
        float32 scalar; 0, with zero gradient, where no pixel is known.
    """
    loss, weight = segmentation.pixel_cross_entropy(
        logits, label, class_weights=class_weights, label_smoothing=label_smoothing
    )
    near = boundary_weight(label, num_classes=logits.shape[-1], strength=strength, sigma=sigma)
    return segmentation.weighted_mean(loss, near * weight)


def boundary_weight(label: jax.Array, *, num_classes: int, strength: float = 10.0, sigma: float = 5.0) -> jax.Array:
    """Return the weight of each pixel by its distance to the nearest boundary between classes.

        v = 1 + strength exp(-d^2 / (2 sigma^2)),   d = `boundary_distance`, v = 1 where d > 3 sigma

    After Ronneberger et al. 2015, U-Net (arXiv:1505.04597), equation 2, whose exponent holds d1 + d2, the distances to
    the nearest and the second nearest *cell*: it marks the gaps between touching cells only, and needs instances.
    Labels have classes, so every boundary between classes is marked here, on both sides. Their w_c are class weights.

    Args:
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: number of classes.
        strength: w_0 of the paper, 10 there.
        sigma: in pixels, 5 in the paper (static).

    Returns:
        float32 [b, h, w], 1..1 + strength.
    """
    squared = squared_boundary_distance(label, num_classes=num_classes, radius=math.ceil(3 * sigma))
    near = squared <= (3 * sigma) ** 2
    return 1.0 + strength * jnp.where(near, jnp.exp(-squared / (2 * sigma**2)), 0.0)


def squared_boundary_distance(label: jax.Array, *, num_classes: int, radius: int) -> jax.Array:
    """Return the squared distance of each pixel to the nearest pixel on a boundary, exact up to `radius`.

    A pixel is on a boundary where one of its four neighbours is of another class; ignored pixels are of no class and
    the border of the image is no boundary. Squared Euclidean distance is a sum over the axes, so its minimum is taken
    along the rows and then along the columns, each over 2 radius + 1 shifts: no loop over pixels, no sorting.

    Args:
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: number of classes.
        radius: in pixels (static).

    Returns:
        float32 [b, h, w], pixels^2, 0 on a boundary; larger than radius^2, and possibly inf, where none is so near.
    """
    chex.assert_rank(label, 3)
    label = jnp.where(segmentation.known(label, num_classes), label.astype(jnp.int32), -1)
    is_boundary = jnp.zeros(label.shape, bool)
    for axis in (1, 2):
        first = jax.lax.slice_in_dim(label, 0, -1, axis=axis)
        second = jax.lax.slice_in_dim(label, 1, None, axis=axis)
        differs = (first != second) & (first >= 0) & (second >= 0)
        for before in (0, 1):
            pad = [(before, 1 - before) if i == axis else (0, 0) for i in range(3)]
            is_boundary |= jnp.pad(differs, pad)
    squared = jnp.where(is_boundary, 0.0, jnp.inf)
    for axis in (1, 2):
        size = label.shape[axis]
        padded = jnp.pad(
            squared, [(radius, radius) if i == axis else (0, 0) for i in range(3)], constant_values=jnp.inf
        )
        for shift in range(2 * radius + 1):
            shifted = jax.lax.slice_in_dim(padded, shift, shift + size, axis=axis)
            squared = jnp.minimum(squared, shifted + (shift - radius) ** 2)
    return squared

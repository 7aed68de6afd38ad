"""Cross-entropy of the hardest pixels of each image (online hard example mining, bootstrapping)."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.losses import segmentation


def hard_pixel_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    fraction: float = 0.25,
    class_weights: chex.Array | Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Compute the mean cross-entropy of the pixels of each image in which it is largest.

    With l_i the cross-entropy of pixel i, w its class weight and n the known pixels of its image (w > 0):
        loss = sum_i chosen_i w[y_i] l_i / sum_i chosen_i w[y_i]
    where the max(1, round(fraction n)) pixels of largest w[y_i] l_i are chosen.
    Shrivastava et al. 2016, Training Region-based Object Detectors with Online Hard Example Mining (arXiv:1604.03540),
    for pixels: Wu et al. 2016, High-performance Semantic Segmentation Using Very Deep FCNs (arXiv:1604.04339), who
    take a number of pixels instead of a share. Where pixels tie at the threshold, each counts by the share of them
    that is needed, so neither the count nor the gradient depends on an order of pixels.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        fraction: share of an image's known pixels that counts, above 0, at most 1 (static); 1 is `cross_entropy`.
        class_weights: k numbers, not negative; or None.
        label_smoothing: as in `cross_entropy`.

    Returns:
        float32 scalar; 0, with zero gradient, where no pixel is known.
    """
    loss, weight = segmentation.pixel_cross_entropy(
        logits, label, class_weights=class_weights, label_smoothing=label_smoothing
    )
    hardness = jax.lax.stop_gradient(jnp.where(weight > 0, weight * loss, -jnp.inf)).reshape(len(loss), -1)
    chosen = jax.vmap(lambda values: _largest(values, fraction))(hardness).reshape(loss.shape)
    return segmentation.weighted_mean(loss, chosen * weight)


def _largest(values: jax.Array, fraction: float) -> jax.Array:
    """Return float32 [n]: 1 for the largest values, a share where they tie at the threshold, 0 for the rest.

    Args:
        values: float32 [n]; -inf does not count.
        fraction: share of the values that count to be taken.
    """
    total = jnp.sum(values > -jnp.inf)
    count = jnp.maximum(jnp.round(fraction * total).astype(jnp.int32), 1)
    threshold = jnp.sort(values)[values.size - count]
    above, tied = values > threshold, (values == threshold) & (values > -jnp.inf)
    share = (count - jnp.sum(above)) / jnp.maximum(jnp.sum(tied), 1)
    return above + tied * share

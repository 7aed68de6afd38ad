"""Lovasz-softmax: the convex extension of 1 - IoU, so that training descends what evaluation measures."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax.losses import segmentation


def lovasz_softmax(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Compute the Lovasz extension of 1 - IoU at the errors of each class, a mean over the classes in the labels.

    With p = softmax(logits), the error of pixel i for class c is m_i = 1 - p_ic where its label is c, else p_ic. Sorted
    from the largest, m_(1) >= m_(2) >= ...,
        loss_c = sum_j m_(j) (J_j - J_(j-1)),
        J_j = 1 - |labelled c and not in the first j| / |labelled c or in the first j|
    J_j is 1 - IoU of class c if exactly the first j pixels were wrong, so at errors of 0 and 1 the loss is 1 - IoU.
    Berman et al. 2018, The Lovasz-Softmax Loss (arXiv:1705.08790), equations 9 and 11 and algorithm 1, over all known
    pixels of the batch (the paper's choice for the IoU of a data set), with its "classes present".

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.

    Returns:
        float32 scalar, 0..1; 0, with zero gradient, where no pixel is known.
    """
    chex.assert_rank([logits, label], [4, 3])
    chex.assert_equal_shape_prefix([logits, label], 3)
    num_classes = logits.shape[-1]
    probabilities = jnp.moveaxis(jax.nn.softmax(logits.astype(jnp.float32)), -1, 0).reshape(num_classes, -1)
    is_class = label.reshape(1, -1) == jnp.arange(num_classes)[:, None]
    is_known = segmentation.known(label, num_classes).reshape(1, -1)
    errors = jnp.where(is_known, jnp.where(is_class, 1.0 - probabilities, probabilities), 0.0)
    # Errors are at least 0, where the bits of floats are in the order of the floats.
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(errors), jnp.uint32)
    order = _argsort(jnp.where(is_known, jnp.uint32(0x7FFFFFFF) - bits, jnp.uint32(0xFFFFFFFF)))
    slopes = jnp.where(is_known, jax.vmap(_jaccard_slopes)(order, is_class), 0.0)
    return segmentation.weighted_mean(jnp.sum(slopes * errors, axis=1), jnp.any(is_class, axis=1).astype(jnp.float32))


def _jaccard_slopes(order: jax.Array, is_class: jax.Array) -> jax.Array:
    """Return by how much J grows where each pixel, in this order, becomes wrong too.

    J = 1 - hits / union. A pixel of the class leaves the hits; any other joins the union. The differences are written
    out, because those of J in float32 would lose most digits where pixels are many.

    Args:
        order: int32 [n], the pixels from the largest error.
        is_class: bool [n], whether the pixel is labelled with the class.

    Returns:
        float32 [n].
    """
    sorted_class = is_class[order]
    total = jnp.sum(sorted_class)
    hits = (total - jnp.cumsum(sorted_class)).astype(jnp.float32)
    union = (total + jnp.cumsum(~sorted_class)).astype(jnp.float32)
    slopes = jnp.where(sorted_class, 1.0, hits / jnp.maximum(union - 1.0, 1.0)) / jnp.maximum(union, 1.0)
    return jnp.zeros_like(slopes).at[order].set(slopes, unique_indices=True)


def _argsort(keys: jax.Array) -> jax.Array:
    """Return the indices, int32 [k, n], that sort each row of `keys`, uint32 [k, n].

    XLA's CPU sort of two arrays calls a comparison function for each pair and takes several times as long as that of
    one; there, key and index are sorted as one number of 64 bits.
    """

    def packed(keys):
        index = jax.lax.broadcasted_iota(jnp.uint32, keys.shape, 1)
        with jax.enable_x64(True):
            key, index = (jax.lax.convert_element_type(x, np.uint64) for x in (keys, index))
            shift, mask = (jax.lax.full(keys.shape, number, np.uint64) for number in (32, 0xFFFFFFFF))
            ordered = jax.lax.sort(jax.lax.shift_left(key, shift) | index, dimension=1)
            return jax.lax.convert_element_type(ordered & mask, np.int32)

    return jax.lax.platform_dependent(keys, cpu=packed, default=lambda keys: jnp.argsort(keys, axis=1))

"""Lovasz-softmax: the convex extension of 1 - IoU, so that training descends what evaluation measures."""

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.losses import segmentation

STEPS = 4096
"""Of the range of errors, 0..1, in which a CPU puts them in order."""


def lovasz_softmax(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Compute the Lovasz extension of 1 - IoU at the errors of each class, a mean over the classes in the labels.

    With p = softmax(logits), the error of pixel i for class c is m_i = 1 - p_ic where its label is c, else p_ic. Sorted
    from the largest, m_(1) >= m_(2) >= ...,
        loss_c = sum_j m_(j) (J_j - J_(j-1)),
        J_j = 1 - |labelled c and not in the first j| / |labelled c or in the first j|
    J_j is 1 - IoU of class c if exactly the first j pixels were wrong, so at errors of 0 and 1 the loss is 1 - IoU.
    Berman et al. 2018, The Lovasz-Softmax Loss (arXiv:1705.08790), equations 9 and 11 and algorithm 1, over all known
    pixels of the batch (the paper's choice for the IoU of a data set), with its "classes present". On a CPU
    errors less than 1 / STEPS apart count as equal in the order, which changes the loss by less than that.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.

    Returns:
        float32 scalar, 0..1; 0, with zero gradient, where no pixel is known.
    """
    chex.assert_rank([logits, label], [4, 3])
    chex.assert_equal_shape_prefix([logits, label], 3)
    num_classes = logits.shape[-1]
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    is_class = label[..., None] == jnp.arange(num_classes)
    is_known = segmentation.known(label, num_classes)[..., None]
    errors = jnp.where(is_known, jnp.where(is_class, 1.0 - probabilities, probabilities), 0.0)
    facts = jax.lax.stop_gradient(errors), is_class, is_known
    # A TPU counts one pixel after another: it would move 19 times the bytes of its sort.
    slopes = jax.lax.platform_dependent(*facts, cpu=_slopes_by_counts, default=_slopes_by_sort)
    slopes = jnp.where(is_known, slopes, 0.0)
    losses = jnp.sum(slopes * errors, axis=(0, 1, 2))
    return segmentation.weighted_mean(losses, jnp.any(is_class, axis=(0, 1, 2)).astype(jnp.float32))


def _slopes_by_sort(errors: jax.Array, is_class: jax.Array, is_known: jax.Array) -> jax.Array:
    """Return by how much J grows where each pixel becomes wrong too, after those of larger errors.

    J = 1 - hits / union. A pixel of the class leaves the hits; any other joins the union. The differences are written
    out, because those of J in float32 would lose most digits where pixels are many.

    Args:
        errors: float32 [..., k], 0..1.
        is_class: bool [..., k], whether the pixel is labelled with the class.
        is_known: bool [..., 1], whether the pixel has a label.

    Returns:
        float32 [..., k]; of no meaning where the pixel has none.
    """
    by_class = lambda x: jnp.moveaxis(jnp.broadcast_to(x, errors.shape), -1, 0).reshape(errors.shape[-1], -1)
    # Errors are at least 0, where the bits of floats are in the order of the floats.
    keys = jnp.uint32(0x7FFFFFFF) - jax.lax.bitcast_convert_type(errors, jnp.uint32)
    order = jnp.argsort(by_class(jnp.where(is_known, keys, jnp.uint32(0xFFFFFFFF))), axis=1)
    is_class = jnp.take_along_axis(by_class(is_class), order, axis=1)
    total = jnp.sum(is_class, axis=1, keepdims=True)
    hits = (total - jnp.cumsum(is_class, axis=1)).astype(jnp.float32)
    union = (total + jnp.cumsum(~is_class, axis=1)).astype(jnp.float32)
    slopes = jnp.where(is_class, 1.0, hits / jnp.maximum(union - 1.0, 1.0)) / jnp.maximum(union, 1.0)
    slopes = jax.vmap(lambda x, places: jnp.zeros_like(x).at[places].set(x, unique_indices=True))(slopes, order)
    return jnp.moveaxis(slopes.reshape(errors.shape[-1], *errors.shape[:-1]), 0, -1)


def _slopes_by_counts(errors: jax.Array, is_class: jax.Array, is_known: jax.Array) -> jax.Array:
    """Return what `_slopes_by_sort` does, of errors that are ordered by 1 / STEPS alone, in a fifth of its time.

    Counts of the pixels in each step of errors do what the sort does; within a step, those of the class come last.
    """
    num_classes = errors.shape[-1]
    step = STEPS - 1 - jnp.minimum((errors * STEPS).astype(jnp.int32), STEPS - 1)  # from the largest error
    cell = (jnp.arange(num_classes) * 2 + is_class) * STEPS + step
    counts = jnp.zeros(num_classes * 2 * STEPS, jnp.int32).at[cell].add(jnp.broadcast_to(is_known, cell.shape))
    others, members = jnp.moveaxis(counts.reshape(num_classes, 2, STEPS), 1, 0)
    total = jnp.sum(members, axis=1, keepdims=True)
    hits = (total - jnp.cumsum(members, axis=1) + members).astype(jnp.float32)  # before the step
    union_after = (total + jnp.cumsum(others, axis=1)).astype(jnp.float32)
    union = jnp.maximum(union_after - others, 1.0)
    union_after = jnp.maximum(union_after, 1.0)
    return jnp.stack([hits / (union * union_after), 1.0 / union_after], axis=1).reshape(-1)[cell]

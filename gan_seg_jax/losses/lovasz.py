"""Lovasz-softmax: the convex extension of 1 - IoU, so that training descends what evaluation measures."""

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.losses import segmentation

STEPS = 4096
"""Of the range of errors, 0..1, in which they are put in order."""


def lovasz_softmax(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Compute the Lovasz extension of 1 - IoU at the errors of each class, a mean over the classes in the labels.

    With p = softmax(logits), the error of pixel i for class c is m_i = 1 - p_ic where its label is c, else p_ic. Sorted
    from the largest, m_(1) >= m_(2) >= ...,
        loss_c = sum_j m_(j) (J_j - J_(j-1)),
        J_j = 1 - |labelled c and not in the first j| / |labelled c or in the first j|
    J_j is 1 - IoU of class c if exactly the first j pixels were wrong, so at errors of 0 and 1 the loss is 1 - IoU.
    Berman et al. 2018, The Lovasz-Softmax Loss (arXiv:1705.08790), equations 9 and 11 and algorithm 1, over all known
    pixels of the batch (the paper's choice for the IoU of a data set), with its "classes present". Errors less than
    1 / STEPS apart count as equal in the order, which changes the loss by less than that.

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
    slopes = jnp.where(is_known, _jaccard_slopes(jax.lax.stop_gradient(errors), is_class, is_known), 0.0)
    losses = jnp.sum(slopes * errors, axis=(0, 1, 2))
    return segmentation.weighted_mean(losses, jnp.any(is_class, axis=(0, 1, 2)).astype(jnp.float32))


def _jaccard_slopes(errors: jax.Array, is_class: jax.Array, is_known: jax.Array) -> jax.Array:
    """Return by how much J grows where each pixel becomes wrong too, after those of larger errors.

    J = 1 - hits / union. A pixel of the class leaves the hits; any other joins the union. Counts of the pixels in each
    step of errors do what a sort does, in a fifth of its time; within a step, those of the class come last.

    Args:
        errors: float32 [..., k], 0..1.
        is_class: bool [..., k], whether the pixel is labelled with the class.
        is_known: bool [..., 1], whether the pixel has a label.

    Returns:
        float32 [..., k]; of no meaning where the pixel has none.
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

"""Losses on the overlap of regions: each class counts the same, however few pixels it has."""

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.losses import segmentation


def dice(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Compute 1 - soft Dice, a mean over the classes that the labels hold.

        dice_c = 2 sum_i p_ic g_ic / (sum_i p_ic + sum_i g_ic),   p = softmax(logits), g the one-hot label

    Milletari et al. 2016, V-Net (arXiv:1606.04797), equation in section 3, there for one foreground class and with
    squares in the denominator. Regions, absent classes and ignored pixels are as in `tversky`, of which it is the case
    alpha = beta = 1/2.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.

    Returns:
        float32 scalar, 0..1; 0, with zero gradient, where no pixel is known.
    """
    return tversky(logits, label, alpha=0.5, beta=0.5)


def tversky(logits: jax.Array, label: jax.Array, *, alpha: float = 0.3, beta: float = 0.7) -> jax.Array:
    """Compute 1 - Tversky's index, a mean over the classes that the labels hold.

        index_c = TP_c / (TP_c + alpha FP_c + beta FN_c),
        TP_c = sum_i p_ic g_ic,  FP_c = sum_i p_ic (1 - g_ic),  FN_c = sum_i (1 - p_ic) g_ic

    with p = softmax(logits), g the one-hot label and sums over the known pixels of the whole batch, so that a class
    which one image shows little of is not judged by these few pixels. Salehi et al. 2017, Tversky Loss Function
    (arXiv:1706.05721), equation 3, there for two classes. A class without a pixel in the labels has index 0 whatever
    is predicted: it is left out of the mean, and what is wrongly predicted as it is missing in the TP of the others.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        alpha: price of a false positive, not negative.
        beta: price of a false negative, not negative; larger than alpha asks for recall.

    Returns:
        float32 scalar, 0..1; 0, with zero gradient, where no pixel is known.
    """
    chex.assert_rank([logits, label], [4, 3])
    chex.assert_equal_shape_prefix([logits, label], 3)
    num_classes = logits.shape[-1]
    truth = segmentation.one_hot(label, num_classes)
    is_known = segmentation.known(label, num_classes)
    prediction = jnp.where(is_known[..., None], jax.nn.softmax(logits.astype(jnp.float32)), 0.0)
    hits = jnp.sum(prediction * truth, axis=(0, 1, 2))
    false_positives = jnp.sum(prediction, axis=(0, 1, 2)) - hits
    pixels = jnp.sum(truth, axis=(0, 1, 2))
    size = hits + alpha * false_positives + beta * (pixels - hits)
    index = hits / jnp.where(size > 0, size, 1.0)  # 0 where beta is 0 and the class is never predicted
    return segmentation.weighted_mean(1.0 - index, (pixels > 0).astype(jnp.float32))

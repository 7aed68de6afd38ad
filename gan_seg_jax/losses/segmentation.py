"""Losses of a segmentation against its label map.

Every loss is a mean over *known* pixels: those whose label is a class. Ignored pixels (label 255), and labels that
are no class at all, count as if they had been cut out of the image; they are masked before anything is looked up by
them, since JAX reads an index that is out of range without complaint (-1 is the last class, 255 gives NaN).
Where nothing is known a loss is 0 and so is its gradient.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.labels import IGNORE


def known(label: jax.Array, num_classes: int = IGNORE) -> jax.Array:
    """Tell which pixels have a class.

    Args:
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: labels from here on are not classes either.

    Returns:
        bool [b, h, w].
    """
    return (label >= 0) & (label < num_classes) & (label != IGNORE)


def one_hot(label: jax.Array, num_classes: int) -> jax.Array:
    """Return the mask of each class.

    An all-zero column tells a discriminator that it sees the truth: fill ignored pixels with the prediction, or zero
    the same pixels of the prediction, before showing either.

    Args:
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: number of classes k, at most 255.

    Returns:
        float32 [b, h, w, k]: 1 at the pixel's class, all zeros where the pixel is ignored.
    """
    return (label[..., None] == jnp.arange(num_classes)).astype(jnp.float32)


def pixel_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: chex.Array | Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the cross-entropy of each pixel and how much the pixel counts.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        class_weights: k numbers, not negative; or None, all 1.
        label_smoothing: share of the target spread evenly over all classes, 0..1.

    Returns:
        The loss, float32 [b, h, w], to be used where the weight is not 0 only, and the weight of the pixel's class,
        float32 [b, h, w], 0 where the pixel is not known.
    """
    chex.assert_rank([logits, label], [4, 3])
    chex.assert_equal_shape_prefix([logits, label], 3)
    num_classes = logits.shape[-1]
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # A comparison instead of a gather: the same time on CPU, parallel on accelerators, and no index to go wrong.
    is_class = label[..., None] == jnp.arange(num_classes)
    is_known = known(label, num_classes)
    loss = -jnp.sum(jnp.where(is_class, log_probabilities, 0.0), axis=-1)
    if label_smoothing:
        uniform_loss = -jnp.mean(log_probabilities, axis=-1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * uniform_loss
    if class_weights is None:
        return loss, is_known.astype(jnp.float32)
    class_weights = jnp.asarray(class_weights, jnp.float32)
    chex.assert_shape(class_weights, (num_classes,))
    return loss, jnp.sum(jnp.where(is_class & is_known[..., None], class_weights, 0.0), axis=-1)


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: chex.Array | Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Compute the cross-entropy of softmax(logits), a mean over known pixels.

    With y the label of a pixel, p the softmax, w the class weights (1 by default) and s the smoothing:
        loss = sum_i w[y_i] * -((1 - s) log p_i[y_i] + s / k sum_c log p_i[c])  /  sum_i w[y_i]
    so the scale does not depend on batch, size, share of ignored pixels or scale of the weights. Smoothing: Szegedy
    et al. 2016, Rethinking the Inception Architecture (arXiv:1512.00567).

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        class_weights: k numbers, not negative; or None.
        label_smoothing: share s of the target spread evenly over all classes, 0..1.

    Returns:
        float32 scalar; 0, with zero gradient, where no pixel is known.
    """
    return weighted_mean(
        *pixel_cross_entropy(logits, label, class_weights=class_weights, label_smoothing=label_smoothing)
    )


def focal(
    logits: jax.Array,
    label: jax.Array,
    *,
    gamma: float = 2.0,
    class_weights: chex.Array | Sequence[float] | None = None,
) -> jax.Array:
    """Compute the focal loss, a cross-entropy that counts what is classified well less, a mean over known pixels.

    With y the label of a pixel, p the softmax and w the class weights:
        loss = sum_i w[y_i] (1 - p_i[y_i])^gamma * -log p_i[y_i]  /  sum_i w[y_i]
    Lin et al. 2017, Focal Loss for Dense Object Detection (arXiv:1708.02002), equation 5, for a softmax over k classes
    instead of a sigmoid for each, and divided by all known pixels instead of those that are not background. 0 is the
    cross-entropy.

    Args:
        logits: float [b, h, w, k]; computed in float32 whatever the dtype.
        label: int [b, h, w], class ids, 255 = ignore.
        gamma: exponent, at least 0; 2 in the paper.
        class_weights: k numbers, not negative (alpha in the paper); or None.

    Returns:
        float32 scalar; 0, with zero gradient, where no pixel is known.
    """
    loss, weight = pixel_cross_entropy(logits, label, class_weights=class_weights)
    # The bound is for 0 < gamma < 1, whose power has no derivative at 0.
    missed = jnp.maximum(-jnp.expm1(-loss), 1e-12)
    return weighted_mean(missed**gamma * loss, weight)


def l1(prediction: jax.Array, target: jax.Array, known: jax.Array | None = None) -> jax.Array:
    """Compute the mean absolute difference over known pixels and all channels.

        loss = sum_i known_i sum_c |prediction_ic - target_ic| / (channels * sum_i known_i)

    The L1 term of pix2pix (Isola et al. 2017, arXiv:1611.07004), there over the pixels of an image; on class
    probabilities against a one-hot mask it is at most 2 / k.

    Args:
        prediction: float [b, h, w, c].
        target: float [b, h, w, c].
        known: bool [b, h, w], the pixels that count; None = all.

    Returns:
        float32 scalar; 0, with zero gradient, where no pixel is known.
    """
    return _mean_difference(jnp.abs, prediction, target, known)


def mse(prediction: jax.Array, target: jax.Array, known: jax.Array | None = None) -> jax.Array:
    """Compute the mean squared difference over known pixels and all channels.

        loss = sum_i known_i sum_c (prediction_ic - target_ic)^2 / (channels * sum_i known_i)

    On class probabilities against a one-hot mask it is Brier's score (Brier 1950, Verification of Forecasts Expressed
    in Terms of Probability) divided by k, at most 2 / k.

    Args:
        prediction: float [b, h, w, c].
        target: float [b, h, w, c].
        known: bool [b, h, w], the pixels that count; None = all.

    Returns:
        float32 scalar; 0, with zero gradient, where no pixel is known.
    """
    return _mean_difference(jnp.square, prediction, target, known)


def _mean_difference(size: Callable, prediction: jax.Array, target: jax.Array, known: jax.Array | None) -> jax.Array:
    chex.assert_rank([prediction, target], 4)
    chex.assert_equal_shape([prediction, target])
    pixel_loss = jnp.mean(size(prediction.astype(jnp.float32) - target.astype(jnp.float32)), axis=-1)
    if known is None:
        return jnp.mean(pixel_loss)
    chex.assert_equal_shape([pixel_loss, known])
    return weighted_mean(pixel_loss, known.astype(jnp.float32))


def weighted_mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Return sum(weight * values) / sum(weight), or 0 where all weights are 0.

    Args:
        values: float32, any shape.
        weight: float32, the same shape, not negative.

    Returns:
        float32 scalar.
    """
    total = jnp.sum(weight)
    return jnp.sum(weight * values) / jnp.where(total > 0, total, 1.0)

"""Distances between what a discriminator computes inside for real and for fake examples.

The generator descends these in place of, or beside, the discriminator's score; a critic may climb them (SegAN).
Gradients reach both sides; a player whose networks made only one of them moves by that one alone.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp


def mean_feature_matching(
    real_features: jax.Array,
    fake_features: jax.Array,
    real_valid: jax.Array | None = None,
    fake_valid: jax.Array | None = None,
    *,
    pool: bool = True,
    squared: bool = False,
) -> jax.Array:
    """Compute how far the mean features of real and of fake examples are apart, a mean over features.

        loss = mean_j |E[f_j(real)] - E[f_j(fake)]|, or the square of the difference

    With the defaults, S4GAN's: Mittal et al. 2019, Semi-Supervised Semantic Segmentation with High- and Low-level
    Consistency (arXiv:1908.05724), on features pooled over the image; real are labelled examples and fake
    predictions on others, so their numbers may differ. With `pool=False, squared=True`, Salimans et al. 2016, Improved
    Techniques for Training GANs (arXiv:1606.03498), section 3.1, there a sum over features instead of a mean.

    Args:
        real_features: float [b, ..., c].
        fake_features: float [b', ..., c].
        real_valid: bool [b], the examples that count; None = all.
        fake_valid: bool [b'], likewise.
        pool: whether features are averaged over positions (the middle axes) first.
        squared: the squared difference instead of the absolute one.

    Returns:
        float32 scalar, at least 0; 0, with zero gradient, where no example of a side is valid.
    """
    chex.assert_equal_shape_suffix([real_features, fake_features], real_features.ndim - 1)

    def mean(features, valid):
        features = features.astype(jnp.float32)
        if pool:
            features = jnp.mean(features, axis=tuple(range(1, features.ndim - 1)))
        if valid is None:
            return jnp.mean(features, axis=0), True
        total = jnp.sum(valid)
        valid = valid.reshape((-1,) + (1,) * (features.ndim - 1))
        return jnp.sum(valid * features, axis=0) / jnp.maximum(total, 1), total > 0

    (real, any_real), (fake, any_fake) = mean(real_features, real_valid), mean(fake_features, fake_valid)
    difference = (real - fake) * jnp.where(jnp.logical_and(any_real, any_fake), 1.0, 0.0)
    return jnp.mean(jnp.square(difference) if squared else _absolute(difference))


def layer_feature_matching(
    real_layers: Sequence[jax.Array],
    fake_layers: Sequence[jax.Array],
    valid: jax.Array | None = None,
    *,
    weights: Sequence[float] | None = None,
) -> jax.Array:
    """Compute the L1 distance of the features of each pair, summed over layers.

        loss = sum_i w_i mean|f_i(real) - f_i(fake)|,   w_i = 1 by default

    Wang et al. 2018, High-Resolution Image Synthesis with Conditional GANs (pix2pixHD, arXiv:1711.11585):
    fake number n was made for real number n. Their weight is 10; average several discriminators by `multi_scale`.

    Args:
        real_layers: float [b, ...] each, the features of one layer each.
        fake_layers: the same shapes.
        valid: bool [b], the pairs that count; None = all.
        weights: a number for each layer (static).

    Returns:
        float32 scalar, at least 0; 0, with zero gradient, where no pair is valid.
    """
    weights = [1.0] * len(real_layers) if weights is None else weights

    def distance(real, fake):
        chex.assert_equal_shape([real, fake])
        each = _absolute(real.astype(jnp.float32) - fake.astype(jnp.float32)).reshape(len(real), -1).mean(axis=1)
        if valid is None:
            return jnp.mean(each)
        return jnp.sum(valid * each) / jnp.maximum(jnp.sum(valid), 1)

    return jnp.stack(
        [weight * distance(*pair) for weight, *pair in zip(weights, real_layers, fake_layers, strict=True)]
    ).sum()


def multi_scale(loss: Callable[..., jax.Array], *scales: Sequence) -> jax.Array:
    """Average a loss over discriminators of several scales.

    As pix2pixHD (arXiv:1711.11585), there a sum, so that the adversarial weight does not depend on the
    number of scales: `multi_scale(gan.discriminator, real_scores, fake_scores, weights)`.

    Args:
        loss: takes one element of each sequence.
        *scales: sequences of the same length, an element for each scale.

    Returns:
        float32 scalar.
    """
    values = [loss(*arguments) for arguments in zip(*scales, strict=True)]
    return jnp.stack(values).mean()


def _absolute(x: jax.Array) -> jax.Array:
    """Return |x| with derivative 0 at 0, where that of `jnp.abs` is 1: equal features should not move."""
    return x * jnp.sign(x)

"""Losses of the game between a generator and a discriminator, from the discriminator's scores.

Scores are logits (no sigmoid), one an image or one a patch: float [b, ...]. Below, r are the scores of real and f of
fake examples, E the mean over scores, and softplus(x) = log(1 + e^x), so -log sigmoid(x) = softplus(-x) and
-log(1 - sigmoid(x)) = softplus(x), both finite for any score.

Every discriminator loss is the mean of its real and its fake half, 0.5 (real + fake), as pix2pix does (Isola et al.
2017, arXiv:1611.07004, section 3.3) to slow the discriminator; papers that add the halves have twice the gradient.
Means, not sums: the weight of the adversarial term does not depend on the number of patches.

`weight` (broadcastable to the scores) leaves patches out, 0 where a patch shows nothing known, or padded images: the
mean is over what is left, and 0 with zero gradient where nothing is.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class AdversarialLoss(NamedTuple):
    """What each player descends.

    discriminator: (real_scores, fake_scores, weight=None) -> float32 scalar.
    generator: (fake_scores, weight=None) -> float32 scalar.
    threshold: the score above which this loss calls an example real (for `accuracy` and pictures).
    """

    discriminator: Callable[..., jax.Array]
    generator: Callable[..., jax.Array]
    threshold: float


def cross_entropy_discriminator(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """Compute 0.5 (E[softplus(-r)] + E[softplus(f)]), the binary cross-entropy of real against fake.

    Goodfellow et al. 2014, Generative Adversarial Nets (arXiv:1406.2661), equation 1, negated and halved; log 2 for a
    discriminator that cannot tell.

    Args:
        real_scores: float [b, ...], logits for real examples.
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _halves(jax.nn.softplus, -_float32(real_scores), _float32(fake_scores), weight)


def minimax_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute E[-softplus(f)] = E[log(1 - sigmoid(f))], the saturating loss.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1: the value of the minimax game. Its gradient vanishes while
    the discriminator wins; the paper advises `non_saturating_generator`.

    Args:
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at most 0.
    """
    return _mean(-jax.nn.softplus(_float32(fake_scores)), weight)


def non_saturating_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute E[softplus(-f)] = E[-log sigmoid(f)]: the fakes should be called real.

    Goodfellow et al. 2014 (arXiv:1406.2661), section 3; used by pix2pix.

    Args:
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _mean(jax.nn.softplus(-_float32(fake_scores)), weight)


def least_squares_discriminator(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """Compute 0.5 (E[(r - 1)^2] + E[f^2]).

    Mao et al. 2017, Least Squares GANs (arXiv:1611.04076), equation 9 with a = 0, b = c = 1.

    Args:
        real_scores: float [b, ...], scores of real examples, driven to 1.
        fake_scores: float [b, ...], scores of fakes, driven to 0.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _halves(jnp.square, _float32(real_scores) - 1.0, _float32(fake_scores), weight)


def least_squares_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute 0.5 E[(f - 1)^2].

    Mao et al. 2017 (arXiv:1611.04076), equation 9; implementations after CycleGAN leave the 0.5 out.

    Args:
        fake_scores: float [b, ...], scores of fakes, driven to 1.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return 0.5 * _mean(jnp.square(_float32(fake_scores) - 1.0), weight)


def hinge_discriminator(real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute 0.5 (E[max(0, 1 - r)] + E[max(0, 1 + f)]).

    Lim and Ye 2017, Geometric GAN (arXiv:1705.02894); Miyato et al. 2018, Spectral Normalization (arXiv:1802.05957),
    equation 16. Both add the halves.

    Args:
        real_scores: float [b, ...], scores of real examples, driven above 1.
        fake_scores: float [b, ...], scores of fakes, driven below -1.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _halves(jax.nn.relu, 1.0 - _float32(real_scores), 1.0 + _float32(fake_scores), weight)


def hinge_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute E[-f].

    Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), equation 17. Not bounded: the scale of
    the scores is the discriminator's to hold (spectral normalisation, gradient penalty).

    Args:
        fake_scores: float [b, ...], scores of fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar.
    """
    return _mean(-_float32(fake_scores), weight)


ADVERSARIAL: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(cross_entropy_discriminator, minimax_generator, threshold=0.0),
    "non_saturating": AdversarialLoss(cross_entropy_discriminator, non_saturating_generator, threshold=0.0),
    "least_squares": AdversarialLoss(least_squares_discriminator, least_squares_generator, threshold=0.5),
    "hinge": AdversarialLoss(hinge_discriminator, hinge_generator, threshold=0.0),
}


def accuracy(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None, *, threshold: float = 0.0
) -> jax.Array:
    """Compute how often the discriminator is right: 0.5 (E[r > threshold] + E[f <= threshold]).

    Args:
        real_scores: float [b, ...], scores of real examples.
        fake_scores: float [b, ...], scores of fakes.
        weight: float or bool, broadcastable to the scores; None = all count.
        threshold: `AdversarialLoss.threshold` of the loss in use.

    Returns:
        float32 scalar, 0..1; 0.5 for a discriminator that cannot tell.
    """
    return 0.5 * (_mean(_float32(real_scores > threshold), weight) + _mean(_float32(fake_scores <= threshold), weight))


def _float32(scores: jax.Array) -> jax.Array:
    return scores.astype(jnp.float32)


def _halves(loss: Callable, real: jax.Array, fake: jax.Array, weight: jax.Array | None) -> jax.Array:
    chex.assert_equal_shape([real, fake])
    return 0.5 * (_mean(loss(real), weight) + _mean(loss(fake), weight))


def _mean(values: jax.Array, weight: jax.Array | None) -> jax.Array:
    """Return the mean of the values whose weight is not 0, or 0 where there is none."""
    if weight is None:
        return jnp.mean(values)
    weight = jnp.broadcast_to(weight.astype(jnp.float32), values.shape)
    total = jnp.sum(weight)
    return jnp.sum(weight * values) / jnp.where(total > 0, total, 1.0)

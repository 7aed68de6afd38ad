"""Penalties on the gradient of a discriminator with respect to its input.

`critic` is the discriminator as a function of one array, everything else closed over (the image of a conditional
discriminator, its parameters): x [b, ...] -> scores [b, ...]. The value of an example is the *mean* of its scores, as
in the losses, so a patch discriminator and one with a single score are held to the same scale. Scores of one example
must not depend on the others: batch normalisation makes both penalties meaningless.

Inputs and norms are float32; a critic that casts to a narrower type loses the precision that the penalty needs.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

_EPSILON = 1e-12  # under the root: the norm of a zero gradient has a derivative, and it is 0


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, key: jax.Array
) -> jax.Array:
    """Compute how far the critic's slope is from 1 between real and fake examples.

        x = u real + (1 - u) fake,  u ~ U(0, 1) for each example;   penalty = E[(||d critic(x) / dx||_2 - 1)^2]

    WGAN-GP: Gulrajani et al. 2017, Improved Training of Wasserstein GANs (arXiv:1704.00028), equation 3 without
    its weight (10 there).

    Args:
        critic: x [b, ...] -> scores [b, ...].
        real: float [b, ...], real examples.
        fake: float [b, ...], fakes, same shape.
        key: a PRNG key.

    Returns:
        float32 scalar, at least 0.
    """
    chex.assert_equal_shape([real, fake])
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    share = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1))
    norm = jnp.sqrt(_squared_slopes(critic, share * real + (1.0 - share) * fake) + _EPSILON)
    return jnp.mean(jnp.square(norm - 1.0))


def r1_penalty(critic: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """Compute half the squared slope of the critic at real examples.

        penalty = 0.5 E[||d critic(x) / dx||_2^2],  x real

    Mescheder et al. 2018, Which Training Methods for GANs do actually Converge? (arXiv:1801.04406), equation 9: the
    0.5 is in here, gamma is the caller's factor.

    Args:
        critic: x [b, ...] -> scores [b, ...].
        real: float [b, ...], real examples.

    Returns:
        float32 scalar, at least 0.
    """
    return 0.5 * jnp.mean(_squared_slopes(critic, real.astype(jnp.float32)))


def _squared_slopes(critic: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Return float32 [b]: the squared norm of each example's gradient of its mean score."""

    def total(x):
        scores = critic(x).astype(jnp.float32)
        chex.assert_equal_shape_prefix([scores, x], 1)
        return jnp.sum(jnp.mean(scores.reshape(scores.shape[0], -1), axis=1))

    gradient = jax.grad(total)(x)  # of the sum: examples are independent, so each row is that example's own
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, x.ndim)))

"""Noise that a generator makes its examples of."""

import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown

DISTRIBUTIONS = ("normal", "uniform", "truncated_normal")


def draw(key: jax.Array, shape: tuple[int, ...], distribution: str, truncation: float = 2.0) -> jax.Array:
    """Draw noise.

    normal: N(0, 1). uniform: U(-1, 1), as DCGAN (Radford et al. 2016, arXiv:1511.06434). truncated_normal: N(0, 1) on
    condition that it lies within the truncation, which trades variety for quality (Brock et al. 2019, BigGAN,
    arXiv:1809.11096).

    Args:
        key: a PRNG key.
        shape: of the result (static).
        distribution: a name in `DISTRIBUTIONS` (static).
        truncation: largest absolute value, positive (static); of "truncated_normal" only.

    Returns:
        float32 of that shape.

    Raises:
        InputError: the distribution is unknown, or the truncation is not positive.
    """
    if distribution not in DISTRIBUTIONS:
        raise unknown("noise.distribution", distribution, DISTRIBUTIONS)
    if distribution == "normal":
        return jax.random.normal(key, shape, jnp.float32)
    if distribution == "uniform":
        return jax.random.uniform(key, shape, jnp.float32, minval=-1.0, maxval=1.0)
    if not truncation > 0:
        raise InputError(f"noise.truncation is {truncation}; give a positive number of standard deviations.")
    return jax.random.truncated_normal(key, -truncation, truncation, shape, jnp.float32)

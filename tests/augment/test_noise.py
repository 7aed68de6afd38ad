"""Noise: range and moments of each distribution, and what cannot be drawn."""

import math

import jax
import numpy as np
import pytest

from gan_seg_jax.augment.noise import DISTRIBUTIONS, draw
from gan_seg_jax.errors import InputError

_COUNT = 40_000


def _truncated_variance(limit):
    density = math.exp(-(limit**2) / 2) / math.sqrt(2 * math.pi)
    return 1 - 2 * limit * density / math.erf(limit / math.sqrt(2))


@pytest.mark.parametrize(
    ("distribution", "truncation", "variance", "bound"),
    [
        ("normal", 2.0, 1.0, np.inf),
        ("uniform", 2.0, 1 / 3, 1.0),
        ("truncated_normal", 2.0, _truncated_variance(2.0), 2.0),
        ("truncated_normal", 0.5, _truncated_variance(0.5), 0.5),
    ],
)
def test_moments_and_range(distribution, truncation, variance, bound):
    noise = np.asarray(draw(jax.random.key(0), (_COUNT // 8, 8), distribution, truncation))
    assert noise.shape == (_COUNT // 8, 8) and noise.dtype == np.float32
    assert np.all(np.abs(noise) <= bound)
    assert abs(noise.mean()) < 5 * math.sqrt(variance / _COUNT)
    assert noise.var() == pytest.approx(variance, rel=0.05)
    if np.isfinite(bound):  # the whole range is used, on both sides
        assert noise.min() < -0.99 * bound and noise.max() > 0.99 * bound


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_key_decides(distribution):
    first, again, other = (draw(jax.random.key(seed), (3, 5), distribution) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.any(np.asarray(first) == np.asarray(other))


def test_a_wide_truncation_is_none():
    values = [draw(jax.random.key(0), (_COUNT,), name, 8.0) for name in ("normal", "truncated_normal")]
    np.testing.assert_allclose(*values, atol=1e-3)


def test_bad_values_are_named():
    with pytest.raises(InputError, match=r"noise\.distribution 'gauss'.*normal"):
        draw(jax.random.key(0), (2, 3), "gauss")
    with pytest.raises(InputError, match=r"noise\.truncation is 0"):
        draw(jax.random.key(0), (2, 3), "truncated_normal", 0.0)

"""Gradient penalties: critics whose slope is known, patches, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gan_seg_jax.losses import regularization

_SHAPE = (3, 4, 5, 2)


def _examples(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *_SHAPE)).astype(np.float32)


def _linear(weight):
    return lambda x: jnp.sum(weight * x, axis=(1, 2, 3))


def _network(params):
    """A small non-linear critic with one score a patch."""

    def critic(x):
        hidden = jnp.tanh(x @ params["hidden"])
        return hidden @ params["scores"]

    return critic


def _params(seed):
    rng = np.random.default_rng(seed)
    return {
        "hidden": jnp.asarray(rng.normal(size=(2, 6)), jnp.float32),
        "scores": jnp.asarray(rng.normal(size=(6, 1)), jnp.float32),
    }


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_linear_critic_has_its_weight_as_slope(slope):
    real, fake = _examples(0)
    weight = np.random.default_rng(1).normal(size=_SHAPE[1:]).astype(np.float32)
    weight *= slope / np.linalg.norm(weight)
    penalty = regularization.gradient_penalty(_linear(weight), real, fake, jax.random.key(0))
    np.testing.assert_allclose(penalty, (slope - 1) ** 2, atol=1e-5)
    np.testing.assert_allclose(regularization.r1_penalty(_linear(weight), real), 0.5 * slope**2, rtol=1e-5)


def test_quadratic_critic_is_seen_at_real_examples():
    real, _ = _examples(2)
    found = regularization.r1_penalty(lambda x: 0.5 * jnp.sum(x**2, axis=(1, 2, 3)), real)
    np.testing.assert_allclose(found, 0.5 * np.mean(np.sum(real**2, axis=(1, 2, 3))), rtol=1e-5)


def test_interpolation_is_per_example_and_between():
    real, fake = np.ones(_SHAPE, np.float32), np.zeros(_SHAPE, np.float32)
    seen = []

    def critic(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return jnp.sum(x, axis=(1, 2, 3))

    regularization.gradient_penalty(critic, real, fake, jax.random.key(0))
    jax.effects_barrier()
    x = seen[0]
    assert np.all(x == x[:, :1, :1, :1])  # one share an example
    assert len(np.unique(x[:, 0, 0, 0])) == _SHAPE[0]
    assert np.all((x >= 0) & (x <= 1))


def test_patches_are_averaged():
    real, fake = _examples(3)
    for patches in (1, 7):
        found = regularization.r1_penalty(lambda x, n=patches: jnp.repeat(_linear(1.0)(x)[:, None], n, axis=1), real)
        np.testing.assert_allclose(found, 0.5 * np.prod(_SHAPE[1:]), rtol=1e-5)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1_penalty"])
def test_second_derivatives(penalty):
    real, fake = _examples(4)

    def loss(params):
        if penalty == "r1_penalty":
            return regularization.r1_penalty(_network(params), real)
        return regularization.gradient_penalty(_network(params), real, fake, jax.random.key(1))

    check_grads(jax.jit(loss), (_params(5),), order=1, modes=("rev",), atol=1e-2, rtol=1e-2, eps=1e-2)


def test_gradient_of_the_penalty_of_a_linear_critic():
    real, fake = _examples(6)
    weight = np.random.default_rng(7).normal(size=_SHAPE[1:]).astype(np.float32)
    norm = np.linalg.norm(weight)
    penalty = jax.jit(lambda w: regularization.gradient_penalty(_linear(w), real, fake, jax.random.key(0)))
    np.testing.assert_allclose(jax.grad(penalty)(weight), 2 * (norm - 1) * weight / norm, rtol=1e-4, atol=1e-5)
    found = jax.grad(lambda w: regularization.r1_penalty(_linear(w), real))(weight)
    np.testing.assert_allclose(found, weight, rtol=1e-5)


def test_flat_critic_has_a_finite_gradient():
    real, fake = _examples(8)

    def penalty(weight):
        return regularization.gradient_penalty(_linear(weight), real, fake, jax.random.key(0))

    assert np.all(np.isfinite(jax.grad(penalty)(jnp.zeros(_SHAPE[1:]))))


def test_half_precision_inputs_give_float32():
    real, fake = jnp.asarray(_examples(9), jnp.bfloat16)
    found = regularization.gradient_penalty(_network(_params(0)), real, fake, jax.random.key(0))
    assert found.dtype == regularization.r1_penalty(_network(_params(0)), real).dtype == jnp.float32

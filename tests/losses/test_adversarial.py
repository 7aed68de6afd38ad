"""Adversarial losses: known answers, extreme scores, masked patches, then jit and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import adversarial
from gan_seg_jax.losses.adversarial import ADVERSARIAL


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# The papers' equations, without care for overflow.
_DISCRIMINATOR = {
    "minimax": lambda r, f: -0.5 * (np.log(_sigmoid(r)).mean() + np.log(1 - _sigmoid(f)).mean()),
    "non_saturating": lambda r, f: -0.5 * (np.log(_sigmoid(r)).mean() + np.log(1 - _sigmoid(f)).mean()),
    "least_squares": lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
    "hinge": lambda r, f: 0.5 * (np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()),
    "wasserstein": lambda r, f: 0.5 * (f.mean() - r.mean()),
    "relativistic": lambda r, f: (
        -0.5 * (np.log(_sigmoid(r - f.mean())).mean() + np.log(1 - _sigmoid(f - r.mean())).mean())
    ),
}
_GENERATOR = {
    "minimax": lambda f, r: np.log(1 - _sigmoid(f)).mean(),
    "non_saturating": lambda f, r: -np.log(_sigmoid(f)).mean(),
    "least_squares": lambda f, r: 0.5 * ((f - 1) ** 2).mean(),
    "hinge": lambda f, r: -f.mean(),
    "wasserstein": lambda f, r: -f.mean(),
    "relativistic": lambda f, r: (
        -0.5 * (np.log(_sigmoid(f - r.mean())).mean() + np.log(1 - _sigmoid(r - f.mean())).mean())
    ),
}
_AT_ZERO = {  # scores of a discriminator that cannot tell: (discriminator, generator)
    "minimax": (np.log(2), -np.log(2)),
    "non_saturating": (np.log(2), np.log(2)),
    "least_squares": (0.5, 0.5),
    "hinge": (1.0, 0.0),
    "wasserstein": (0.0, 0.0),
    "relativistic": (np.log(2), np.log(2)),
}


def _scores(seed, shape=(2, 4, 3, 1)):
    rng = np.random.default_rng(seed)
    return (2 * rng.normal(size=(2, *shape))).astype(np.float32)


def test_every_loss_has_a_reference():
    assert set(ADVERSARIAL) == set(_DISCRIMINATOR) == set(_GENERATOR) == set(_AT_ZERO)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_equals_the_equations(name):
    real, fake = _scores(0)
    loss = ADVERSARIAL[name]
    np.testing.assert_allclose(loss.discriminator(real, fake), _DISCRIMINATOR[name](real, fake), rtol=1e-5)
    np.testing.assert_allclose(loss.generator(fake, real_scores=real), _GENERATOR[name](fake, real), rtol=1e-5)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_at_zero_scores(name):
    zero = jnp.zeros((2, 3, 3, 1))
    found = ADVERSARIAL[name].discriminator(zero, zero), ADVERSARIAL[name].generator(zero, None, zero)
    np.testing.assert_allclose(found, _AT_ZERO[name], atol=1e-6)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_extreme_scores_stay_finite(name):
    real, fake = jnp.array([1e4, -1e4]), jnp.array([-1e4, 1e4])
    loss = ADVERSARIAL[name]
    values = (
        jax.value_and_grad(loss.discriminator, argnums=(0, 1))(real, fake),
        jax.value_and_grad(loss.generator)(fake, None, real),
    )
    chex.assert_tree_all_finite(values)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_players_pull_fake_scores_apart(name):
    real, fake = _sigmoid(_scores(1))  # between the two targets of least squares
    loss = ADVERSARIAL[name]
    by_discriminator = jax.grad(loss.discriminator, argnums=1)(real, fake)
    by_generator = jax.grad(loss.generator)(fake, None, real)
    assert np.all(by_discriminator > 0)
    assert np.all(by_generator < 0)


def test_saturating_gradient_vanishes_where_the_discriminator_wins():
    fake = jnp.full((4,), -10.0)
    assert np.abs(jax.grad(ADVERSARIAL["minimax"].generator)(fake)).max() < 1e-4
    np.testing.assert_allclose(jax.grad(ADVERSARIAL["non_saturating"].generator)(fake), -0.25, rtol=1e-3)
    np.testing.assert_allclose(jax.grad(ADVERSARIAL["hinge"].generator)(fake), -0.25, rtol=1e-6)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_masked_patches_count_as_deleted(name):
    real, fake = _scores(2)
    weight = np.random.default_rng(3).integers(0, 2, (2, 4, 3, 1)).astype(bool)
    loss = ADVERSARIAL[name]
    found = loss.discriminator(real, fake, weight), loss.generator(fake, weight, real)
    expected = loss.discriminator(real[weight], fake[weight]), loss.generator(fake[weight], None, real[weight])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    gradient = jax.grad(loss.generator)(fake, weight, real)
    assert not np.any(gradient[~weight])


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_weight_is_broadcast_and_all_masked_is_zero(name):
    real, fake = _scores(4)
    loss = ADVERSARIAL[name]
    valid = jnp.array([True, False])[:, None, None, None]
    np.testing.assert_allclose(loss.generator(fake, valid, real), loss.generator(fake[:1], None, real[:1]), rtol=1e-6)
    value, gradient = jax.value_and_grad(loss.discriminator, argnums=(0, 1))(real, fake, jnp.zeros((2, 1, 1, 1)))
    assert value == 0.0
    chex.assert_trees_all_equal(gradient, (jnp.zeros_like(real), jnp.zeros_like(fake)))


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_jit_and_float32(name):
    real, fake = jnp.asarray(_scores(5), jnp.bfloat16)
    loss = ADVERSARIAL[name]
    found = jax.jit(loss.discriminator)(real, fake)
    assert found.dtype == loss.generator(fake, None, real).dtype == jnp.float32
    np.testing.assert_allclose(found, loss.discriminator(real.astype(jnp.float32), fake), rtol=1e-6)


def test_different_shapes_are_refused():
    with pytest.raises(AssertionError):
        ADVERSARIAL["hinge"].discriminator(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


@pytest.mark.parametrize("name", ["wasserstein", "relativistic"])
def test_only_differences_of_scores_count(name):
    real, fake = _scores(6)
    loss = ADVERSARIAL[name]
    found = loss.discriminator(real + 5, fake + 5), adversarial.accuracy(real + 5, fake + 5, threshold=loss.threshold)
    expected = loss.discriminator(real, fake), adversarial.accuracy(real, fake, threshold=loss.threshold)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_relative_accuracy_is_at_the_middle():
    real, fake = jnp.array([10.0, 11.0, 7.0]), jnp.array([5.0, 6.0, 9.0])
    np.testing.assert_allclose(adversarial.accuracy(real, fake, threshold=None), 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(adversarial.accuracy(real, fake, jnp.array([1, 1, 0]), threshold=None), 1.0)
    np.testing.assert_allclose(adversarial.accuracy(fake, real, threshold=None), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(adversarial.accuracy(jnp.ones(4), jnp.ones(4), threshold=None), 0.5)


def test_relativistic_generator_moves_real_scores_down_and_needs_them():
    real, fake = _scores(7)
    gradient = jax.grad(ADVERSARIAL["relativistic"].generator, argnums=2)(fake, None, real)
    assert np.all(gradient > 0)
    with pytest.raises(InputError, match="no real scores"):
        ADVERSARIAL["relativistic"].generator(fake)


def test_scores_are_probabilities_of_some_games_and_pictures_of_the_others():
    scores = jnp.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    found = {name: adversarial.realness(scores, loss) for name, loss in ADVERSARIAL.items()}
    for name in ("minimax", "non_saturating", "hinge"):
        np.testing.assert_allclose(found[name], _sigmoid(scores), rtol=1e-6)
    np.testing.assert_allclose(found["least_squares"], [0.0, 0.0, 0.5, 1.0, 1.0])
    for name in ("wasserstein", "relativistic"):
        np.testing.assert_allclose(found[name], _sigmoid(scores - 0.5), rtol=1e-6)
    named = {name for name, loss in ADVERSARIAL.items() if loss.probability}
    assert named == {"minimax", "non_saturating", "least_squares"}


@pytest.mark.parametrize("name", [name for name, loss in ADVERSARIAL.items() if loss.probability])
def test_the_best_score_is_the_share_of_real_examples(name):
    """Where one of four examples is real, the score at which the loss has no slope says a quarter."""
    loss, scores = ADVERSARIAL[name], jnp.linspace(-3.0, 3.0, 6001)
    of_real, of_fake = jax.grad(loss.discriminator, (0, 1))(scores, scores)
    slope = jnp.abs(0.25 * of_real + 0.75 * of_fake)
    np.testing.assert_allclose(loss.probability(scores[jnp.argmin(slope)]), 0.25, atol=1e-3)


def test_label_smoothing_is_one_sided():
    real, fake = _scores(8)
    gan = adversarial.create("non_saturating", label_smoothing=0.1)
    p = _sigmoid(real)
    expected = -0.5 * ((0.9 * np.log(p) + 0.1 * np.log(1 - p)).mean() + np.log(1 - _sigmoid(fake)).mean())
    np.testing.assert_allclose(gan.discriminator(real, fake), expected, rtol=1e-5)
    np.testing.assert_allclose(gan.generator(fake), ADVERSARIAL["non_saturating"].generator(fake))
    best = np.full(4, np.log(0.9 / 0.1), np.float32)  # sigmoid is the target 0.9
    np.testing.assert_allclose(jax.grad(gan.discriminator)(best, best), 0.0, atol=1e-7)
    weight = np.random.default_rng(9).integers(0, 2, real.shape).astype(bool)
    found = gan.discriminator(real, fake, weight)
    np.testing.assert_allclose(found, gan.discriminator(real[weight], fake[weight]), rtol=1e-5)


def test_create_gives_the_named_loss_and_refuses_the_rest():
    for name, loss in ADVERSARIAL.items():
        assert adversarial.create(name) is loss
    with pytest.raises(InputError, match="Did you mean 'hinge'"):
        adversarial.create("hing")
    with pytest.raises(InputError, match="minimax or non_saturating"):
        adversarial.create("hinge", label_smoothing=0.1)
    with pytest.raises(InputError, match="label_smoothing"):
        adversarial.create("minimax", label_smoothing=1.0)


def test_accuracy():
    real, fake = jnp.array([1.0, 2.0, -1.0, 3.0]), jnp.array([-1.0, 1.0, 1.0, -2.0])
    np.testing.assert_allclose(adversarial.accuracy(real, fake), 0.5 * (0.75 + 0.5))
    np.testing.assert_allclose(adversarial.accuracy(real, fake, threshold=1.5), 0.5 * (0.5 + 1.0))
    np.testing.assert_allclose(adversarial.accuracy(real, fake, jnp.array([1, 0, 0, 1])), 1.0)
    np.testing.assert_allclose(adversarial.accuracy(jnp.zeros(4), jnp.zeros(4)), 0.5)

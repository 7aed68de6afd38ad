"""Schedules at known points, what weight decay touches, and who gets an optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import cgan_seg, common
from gan_seg_jax.errors import InputError
from gan_seg_jax.optimizers import create_optimizer, create_optimizers, learning_rate


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", {0: 0.1, 50: 0.1, 100: 0.1}),
        ("poly", {0: 0.1, 50: 0.1 * 0.5**0.9, 75: 0.1 * 0.25**0.9, 100: 0.0, 120: 0.0}),
        ("cosine", {0: 0.1, 50: 0.05, 25: 0.05 * (1 + np.cos(np.pi / 4)), 100: 0.0}),
        ("linear", {0: 0.1, 50: 0.1, 75: 0.05, 100: 0.0, 120: 0.0}),
        ("step", {0: 0.1, 49: 0.1, 51: 0.01, 74: 0.01, 76: 0.001, 120: 0.001}),
    ],
)
def test_schedules(schedule, values):
    rate = learning_rate(common.adam(learning_rate=0.1, schedule=schedule), 100)
    for step, value in values.items():
        np.testing.assert_allclose(rate(step), value, atol=1e-7, err_msg=f"step {step}")


@pytest.mark.parametrize("schedule", ["constant", "poly", "cosine", "linear", "step"])
def test_warmup_is_part_of_the_horizon(schedule):
    rate = learning_rate(common.adam(learning_rate=0.1, schedule=schedule, warmup_steps=10), 110)
    plain = learning_rate(common.adam(learning_rate=0.1, schedule=schedule), 100)
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [0.0, 0.05, 0.1], atol=1e-7)
    for step in (10, 35, 85, 110):
        np.testing.assert_allclose(rate(step), plain(step - 10), atol=1e-7)


def test_schedules_of_the_shortest_runs():
    for schedule in ("constant", "poly", "cosine", "linear", "step"):
        for horizon in (0, 1):
            assert np.isfinite(learning_rate(common.adam(schedule=schedule), horizon)(0))
        assert np.isfinite(learning_rate(common.adam(schedule=schedule, warmup_steps=9), 3)(2))


@pytest.mark.parametrize("schedule", ["constant", "poly", "cosine", "linear", "step"])
def test_an_extension_keeps_the_last_rate(schedule):
    """Within the plan nothing changes; beyond it the rate of the last planned update goes on, where poly gives 0."""
    options = common.adam(name="sgd", learning_rate=0.1, schedule=schedule, beta1=0.0)
    params, gradient = {"kernel": jnp.zeros((1, 1))}, {"kernel": jnp.ones((1, 1))}
    changes = {}
    for hold in (False, True):
        tx = create_optimizer(options, 10, hold=hold)
        state, changes[hold] = tx.init(params), []
        for _ in range(14):
            change, state = tx.update(gradient, state, params)
            changes[hold].append(float(change["kernel"][0, 0]))
    assert changes[True][:10] == changes[False][:10]
    assert set(changes[True][10:]) == {changes[True][9]} and changes[True][9] < 0


def test_adam_takes_its_first_step_by_the_rate():
    tx = create_optimizer(common.adam(learning_rate=0.1), 100)
    params = {"kernel": jnp.array([[1.0, -2.0]])}
    changes, _ = tx.update({"kernel": jnp.array([[3.0, -4.0]])}, tx.init(params), params)
    np.testing.assert_allclose(changes["kernel"], [[-0.1, 0.1]], rtol=1e-5)


def test_sgd_with_momentum():
    tx = create_optimizer(common.adam(name="sgd", learning_rate=0.1, beta1=0.5), 100)
    params, gradient = {"kernel": jnp.zeros((1, 1))}, {"kernel": jnp.ones((1, 1))}
    state = tx.init(params)
    for expected in (-0.1, -0.15, -0.175):
        changes, state = tx.update(gradient, state, params)
        np.testing.assert_allclose(changes["kernel"], [[expected]], rtol=1e-6)


def test_weight_decay_is_decoupled_and_leaves_vectors_alone():
    tx = create_optimizer(common.adam(learning_rate=0.1, weight_decay=0.5), 100)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0), "scale": jnp.full((), 3.0)}
    changes, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(changes["kernel"], np.full((2, 2), -0.1 * 0.5 * 3.0), rtol=1e-6)
    np.testing.assert_array_equal(changes["bias"], 0.0)
    np.testing.assert_array_equal(changes["scale"], 0.0)


def test_poly_has_its_power():
    rate = learning_rate(common.adam(learning_rate=0.1, schedule="poly", poly_power=2.0), 100)
    np.testing.assert_allclose(rate(50), 0.1 * 0.5**2, rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_regularisation_equals_the_gradient_of_its_term(name):
    strength = {"l1": 0.3, "l2": 0.2}
    params = {"kernel": jnp.array([[2.0, -3.0]]), "bias": jnp.array([1.0])}

    def term(params):
        weight = params["kernel"]
        return strength["l1"] * jnp.sum(jnp.abs(weight)) + strength["l2"] / 2 * jnp.sum(weight**2)

    gradient = {"kernel": jnp.array([[0.5, 0.1]]), "bias": jnp.array([0.4])}
    whole = jax.tree.map(jnp.add, gradient, jax.grad(term)(params))
    tx = create_optimizer(common.adam(name=name, learning_rate=0.1, **strength), 100)
    plain = create_optimizer(common.adam(name=name, learning_rate=0.1), 100)
    state, plain_state = tx.init(params), plain.init(params)
    for _ in range(2):
        changes, state = tx.update(gradient, state, params)
        expected, plain_state = plain.update(whole, plain_state, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changes, expected)


def test_adamw_is_that_of_optax():
    params, gradient = {"kernel": jnp.array([[2.0, -3.0]])}, {"kernel": jnp.array([[0.5, 0.1]])}
    tx = create_optimizer(common.adam(name="adamw", learning_rate=0.1, beta1=0.9, weight_decay=0.01), 100)
    reference = optax.adamw(0.1, b1=0.9, b2=0.999, weight_decay=0.01)
    states = [tx.init(params), reference.init(params)]
    for _ in range(3):
        (changes, states[0]), (expected, states[1]) = (
            t.update(gradient, state, params) for t, state in zip((tx, reference), states, strict=True)
        )
        np.testing.assert_allclose(changes["kernel"], expected["kernel"], rtol=1e-6)


def test_the_head_has_its_factor():
    tx = create_optimizer(common.adam(name="sgd", learning_rate=0.1, beta1=0.0, head_factor=10.0), 100)
    params = {"backbone": {"conv": jnp.zeros(1)}, "classifier": {"backbone": jnp.zeros(1)}}
    changes, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_allclose(changes["backbone"]["conv"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(changes["classifier"]["backbone"], -1.0, rtol=1e-6)


def test_clipping_is_by_the_whole_gradient():
    tx = create_optimizer(common.adam(name="sgd", learning_rate=1.0, beta1=0.0, clip_norm=1.0), 100)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    changes, _ = tx.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, tx.init(params), params)
    np.testing.assert_allclose([changes["a"][0], changes["b"][0]], [-0.6, -0.8], rtol=1e-6)


def test_the_horizon_counts_the_roles_own_updates():
    config = cgan_seg.get_config()
    config.steps, config.rounds = 10, 5
    for role in ("generator", "discriminator"):
        config.optimizers[role] = common.adam(name="sgd", learning_rate=1.0, schedule="linear", beta1=0.0)
    ends = {}
    for role, tx in create_optimizers(config).items():
        params = jnp.zeros(())
        state, total = tx.init(params), 0
        while True:
            changes, state = tx.update(jnp.ones(()), state, params)
            total += 1
            if float(changes) == 0.0:
                break
        ends[role] = total - 1
    assert ends == {"generator": 10, "discriminator": 50}


def test_only_moving_roles_have_optimizers():
    config = cgan_seg.get_config()
    config.phases = ((1, (("generator",),)),)
    assert set(create_optimizers(config)) == {"generator"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "adma", "Unknown optimizer 'adma'. Did you mean 'adam'"),
        ("schedule", "polly", "Unknown learning-rate schedule 'polly'. Did you mean 'poly'"),
        ("name", "", "Known: adam, adamw, sgd"),
    ],
)
def test_unknown_names(field, value, message):
    with pytest.raises(InputError) as error:
        create_optimizer(common.adam(**{field: value}), 100)
    assert message in str(error.value)


def test_schedules_trace():
    rate = jax.jit(learning_rate(common.adam(learning_rate=0.1, schedule="cosine", warmup_steps=3), 100))
    assert isinstance(rate(jnp.int32(7)), jax.Array)

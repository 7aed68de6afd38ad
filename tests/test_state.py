"""The view that methods get, initialisation, and the state that donation and compilation ask for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.state import (
    ROLES,
    LossOutput,
    Networks,
    create_state,
    fold_name,
    inference_view,
    init_variables,
    parameter_counts,
    step_key,
)
from tests import tiny_methods
from tests.tiny_methods import CASES, Net, prepared, tiny_config

X = jnp.linspace(-1, 1, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)


def tiny_state(ema=frozenset(), seed=0, **net):
    modules = {"segmenter": Net(3, **net), "discriminator": Net(1)}
    variables = {role: module.init(jax.random.key(1), X, train=False) for role, module in modules.items()}
    return create_state(variables, modules, {"segmenter": optax.sgd(0.1)}, seed=seed, ema_roles=ema)


def view(state, *moving, **fields):
    return Networks(states=state.networks, rng=jax.random.key(3), step=state.step, moving=frozenset(moving), **fields)


def test_training_mode_follows_who_moves():
    state = tiny_state()
    network = state.networks["segmenter"]
    inference = network.apply_fn({"params": network.params, **network.collections}, X, train=False)
    frozen, after = view(state, "discriminator").apply("segmenter", X)
    np.testing.assert_array_equal(frozen, inference)
    assert after.collections == {}
    moving, after = view(state, "segmenter").apply("segmenter", X)
    assert np.any(np.asarray(moving) != np.asarray(inference))
    assert set(after.collections) == {"segmenter"}
    asked, _ = view(state, "segmenter").apply("segmenter", X, train=False)
    np.testing.assert_array_equal(asked, inference)
    forced, _ = view(state).apply("segmenter", X, train=True)
    np.testing.assert_array_equal(forced, moving)


def test_a_view_does_not_change():
    state = tiny_state()
    nets = view(state, "segmenter")
    _, after = nets.apply("segmenter", X)
    assert nets.collections == {} and nets.calls == 0 and nets.acted == frozenset()
    assert after.calls == 1 and after.acted == {"segmenter"}
    assert state.networks["segmenter"].batch_stats["BatchNorm_0"]["mean"].sum() == 0


def test_statistics_add_up_from_call_to_call():
    nets = view(tiny_state(dropout=0.0), "segmenter")
    _, first = nets.apply("segmenter", X)
    _, second = first.apply("segmenter", X)
    mean = lambda nets: np.asarray(nets.collections["segmenter"]["batch_stats"]["BatchNorm_0"]["mean"])
    np.testing.assert_allclose(mean(second), 1.9 * mean(first), rtol=1e-5)  # 0.1 m, then 0.9 (0.1 m) + 0.1 m
    _, dropped = first.apply("segmenter", X, update=False)
    np.testing.assert_array_equal(mean(dropped), mean(first))


def test_every_call_draws_dropout_of_its_own():
    nets = view(tiny_state(), "segmenter", "discriminator")
    first, after = nets.apply("segmenter", X)
    again, _ = nets.apply("segmenter", X)
    second, _ = after.apply("segmenter", X)
    other, _ = nets.replace(rng=jax.random.key(4)).apply("segmenter", X)
    np.testing.assert_array_equal(first, again)
    assert np.any(np.asarray(first) != np.asarray(second))
    assert np.any(np.asarray(first) != np.asarray(other))


def test_averages():
    state = tiny_state(ema=frozenset({"segmenter"}))
    network = state.networks["segmenter"]
    averaged = network.replace(ema_params=jax.tree.map(lambda x: x + 0.5, network.params))
    nets = view(state.replace(networks={**state.networks, "segmenter": averaged}), "segmenter")
    out, after = nets.apply("segmenter", X, ema=True)
    expected = network.apply_fn({"params": averaged.ema_params, **averaged.ema_collections}, X, train=False)
    np.testing.assert_array_equal(out, expected)
    assert after.acted == frozenset() and after.collections == {}
    with pytest.raises(ValueError, match=r"discriminator has no averaged weights: set config\.ema_decay"):
        nets.apply("discriminator", X, ema=True)

    def gradient_of_the_average(params):
        return jnp.sum(nets.replace(params={"segmenter": params}).apply("segmenter", X, ema=True)[0])

    assert optax.tree_utils.tree_norm(jax.grad(gradient_of_the_average)(network.params)) == 0


def test_the_inference_view_takes_averages():
    state = tiny_state(ema=frozenset({"segmenter"}))
    network = state.networks["segmenter"]
    averaged = network.replace(ema_params=jax.tree.map(lambda x: x + 0.5, network.params))
    nets = inference_view(state.replace(networks={**state.networks, "segmenter": averaged}), jax.random.key(0))
    expected = network.apply_fn({"params": averaged.ema_params, **averaged.ema_collections}, X, train=False)
    np.testing.assert_array_equal(nets.apply("segmenter", X)[0], expected)
    plain = state.networks["discriminator"]
    expected = plain.apply_fn({"params": plain.params, **plain.collections}, X, train=False)
    np.testing.assert_array_equal(nets.apply("discriminator", X)[0], expected)


def test_params_replace_those_of_the_state():
    state = tiny_state()
    network = state.networks["segmenter"]
    params = jax.tree.map(lambda x: 2 * x, network.params)
    out, _ = view(state, params={"segmenter": params}).apply("segmenter", X)
    np.testing.assert_array_equal(out, network.apply_fn({"params": params, **network.collections}, X, train=False))


def test_networks_cross_jit():
    state = tiny_state()
    out, after = jax.jit(lambda nets: nets.apply("segmenter", X))(view(state, "segmenter"))
    plain, _ = view(state, "segmenter").apply("segmenter", X)
    np.testing.assert_allclose(out, plain, rtol=1e-5, atol=1e-6)
    assert after.acted == {"segmenter"}


def test_a_network_whose_encoder_nobody_knows_cannot_drop_features():
    with pytest.raises(InputError, match=r"config\.networks\.segmenter: The network has no encoder"):
        view(tiny_state()).apply("segmenter", X, drop_features=0.5)


def test_keys():
    state = tiny_state(seed=2**32 - 1)
    data = lambda key: jax.random.key_data(key).tolist()
    expected = jax.random.fold_in(jax.random.key(np.uint32(2**32 - 1)), 5)
    assert data(step_key(state.replace(step=jnp.int32(5)))) == data(expected)
    key = jax.random.key(0)
    assert len({str(data(fold_name(key, name))) for name in (*ROLES, "labelled", "unlabelled", "forward")}) == 10


def test_the_state_holds_arrays_that_can_be_donated():
    state = tiny_state(ema=frozenset({"segmenter"}))
    for leaf in jax.tree.leaves(state):
        assert isinstance(leaf, jax.Array)
    assert state.step.dtype == jnp.int32 and state.seed.dtype == jnp.uint32
    assert all(network.step.dtype == jnp.int32 for network in state.networks.values())
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size > 0]
    shared = {pointer for pointer in buffers if buffers.count(pointer) > 1}
    assert not shared, "the same buffer cannot be donated twice"


def test_donating_a_fresh_state_once():
    state = tiny_state(ema=frozenset({"segmenter"}))
    after = jax.jit(lambda s: s.replace(step=s.step + 1), donate_argnums=(0,))(state)
    assert int(after.step) == 1
    assert int(after.skipped_steps) == 0


def test_a_frozen_role_has_no_optimizer_state():
    state = tiny_state()
    assert jax.tree.leaves(state.networks["discriminator"].opt_state) == []


def test_parameter_counts():
    assert parameter_counts(tiny_state()) == {
        "segmenter": 3 * 5 + 5 + 10 + 5 * 3 + 3,
        "discriminator": 3 * 5 + 5 + 10 + 5 + 1,
    }


@pytest.mark.parametrize("name", ["alternating", "teacher", "refiner", "critic rounds", "both act"])
def test_initialisation_finds_every_network(name):
    case = CASES[name]
    state = case.state()
    modules = case.method.build(case.config)
    assert set(state.networks) == set(modules)


def test_a_role_starts_equal_under_every_method():
    supervised, teacher = CASES["supervised"].state(), CASES["teacher"].state()
    jax.tree.map(
        np.testing.assert_array_equal, supervised.networks["segmenter"].params, teacher.networks["segmenter"].params
    )
    other = CASES["supervised"].state(seed=1)
    kernel = lambda state: np.asarray(state.networks["segmenter"].params["Dense_0"]["kernel"])
    assert np.any(kernel(supervised) != kernel(other))


def test_a_network_that_is_never_applied_is_named():
    modules = {**tiny_methods.supervised.build(None), "teacher": Net(3)}
    batch = prepared(CASES["supervised"].batch())
    with pytest.raises(ValueError, match=r"builds \['teacher'\] but neither its forward nor its losses applies"):
        init_variables(tiny_methods.supervised, modules, batch, tiny_config(), 0)


def test_a_network_without_parameters():
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x, *, train: bool):
            del train
            return jnp.mean(x, -1, keepdims=True)

    state = create_state({"teacher": {}}, {"teacher": Mean()}, {}, seed=0)
    out, _ = view(state).apply("teacher", X)
    assert out.shape == (2, 4, 4, 1)
    assert state.networks["teacher"].batch_stats == {}


def test_loss_outputs_default_to_nothing_else():
    out = LossOutput({}, view(tiny_state()))
    assert out.metrics == {} and out.accept == {}

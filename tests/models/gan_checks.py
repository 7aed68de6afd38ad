"""What the tests of generators and discriminators share; networks take any number of inputs and return any tree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.models import network_checks


def fast_compile(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def shapes(network, *sizes):
    """Return the shapes of what the network returns and its number of parameters, without computing anything."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    inputs = [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]
    out, variables = jax.eval_shape(lambda *x: network.init_with_output(keys, *x, train=True), *inputs)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(out))
    return jax.tree.map(jnp.shape, out), sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def draw(*sizes):
    return tuple(jax.random.normal(jax.random.key(10 + i), size) for i, size in enumerate(sizes))


def initialize(network, *inputs):
    """Return variables for inputs of these shapes; parameters are a little away from where they start."""
    return _initialize(network, tuple(x.shape for x in inputs))


@functools.cache
def _initialize(network, sizes):
    first = fast_compile(lambda: network.init(jax.random.key(0), *draw(*sizes), train=False))
    return network_checks.away(first(), by=0.1)


def infer(network, variables, *inputs):
    return fast_compile(lambda v, *x: network.apply(v, *x, train=False))(variables, *inputs)


def assert_gradient_reaches_every_parameter(network, *inputs):
    """In inference: in training, a norm takes away the biases before it."""
    variables = initialize(network, *inputs)
    stats = {name: value for name, value in variables.items() if name != "params"}

    @fast_compile
    def gradient(params):
        def loss(params):
            out = jax.tree.leaves(network.apply({"params": params, **stats}, *inputs, train=False))
            return sum(jnp.mean((leaf - jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape)) ** 2) for leaf in out)

        return jax.grad(loss)(params)

    for path, leaf in jax.tree.leaves_with_path(jax.device_get(gradient(variables["params"]))):
        assert np.all(np.isfinite(leaf)) and np.any(np.abs(leaf) > 1e-9), jax.tree_util.keystr(path)


def assert_modes(network, *inputs):
    """Training draws dropout from its key and moves all statistics; inference needs no key and moves nothing."""
    variables = initialize(network, *inputs)

    @fast_compile
    def train(variables, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return network.apply(variables, *inputs, train=True, rngs=rngs, mutable=["batch_stats"])

    first, again, other = jax.device_get((train(variables, 0), train(variables, 0), train(variables, 1)))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    differs = [np.any(a != b) for a, b in zip(jax.tree.leaves(first[0]), jax.tree.leaves(other[0]), strict=True)]
    assert any(differs) == (getattr(network, "dropout", 0.0) > 0)
    stats = jax.device_get(variables.get("batch_stats", {}))
    new = first[1].get("batch_stats", {})
    moved = jax.tree.map(lambda a, b: a.size == 1 or bool(np.any(a != b)), new, stats)  # a vector of one number is 1
    assert jax.tree.structure(moved) == jax.tree.structure(stats) and all(jax.tree.leaves(moved))
    infer(network, variables, *inputs)


def assert_bfloat16_is_close(network, *inputs):
    """The same network in bfloat16 has the same float32 variables and nearly the same float32 outputs."""
    variables = initialize(network, *inputs)
    half = network.clone(dtype=jnp.bfloat16)
    same = jax.eval_shape(lambda: half.init(jax.random.key(0), *inputs, train=False))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), same) == jax.tree.map(lambda a: (a.shape, a.dtype), variables)
    expected, actual = jax.device_get((infer(network, variables, *inputs), infer(half, variables, *inputs)))
    pairs = list(zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True))
    assert any(np.any(a != b) for a, b in pairs)
    for a, b in pairs:
        assert a.dtype == jnp.float32
        assert np.linalg.norm(a - b) <= 0.1 * np.linalg.norm(b)

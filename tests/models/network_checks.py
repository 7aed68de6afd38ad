"""What the tests of several segmentation networks share: shapes, parameter counts, gradients and modes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def image(b=2, h=37, w=45, seed=1):
    return jax.random.uniform(jax.random.key(seed), (b, h, w, 3), minval=-1, maxval=1)


def shapes(network, b=2, h=97, w=131):
    """Return the shapes of what the network returns and its number of parameters, without computing anything."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    x = jax.ShapeDtypeStruct((b, h, w, 3), jnp.float32)
    out, variables = jax.eval_shape(lambda x: network.init_with_output(keys, x, train=True), x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(out))
    return jax.tree.map(jnp.shape, out), sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def initialize(network, x, *, moved=0.0):
    """Return the first variables; with `moved`, parameters are that much of a normal number away from them."""
    variables = fast_compile(lambda x: network.init(jax.random.key(0), x, train=False))(x)
    return away(variables, moved) if moved else variables


def away(variables, by):
    """Return variables whose parameters are moved; in NumPy, for to compile so many draws takes longest of all."""
    rng = np.random.default_rng(2)
    move = lambda p: jnp.asarray(np.asarray(p) + by * rng.normal(size=p.shape).astype(np.float32))
    return {**variables, "params": jax.tree.map(move, variables["params"])}


def fast_compile(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def assert_gradient_reaches_every_parameter(network, x):
    """Parameters are moved first: layers that start at zero would stop the first gradient."""
    variables = initialize(network, x, moved=0.05)
    stats = variables.get("batch_stats", {})

    @fast_compile
    def gradient(params):
        def loss(params):
            outputs, _ = network.apply(
                {"params": params, "batch_stats": stats},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(3)},
            )
            label = jnp.argmax(x, axis=-1)
            losses = [optax.softmax_cross_entropy_with_integer_labels(o, label) for o in jax.tree.leaves(outputs)]
            return sum(jnp.mean(loss) for loss in losses)

        return jax.grad(loss)(params)

    for path, leaf in jax.tree.leaves_with_path(jax.device_get(gradient(variables["params"]))):
        assert np.all(np.isfinite(leaf)) and np.any(np.abs(leaf) > 1e-7), jax.tree_util.keystr(path)


def assert_modes(network, x):
    """Training draws dropout from its key and moves every running average; inference does neither."""
    variables = initialize(network, x, moved=0.05)

    @fast_compile
    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return network.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])

    first, again, other = jax.device_get((train(0), train(0), train(1)))
    for a, b, c in zip(*(jax.tree.leaves(made[0]) for made in (first, again, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert bool(np.any(a != c)) == (getattr(network, "dropout", 0.0) > 0)
    stats = jax.device_get(variables["batch_stats"])
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), first[1]["batch_stats"], stats)
    assert all(jax.tree.leaves(moved))
    jax.eval_shape(lambda: network.apply(variables, x, train=False))  # inference needs no key


def assert_bfloat16_is_close(make, x):
    """`make(dtype)` computes in bfloat16 what it does in float32, from float32 parameters, to float32 logits."""
    full, half = make(jnp.float32), make(jnp.bfloat16)
    variables = initialize(full, x, moved=0.05)
    same = jax.eval_shape(lambda: half.init(jax.random.key(0), x, train=False))
    assert jax.tree.structure(same) == jax.tree.structure(variables)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(same))
    infer = lambda n: jax.device_get(fast_compile(lambda v: n.apply(v, x, train=False))(variables))
    expected, actual = infer(full), infer(half)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == jnp.float32
        assert not np.array_equal(a, b)
        assert np.linalg.norm(a - b) < 0.2 * np.linalg.norm(b)  # a few maxima of poolings change places

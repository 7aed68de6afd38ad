"""The layers equal the textbook operations in values and derivatives, in the forms meant for each platform."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import convolution, layers, norms

NHWC = ("NHWC", "HWIO", "NHWC")


def textbook_down(x, w):
    return jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=NHWC)


def textbook_up(y, w):
    """Return the transpose of `textbook_down` by jax's own rule, with w [4, 4, i, o] as it stands."""
    shape = (y.shape[0], 2 * y.shape[1], 2 * y.shape[2], w.shape[2])
    return jax.linear_transpose(lambda x: textbook_down(x, w), jax.ShapeDtypeStruct(shape, y.dtype))(y)[0]


def textbook_weight_gradient(x, y):
    shape = (4, 4, x.shape[-1], y.shape[-1])
    return jax.linear_transpose(lambda w: textbook_down(x, w), jax.ShapeDtypeStruct(shape, y.dtype))(y)[0]


def textbook_pointwise(x, w):
    return jnp.einsum("bhwi,io->bhwo", x, w[0, 0], precision="highest")


def textbook_pointwise_weight_gradient(x, y):
    return jnp.einsum("bhwi,bhwo->io", x, y, precision="highest")[None, None]


OPERATIONS = {
    "down": (convolution.down, textbook_down),
    "up": (convolution.up, textbook_up),
    "weight_gradient": (convolution.weight_gradient, textbook_weight_gradient),
    "pointwise": (convolution.pointwise, textbook_pointwise),
    "pointwise_weight_gradient": (convolution.pointwise_weight_gradient, textbook_pointwise_weight_gradient),
}
SHAPES = [(2, 3, 4, 3, 5), (3, 1, 2, 8, 6)]  # b, h, w of the small map, i, o


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def arguments(name, shape):
    b, h, w, i, o = shape
    big, small, kernel = normal(0, b, 2 * h, 2 * w, i), normal(1, b, h, w, o), normal(2, 4, 4, i, o)
    point, matrix = normal(3, b, h, w, i), normal(4, 1, 1, i, o)
    return {
        "down": (big, kernel),
        "up": (small, kernel),
        "weight_gradient": (big, small),
        "pointwise": (point, matrix),
        "pointwise_weight_gradient": (point, small),
    }[name]


def gradients(operation):
    return jax.grad(lambda a, b: jnp.sum(jnp.sin(operation(a, b))), argnums=(0, 1))


def gradient_penalty(operation):
    """Return the gradients of |d/da sum(tanh(operation))|^2, the form of R1 and WGAN-GP."""

    def penalty(a, b):
        return jnp.sum(jax.grad(lambda a: jnp.sum(jnp.tanh(operation(a, b))))(a) ** 2)

    return jax.grad(penalty, argnums=(0, 1))


def derivatives(operation):
    return lambda a, b: (operation(a, b), gradients(operation)(a, b), gradient_penalty(operation)(a, b))


def quickly(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def first(module, x, seed=0, **options):
    """Return the first variables of a module, drawn by one program."""
    return quickly(lambda x: module.init(jax.random.key(seed), x, **options))(x)


def assert_close(actual, expected, tolerance=2e-5):
    def check(a, e):
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1.0, np.max(np.abs(e))))

    jax.tree.map(check, actual, expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_the_textbook_with_first_and_second_derivatives(name, shape):
    ours, textbook = OPERATIONS[name]
    a, b = arguments(name, shape)
    assert_close(jax.jit(derivatives(ours))(a, b), jax.jit(derivatives(textbook))(a, b))


def test_down_has_the_known_answer():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    ones = jnp.ones((4, 4, 1, 1))
    # Windows begin at -1 and 1: the first holds rows and columns 0 to 2, the second 1 to 3.
    np.testing.assert_array_equal(convolution.down(x, ones)[0, :, :, 0], [[45, 54], [81, 90]])


def test_up_has_the_known_answer():
    y = jnp.ones((1, 1, 1, 1))
    w = jnp.arange(16.0).reshape(4, 4, 1, 1)
    np.testing.assert_array_equal(convolution.up(y, w)[0, :, :, 0], [[5, 6], [9, 10]])


@pytest.mark.parametrize("name", ["down", "up", "pointwise"])
def test_vmap_over_either_argument_and_both(name):
    ours, textbook = OPERATIONS[name]
    a, b = arguments(name, SHAPES[0])
    many_a, many_b = np.stack([a, 2 * a, -a]), np.stack([b, 3 * b, b - 1])
    for axes, args in [((0, None), (many_a, b)), ((None, 0), (a, many_b)), ((0, 0), (many_a, many_b))]:
        assert_close(*(jax.jit(jax.vmap(gradients(f), axes))(*args) for f in (ours, textbook)))


@pytest.mark.parametrize("name", ["down", "up", "pointwise", "pointwise_weight_gradient"])
def test_forms_for_other_platforms_agree(name):
    native, cpu = (getattr(convolution, f"_{name}_{form}") for form in ("native", "cpu"))
    for shape in SHAPES:
        assert_close(*quickly(lambda a, b: (cpu(a, b), native(a, b)))(*arguments(name, shape)))


@pytest.mark.parametrize("name", ["down", "up", "pointwise"])
def test_bfloat16(name):
    ours, textbook = OPERATIONS[name]
    a, b = (x.astype(jnp.bfloat16) for x in arguments(name, SHAPES[0]))
    out, grads = quickly(lambda a, b: (ours(a, b), gradients(ours)(a, b)))(a, b)
    assert out.dtype == grads[0].dtype == grads[1].dtype == jnp.bfloat16
    expected = quickly(textbook)(a.astype(np.float32), b.astype(np.float32))
    assert_close(np.asarray(out, np.float32), expected, tolerance=2e-2)


@pytest.mark.parametrize("name", ["down", "up", "pointwise"])
def test_compiled_cpu_program_holds_one_branch(name):
    a, b = {
        "down": (normal(0, 2, 32, 32, 8), normal(1, 4, 4, 8, 16)),
        "up": (normal(0, 2, 16, 16, 16), normal(1, 4, 4, 8, 16)),
        "pointwise": (normal(0, 2, 16, 16, 16), normal(1, 1, 1, 16, 16)),
    }[name]
    flops = []
    for operation in OPERATIONS[name]:
        compiled = jax.jit(gradients(operation)).lower(a, b).compile()
        assert "conditional" not in compiled.as_text()
        flops.append(compiled.cost_analysis()["flops"])
    assert flops[0] < 1.15 * flops[1]  # `up` computes one row and one column more than it needs


def test_gradient_of_a_1x1_kernel_copies_nothing_on_cpu():
    x, y = normal(0, 4, 16, 16, 48), normal(1, 4, 16, 16, 32)
    programs = [jax.jit(f).lower(x, y).compile().as_text() for f in OPERATIONS["pointwise_weight_gradient"]]
    assert [" copy(" in program for program in programs] == [False, True]  # the textbook's transposes x in memory


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_lowering_ahead_of_time_chooses_the_form_of_the_platform(platform):
    y, w = normal(0, 2, 4, 4, 6), normal(1, 4, 4, 5, 6)

    def lowered(of):
        traced = jax.jit(of(lambda y: jnp.sum(jnp.sin(convolution.up(y, w))))).trace(y)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    native = "lhs_dilate = [2, 2]"  # the native transposed convolution, by its mark in StableHLO
    assert (native in lowered(lambda f: f)) == (platform != "cpu")
    assert lowered(jax.grad).count("stablehlo.convolution") == 2


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (7, 3), (2, 2)])
def test_down_conv_of_any_size_equals_the_textbook(size):
    x = normal(0, 2, *size, 3)
    module = layers.DownConv(5)
    kernel = first(module, x)["params"]["kernel"]

    def ours(x, kernel):
        return module.apply({"params": {"kernel": kernel, "bias": jnp.zeros(5)}}, x)

    assert_close(jax.jit(derivatives(ours))(x, kernel), jax.jit(derivatives(textbook_down))(x, kernel))


def test_up_conv_equals_conv_transpose():
    x = normal(0, 2, 3, 5, 4)
    module = layers.UpConv(6)

    @quickly
    def both(x):
        y, variables = module.init_with_output(jax.random.key(1), x)
        kernel = variables["params"]["kernel"]  # [4, 4, features, c]
        textbook = jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=NHWC, transpose_kernel=True)
        return y, textbook

    assert_close(*both(x))


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (7, 6)), ({"rate": 3}, (7, 6)), ({"stride": 2}, (4, 3)), ({"kernel": 4, "padding": 1}, (6, 5))],
)
def test_conv_sizes(options, size):
    x = normal(0, 2, 7, 6, 3)
    made = jax.eval_shape(lambda x: layers.Conv(5, **options).init_with_output(jax.random.key(0), x)[0], x)
    assert made.shape == (2, *size, 5)


@pytest.mark.parametrize("module", [layers.Conv(64), layers.Conv1x1(64), layers.DownConv(64), layers.UpConv(64)])
@pytest.mark.parametrize(("kernel_init", "gain"), [("he", 2.0), ("lecun", 1.0)])
def test_initialisation_scales_the_variance(module, kernel_init, gain):
    x = normal(0, 2, 16, 16, 32)
    module = module.clone(kernel_init=kernel_init)
    out = quickly(lambda x: module.init_with_output(jax.random.key(1), x)[0])(x)
    inner = np.asarray(out)[:, 1:-1, 1:-1]  # away from the zeros of the border
    assert np.var(inner) == pytest.approx(gain, rel=0.15)


def test_initialisation_by_standard_deviation_and_by_unknown_name():
    x = normal(0, 1, 8, 8, 64)
    for deviation in (0.02, "0.02"):
        kernel = first(layers.Conv(64, kernel_init=deviation), x)["params"]["kernel"]
        assert np.std(kernel) == pytest.approx(0.02, rel=0.02)
    with pytest.raises(InputError, match="glorot"):
        layers.Conv(64, kernel_init="glorot").init(jax.random.key(0), x)


def test_layer_norm_equals_its_definition_far_from_zero_too():
    x = 1000 + normal(0, 2, 3, 4, 8)
    scale, bias = np.arange(8, dtype=np.float32), np.arange(8, dtype=np.float32) - 3
    exact = np.asarray(x, np.float64)
    centred = exact - exact.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * scale + bias
    variables = {"params": {"scale": scale, "bias": bias}}
    full, half = (quickly(norms.LayerNorm(1e-3, dtype).apply)(variables, x) for dtype in (jnp.float32, jnp.bfloat16))
    np.testing.assert_allclose(full, expected, atol=2e-3)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), expected, atol=0.1)


@pytest.mark.parametrize("kind", norms.NORMS)
def test_norm_has_its_statistics(kind):
    x = 3.0 + 2.0 * normal(0, 4, 8, 8, 6)
    y, variables = quickly(lambda x: norms.Norm(kind).init_with_output(jax.random.key(0), x, train=True))(x)
    y = np.asarray(y)
    axes = {"batch": (0, 1, 2), "instance": (1, 2), "layer": (1, 2, 3), "group": (1, 2, 3)}.get(kind, ())
    if kind == "group":
        y = y.reshape(4, 8, 8, 2, 3).swapaxes(3, 4).reshape(4, 8, 8, 3, 2)[..., 0]  # gcd(32, 6) = 2 groups
    if kind in ("none", "frozen_batch"):  # the running averages begin at 0 and 1
        np.testing.assert_allclose(y, x, rtol=1e-5)
    else:
        np.testing.assert_allclose(np.mean(y, axes), 0.0, atol=1e-4)
        np.testing.assert_allclose(np.var(y, axes), 1.0, atol=1e-3)
    assert ("batch_stats" in variables) == (kind in ("batch", "frozen_batch"))


def seen(module, variables, x, train=True):
    """Return the output of a module and its moved statistics."""
    return quickly(lambda v, x: module.apply(v, x, train=train, mutable=["batch_stats"]))(variables, x)


def test_batch_norm_keeps_running_averages_and_uses_them_in_inference():
    x = 3.0 + 2.0 * normal(0, 4, 8, 8, 6)
    norm = norms.Norm("batch")
    variables = first(norm, x, train=False)
    _, updates = seen(norm, variables, x)
    stats = jax.device_get(updates["batch_stats"]["batch"])
    np.testing.assert_allclose(stats["mean"], 0.1 * np.mean(x, (0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * np.var(x, (0, 1, 2)), rtol=1e-4)
    y = quickly(functools.partial(norm.apply, train=False))(variables | updates, x)
    np.testing.assert_allclose(y, (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_is_that_of_flax(dtype, train):
    x = (3.0 + 2.0 * normal(0, 4, 8, 8, 6)).astype(dtype)
    ours = norms.Norm("batch", dtype)
    flax = nn.BatchNorm(momentum=0.9, use_fast_variance=False, epsilon=1e-5, dtype=dtype)
    variables = trained_norm(np.float32(x))

    def step(apply):
        def loss(params, x):
            y, moved = apply({"params": params, "batch_stats": variables["batch_stats"]["batch"]}, x)
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, moved)

        return quickly(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"]["batch"], x)

    def by_us(v, x):
        y, moved = ours.apply({k: {"batch": tree} for k, tree in v.items()}, x, train=train, mutable=["batch_stats"])
        return y, moved["batch_stats"]["batch"]

    def by_flax(v, x):
        y, moved = flax.apply(v, x, use_running_average=not train, mutable=["batch_stats"])
        return y, moved["batch_stats"]

    (gradients, found), (expected_gradients, expected) = step(by_us), step(by_flax)
    jax.tree.map(np.testing.assert_array_equal, found, expected)  # with jax 0.10 gradients have the same bits, too
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), gradients, expected_gradients)


def test_batch_norm_of_bfloat16_has_float32_statistics():
    x = normal(0, 4, 8, 8, 6).astype(jnp.bfloat16)
    norm = norms.Norm("batch", jnp.bfloat16)
    y, variables = jax.eval_shape(lambda x: norm.init_with_output(jax.random.key(0), x, train=True), x)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def trained_norm(x):
    """Return the variables of a batch norm that has seen x, with a scale and a bias of its own."""
    norm = norms.Norm("batch")
    _, updates = seen(norm, first(norm, x, train=False), x)
    params = {"batch": {"scale": normal(1, x.shape[-1]), "bias": normal(2, x.shape[-1])}}
    return {"params": params, "batch_stats": updates["batch_stats"]}


def test_frozen_batch_norm_takes_the_variables_of_a_batch_norm_and_equals_its_inference():
    x = 3.0 + 2.0 * normal(0, 4, 8, 8, 6)
    variables = trained_norm(x)
    frozen = norms.Norm("frozen_batch")
    begun = jax.eval_shape(lambda x: frozen.init(jax.random.key(0), x, train=True), x)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (variables, begun)]
    assert shapes[0] == shapes[1]
    expected = quickly(functools.partial(norms.Norm("batch").apply, train=False))(variables, x)
    for train in (True, False):
        y, after = seen(frozen, variables, x, train=train)
        assert_close(y, expected)
        jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], variables["batch_stats"])


def test_frozen_batch_norm_gives_no_gradient_to_its_parameters_and_that_of_a_product_to_its_input():
    x = 3.0 + 2.0 * normal(0, 4, 8, 8, 6)
    variables = trained_norm(x)

    def loss(params, x):
        return jnp.sum(jnp.sin(norms.Norm("frozen_batch").apply(variables | {"params": params}, x, train=True)))

    def expected(x):
        return jnp.sum(jnp.sin(norms.Norm("batch").apply(variables, x, train=False)))

    params, dx = quickly(jax.grad(loss, argnums=(0, 1)))(variables["params"], x)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(params))
    assert_close(dx, quickly(jax.grad(expected))(x))


def test_batch_norm_has_pytorchs_constants():
    x = 1e-3 + 2e-3 * normal(0, 4, 8, 8, 6)  # the epsilon shows
    norm = norms.Norm("batch")
    y, updates = seen(norm, first(norm, x, train=False), x)
    mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2))
    assert_close(y, (x - mean) / np.sqrt(var + 1e-5))
    assert_close(updates["batch_stats"]["batch"]["mean"], 0.1 * mean)


def test_unknown_norm_is_named():
    with pytest.raises(InputError, match="Unknown norm"):
        norms.Norm("layers").init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), train=True)


def test_spectral_normalisation_divides_by_the_largest_singular_value():
    x = normal(0, 2, 6, 6, 4)
    module = layers.Conv(8, spectral=True, bias=False)
    variables = first(module, x)
    train = jax.jit(lambda variables: module.apply(variables, x, train=True, mutable=["batch_stats"]))
    for _ in range(30):
        variables = variables | train(variables)[1]
    infer = quickly(functools.partial(module.apply, train=False))
    kernel = np.asarray(variables["params"]["kernel"])
    sigma = np.linalg.svd(kernel.reshape(-1, 8), compute_uv=False)[0]
    expected = quickly(layers.Conv(8, bias=False).apply)({"params": {"kernel": kernel / sigma}}, x)
    assert_close(infer(variables, x), expected, tolerance=1e-3)
    assert_close(train(variables)[0], expected, tolerance=1e-3)
    shorter = {"u": 0.9 * np.asarray(variables["batch_stats"]["u"])}  # as running averages of unit vectors are
    assert_close(infer({**variables, "batch_stats": shorter}, x), expected, tolerance=1e-3)


def test_spectral_vectors_move_only_when_training():
    x = normal(0, 2, 6, 6, 4)
    module = layers.DownConv(8, spectral=True)
    variables = first(module, x)
    same, moved = (np.asarray(seen(module, variables, x, train)[1]["batch_stats"]["u"]) for train in (False, True))
    before = np.asarray(variables["batch_stats"]["u"])
    np.testing.assert_array_equal(same, before)
    assert np.any(moved != before)


def test_spectral_gradient_passes_through_the_singular_value():
    x = normal(0, 2, 6, 6, 4)
    module = layers.Conv(8, spectral=True, bias=False)
    variables = first(module, x)

    def loss(kernel):
        return jnp.sum(jnp.sin(module.apply(variables | {"params": {"kernel": kernel}}, x)))

    kernel = np.asarray(variables["params"]["kernel"])
    # The normalised kernel does not change with the scale of the kernel: no gradient along it.
    gradient = np.asarray(quickly(jax.grad(loss))(kernel))
    assert abs(np.vdot(gradient, kernel)) < 1e-3 * np.linalg.norm(gradient) * np.linalg.norm(kernel)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 6, 2), (1, 1, 1, 1)])
def test_upsample_equals_resize(shape):
    x = normal(0, *shape)
    size = (2 * shape[1], 2 * shape[2])
    resized = (shape[0], *size, shape[3])
    assert_close(*quickly(lambda x: (layers.resize_logits(x, size), jax.image.resize(x, resized, "bilinear")))(x))


@pytest.mark.parametrize("size", [(7, 5), (13, 16), (3, 20), (6, 8), (1, 1)])
def test_resize_logits_equals_image_resize(size):
    x = normal(0, 2, 6, 8, 3)
    expected = lambda x: jax.image.resize(x, (2, *size, 3), "bilinear", antialias=True)
    assert_close(*quickly(lambda x: (layers.resize_logits(x, size), expected(x)))(x))


def test_resize_of_a_feature_map_keeps_its_dtype():
    x = normal(0, 2, 6, 8, 3)
    assert_close(*quickly(lambda x: (layers.resize(x, (9, 5)), layers.resize_logits(x, (9, 5))))(x))
    half = jax.eval_shape(lambda x: layers.resize(x, (9, 5)), x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


# Atrous convolution: exact, on small integers, against the sum that defines it.


def atrous_sum(x, w, rate):
    """Return y[m, n] = sum_{k, l} x[m + rate k, n + rate l] w[k, l] with k and l from the kernel's centre, in NumPy."""
    (b, height, width, _), side = x.shape, w.shape[0]
    reach = rate * (side // 2)
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    y = np.zeros((b, height, width, w.shape[-1]))
    for k in range(side):
        for l in range(side):
            y += padded[:, k * rate : k * rate + height, l * rate : l * rate + width] @ w[k, l]
    return y


def atrous_gradients(x, w, g, rate):
    """Return the derivatives of sum(g y): dx[j] = sum_k g[j - rate k] w[k] and dw[k] = sum_m x[m + rate k] g[m]."""
    (_, height, width, _), side = x.shape, w.shape[0]
    reach = rate * (side // 2)
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    dw = np.zeros(w.shape)
    for k in range(side):
        for l in range(side):
            window = padded[:, k * rate : k * rate + height, l * rate : l * rate + width]
            dw[k, l] = np.einsum("bhwi,bhwo->io", window, g)
    return atrous_sum(g, w[::-1, ::-1].swapaxes(2, 3), rate), dw


def integers(seed, *shape):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
@pytest.mark.parametrize("rate", [1, 2, 6, 12, 18, 24])
def test_atrous_convolution_is_exactly_its_sum(rate, kind):
    check_atrous(rate, (1, 53, 1, 2), kind)
    check_atrous(rate, (2, 29, 26, 2), kind)


@pytest.mark.parametrize("rate", [1, 24])
def test_a_rate_leaves_1x1_convolution_as_it_is(rate):
    check_atrous(rate, (2, 29, 26, 2), "1x1")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
@pytest.mark.parametrize("rate", range(1, 25))
def test_atrous_convolution_is_exactly_its_sum_at_every_rate(rate, kind):
    for side in (3, 5):
        for shape in [(1, 53, 1, 2), (2, 29, 26, 2)]:
            check_atrous(rate, shape, kind, side=side)


def check_atrous(rate, shape, kind, *, side=3):
    features = shape[-1] if kind == "depthwise" else 3
    side = 1 if kind == "1x1" else side
    x, g = integers(0, *shape), integers(1, *shape[:3], features)
    if kind == "depthwise":
        module = layers.DepthwiseConv(side, rate=rate, bias=False)
        kernel = integers(2, side, side, 1, features)
        dense = kernel * np.eye(features)
    else:
        module = layers.Conv(features, side, rate=rate, bias=False)
        kernel = dense = integers(2, side, side, shape[-1], features)

    def forward_backward(x, kernel, g):
        y, pullback = jax.vjp(lambda x, kernel: module.apply({"params": {"kernel": kernel}}, x), x, kernel)
        return y, *pullback(g)

    y, dx, dw = quickly(forward_backward)(x, kernel, g)
    expected_dx, expected_dw = atrous_gradients(x, dense, g, rate)
    if kind == "depthwise":
        expected_dw = np.einsum("klcc->klc", expected_dw)[:, :, None]
    np.testing.assert_array_equal(y, atrous_sum(x, dense, rate))
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_array_equal(dw, expected_dw)


def test_atrous_convolution_has_the_known_answer():
    x = np.arange(1, 7, dtype=np.float32).reshape(1, 6, 1, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[:, 1, 0, 0] = [100, 10, 1]
    y = np.asarray(quickly(layers.Conv(1, rate=2, bias=False).apply)({"params": {"kernel": kernel}}, x))
    np.testing.assert_array_equal(y[0, :, 0, 0], [13, 24, 135, 246, 350, 460])


# Depthwise convolution.

# Side of the kernel, stride, rate, height and width.
DEPTHWISE = [(3, 1, 2, 5, 6), (5, 2, 1, 7, 6), (3, 3, 4, 11, 5), (3, 2, 7, 3, 4)]


def textbook_depthwise(x, w, stride, rate):
    return convolution._depthwise_native(x, w, stride=stride, rate=rate)


def textbook_pairs(name, operations, forward, x, w, y):
    """Return (ours, textbook, arguments) of a convolution, its transpose and the gradient of its kernel."""
    transpose = lambda y, w: jax.linear_transpose(lambda x: forward(x, w), x)(y)[0]
    gradient = lambda x, y: jax.linear_transpose(lambda w: forward(x, w), w)(y)[0]
    names, arguments = (name, "transpose", "weight_gradient"), ((x, w), (y, w), (x, y))
    return dict(zip(names, zip(operations, (forward, transpose, gradient), arguments, strict=True), strict=True))


def depthwise_pairs(side, stride, rate, height, width):
    """Return (ours, textbook, arguments) of the three operations, each a function of two arrays."""
    x, w = normal(0, 2, height, width, 3), normal(1, side, side, 1, 3)
    y = normal(2, 2, -(-height // stride), -(-width // stride), 3)
    forward = functools.partial(textbook_depthwise, stride=stride, rate=rate)
    operations = (
        lambda x, w: convolution.depthwise(x, w, stride, rate),
        lambda y, w: convolution.depthwise_transpose(y, w, stride, rate, (height, width)),
        lambda x, y: convolution.depthwise_weight_gradient(x, y, stride, rate, side),
    )
    return textbook_pairs("depthwise", operations, forward, x, w, y)


@pytest.mark.parametrize("case", DEPTHWISE[:2])
@pytest.mark.parametrize("name", ["depthwise", "transpose", "weight_gradient"])
def test_depthwise_operations_equal_the_textbook_with_first_and_second_derivatives(name, case):
    ours, textbook, arguments = depthwise_pairs(*case)[name]
    assert_close(quickly(derivatives(ours))(*arguments), quickly(derivatives(textbook))(*arguments))


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_forms_for_other_platforms_agree(case):
    side, stride, rate, height, width = case
    static = {"stride": stride, "rate": rate}
    options = {
        "depthwise": {},
        "depthwise_transpose": {"size": (height, width)},
        "depthwise_weight_gradient": {"side": side},
    }
    pairs = depthwise_pairs(*case)
    arguments = {name: pairs[name.removeprefix("depthwise_")][2] for name in options}

    def outputs(form, arguments):
        of = lambda name: getattr(convolution, f"_{name}_{form}")(*arguments[name], **static, **options[name])
        return {name: of(name) for name in options}

    assert_close(*(quickly(functools.partial(outputs, form))(arguments) for form in ("cpu", "native")))


def test_depthwise_has_the_known_answer():
    x, w = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7, 1), np.zeros((3, 3, 1, 1), np.float32)
    w[1, :, 0, 0] = [100, 10, 1]
    made = quickly(lambda x: [convolution.depthwise(x, w, *of)[0, 0, :, 0] for of in ((1, 2), (2, 1), (1, 7))])(x)
    np.testing.assert_array_equal(made[0], [13, 24, 135, 246, 357, 460, 570])
    np.testing.assert_array_equal(made[1], [12, 234, 456, 670])
    np.testing.assert_array_equal(made[2], 10 * x[0, 0, :, 0])


def test_depthwise_under_vmap_and_in_bfloat16():
    operation = lambda x, w: convolution.depthwise(x, w, 2, 1)
    textbook = functools.partial(textbook_depthwise, stride=2, rate=1)
    x, w = normal(0, 3, 2, 6, 5, 4), normal(1, 3, 3, 1, 4)
    assert_close(*(quickly(jax.vmap(gradients(f), (0, None)))(x, w) for f in (operation, textbook)))
    x, w = x[0].astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    out, grads = quickly(lambda x, w: (operation(x, w), gradients(operation)(x, w)))(x, w)
    assert out.dtype == grads[0].dtype == grads[1].dtype == jnp.bfloat16
    expected = quickly(textbook)(x.astype(np.float32), w.astype(np.float32))
    assert_close(np.asarray(out, np.float32), expected, tolerance=1e-2)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_lowering_depthwise_ahead_of_time_chooses_the_form_of_the_platform(platform):
    x, w = normal(0, 2, 8, 8, 6), normal(1, 3, 3, 1, 6)
    operation = gradients(lambda x, w: convolution.depthwise(x, w, 1, 2))
    text = jax.jit(operation).trace(x, w).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == (0 if platform == "cpu" else 3)


# Convolution to few channels.

# Side of the kernel, padding, rate, height and width.
NARROW = [(3, 1, 1, 5, 6), (4, 1, 1, 6, 5), (3, 3, 2, 4, 7), (2, 0, 1, 3, 3), (3, 7, 7, 3, 4), (2, 3, 1, 3, 4)]


def textbook_narrow(x, w, pad, rate):
    return convolution._narrow_native(x, w, pad=pad, rate=rate)


def narrow_pairs(side, pad, rate, height, width):
    """Return (ours, textbook, arguments) of the three operations, each a function of two arrays."""
    grown = 2 * pad - rate * (side - 1)
    x, w = normal(0, 2, height, width, 5), normal(1, side, side, 5, 2)
    y = normal(2, 2, height + grown, width + grown, 2)
    forward = functools.partial(textbook_narrow, pad=pad, rate=rate)
    operations = (
        lambda x, w: convolution.narrow(x, w, pad, rate),
        lambda y, w: convolution.narrow_transpose(y, w, pad, rate),
        lambda x, y: convolution.narrow_weight_gradient(x, y, pad, rate, side),
    )
    return textbook_pairs("narrow", operations, forward, x, w, y)


@pytest.mark.parametrize("case", NARROW[1:3])
@pytest.mark.parametrize("name", ["narrow", "transpose", "weight_gradient"])
def test_narrow_operations_equal_the_textbook_with_first_and_second_derivatives(name, case):
    ours, textbook, arguments = narrow_pairs(*case)[name]
    assert_close(quickly(derivatives(ours))(*arguments), quickly(derivatives(textbook))(*arguments))


@pytest.mark.parametrize("case", NARROW)
def test_narrow_forms_for_other_platforms_agree(case):
    pairs = narrow_pairs(*case)
    static = {"pad": case[1], "rate": case[2]}

    def outputs(form):
        of = {name: getattr(convolution, f"_narrow{name}_{form}") for name in ("", "_transpose", "_weight_gradient")}
        return (
            of[""](*pairs["narrow"][2], **static),
            of["_transpose"](*pairs["transpose"][2], **static),
            of["_weight_gradient"](*pairs["weight_gradient"][2], **static, side=case[0]),
        )

    assert_close(*(quickly(functools.partial(outputs, form))() for form in ("cpu", "native")))


def test_narrow_is_exact_in_bfloat16_but_for_the_result():
    x, w = (normal(seed, *shape).astype(jnp.bfloat16) for seed, shape in ((0, (2, 6, 5, 40)), (1, (3, 3, 40, 2))))
    out = quickly(lambda x, w: convolution.narrow(x, w, 1, 1))(x, w)
    expected = quickly(lambda x, w: textbook_narrow(x, w, 1, 1))(x.astype(np.float32), w.astype(np.float32))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, expected.astype(jnp.bfloat16))


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_lowering_a_narrow_convolution_ahead_of_time_chooses_the_form_of_the_platform(platform):
    module = layers.Conv(2, bias=False)
    x = normal(0, 2, 8, 8, 9)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    operation = gradients(lambda x, variables: module.apply(variables, x))
    text = jax.jit(operation).trace(x, variables).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == (0 if platform == "cpu" else 3)
    wide = layers.Conv(3, bias=False)  # 27 products for 9 channels
    variables = jax.eval_shape(wide.init, jax.random.key(0), x)
    text = jax.jit(wide.apply).trace(variables, x).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 1


def test_depthwise_conv_starts_with_the_variance_of_its_taps():
    kernel = first(layers.DepthwiseConv(9), normal(0, 1, 5, 5, 32))["params"]["kernel"]
    assert np.std(kernel) == pytest.approx((2 / 81) ** 0.5, rel=0.05)


def test_depthwise_conv_refuses_an_even_kernel():
    with pytest.raises(InputError, match="side 4"):
        layers.DepthwiseConv(4).init(jax.random.key(0), normal(0, 1, 5, 5, 3))


def test_separable_conv_is_its_parts():
    x = normal(0, 2, 9, 7, 4)
    module = layers.SeparableConv(6, stride=2, rate=2)

    @quickly
    def both(x):
        made, variables = module.init_with_output(jax.random.key(1), x, train=False)
        kernels = {name: variables["params"][name]["kernel"] for name in ("depthwise", "pointwise")}
        y = jax.nn.relu(textbook_depthwise(x, kernels["depthwise"], 2, 2) / jnp.sqrt(1 + 1e-5))
        return made, jax.nn.relu(textbook_pointwise(y, kernels["pointwise"]) / jnp.sqrt(1 + 1e-5))

    made, y = both(x)
    assert y.shape == (2, 5, 4, 6)
    assert_close(made, y)


@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (2, 1), (1, 6)])
def test_depthwise_convolutions_are_exported_for_any_size(stride, rate):
    """With taps that the map does not reach: they are left out where its size is known."""
    w = jax.random.normal(jax.random.key(0), (3, 3, 1, 2))
    shape = jax.export.symbolic_shape("b, 2*h, 2*w, 2")
    function = jax.jit(lambda x: convolution.depthwise(x, w, stride, rate))
    exported = jax.export.export(function, platforms=["cpu", "tpu"])(jax.ShapeDtypeStruct(shape, jnp.float32))
    for size in ((1, 2, 4, 2), (2, 8, 6, 2)):
        x = jax.random.normal(jax.random.key(1), size)
        np.testing.assert_allclose(exported.call(x), textbook_depthwise(x, w, stride, rate), atol=1e-5)

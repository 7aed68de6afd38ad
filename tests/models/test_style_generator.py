"""StyleGAN2's generator against its equations, written out with a kernel for each example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.models import layers
from gan_seg_jax.models.style_generator import ModulatedConv, StyleGAN2Generator
from tests.models import gan_checks

SIZE, CHANNELS, MAPPING, STYLE, CLASSES = (4, 6), (4, 3), 2, 5, 2


def numpy_conv(x, w):
    """Correlate one example [h, w, c] with a kernel [k, k, c, o], zeros around it."""
    side = w.shape[0]
    padded = np.pad(x, ((side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    return np.array(
        [
            [np.einsum("klc,klco->o", padded[m : m + side, n : n + side], w) for n in range(x.shape[1])]
            for m in range(x.shape[0])
        ]
    )


def modulated(p, x, style, *, demodulate):
    """Apply the equations to each example: scale the kernel's inputs, divide by the norm of each output's kernel."""
    w = np.asarray(p["kernel"]) / np.sqrt(np.prod(p["kernel"].shape[:3]))
    out = []
    for one, vector in zip(x, style, strict=True):
        scale = 1 + vector @ np.asarray(p["style"]["kernel"]) / np.sqrt(len(vector)) + np.asarray(p["style"]["bias"])
        own = w * scale[:, None]
        if demodulate:
            own = own / np.sqrt((own**2).sum(axis=(0, 1, 2)) + 1e-8)
        out.append(numpy_conv(one, own))
    return np.stack(out)


def doubled(x):
    """Put zeros between the pixels and filter with [1, 3, 3, 1] / 4 along each axis; pixels at the border repeat."""
    for axis in (1, 2):
        x = np.moveaxis(np.pad(x, [(1, 1) if each == axis else (0, 0) for each in range(4)], mode="edge"), axis, -1)
        spread = np.stack([x, np.zeros_like(x)], axis=-1).reshape(*x.shape[:-1], -1)
        x = sum(f / 4 * spread[..., at : at + 2 * x.shape[-1] - 4] for at, f in enumerate((1, 3, 3, 1)))
        x = np.moveaxis(x, -1, axis)
    return x


def activated(x):
    return np.sqrt(2) * np.where(x > 0, x, 0.2 * x)


def by_hand(p, z):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)
    style = np.asarray(z, np.float64)
    style = style / np.sqrt((style**2).mean(axis=1, keepdims=True))
    for index in range(MAPPING):
        layer = p[f"mapping_{index}"]
        style = activated(0.01 * (style @ layer["kernel"] / np.sqrt(style.shape[1]) + layer["bias"]))
    numbers = [sum(2**place for place, value in enumerate(row) if value > 0) for row in np.asarray(z)]

    def convolve(name, index, x):
        layer = p[name]
        x = modulated(layer["conv"], x, style, demodulate=True)
        keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), index) for number in numbers]
        noise = np.stack([jax.random.normal(key, (*x.shape[1:3], 1)) for key in keys])
        return activated(x + layer["noise_strength"] * noise + layer["bias"])

    def made(level, x):
        return modulated(p[f"out_{level}"], x, style, demodulate=False) + p[f"out_bias_{level}"]

    x = convolve("conv_0", 1, np.stack([p["start"]] * len(z)))
    total = doubled(made(0, x))
    x = convolve("conv_1", 3, convolve("up_1", 2, doubled(x)))
    total = total + made(1, x)
    return np.tanh(total[..., :3]), total[..., 3:]


@pytest.fixture(scope="module")
def small():
    network = StyleGAN2Generator(SIZE, CHANNELS, MAPPING, STYLE, "joint", num_classes=CLASSES)
    (z,) = gan_checks.draw((3, 7))
    variables = gan_checks.initialize(network, z)
    params = variables["params"] | {
        f"mapping_{index}": jax.tree.map(lambda leaf: 50 * leaf, variables["params"][f"mapping_{index}"])
        for index in range(MAPPING)
    }
    return network, {"params": params}, z


def test_network_computes_the_equations(small):
    network, variables, z = small
    image, logits = gan_checks.infer(network, variables, z)
    expected_image, expected_logits = by_hand(variables["params"], z)
    np.testing.assert_allclose(image, expected_image, atol=1e-4)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-4 * np.abs(expected_logits).max())
    assert (
        np.std(expected_logits) > 0.1 and np.std(expected_image, axis=0).max() > 0.1
    )  # by the style, not only its bias


def test_gradients_are_those_of_a_kernel_for_each_example():
    module = ModulatedConv(3)
    x, style = gan_checks.draw((2, 4, 5, 2), (2, 3))
    params = module.init(jax.random.key(0), x, style)["params"]

    def explicit(params, x, style):
        w = params["kernel"] / np.sqrt(18)
        scale = 1 + style @ params["style"]["kernel"] / np.sqrt(3) + params["style"]["bias"]

        def one(x, scale):
            own = w * scale[:, None]
            own = own / jnp.sqrt(jnp.sum(own**2, axis=(0, 1, 2)) + 1e-8)
            return jax.lax.conv_general_dilated(
                x[None], own, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )[0]

        return jax.vmap(one)(x, scale)

    @gan_checks.fast_compile
    def gradients(params, x, style):
        return [
            jax.grad(lambda *args, f=f: jnp.sum(jnp.sin(f(*args))), (0, 1, 2))(params, x, style)
            for f in (explicit, lambda params, x, style: module.apply({"params": params}, x, style))
        ]

    expected, found = gradients(params, x, style)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, atol=1e-5), expected, found)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected))


def test_parameters_are_those_counted_by_hand():
    """StyleGAN2's at 64x64: mapping, start, and for each convolution its kernel, its style, bias and noise strength."""
    dense = lambda inputs, outputs: inputs * outputs + outputs
    conv = lambda side, inputs, outputs: side**2 * inputs * outputs + dense(512, inputs)
    styled = conv(3, 512, 512) + 512 + 1
    count = 8 * dense(512, 512) + 16 * 512 + 9 * styled + 5 * (conv(1, 512, 3) + 3)
    assert gan_checks.shapes(StyleGAN2Generator(), (2, 512)) == ((2, 64, 64, 3), count)
    joint = StyleGAN2Generator((48, 64), (8, 4), 1, 6, "joint", num_classes=4)
    (image, logits), count = gan_checks.shapes(joint, (2, 9))
    assert (image, logits) == ((2, 48, 64, 3), (2, 48, 64, 4))
    start = 24 * 32 * 8
    styles = 8 * 6 + 8 + 8 * 6 + 8 + 4 * 6 + 4  # of the two convolutions that see 8 channels, and the one that sees 4
    outs = (8 + 4) * 7 + 2 * 7 + (8 * 6 + 8) + (4 * 6 + 4)
    assert count == (9 * 6 + 6) + start + 9 * (8 * 8 + 8 * 4 + 4 * 4) + styles + (8 + 1) + 2 * (4 + 1) + outs


def test_doubling_is_the_filter_of_the_paper():
    (x,) = gan_checks.draw((2, 3, 4, 2))
    np.testing.assert_allclose(layers.resize(x, (6, 8)), doubled(np.asarray(x)), atol=1e-6)


def test_noise_of_the_pixels_follows_from_the_vector_alone(small):
    """By its signs, so its length changes nothing; alone, an example is what it is in a batch."""
    network, variables, z = small
    apply = gan_checks.fast_compile(lambda params, z: network.apply({"params": params}, z, train=True)[0])
    image = apply(variables["params"], z)
    np.testing.assert_allclose(apply(variables["params"], 2 * z), image, atol=1e-5)
    np.testing.assert_allclose(
        jnp.concatenate([apply(variables["params"], z[n : n + 1]) for n in range(3)]), image, atol=1e-5
    )
    same_style = {
        name: jax.tree.map(jnp.zeros_like, leaf) if name.startswith("mapping") else leaf
        for name, leaf in variables["params"].items()
    }
    first, second, third = apply(same_style, jnp.stack([z[0], z[0] + 1e-6, -z[0]]))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 1e-3

"""Generators: sizes, published parameter counts, modes, derivatives, and SPADE against its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import MODELS, build_network, spade
from gan_seg_jax.models.generators import DCGANGenerator, DenseGenerator
from gan_seg_jax.models.spade import OASISGenerator, SPADEGenerator
from gan_seg_jax.models.style_generator import StyleGAN2Generator
from tests.models import gan_checks

DCGAN = {"size": (8, 12), "channels": (6, 4)}
SPADE = {"channels": 2, "widths": (2, 1), "doublings": (0, 1), "hidden": 3, "kernel_init": "he"}
SMALL = {
    "dcgan": (DCGANGenerator(**DCGAN), [(3, 5)]),
    "dcgan_joint_resize": (
        DCGANGenerator(**DCGAN, heads="joint", num_classes=4, upsample="resize", norm="group"),
        [(3, 5)],
    ),
    "dense_joint": (DenseGenerator((5, 7), hidden=(6, 8), heads="joint", num_classes=4), [(3, 5)]),
    "stylegan2_joint": (StyleGAN2Generator((4, 6), (4, 3), 1, 5, "joint", num_classes=4), [(3, 5)]),
    "spade": (SPADEGenerator(**SPADE), [(2, 9, 13, 4)]),
    "spade_noise_instance": (SPADEGenerator(**SPADE, norm="instance", spectral=False), [(2, 9, 13, 4), (2, 5)]),
    "oasis": (OASISGenerator(**SPADE), [(2, 9, 13, 4), (2, 9, 13, 3)]),
}
# In an instance norm, too, a constant that is added before has no effect.
WITHOUT_IDLE_BIASES = ["dcgan", "dcgan_joint_resize", "dense_joint", "stylegan2_joint", "oasis"]


@pytest.mark.parametrize(
    ("options", "size", "count"),
    [
        # The PyTorch example's 3,576,704 (64 filters) and the three biases of its last layer, which it leaves out.
        ({"channels": (512, 256, 128, 64)}, (64, 64), 3_576_704 + 3),
        ({}, (64, 64), 100 * 16384 + 2 * 1024 + 16 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 2 * 896 + 3),
        (
            {"channels": (8, 4), "upsample": "resize"},
            (128, 192),
            100 * 8 * 32 * 48 + 2 * 8 + 9 * (8 * 4 + 4 * 3) + 2 * 4 + 3,
        ),
    ],
)
def test_dcgan_has_its_parameters(options, size, count):
    assert gan_checks.shapes(DCGANGenerator(size, **options), (2, 100)) == ((2, *size, 3), count)


def test_joint_form_adds_the_last_layer_of_the_mask():
    _, alone = gan_checks.shapes(DCGANGenerator((96, 128)), (2, 100))
    out, both = gan_checks.shapes(DCGANGenerator((96, 128), heads="joint", num_classes=5), (2, 100))
    assert out == ((2, 96, 128, 3), (2, 96, 128, 5))
    assert both - alone == 16 * 128 * 5 + 5


def test_dense_generator_has_its_parameters():
    last = 28 * 28 * 3
    count = 100 * 256 + 256 * 512 + 512 * 1024 + 2 * (256 + 512 + 1024) + 1024 * last + last
    assert gan_checks.shapes(DenseGenerator((28, 28)), (2, 100)) == ((2, 28, 28, 3), count)


@pytest.mark.parametrize(
    ("network", "classes", "noise", "count"),
    [
        (SPADEGenerator(), 36, (), 93_048_003),  # published: 93.0 M for Cityscapes,
        (SPADEGenerator(), 151, (), 96_492_483),  # 96.5 M for ADE20K,
        (SPADEGenerator(), 184, (), 97_480_899),  # and 97.5 M for COCO-Stuff
        (OASISGenerator(), 35, ((1, 64),), 71_107_523),  # published: 71.1 M for Cityscapes
        (OASISGenerator(), 151, ((1, 64),), 74_314_691),  # and 74.3 M for ADE20K
    ],
)
def test_spade_and_oasis_have_their_parameters(network, classes, noise, count):
    assert gan_checks.shapes(network, (1, 256, 512, classes), *noise) == ((1, 256, 512, 3), count)


@pytest.mark.parametrize("size", [(32, 32), (45, 70)])
def test_label_maps_of_any_size_keep_it(size):
    small = {"channels": 2, "hidden": 4}
    for network, noise in [
        (SPADEGenerator(**small), ()),
        (SPADEGenerator(**small), ((2, 8),)),
        (OASISGenerator(**small), ((2, 8),)),
        (OASISGenerator(**small), ((2, *size, 8),)),
    ]:
        assert gan_checks.shapes(network, (2, *size, 5), *noise)[0] == (2, *size, 3)


def test_block_computes_the_equation():
    """Written out from its parameters: normalise, scale and shift by the label map, activate, convolve, add."""
    block = spade._Block(3, 4, "batch", spectral=False, kernel_init="he", dtype=jnp.float32)
    x, label_map = gan_checks.draw((2, 5, 6, 2), (2, 5, 6, 3))
    variables = gan_checks.initialize(block, x, label_map)
    p = variables["params"]

    def conv(x, name):
        kernel = p[name]["kernel"]
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + p[name].get("bias", 0.0)

    def modulated(x, name):
        mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        hidden = conv(label_map, f"{name}_shared")
        both = conv(jnp.where(hidden > 0, hidden, 0), f"{name}_gamma_beta")
        c = x.shape[-1]
        return (x - mean) / jnp.sqrt(var + 1e-5) * (1 + both[..., :c]) + both[..., c:]

    def activate(x):
        return jnp.where(x > 0, x, 0.2 * x)

    y = conv(activate(modulated(x, "spade_0")), "conv_0")
    y = conv(activate(modulated(y, "spade_1")), "conv_1")
    expected = conv(modulated(x, "spade_shortcut"), "shortcut") + y
    actual, _ = gan_checks.fast_compile(
        lambda *x: block.apply(variables, *x, train=True, mutable=["batch_stats"])  # with the batch's statistics
    )(x, label_map)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_noise_of_one_place_changes_the_image_there_only():
    """And one vector an image is the same as that vector at every pixel."""
    network = OASISGenerator(**SPADE)
    label_map, vector = gan_checks.draw((1, 8, 64, 4), (1, 3))
    noise = jnp.broadcast_to(vector[:, None, None], (1, 8, 64, 3))
    variables = gan_checks.initialize(network, label_map, vector)
    apply = gan_checks.fast_compile(lambda z: network.apply(variables, label_map, z, train=False))
    image = apply(noise)
    np.testing.assert_allclose(apply(vector), image, atol=1e-6)
    change = np.abs(apply(noise.at[:, :, :8].add(1.0)) - image).max(axis=(0, 1, 3))
    assert change[:8].max() > 1e-3 and change[48:].max() == 0


def test_an_image_depends_on_its_own_noise_only():
    network, sizes = SMALL["dcgan"]
    (noise,) = gan_checks.draw(*sizes)
    variables = gan_checks.initialize(network, noise)
    image = gan_checks.infer(network, variables, noise)
    np.testing.assert_allclose(gan_checks.infer(network, variables, noise[::-1]), image[::-1], atol=1e-5)
    assert np.abs(image).max() <= 1 and np.abs(image[0] - image[1]).max() > 1e-3


def test_spectral_vectors_are_statistics():
    network, sizes = SMALL["spade"]
    _, variables = jax.eval_shape(
        lambda *x: network.init_with_output(jax.random.key(0), *x, train=False), *gan_checks.draw(*sizes)
    )
    found = variables["batch_stats"]["block_1"]
    assert {name for name, leaves in found.items() if "u" in leaves} == {"conv_0", "conv_1", "shortcut"}
    assert found["norm_0"].keys() == {"mean", "var"} and "norm_0" not in variables["params"]["block_1"]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if "oasis" in n or "spade" in n else n for n in WITHOUT_IDLE_BIASES],
)
def test_gradient_reaches_every_parameter(name):
    network, sizes = SMALL[name]
    gan_checks.assert_gradient_reaches_every_parameter(network, *gan_checks.draw(*sizes))


@pytest.mark.parametrize("name", ["dcgan", "dense_joint", "spade"])
def test_modes(name):
    network, sizes = SMALL[name]
    gan_checks.assert_modes(network, *gan_checks.draw(*sizes))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dcgan_joint_resize", "dense_joint", "stylegan2_joint", "spade_noise_instance", "oasis"]
)
def test_bfloat16(name):
    network, sizes = SMALL[name]
    gan_checks.assert_bfloat16_is_close(network, *gan_checks.draw(*sizes))


@pytest.mark.parametrize(
    ("network", "sizes", "message"),
    [
        (DCGANGenerator((60, 64)), [(2, 5)], "multiples of 16, found 60x64"),
        (DCGANGenerator(heads="both"), [(2, 5)], "'both'"),
        (DCGANGenerator(heads="joint"), [(2, 5)], "num_classes=0"),
        (DCGANGenerator(upsample="bilinear"), [(2, 5)], "'bilinear'"),
        (DenseGenerator(heads="joint"), [(2, 5)], "num_classes=0"),
        (StyleGAN2Generator((60, 64)), [(2, 5)], "multiples of 16, found 60x64"),
        (StyleGAN2Generator(heads="joint"), [(2, 5)], "num_classes=0"),
        (DenseGenerator(norm="instance"), [(2, 5)], "'instance'"),
        (SPADEGenerator(), [(2, 31, 64, 4)], "at least 32x32 pixels, found 31x64"),
        (SPADEGenerator(norm="group"), [(2, 32, 32, 4)], "'group'"),
        (SPADEGenerator(noise="everywhere"), [(2, 32, 32, 4)], "'everywhere'"),
        (SPADEGenerator(doublings=(0, 1)), [(2, 32, 32, 4)], "one entry a block"),
        (SPADEGenerator(), [(2, 32, 32, 4), (2, 32, 32, 5)], "one vector an image"),
        (OASISGenerator(), [(2, 32, 32, 4), (2, 16, 16, 5)], "does not fit a label map"),
    ],
)
def test_what_does_not_fit_is_named(network, sizes, message):
    with pytest.raises(InputError, match=message):
        gan_checks.shapes(network, *sizes)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("_generator")])
def test_every_generator_is_built_from_a_config(name):
    assert build_network(ConfigDict({"name": name, "ema": False}), dtype="bfloat16").dtype == jnp.bfloat16

"""Discriminators and critics: sizes, published parameter counts, what they see, modes and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import MODELS, build_network, layers
from gan_seg_jax.models.critics import SegANCritic
from gan_seg_jax.models.discriminators import DCGANDiscriminator, DenseDiscriminator, MultiscalePatchGAN, PatchGAN
from gan_seg_jax.models.label_discriminators import FCNDiscriminator, LucDiscriminator, S4GANDiscriminator
from gan_seg_jax.models.unet_discriminator import UNetDiscriminator
from tests.models import gan_checks

PAIR = [(2, 33, 37, 3), (2, 33, 37, 2)]
SMALL = {
    "patchgan": (PatchGAN(2, layers=1, norm="group", spectral=True, features=True), [(2, 9, 11, 3)]),
    "multiscale": (MultiscalePatchGAN(channels=2, layers=1, norm="none"), [(2, 13, 15, 3), (2, 13, 15, 2)]),
    "dcgan": (DCGANDiscriminator(2, layers=2), [(3, 9, 13, 3), (3, 9, 13, 2)]),
    "dense": (DenseDiscriminator((4, 3), norm="spectral"), [(2, 3, 5, 3)]),
    "fcn": (FCNDiscriminator(2, norm="spectral"), PAIR),
    "s4gan": (S4GANDiscriminator(2), PAIR),
    "luc": (LucDiscriminator(width=0.04, norm="spectral"), [(2, 9, 11, 3)]),
    "unet": (UNetDiscriminator(4, channels=(2, 3), kernel_init="he"), [(2, 7, 9, 3)]),
    "segan": (SegANCritic(2, norm="batch"), [(4, 65, 70, 3)]),
}


@pytest.mark.parametrize(
    ("network", "sizes", "out", "count"),
    [
        # The PyTorch example's 2,765,568 and the biases of its first and last layer, which it leaves out.
        (DCGANDiscriminator(), [(2, 64, 64, 3)], (2, 1), 2_765_568 + 64 + 1),
        (DCGANDiscriminator(norm="none"), [(2, 96, 128, 8)], (2, 1), 2_752_512 + 16 * 8 * 64 + 960 + 6 * 8 * 512 + 1),
        (DenseDiscriminator(), [(2, 28, 28, 1)], (2, 1), 784 * 512 + 512 + 512 * 256 + 256 + 256 + 1),
        (FCNDiscriminator(), [(2, 321, 321, 21)], (2, 321, 321, 1), 2_783_169),  # AdvSemiSeg on VOC
        (FCNDiscriminator(resize=False), [(2, 96, 160, 19)], (2, 3, 5, 1), 2_781_121),  # AdaptSegNet on Cityscapes
        (
            S4GANDiscriminator(),
            [(2, 321, 321, 21), (2, 321, 321, 3)],
            ((2, 1), {"features": (2, 512)}),
            16 * (24 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 960 + 512 + 1,
        ),
        (
            LucDiscriminator(),
            [(2, 90, 64, 63)],
            (2, 1),
            9 * (63 * 96 + 96 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512) + 1377,
        ),
        (LucDiscriminator(light=True), [(2, 90, 64, 63)], (2, 1), 905_473),
        (
            LucDiscriminator("small", pool=False),
            [(2, 90, 67, 63)],
            (2, 22, 16, 1),
            9 * (63 * 96 + 128 * 256 + 256 * 512) + 96 * 128 + 256 * 256 + 512 + 1249,
        ),
        (LucDiscriminator("small", light=True), [(2, 90, 64, 63)], (2, 1), 526_465),
        (UNetDiscriminator(151), [(2, 256, 256, 3)], (2, 256, 256, 152), 22_258_904),  # published: 22.3 M for ADE20K
        (
            SegANCritic(),
            [(2, 128, 128, 3)],
            tuple((2, 128 >> i, 128 >> i, c) for i, c in enumerate((3, 64, 128, 256, 512, 512, 512))),
            49 * 3 * 64 + 25 * 64 * 128 + 16 * (128 * 256 + 256 * 512 + 512 * 512) + 9 * 512 * 512 + 2 * 1920,
        ),
    ],
)
def test_discriminators_have_their_parameters(network, sizes, out, count):
    assert gan_checks.shapes(network, *sizes) == (out, count)


def test_multiscale_patchgan_has_a_patchgan_a_scale():
    """40,000 + 131,200 + 524,544 + 2,097,664 + 8,193 and 1,792 of the norms, for 3 + 36 channels."""
    out, count = gan_checks.shapes(MultiscalePatchGAN(), (2, 256, 512, 3), (2, 256, 512, 36))
    scores, heads = out
    assert scores == ((2, 30, 62, 1), (2, 14, 30, 1)) and count == 2 * 2_803_393
    assert heads["features"][1] == ((2, 64, 128, 64), (2, 32, 64, 128), (2, 16, 32, 256), (2, 15, 31, 512))
    assert gan_checks.shapes(MultiscalePatchGAN(), (1, 75, 61, 5))[0][0] == ((1, 7, 5, 1), (1, 2, 1, 1))


def test_multiscale_patchgan_is_patchgans_of_the_averaged_image():
    network, sizes = SMALL["multiscale"]
    inputs = gan_checks.draw(*sizes)
    variables = gan_checks.initialize(network, *inputs)
    scores, heads = gan_checks.infer(network, variables, *inputs)
    x = np.concatenate(inputs, axis=-1)
    half = np.stack(
        [
            np.stack([x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean(axis=(1, 2)) for j in range(0, 15, 2)], 1)
            for i in range(0, 13, 2)
        ],
        axis=1,
    )
    single = PatchGAN(2, layers=1, norm="none", spectral=True, features=True)
    for scale, image in enumerate((x, half)):
        part = {collection: leaves[f"scale_{scale}"] for collection, leaves in variables.items()}
        expected, features = gan_checks.infer(single, part, image)
        np.testing.assert_allclose(scores[scale], expected, atol=1e-6)
        for a, b in zip(heads["features"][scale], features["features"], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_features_leave_patchgan_as_it_is():
    x, *_ = gan_checks.draw((2, 24, 28, 3))
    variables = gan_checks.initialize(PatchGAN(4), x)
    plain = gan_checks.infer(PatchGAN(4), variables, x)
    scores, heads = gan_checks.infer(PatchGAN(4, features=True), variables, x)
    np.testing.assert_array_equal(plain, scores)
    last = heads["features"][-1]  # the scores are one convolution of the last features
    kernel, bias = variables["params"]["score"]["kernel"], variables["params"]["score"]["bias"]
    expected = jax.lax.conv_general_dilated(
        last, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(scores, expected + bias, atol=1e-5)


def test_dense_discriminator_is_matrix_products():
    network = DenseDiscriminator((4, 3))
    image, mask = gan_checks.draw((2, 3, 5, 3), (2, 3, 5, 2))
    variables = gan_checks.initialize(network, image, mask)
    y = np.concatenate([image, mask], axis=-1).reshape(2, -1)
    for name in ("dense_0", "dense_1", "score"):
        kernel, bias = variables["params"][name]["kernel"][0, 0], variables["params"][name]["bias"]
        y = y @ kernel + bias
        y = y if name == "score" else np.where(y > 0, y, 0.2 * y)
    np.testing.assert_allclose(gan_checks.infer(network, variables, image, mask), y, atol=1e-5)


def test_confidence_map_is_the_resized_score_map():
    x, *_ = gan_checks.draw((2, 70, 97, 4))
    variables = gan_checks.initialize(FCNDiscriminator(2), x)
    coarse = gan_checks.infer(FCNDiscriminator(2, resize=False), variables, x)
    assert coarse.shape == (2, 2, 3, 1)
    expected = layers.resize_logits(coarse, (70, 97))
    np.testing.assert_allclose(gan_checks.infer(FCNDiscriminator(2), variables, x), expected, atol=1e-6)


def test_s4gan_scores_are_linear_in_its_features():
    network, sizes = SMALL["s4gan"]
    inputs = gan_checks.draw(*sizes)
    variables = gan_checks.initialize(network, *inputs)
    scores, heads = gan_checks.infer(network, variables, *inputs)
    score = variables["params"]["score"]
    np.testing.assert_allclose(scores, heads["features"] @ score["kernel"][0, 0] + score["bias"], atol=1e-5)


@pytest.mark.parametrize(("field", "pixels"), [("large", 34), ("small", 18)])
def test_luc_discriminator_sees_its_field(field, pixels):
    """One score depends on exactly the pixels of its field, counted over many inputs: a pooling picks one of four."""
    network = LucDiscriminator(field, width=0.1, pool=False)
    x = jax.random.normal(jax.random.key(0), (8, 72, 72, 2))
    variables = gan_checks.initialize(network, x)
    gradient = gan_checks.fast_compile(
        jax.grad(lambda x: jnp.sum(network.apply(variables, x, train=False)[:, 9, 9, 0]))
    )(x)
    rows = np.flatnonzero(np.any(np.asarray(gradient) != 0, axis=(0, 2, 3)))
    assert rows[-1] - rows[0] + 1 == pixels


def test_segan_critic_starts_with_its_input():
    network, sizes = SMALL["segan"]
    (x,) = gan_checks.draw(*sizes)
    features = gan_checks.infer(network, gan_checks.initialize(network, x), x)
    np.testing.assert_array_equal(features[0], x)
    assert [f.shape[1:3] for f in features[1:]] == [(33, 35), (17, 18), (8, 9), (4, 4), (2, 2), (1, 1)]


@pytest.mark.slow
def test_unet_discriminator_pads_with_zeros():
    network, sizes = SMALL["unet"]
    (x,) = gan_checks.draw(*sizes)
    variables = gan_checks.initialize(network, x)
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 3), (0, 0)))
    expected = gan_checks.infer(network, variables, padded)[:, :7, :9]
    np.testing.assert_allclose(gan_checks.infer(network, variables, x), expected, atol=1e-6)
    assert expected.shape == (2, 7, 9, 5)


@pytest.mark.parametrize("name", ["patchgan", "multiscale", "dense", "fcn", "luc", "unet"])
def test_spectral_vectors_are_statistics_of_every_kernel(name):
    network, sizes = SMALL[name]
    inputs = gan_checks.draw(*sizes)
    variables = jax.eval_shape(lambda *x: network.init(jax.random.key(0), *x, train=False), *inputs)

    def places(collection, leaf):
        found = jax.tree.leaves_with_path(variables[collection])
        return {jax.tree_util.keystr(path[:-1]) for path, _ in found if path[-1].key == leaf}

    free = {"['logits']"} if name == "unet" else set()
    assert places("batch_stats", "u") == places("params", "kernel") - free


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "unet" else n for n in SMALL])
def test_gradient_reaches_every_parameter(name):
    network, sizes = SMALL[name]
    gan_checks.assert_gradient_reaches_every_parameter(network, *gan_checks.draw(*sizes))


@pytest.mark.parametrize("name", ["patchgan", "dcgan", "fcn", "s4gan", "segan"])
def test_modes(name):
    network, sizes = SMALL[name]
    gan_checks.assert_modes(network, *gan_checks.draw(*sizes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multiscale", "dcgan", "dense", "s4gan", "luc", "segan"])
def test_bfloat16(name):
    network, sizes = SMALL[name]
    gan_checks.assert_bfloat16_is_close(network, *gan_checks.draw(*sizes))


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (MultiscalePatchGAN(), (47, 64), "at least 48x48, found 47x64"),
        (MultiscalePatchGAN(scales=0), (64, 64), "scales=0"),
        (DCGANDiscriminator(), (64, 15), "at least 16x16, found 64x15"),
        (DenseDiscriminator(norm="batch"), (4, 4), "'batch'"),
        (FCNDiscriminator(), (31, 64), "at least 32x32, found 31x64"),
        (FCNDiscriminator(norm="batch"), (32, 64), "norm of FCNDiscriminator 'batch'"),
        (S4GANDiscriminator(), (15, 64), "at least 16x16, found 15x64"),
        (LucDiscriminator(), (3, 64), "at least 4x4, found 3x64"),
        (LucDiscriminator("medium"), (8, 8), "'medium'"),
        (UNetDiscriminator(4), (63, 64), "at least 64x64 pixels, found 63x64"),
        (UNetDiscriminator(4, norm="batch"), (64, 64), "'batch'"),
        (SegANCritic(), (64, 31), "at least 32x32, found 64x31"),
    ],
)
def test_what_does_not_fit_is_named(network, size, message):
    with pytest.raises(InputError, match=message):
        gan_checks.shapes(network, (2, *size, 3))


@pytest.mark.parametrize("name", [n for n in MODELS if n.endswith(("gan", "discriminator", "critic"))])
def test_every_discriminator_is_built_from_a_config(name):
    derived = {"num_classes": 4} if name == "unet_discriminator" else {}
    network = build_network(ConfigDict({"name": name, "ema": False}), dtype="bfloat16", **derived)
    assert network.dtype == jnp.bfloat16

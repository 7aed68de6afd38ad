"""PSPNet: sizes, parameters, pooling, modes and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models.pspnet import PSPNet, adaptive_mean
from tests.models import network_checks

SMALL = {"backbone": "resnet18", "backbone_width": 0.125, "bins": (1, 2), "channels": 8}


def numpy_adaptive_mean(x, bins):
    """The rule of torch's adaptive_avg_pool2d, cell by cell."""
    b, h, w, c = x.shape
    out = np.zeros((b, bins, bins, c))
    for i in range(bins):
        for j in range(bins):
            rows = slice(int(np.floor(i * h / bins)), int(np.ceil((i + 1) * h / bins)))
            columns = slice(int(np.floor(j * w / bins)), int(np.ceil((j + 1) * w / bins)))
            out[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return out


@pytest.mark.parametrize("size", [(6, 6), (7, 13), (12, 18), (60, 60), (3, 4), (1, 1)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_adaptive_mean_equals_its_definition(size, bins):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    np.testing.assert_allclose(adaptive_mean(jnp.asarray(x), bins), numpy_adaptive_mean(x, bins), atol=1e-6)


def test_adaptive_mean_keeps_constants_and_dtype():
    pooled = jax.jit(adaptive_mean, static_argnums=1)(jnp.full((1, 7, 11, 2), 3.0, jnp.bfloat16), 6)
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled, jnp.full((1, 6, 6, 2), 3.0))


# Published: 68.1 M (ResNet-101, 150 classes) and 48.97 M (ResNet-50, 19 classes), both with the second head, whose
# norm of the single bin we replace by a bias (512 parameters less).
@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"num_classes": 150}, 68_067_980),
        ({"num_classes": 19, "backbone": "resnet50_deep"}, 48_974_982),
        ({"num_classes": 21, "backbone": "resnet50"}, 48_957_290),
    ],
)
def test_pspnet_has_its_parameters(options, count):
    k = options["num_classes"]
    assert network_checks.shapes(PSPNet(**options)) == (((2, 97, 131, k), {"auxiliary": (2, 97, 131, k)}), count)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("h", "w"), [(97, 131), (65, 71)])
def test_pspnet_maps_odd_sizes_to_themselves(h, w, output_stride):
    network = PSPNet(5, **SMALL, output_stride=output_stride, auxiliary=False)
    assert network_checks.shapes(network, 2, h, w)[0] == (2, h, w, 5)


@pytest.mark.slow
def test_pspnet_gradient_reaches_every_parameter():
    network = PSPNet(3, **SMALL, output_stride=16)
    network_checks.assert_gradient_reaches_every_parameter(network, network_checks.image(2, 37, 45))


@pytest.mark.slow
def test_pspnet_modes():
    network_checks.assert_modes(PSPNet(3, **SMALL, output_stride=16), network_checks.image(2, 33, 40))


@pytest.mark.slow
def test_pspnet_in_bfloat16():
    make = lambda dtype: PSPNet(3, **SMALL, output_stride=16, dtype=dtype)
    network_checks.assert_bfloat16_is_close(make, network_checks.image(2, 33, 40))


def test_single_bin_tells_two_images_apart_by_more_than_their_order():
    """Statistics of two values would make -1 and 1 of any two images; the bias form keeps how far apart they are."""
    network = PSPNet(3, **SMALL, output_stride=16)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), network_checks.image(), train=False))["params"]
    assert set(params["bin_1"]["conv"]) == {"kernel", "bias"} and "norm" not in params["bin_1"]
    assert set(params["bin_2"]["conv"]) == {"kernel"} and "norm" in params["bin_2"]


@pytest.mark.parametrize(
    ("options", "size", "words"),
    [
        ({}, (47, 64), "48x48 pixels, found 47x64"),
        ({"output_stride": 16}, (96, 95), "96x96 pixels, found 96x95"),
        ({"output_stride": 4}, (96, 96), "no output_stride 4; choose one of 8, 16, 32"),
    ],
)
def test_what_does_not_fit_is_named(options, size, words):
    with pytest.raises(InputError, match=words):
        network_checks.shapes(PSPNet(3, **options), 1, *size)

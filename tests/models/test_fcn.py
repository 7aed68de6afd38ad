"""FCN: sizes, parameters, the way up, modes and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers
from gan_seg_jax.models.fcn import FCN, UpBilinear
from tests.models import network_checks

SMALL = {"backbone": "resnet18", "backbone_width": 0.125, "head_channels": 8, "head_kernel": 3}


# The paper gives 134 M for FCN-VGG16: 14,714,688 of the backbone, 102,764,544 of fc6 and 16,781,312 of fc7 make
# 134,260,544; 21 classes add 86,037 (score of fc7), 10,773 (of pool4), 5,397 (of pool3) and 7,056 for each up2.
@pytest.mark.parametrize(("stride", "count"), [(32, 134_346_581), (16, 134_364_410), (8, 134_376_863)])
def test_fcn_has_its_parameters(stride, count):
    assert network_checks.shapes(FCN(21, stride=stride)) == ((2, 97, 131, 21), count)


@pytest.mark.parametrize("backbone", ["vgg16", "vgg16_bn", "resnet18", "mobilenetv2"])
@pytest.mark.parametrize(("h", "w"), [(97, 131), (47, 33)])
def test_fcn_maps_odd_sizes_to_themselves(h, w, backbone):
    network = FCN(5, **(SMALL | {"backbone": backbone}))
    assert network_checks.shapes(network, 2, h, w)[0] == (2, h, w, 5)


def test_up_starts_as_bilinear_interpolation():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    up = UpBilinear()
    both = lambda x: (up.init_with_output(jax.random.key(1), x)[0], layers.resize(x, (10, 8)))
    actual, expected, x = jax.device_get((*network_checks.fast_compile(both)(x), x))
    np.testing.assert_allclose(actual[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-6)
    np.testing.assert_allclose(actual[:, 0, 0], 0.75**2 * x[:, 0, 0], atol=1e-6)  # towards zero at the border


@pytest.mark.slow
def test_fcn_starts_with_equal_scores():
    network, x = FCN(5, **SMALL), network_checks.image(1, 33, 40)
    variables = network_checks.initialize(network, x)
    logits = network_checks.fast_compile(lambda: network.apply(variables, x, train=False))()
    np.testing.assert_array_equal(logits, jnp.zeros((1, 33, 40, 5)))


@pytest.mark.parametrize(
    ("stride", "reads"), [(32, {"score_5"}), (16, {"score_5", "score_4"}), (8, {"score_5", "score_4", "score_3"})]
)
def test_scores_by_stride(stride, reads):
    network = FCN(5, **SMALL, stride=stride)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), network_checks.image(), train=False))["params"]
    assert {name for name in params if name.startswith("score")} == reads


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"stride": 32}, {"backbone": "vgg16"}])
def test_fcn_gradient_reaches_every_parameter(options):
    network = FCN(3, **(SMALL | options))
    network_checks.assert_gradient_reaches_every_parameter(network, network_checks.image(2, 65, 78))


@pytest.mark.slow
def test_fcn_modes():
    network_checks.assert_modes(FCN(3, **SMALL), network_checks.image(2, 35, 40))


@pytest.mark.slow
def test_fcn_in_bfloat16():
    make = lambda dtype: FCN(3, **SMALL, dtype=dtype)
    network_checks.assert_bfloat16_is_close(make, network_checks.image(2, 35, 40))


@pytest.mark.parametrize(
    ("options", "size", "words"),
    [
        ({}, (31, 64), "32x32 pixels, found 31x64"),
        ({"stride": 4}, (64, 64), "stride 4; choose 32, 16 or 8"),
        ({"head_kernel": 4}, (64, 64), "head_kernel 4"),
        ({"backbone": "resnet19"}, (64, 64), "resnet18"),
    ],
)
def test_what_does_not_fit_is_named(options, size, words):
    with pytest.raises(InputError, match=words):
        network_checks.shapes(FCN(3, **options), 1, *size)

"""FC-DenseNet: sizes, parameters, the transposed convolution, modes and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models.fcdensenet import FCDenseNet, TransitionUp
from tests.models import network_checks

SMALL = {"layers": (2, 1), "bottleneck": 2, "growth": 3, "stem": 4}
FORMS = {
    56: {"layers": (4, 4, 4, 4, 4), "bottleneck": 4, "growth": 12},
    67: {"layers": (5, 5, 5, 5, 5), "bottleneck": 5, "growth": 16},
    103: {},
}


# 11 classes. Published: 1.5, 3.5 and 9.4 M. The authors' program counts 1,397,963, 3,502,923 and 9,425,163: it adds
# the running averages (two a channel of each norm) and the biases of all convolutions, of which ours have only one.
@pytest.mark.parametrize(
    ("form", "count", "biases", "averages", "authors"),
    [
        (56, 1_375_019, 1_776, 21_168, 1_397_963),
        (67, 3_460_475, 2_768, 39_680, 3_502_923),
        (103, 9_318_075, 4_016, 103_072, 9_425_163),
    ],
)
def test_fcdensenet_has_its_parameters(form, count, biases, averages, authors):
    network = FCDenseNet(11, **FORMS[form])
    x = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert (size(variables["params"]), size(variables["batch_stats"])) == (count, averages)
    outputs = 0
    for name, module in variables["params"].items():
        if "conv" in module:
            outputs += module["conv"]["kernel"].shape[-1]
        elif name == "stem":
            outputs += module["kernel"].shape[-1]
        elif name != "logits":
            outputs += module["kernel"].shape[-2]  # of the transposed convolutions
    assert outputs == biases
    assert count + averages + biases == authors


def test_fcdensenet_counts_its_layers_as_the_paper():
    for form, options in FORMS.items():
        network = FCDenseNet(11, **options)
        levels = len(network.layers)
        assert 1 + 2 * sum(network.layers) + network.bottleneck + 2 * levels + 1 == form


@pytest.mark.parametrize(("h", "w"), [(97, 131), (33, 63)])
def test_fcdensenet_maps_odd_sizes_to_themselves(h, w):
    assert network_checks.shapes(FCDenseNet(11, **FORMS[56]), 2, h, w)[0] == (2, h, w, 11)


@pytest.mark.parametrize("size", [(8, 10), (9, 11)])
def test_transition_up_equals_the_transposed_3x3_convolution(size):
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    up = TransitionUp(6, size)
    variables = up.init(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["kernel"])  # [3, 3, 6, 3]
    expected = np.zeros((2, 9, 11, 6))
    for m in range(4):
        for n in range(5):
            block = np.einsum("bi,kloi->bklo", np.asarray(x)[:, m, n], kernel)
            expected[:, 2 * m : 2 * m + 3, 2 * n : 2 * n + 3] += block
    np.testing.assert_allclose(up.apply(variables, x), expected[:, : size[0], : size[1]], atol=1e-5)


def test_fcdensenet_blocks_are_dense():
    """What a layer reads: the block's input and every layer before it; up the way only what a block added."""
    x = jnp.zeros((1, 8, 8, 3))
    params = jax.eval_shape(lambda: FCDenseNet(2, **SMALL).init(jax.random.key(0), x, train=False))["params"]
    reads = {name: module["norm"]["batch"]["scale"].shape[0] for name, module in params.items() if "norm" in module}
    assert reads == {
        "down_0_0": 4,
        "down_0_1": 7,
        "transition_0": 10,
        "down_1_0": 10,
        "transition_1": 13,
        "bottleneck_0": 13,
        "bottleneck_1": 16,
        "up_block_1_0": 6 + 13,
        "up_block_0_0": 3 + 10,
        "up_block_0_1": 3 + 10 + 3,
    }
    assert params["up_1"]["kernel"].shape == (3, 3, 6, 6)  # two layers of growth 3
    assert params["up_0"]["kernel"].shape == (3, 3, 3, 3)
    assert params["logits"]["kernel"].shape == (1, 1, 3 + 10 + 6, 2)


@pytest.mark.slow
def test_fcdensenet_gradient_reaches_every_parameter():
    network_checks.assert_gradient_reaches_every_parameter(FCDenseNet(3, **SMALL), network_checks.image(2, 13, 18))


@pytest.mark.slow
def test_fcdensenet_modes():
    network_checks.assert_modes(FCDenseNet(3, **SMALL), network_checks.image(2, 12, 19))


@pytest.mark.slow
def test_fcdensenet_in_bfloat16():
    make = lambda dtype: FCDenseNet(3, **SMALL, dtype=dtype)
    network_checks.assert_bfloat16_is_close(make, network_checks.image(2, 12, 19))


@pytest.mark.slow
def test_fcdensenet_is_equivariant_to_the_order_of_the_batch():
    network, x = FCDenseNet(3, **SMALL), network_checks.image(3, 13, 14)
    variables = network_checks.initialize(network, x)
    apply = network_checks.fast_compile(lambda x: network.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(x[::-1]), apply(x)[::-1], atol=1e-5)


def test_too_small_an_image_is_named():
    with pytest.raises(InputError, match="32x32 pixels, found 31x64"):
        network_checks.shapes(FCDenseNet(3), 1, 31, 64)

"""SegNet: sizes, parameters, pooling indices, modes and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import pooling
from gan_seg_jax.models.segnet import SegNet
from tests.models import network_checks

SMALL = {"channels": (4, 6), "convs": (1, 2)}


# Published: 29.46 M. Weights of 13 + 13 convolutions, 14,710,464 + 14,708,736 + 576 a class, a bias a class, and scale
# and bias of 25 norms; with the 15,872 running averages, 29,457,291 for CamVid's 11 classes.
@pytest.mark.parametrize(("classes", "count"), [(11, 29_441_419), (21, 29_447_189)])
def test_segnet_has_its_parameters(classes, count):
    assert network_checks.shapes(SegNet(classes)) == ((2, 97, 131, classes), count)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    stats = jax.eval_shape(lambda x: SegNet(classes).init(jax.random.key(0), x, train=False), x)["batch_stats"]
    assert sum(leaf.size for leaf in jax.tree.leaves(stats)) == 15_872
    assert count == 14_710_464 + 14_708_736 + 577 * classes + 15_872


@pytest.mark.parametrize(("h", "w"), [(97, 131), (33, 47)])
def test_segnet_maps_odd_sizes_to_themselves(h, w):
    assert network_checks.shapes(SegNet(5), 2, h, w)[0] == (2, h, w, 5)


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_unpooling_puts_the_maxima_back(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    expected, pooled = np.zeros_like(x), np.zeros((2, size[0] // 2, size[1] // 2, 3), np.float32)
    for b, m, n, c in np.ndindex(*pooled.shape):
        window = x[b, 2 * m : 2 * m + 2, 2 * n : 2 * n + 2, c]
        row, column = np.unravel_index(np.argmax(window), (2, 2))
        pooled[b, m, n, c] = expected[b, 2 * m + row, 2 * n + column, c] = window[row, column]
    values, indices = jax.jit(pooling.max_pool_with_indices)(x)
    np.testing.assert_array_equal(values, pooled)
    np.testing.assert_array_equal(pooling.max_unpool(values, indices, size), expected)


def test_only_indices_go_from_encoder_to_decoder():
    """A factor on the image changes no index; in a net without norms it must go through the innermost stage alone."""
    network = SegNet(3, **SMALL, norm="none")
    x = network_checks.image(1, 8, 12)
    variables = network_checks.initialize(network, x)
    apply = network_checks.fast_compile(lambda x: network.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(2.0 * x), 2.0 * apply(x), rtol=1e-5, atol=1e-5)  # all biases start at zero


def test_segnet_mirrors_its_encoder():
    x = jnp.zeros((1, 8, 8, 3))
    params = jax.eval_shape(lambda: SegNet(2, **SMALL).init(jax.random.key(0), x, train=False))["params"]
    shapes = {name: (module.get("conv") or module)["kernel"].shape[2:] for name, module in params.items()}
    assert shapes == {
        "down_0_0": (3, 4),
        "down_1_0": (4, 6),
        "down_1_1": (6, 6),
        "up_1_0": (6, 6),
        "up_1_1": (6, 4),
        "logits": (4, 2),
    }


def test_segnet_gradient_reaches_every_parameter():
    network_checks.assert_gradient_reaches_every_parameter(SegNet(3, **SMALL), network_checks.image(2, 13, 18))


def test_segnet_modes():
    network_checks.assert_modes(SegNet(3, **SMALL), network_checks.image(2, 12, 19))


def test_segnet_in_bfloat16():
    make = lambda dtype: SegNet(3, **SMALL, dtype=dtype)
    network_checks.assert_bfloat16_is_close(make, network_checks.image(2, 12, 19))


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="32x32 pixels, found 64x31"):
        network_checks.shapes(SegNet(3), 1, 64, 31)
    with pytest.raises(InputError, match="one entry a stage"):
        network_checks.shapes(SegNet(3, channels=(4, 6), convs=(1,)), 1, 64, 64)

"""DeepLab v1 to v3+: parameters, rates, pyramids by known answers, gradients of every branch, and bad input."""

import collections
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import deeplab, layers
from gan_seg_jax.models.aspp import ASPP, SummedASPP
from gan_seg_jax.models.deeplab import DeepLabV1, DeepLabV2, DeepLabV3, DeepLabV3Plus

FAST_COMPILE = {"xla_backend_optimization_level": 0}
ASPP_BRANCHES = ("branch_0", "branch_1", "branch_2", "branch_3", "image")


class TinyBackbone(nn.Module):
    """Five 3x3 convolutions with stride: what a head needs to know of a backbone, compiled in no time."""

    output_stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, image, *, train):
        x, features = image, {}
        for index in range(1, 6):
            stride = 2 if 2**index <= self.output_stride else 1
            x = nn.tanh(layers.Conv(6, stride=stride, dtype=self.dtype, name=f"conv{index}")(x))
            features[f"c{index}"] = x
        return features


@pytest.fixture
def tiny_backbone(monkeypatch):
    def create(name, *, output_stride, dtype, **options):
        return TinyBackbone(output_stride, dtype, name="backbone")

    monkeypatch.setattr(deeplab, "create_backbone", create)


def keys():
    params, dropout = jax.random.split(jax.random.key(0))
    return {"params": params, "dropout": dropout}


def jit(function):
    return jax.jit(function, compiler_options=FAST_COMPILE)


def initialize(network, x):
    return jit(lambda: network.init(keys(), x, train=False))()


def count(network, size=(65, 97)):
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    out, variables = jax.eval_shape(lambda x: network.init_with_output(keys(), x, train=True), image)
    assert (out.shape, out.dtype) == ((2, *size, network.num_classes), jnp.float32)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# Backbones without their classifier: published totals less the fully connected layer(s).
VGG16 = 138_357_544 - (25088 * 4096 + 4096) - (4096 * 4096 + 4096) - (4096 * 1000 + 1000)
RESNET101 = 44_549_160 - (2048 * 1000 + 1000)
NORMS_OF_RESNET101 = 105_344
FC6_TO_FC8 = 9 * 512 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 21 + 21
CLASSIFIER = 256 * 21 + 21
BEFORE_CLASSIFIER = 9 * 256 * 256 + 2 * 256  # torchvision's extra 3x3 convolution and norm
AUXILIARY = 9 * 1024 * 256 + 2 * 256 + CLASSIFIER  # torchvision's second head
TORCHVISION = {"resnet50": 42_004_074, "resnet101": 60_996_202}  # deeplabv3_*, 21 classes, with the second head
SMP = 26_677_585  # segmentation_models.pytorch DeepLabV3Plus, ResNet-50, separable, 1 class
DECODER = (256 * 48 + 2 * 48) + (9 * 304 * 256 + 2 * 256) + (9 * 256 * 256 + 2 * 256)


@pytest.mark.parametrize(
    ("network", "expected", "published"),
    [
        (DeepLabV1(21), VGG16 + FC6_TO_FC8, 20.5e6),  # LargeFOV, the paper's table
        (DeepLabV2(21), RESNET101 + 4 * (9 * 2048 * 21 + 21), 43.9e6 + NORMS_OF_RESNET101),  # often without norms
        (DeepLabV2(21, backbone="vgg16", channels=1024), VGG16 + 4 * FC6_TO_FC8, None),
        *(
            (DeepLabV3(21, backbone=name), total - AUXILIARY - BEFORE_CLASSIFIER, None)
            for name, total in TORCHVISION.items()
        ),
        (DeepLabV3Plus(21, backbone="resnet50"), 42_004_074 - AUXILIARY - BEFORE_CLASSIFIER + DECODER, None),
        # Ours has the paper's norms after the depthwise convolutions: three of 2048 channels, one of 304, one of 256.
        (DeepLabV3Plus(1, backbone="resnet50", separable=True), SMP + 2 * (3 * 2048 + 304 + 256), None),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "backbone") else "",
)
def test_parameters_are_those_published(network, expected, published):
    found = count(network)
    assert found == expected
    assert published is None or found == pytest.approx(published, rel=2e-3)


def rates(network, size=(129, 129)):
    """Return how many convolutions have each rate, off the traced program."""
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(keys(), x, train=False), image)
    program = str(jax.make_jaxpr(lambda v, x: network.apply(v, x, train=False))(variables, image))
    return collections.Counter(int(rate) for rate in re.findall(r"rhs_dilation=\((\d+)", program))


@pytest.mark.parametrize(
    ("network", "backbone", "head"),
    [
        (DeepLabV1(3), {2: 3}, {12: 1}),
        (DeepLabV2(3, backbone="resnet50"), {2: 6, 4: 2}, {6: 1, 12: 1, 18: 1, 24: 1}),
        (DeepLabV3(3, backbone="resnet50"), {4: 1, 8: 1}, {6: 1, 12: 1, 18: 1}),
        (DeepLabV3(3, backbone="resnet50", output_stride=8), None, {12: 1, 24: 1, 36: 1}),
        (DeepLabV3(3, backbone="resnet50", output_stride=32, multi_grid=(1, 1, 1)), {}, {3: 1, 6: 1, 9: 1}),
        (DeepLabV3Plus(3, backbone="resnet18", multi_grid=(1, 1, 1)), {2: 3}, {6: 1, 12: 1, 18: 1}),
    ],
)
def test_rates_are_the_papers(network, backbone, head):
    found = rates(network)
    assert {rate: found[rate] for rate in head} == head
    if backbone is not None:
        assert {rate: n for rate, n in found.items() if rate not in (1, *head)} == backbone


def test_summed_pyramid_of_an_impulse_is_its_kernels_spread_by_the_rates():
    """An impulse at the centre comes back as each branch's kernel, mirrored, its taps one rate apart."""
    pyramid = SummedASPP(2)
    x = np.zeros((1, 51, 51, 1), np.float32)
    x[0, 25, 25, 0] = 1.0
    variables = initialize(pyramid, x)
    expected = np.zeros((51, 51, 2), np.float32)
    for index, rate in enumerate((6, 12, 18, 24)):
        kernel = np.asarray(variables["params"][f"branch_{index}"]["kernel"])[:, :, 0]
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                expected[25 - rate * i, 25 - rate * j] += kernel[i + 1, j + 1]
    actual = jit(lambda v: pyramid.apply(v, x, train=False))(variables)[0]
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert len(np.unique(np.argwhere(np.asarray(actual)[:, :, 0])[:, 0])) == 9


def test_pooled_image_reaches_every_pixel():
    """With the other branches silent and a projection of ones, the result is sum relu(mean(x) w) everywhere."""
    pyramid = ASPP(4, (2,), norm="none")
    x = jax.random.normal(jax.random.key(3), (2, 5, 7, 3))
    params = jax.tree.map(jnp.zeros_like, initialize(pyramid, x)["params"])
    weights = jax.random.normal(jax.random.key(4), (3, 4))
    params["image"]["conv"]["kernel"] = weights[None, None]
    params["projection"]["conv"]["kernel"] = jnp.ones_like(params["projection"]["conv"]["kernel"])
    expected = np.maximum(np.asarray(x).mean((1, 2)) @ np.asarray(weights), 0).sum(-1)
    actual = jit(lambda p: pyramid.apply({"params": p}, x, train=False))(params)
    np.testing.assert_allclose(actual, np.broadcast_to(expected[:, None, None, None], (2, 5, 7, 4)), atol=1e-5)


def branch_gradients(network, size=(64, 64)):
    """Return the largest absolute derivative by each parameter, and the logits, in training mode."""
    image = jax.random.uniform(jax.random.key(1), (2, *size, 3), minval=-1)
    variables = initialize(network, image)
    weights = jax.random.normal(jax.random.key(2), (2, *size, network.num_classes))

    @jit
    def derive(params):
        def loss(params):
            logits, _ = network.apply(
                variables | {"params": params}, image, train=True, rngs=keys(), mutable=["batch_stats"]
            )
            return jnp.mean(weights * logits), logits

        gradient, logits = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda g: jnp.max(jnp.abs(g)), gradient), logits

    gradient, logits = derive(variables["params"])
    return {"/".join(k.key for k in path): float(g) for path, g in jax.tree.leaves_with_path(gradient)}, logits


@pytest.mark.parametrize(
    ("network", "branches"),
    [
        (DeepLabV2(3), [f"head/branch_{i}" for i in range(4)]),
        (DeepLabV2(3, channels=8), [f"head/branch_{i}_{fc}" for i in range(4) for fc in ("fc6", "fc7", "fc8")]),
        (DeepLabV3(3, aspp_channels=8), [f"aspp/{branch}" for branch in ASPP_BRANCHES]),
        (DeepLabV3Plus(3, aspp_channels=8), [*(f"aspp/{branch}" for branch in ASPP_BRANCHES), "low_level"]),
        pytest.param(
            DeepLabV3Plus(3, aspp_channels=8, separable=True),
            [f"aspp/branch_{i}/{part}" for i in (1, 2, 3) for part in ("depthwise", "pointwise")],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_branch_gets_gradient(network, branches, tiny_backbone):
    gradient, _ = branch_gradients(network)
    for branch in branches:
        found = {name: g for name, g in gradient.items() if name.startswith(f"{branch}/") and "bias" not in name}
        assert found and min(found.values()) > 0, (branch, found)
    assert any(g > 0 for name, g in gradient.items() if name.startswith("backbone/"))


def test_legacy_two_branches_reproduce_the_released_code(tiny_backbone):
    """The other branches have parameters but neither act nor learn; the logits are those of rates 6 and 12 alone."""
    gradient, logits = branch_gradients(DeepLabV2(3, legacy_two_branches=True))
    for index in range(4):
        assert (gradient[f"head/branch_{index}/kernel"] > 0) == (index < 2)
    # Both networks draw the parameters that they share alike: keys are derived from names.
    _, short = branch_gradients(DeepLabV2(3, rates=(6, 12)))
    np.testing.assert_allclose(logits, short, atol=1e-6)
    assert not np.allclose(logits, branch_gradients(DeepLabV2(3))[1], atol=1e-4)


def test_a_batch_is_its_images_one_by_one(tiny_backbone):
    network = DeepLabV3Plus(4, aspp_channels=8, decoder_channels=8)
    image = jax.random.uniform(jax.random.key(1), (2, 37, 50, 3), minval=-1)
    variables = initialize(network, image)
    together, apart = jit(
        lambda v: (
            network.apply(v, image, train=False),
            jax.vmap(lambda x: network.apply(v, x[None], train=False)[0])(image),
        )
    )(variables)
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_bfloat16_computes_in_it_and_returns_float32(tiny_backbone):
    options = {"aspp_channels": 8, "decoder_channels": 8}
    image = jax.random.uniform(jax.random.key(1), (2, 33, 47, 3), minval=-1)
    full, half = (DeepLabV3Plus(4, **options, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    variables = initialize(full, image)
    expected, actual = (jit(lambda v, n=n: n.apply(v, image, train=False))(variables) for n in (full, half))
    assert actual.dtype == jnp.float32 and not np.array_equal(actual, expected)
    np.testing.assert_allclose(actual, expected, atol=0.1 * float(jnp.max(jnp.abs(expected))))


@pytest.mark.parametrize("network", [DeepLabV1, DeepLabV2, DeepLabV3, DeepLabV3Plus])
def test_bad_sizes_and_strides_are_named(network):
    def run(size, **options):
        image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        return jax.eval_shape(lambda x: network(3, **options).init(keys(), x, train=False), image)

    name = network.__name__
    with pytest.raises(InputError, match=rf"{name} with output_stride 16 needs .* 32x32 pixels, found 31x64"):
        run((31, 64), output_stride=16)
    with pytest.raises(InputError, match=rf"{name} with output_stride 32 .* found 12x12"):
        run((12, 12), output_stride=32)
    with pytest.raises(InputError, match="no output_stride 4; choose one of 8, 16, 32"):
        run((64, 64), output_stride=4)
    with pytest.raises(InputError, match="resnet51.*Did you mean"):
        run((64, 64), backbone="resnet51")
    run((32, 33), output_stride=16)  # the smallest that fits; rates beyond the feature map only see padding

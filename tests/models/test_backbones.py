"""Backbones: published parameter counts and products, shapes, stride turned into rates, and training on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import stages
from gan_seg_jax.models.attention import attention
from gan_seg_jax.models.backbones import BACKBONES, create_backbone
from gan_seg_jax.models.depths import depths
from gan_seg_jax.models.resnet import ResNet
from gan_seg_jax.models.vision_transformer import cubic_weights

# torchvision's counts without the classifier (1000 classes: 513,000 or 2,049,000 parameters in a ResNet, 1,281,000 in
# MobileNetV2). Those of the deep stem: 28,512 + 256 in place of 9,408 + 128.
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet50_deep": 23_508_032 + 28_768 - 9_536,
    "resnet101_deep": 42_500_160 + 28_768 - 9_536,
    "mobilenetv2": 3_504_872 - 1_281_000 - 412_160,  # without the convolution from 320 to 1280 channels
    "efficientnet_lite0": 4_652_008 - 1_281_000 - 412_160,  # likewise
    "efficientnet_lite1": 5_416_680 - 1_281_000 - 412_160,
    "efficientnet_lite2": 6_092_072 - 1_281_000 - 453_120,  # from 352 channels
    "convnext_tiny": 28_589_128 - 769_000 - 1_536,  # without the last norm
    "convnext_small": 50_223_688 - 769_000 - 1_536,
    "convnext_base": 88_591_464 - 1_025_000 - 2_048,
    "mit_b0": 3_319_392,  # in transformers
    "mit_b1": 13_151_424,
    "mit_b2": 24_196_288,
    "mit_b3": 44_072_128,
    "mit_b4": 60_842_688,
    "mit_b5": 81_443_008,
    "dinov2_small": 22_056_576 - 384,  # likewise, without the token of masked patches
    "dinov2_base": 86_580_480 - 768,
    "dinov2_small_reg4": 22_058_112 - 384,
    "dinov2_base_reg4": 86_583_552 - 768,
    "vgg16": 14_714_688,
    "vgg16_bn": 14_723_136,
}
CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "mobilenetv2": (16, 24, 32, 96, 320),
    "efficientnet_lite0": (16, 24, 40, 112, 320),
    "convnext_tiny": (None, 96, 192, 384, 768),
    "vgg16": (64, 128, 256, 512, 512),
    "vgg16_bn": (64, 128, 256, 512, 512),
}
SMALL = {
    "convnext_tiny": 0.125,
    "efficientnet_lite0": 0.25,
    "resnet18": 0.125,
    "resnet50": 0.125,
    "resnet50_deep": 0.125,
    "mobilenetv2": 0.25,
    "vgg16_bn": 0.125,
}


def shapes(module, size):
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(lambda image: module.init_with_output(jax.random.key(0), image, train=True), image)


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def quickly(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def test_every_backbone_is_pinned():
    assert set(PARAMETERS) == set(BACKBONES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    assert count(shapes(create_backbone(name), (32, 32))[1]) == PARAMETERS[name]


def test_mobilenet_with_its_last_convolution_would_have_the_published_count():
    last_convolution_and_norm = 320 * 1280 + 2 * 1280
    assert PARAMETERS["mobilenetv2"] + last_convolution_and_norm == 2_223_872


@pytest.mark.parametrize(("name", "giga"), [("resnet18", 1.81), ("resnet50", 4.09), ("vgg16", 15.47)])
def test_products_of_an_image_of_224_are_the_published_ones(name, giga):
    module = create_backbone(name)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda image: module.init(jax.random.key(0), image, train=False), image)
    traced = jax.jit(lambda variables, image: module.apply(variables, image, train=False)).trace(variables, image)
    flops = traced.lower(lowering_platforms=("cuda",)).cost_analysis()["flops"]
    # XLA leaves out products with padding; norms, sums and pools are small.
    assert 0.9 * giga < flops / 2e9 < 1.02 * giga


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "resnet50_deep",
        "mobilenetv2",
        "efficientnet_lite0",
        "convnext_tiny",
        "vgg16",
        "vgg16_bn",
    ],
)
def test_shapes_at_each_output_stride(name, output_stride):
    size = (65, 36)
    features, _ = shapes(create_backbone(name, output_stride=output_stride), size)
    channels = CHANNELS.get(name, (64, 256, 512, 1024, 2048))
    for level in range(2 if channels[0] is None else 1, 6):
        stride = min(2**level, output_stride)
        floors = name.startswith("vgg") and output_stride == 32
        expected = [length // stride if floors else -(-length // stride) for length in size]
        assert features[f"c{level}"].shape == (2, *expected, channels[level - 1])


@pytest.mark.parametrize("size", [(65, 97), (29, 42)])
def test_shapes_of_transformers(size):
    maps = {level: x.shape for level, x in shapes(create_backbone("mit_b0"), size)[0].items()}
    channels = {2: 32, 3: 64, 4: 160, 5: 256}
    assert maps == {f"c{n}": (2, *(-(-length // 2**n) for length in size), c) for n, c in channels.items()}
    maps = {level: x.shape for level, x in shapes(create_backbone("dinov2_small"), size)[0].items()}
    assert maps == {f"c{n}": (2, *(-(-length // 14) for length in size), 384) for n in channels}


@pytest.mark.parametrize(
    ("name", "size", "output_stride", "message"),
    [
        ("mit_b0", (28, 64), 32, "at least 29x29 pixels, found 28x64"),
        ("mit_b0", (64, 64), 16, "no atrous form, .* output_stride 16, set it to 32"),
        ("dinov2_small", (64, 64), 16, "stride of its patches, 14, and no other: found output_stride 16"),
    ],
)
def test_what_transformers_cannot_do_is_named(name, size, output_stride, message):
    with pytest.raises(InputError, match=message):
        shapes(create_backbone(name, output_stride=output_stride), size)


@pytest.mark.parametrize("antialias", [False, True])
def test_positions_of_a_grid_of_the_same_size_are_the_weights_own(antialias):
    np.testing.assert_allclose(cubic_weights(37, 37, antialias=antialias), np.eye(37), atol=1e-6)
    for length in (1, 5, 50):
        np.testing.assert_allclose(cubic_weights(37, length, antialias=antialias).sum(axis=1), 1.0, atol=1e-6)


def test_cubic_weights_between_two_pixels_are_those_of_the_kernel():
    t = np.abs((7 + 0.5) / 2 - 0.5 - np.arange(8))
    a, near, far = -0.75, t <= 1, (t > 1) & (t < 2)
    expected = near * ((a + 2) * t**3 - (a + 3) * t**2 + 1) + far * a * (t**3 - 5 * t**2 + 8 * t - 4)
    np.testing.assert_allclose(cubic_weights(8, 16, antialias=False)[7], expected, atol=1e-6)


def test_attention_is_that_of_the_equation():
    query, key, value = (np.random.default_rng(n).normal(size=(2, m, 3, 4)) for n, m in enumerate((5, 7, 7)))
    expected = np.zeros(query.shape)
    for b in range(2):
        for head in range(3):
            weights = np.exp(query[b, :, head] @ key[b, :, head].T / 2)
            expected[b, :, head] = weights @ value[b, :, head] / weights.sum(axis=1, keepdims=True)
    found = attention(*(jnp.asarray(x, jnp.float32) for x in (query, key, value)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "stem", "last", "layers"),
    [("mit_b0", "patch_embed1_proj", "block4_1", 8 + 3), ("dinov2_small", "patch_embed_proj", "blocks_11", 12)],
)
def test_layers_of_a_transformer_are_counted_from_the_head(name, stem, last, layers):
    """A stage of MiT begins with an embedding, that of the first is the stem."""
    found = depths(shapes(create_backbone(name), (32, 32))[1]["params"])
    assert found[(stem, "kernel")] == max(found.values()) == layers + 1
    assert {n for path, n in found.items() if path[0] == last} == {1}


def test_strides_become_rates():
    strides = (2, 2, 1, 2, 2, 2)
    assert stages.atrous_stages(strides, 32, network="x")[2:] == [(1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)]
    assert stages.atrous_stages(strides, 16, network="x")[2:] == [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]
    assert stages.atrous_stages(strides, 8, network="x")[2:] == [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]


def apply(name, output_stride, variables, image, **options):
    module = create_backbone(name, output_stride=output_stride, width=SMALL[name], **options)
    return quickly(lambda variables, image: module.apply(variables, image, train=False))(variables, image)


def initial(name, size, **options):
    """Return variables with running statistics and norms that are not trivial, and an image."""
    image = jax.random.uniform(jax.random.key(1), (1, *size, 3), minval=-1, maxval=1)
    module = create_backbone(name, width=SMALL[name], **options)
    variables = quickly(lambda key: module.init(key, image, train=False))(jax.random.key(0))
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(0)
    leaves = [leaf * rng.uniform(0.8, 1.2, leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(tree, leaves), image


OFFSETS = {"efficientnet_lite0": 1}  # whether windows of stride 2 are centred on the second of two pixels


def check_dilated(name, multi_grid, output_strides):
    variables, image = initial(name, (64, 96) if name in OFFSETS else (65, 70))
    strided = apply(name, 32, variables, image, multi_grid=multi_grid)
    offset = OFFSETS[name] if name in OFFSETS else 0
    for output_stride in output_strides:
        dilated = apply(name, output_stride, variables, image, multi_grid=multi_grid)
        for level, expected in strided.items():
            step = max(1, 2 ** int(level[1]) // output_stride)
            start = offset * (step - 1)
            actual = dilated[level][:, start::step, start::step]
            np.testing.assert_allclose(actual, expected, atol=2e-5 * float(jnp.max(jnp.abs(expected))))


def test_dilated_features_hold_the_strided_ones_exactly():
    check_dilated("resnet18", (1, 2), (8,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "multi_grid"),
    [
        ("resnet18", (1, 1, 1)),
        ("resnet50", (1, 2, 4)),
        ("mobilenetv2", (1, 1, 1)),
        ("convnext_tiny", (1, 1, 1)),
        ("efficientnet_lite0", (1, 1, 1)),
    ],
)
def test_dilated_features_of_every_kind_hold_the_strided_ones_exactly(name, multi_grid):
    check_dilated(name, multi_grid, (16, 8))


def test_multi_grid_changes_the_last_stage_only():
    image = jax.random.uniform(jax.random.key(1), (1, 64, 64, 3), minval=-1, maxval=1)
    modules = [ResNet((1, 1, 1, 1), output_stride=16, multi_grid=grid, width=0.125) for grid in ((1, 2), (2, 1))]
    run = lambda module: quickly(lambda key: module.init_with_output(key, image, train=False)[0])(jax.random.key(0))
    plain, grid = map(run, modules)
    for level in range(1, 5):
        np.testing.assert_array_equal(plain[f"c{level}"], grid[f"c{level}"])
    assert float(jnp.max(jnp.abs(plain["c5"] - grid["c5"]))) > 1e-3


def test_dilated_vgg_holds_the_fourth_stage_of_the_one_with_smaller_rate():
    variables, image = initial("vgg16_bn", (48, 37))
    sixteen, eight = (apply("vgg16_bn", output_stride, variables, image) for output_stride in (16, 8))
    np.testing.assert_array_equal(sixteen["c3"], eight["c3"])
    np.testing.assert_array_equal(sixteen["c4"], eight["c4"][:, ::2, ::2])


def test_images_are_normalised_by_the_mean_and_deviation_of_imagenet():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = jnp.stack([2 * mean - 1, 2 * (mean + std) - 1]).astype(jnp.float32).reshape(1, 1, 2, 3)
    np.testing.assert_allclose(create_backbone("resnet18").normalize(image)[0, 0], [[0, 0, 0], [1, 1, 1]], atol=1e-6)


def test_names_of_parameters_follow_the_published_keys():
    def paths(name):
        _, variables = shapes(create_backbone(name), (32, 32))
        leaves = jax.tree_util.tree_leaves_with_path(variables)
        return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}

    resnet = paths("resnet50")
    assert resnet["params/layer1_0/downsample_0/kernel"] == (1, 1, 64, 256)
    assert resnet["params/layer4_2/bn3/batch/scale"] == (2048,)
    assert resnet["batch_stats/layer2_3/bn2/batch/var"] == (128,)
    assert paths("resnet50_deep")["params/conv1_6/kernel"] == (3, 3, 32, 64)
    mobilenet = paths("mobilenetv2")
    assert mobilenet["params/features_0/0/kernel"] == (3, 3, 3, 32)
    assert mobilenet["params/features_1/conv_0_0/kernel"] == (3, 3, 1, 32)
    assert mobilenet["params/features_17/conv_2/kernel"] == (1, 1, 960, 320)
    assert paths("vgg16")["params/features_28/bias"] == (512,)
    assert paths("vgg16_bn")["params/features_41/batch/bias"] == (512,)


def test_width_keeps_multiples_of_eight():
    cases = {(64, 0.25): 16, (64, 0.1): 8, (24, 0.5): 16, (1280, 1.0): 1280, (30, 1.0): 30, (96, 0.35): 32}
    assert {case: stages.scaled(*case) for case in cases} == cases


@pytest.mark.parametrize("output_stride", [4, 0, 64])
def test_an_impossible_output_stride_is_named(output_stride):
    with pytest.raises(InputError, match=rf"mobilenetv2 has no output_stride {output_stride}; choose one of 8, 16, 32"):
        create_backbone("mobilenetv2", output_stride=output_stride)
    with pytest.raises(InputError, match="ResNet has no output_stride"):
        shapes(ResNet(output_stride=output_stride), (32, 32))


def test_bad_choices_are_named():
    with pytest.raises(InputError, match="'resnet50'"):
        create_backbone("resnet5O")
    with pytest.raises(InputError, match=r"vgg16 has no multi_grid, found \(1, 2, 4\); set multi_grid to \(1, 1, 1\)"):
        create_backbone("vgg16", multi_grid=(1, 2, 4))
    with pytest.raises(InputError, match=r"resnet18 has no drop_path, found 0.1; set drop_path to 0.0"):
        create_backbone("resnet18", drop_path=0.1)
    with pytest.raises(InputError, match="31x64 pixels"):
        shapes(create_backbone("vgg16"), (31, 64))
    with pytest.raises(InputError, match="Unknown norm"):
        shapes(create_backbone("resnet18", norm="layers"), (32, 32))


def forward_backward(module, variables, image):
    def loss(params):
        features, updates = module.apply(variables | {"params": params}, image, train=True, mutable=["batch_stats"])
        return sum(jnp.mean(x.astype(jnp.float32) ** 2) for x in features.values()), (features, updates)

    (value, (features, updates)), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, features, updates, gradients


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
def test_a_sharded_batch_gives_the_same_loss_statistics_and_gradients(name):
    variables, _ = initial(name, (32, 32))
    image = jax.random.uniform(jax.random.key(2), (4, 33, 40, 3), minval=-1, maxval=1)
    module = create_backbone(name, output_stride=16, width=SMALL[name])
    step = quickly(lambda variables, image: forward_backward(module, variables, image))
    value, _, updates, gradients = step(variables, image)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put(image, NamedSharding(mesh, PartitionSpec("data")))
    whole = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    sharded = step(whole, split)
    np.testing.assert_allclose(sharded[0], value, rtol=1e-5)
    for actual, expected in zip(jax.tree.leaves(sharded[2:]), jax.tree.leaves((updates, gradients)), strict=True):
        assert np.any(expected)  # every parameter has a gradient
        # A norm takes the bias of a linear map before it away: the gradient of such a bias is rounding.
        np.testing.assert_allclose(actual, expected, atol=1e-4 * float(np.max(np.abs(expected))) + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm"), [("resnet50_deep", "group"), ("mobilenetv2", "frozen_batch"), ("vgg16_bn", "none")]
)
def test_bfloat16_features_and_float32_gradients_with_other_norms(name, norm):
    image = jax.ShapeDtypeStruct((2, 40, 48, 3), jnp.float32)
    module = create_backbone(name, output_stride=8, norm=norm, width=SMALL[name], dtype=jnp.bfloat16)
    variables = jax.eval_shape(lambda image: module.init(jax.random.key(0), image, train=True), image)
    run = lambda variables, image: forward_backward(module, variables, image)
    _, features, _, gradients = jax.eval_shape(run, variables, image)
    assert {x.dtype for x in features.values()} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(gradients)} == {jnp.dtype(jnp.float32)}

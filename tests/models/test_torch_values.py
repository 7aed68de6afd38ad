"""Networks compute what PyTorch computed once: the numbers of `torch_values.npz`, which need no PyTorch to be checked.

Weights and images are drawn by NumPy, from the names that PyTorch gives the weights. All sizes, training and gradients
are `test_torch_parity.py`'s, where PyTorch is installed. To make the numbers anew, in an environment with the extra
`parity`: python -m tests.models.test_torch_values
"""

import importlib
import types
import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from gan_seg_jax.models import inception, layers, pretrained, stages
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.convnext import ConvNeXt
from gan_seg_jax.models.mix_transformer import MixTransformer
from gan_seg_jax.models.vision_transformer import VisionTransformer

VALUES = Path(__file__).with_name("torch_values.npz")
TOLERANCE = 1e-4  # of the largest value
SIZE = (51, 75)
BACKBONES = {  # a case of `test_torch_parity.CASES` -> backbone and output stride
    "resnet18": ("resnet18", 32),
    "resnet34": ("resnet34", 32),
    "resnet50-stride8": ("resnet50", 8),
    "resnet101": ("resnet101", 32),
    "timm-resnet50c": ("resnet50_deep", 32),
    "mobilenetv2": ("mobilenetv2", 32),
    "vgg16": ("vgg16", 32),
    "vgg16_bn": ("vgg16_bn", 32),
}


class Small(NamedTuple):
    """A small form of a backbone: a name of its kind, its module, and PyTorch's as library:kind with its options."""

    backbone: str
    module: stages.Backbone
    make: str
    places: tuple[str, ...]
    size: tuple[int, int]
    options: dict


LITE0 = create_backbone("efficientnet_lite0", module_name=None)
FOUR = (0, 1, 2, 3)
SMALL = {
    "efficientnet_lite": Small(
        "efficientnet_lite0",
        LITE0,
        "timm:tf_efficientnet_lite0",
        tuple(f"blocks.{n}" for n in (0, 1, 2, 4, 6)),
        SIZE,
        {},
    ),
    "convnext": Small(
        "convnext_tiny",
        ConvNeXt(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32)),
        "transformers:ConvNext",
        tuple(f"convnext.encoder.stages.{n}" for n in FOUR),
        (64, 96),
        {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]},
    ),
    "mit": Small(
        "mit_b0",
        MixTransformer(depths=(1, 1, 2, 1), head_channels=8),
        "transformers:Segformer",
        tuple(f"segformer.stages.{n}.layer_norm" for n in FOUR),
        SIZE,
        {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 40, 64], "num_attention_heads": [1, 2, 5, 8]},
    ),
    **{
        name: Small(
            "dinov2_small",
            VisionTransformer(depth=4, heads=2, head_channels=8, registers=registers),
            f"transformers:{kind}",
            tuple(f"encoder.layer.{n}" for n in FOUR),
            (56, 70),
            {
                "hidden_size": 16,
                "num_attention_heads": 2,
                "num_hidden_layers": 4,
                "image_size": 518,
                "patch_size": 14,
            },
        )
        for name, kind, registers in (("dinov2", "Dinov2", 0), ("dinov2_reg4", "Dinov2WithRegisters", 4))
    },
}
SLOW = ("resnet34", "resnet101", "timm-resnet50c")  # deeper ones of the same blocks
INCEPTION = {"torchvision": (340, 260), "fid": (64, 310)}
POOLS = {"2-2-0": (2, 2, 0), "3-2-1": (3, 2, 1), "3-1-1": (3, 1, 1)}  # window, stride, padding
SIZES = ((10, 14), (11, 29), (5, 90))  # that logits of 5 x 7 are enlarged to


def draw(name, shape):
    """Return a weight by its name in PyTorch, float32 of the shape it has there."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))  # its stream never changes
    if len(shape) == 4:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith(("running_var", "weight")):
        value = rng.uniform(0.6, 1.4, shape)
    else:
        value = 0.2 * rng.standard_normal(shape)
    return value.astype(np.float32)


def image(size, channels=3, batch=1):
    return np.random.RandomState(0).uniform(-1, 1, (batch, *size, channels)).astype(np.float32)


def some(values):
    """Return 200 values of an array, always from the same places."""
    return np.ravel(values)[np.random.RandomState(0).randint(np.size(values), size=200)]


def variables(shapes, name_of):
    """Return Flax's variables filled by `draw`; `name_of` gives the name that PyTorch has for a path."""

    def fill(path, leaf):
        axes = {4: (3, 2, 0, 1)}.get(len(leaf.shape), tuple(range(len(leaf.shape))))
        value = draw(name_of(path[1:]), tuple(leaf.shape[axis] for axis in axes))
        return value.transpose(np.argsort(axes))

    flat = traverse_util.flatten_dict(shapes)
    return traverse_util.unflatten_dict({path: fill(path, leaf) for path, leaf in flat.items()})


@pytest.fixture(scope="module")
def expected():
    with np.load(VALUES) as values:
        return dict(values)


def assert_near(found, expected, what):
    assert np.max(np.abs(some(found) - expected)) < TOLERANCE * np.max(np.abs(expected)), what


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BACKBONES])
def test_features_of_a_backbone(expected, name):
    backbone, stride = BACKBONES[name]
    net, example = create_backbone(backbone, output_stride=stride), image(SIZE)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), example)
    drawn = variables(shapes, lambda path: pretrained._key(("", "backbone", *path), backbone))
    with jax.default_matmul_precision("highest"):
        features = jax.jit(lambda drawn, x: net.apply(drawn, x, train=False))(drawn, example)
    for level in range(1, 6):
        assert_near(features[f"c{level}"], expected[f"{name}/c{level}"], f"c{level}")


@pytest.mark.parametrize("name", SMALL)
def test_features_of_a_small_backbone_read_from_a_file_with_published_keys(expected, name, tmp_path):
    small, example = SMALL[name], image(SMALL[name].size)
    shapes = jax.eval_shape(lambda x: small.module.init(jax.random.key(0), x, train=False), example)
    weights = {}
    for line in expected[f"{name}/weights"]:
        key, *shape = line.split()
        weights[key] = draw(key, tuple(map(int, shape)))
    safetensors.numpy.save_file(weights, tmp_path / "weights.safetensors")
    within = {collection: {"backbone": tree} for collection, tree in shapes.items()}
    drawn = pretrained.load_backbone(str(tmp_path / "weights.safetensors"), within, backbone=small.backbone)
    drawn = {collection: tree["backbone"] for collection, tree in drawn.items()}
    with jax.default_matmul_precision("highest"):
        features = jax.jit(lambda drawn, x: small.module.apply(drawn, x, train=False))(drawn, example)
    for level in features:
        assert_near(features[level], expected[f"{name}/{level}"], level)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name != "fid")) for name in INCEPTION]
)
def test_features_of_inception(expected, variant):
    module, example = inception.InceptionV3(variant), image(INCEPTION[variant])
    drawn = variables(jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 299, 299, 3))), pretrained.torch_key)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(lambda drawn, x: inception.features(module, drawn, x))(drawn, example)
    assert_near(found, expected[f"inception-{variant}"], variant)


@pytest.mark.parametrize("name", POOLS)
def test_max_pool(expected, name):
    window, stride, padding = POOLS[name]
    found, pull = jax.vjp(lambda x: layers.max_pool(x, window, stride=stride, padding=padding), image((9, 13), batch=2))
    np.testing.assert_array_equal(some(found), expected[f"pool-{name}"])
    weights = np.random.RandomState(1).standard_normal(found.shape).astype(np.float32)
    np.testing.assert_allclose(some(pull(weights)[0]), expected[f"pool-{name}/gradient"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_resize_logits(expected, size):
    found = layers.resize_logits(image((5, 7), batch=2), size)
    np.testing.assert_allclose(some(found), expected[f"resize-{size[0]}x{size[1]}"], rtol=1e-5, atol=1e-5)


def make():
    """Return all numbers, by PyTorch."""
    import torch
    import torchvision

    from tests.models import test_torch_parity as parity

    found = {}

    def fill(module):
        module.load_state_dict(
            {
                key: torch.tensor(draw(key, tuple(value.shape))) if value.is_floating_point() else value
                for key, value in module.state_dict().items()
            }
        )

    for name in BACKBONES:
        case = parity.CASES[name]
        module = parity.make_module(case)
        fill(module)
        features = parity.run_torch(module, case, image(SIZE), train=False).features
        found |= {f"{name}/c{level}": some(feature) for level, feature in enumerate(features, start=1)}
    for name, small in SMALL.items():
        library, _, kind = small.make.partition(":")
        if library == "timm":
            module = importlib.import_module(library).create_model(kind)
        else:
            transformers = importlib.import_module(library)
            config = getattr(transformers, f"{kind}Config")(**small.options)
            head = "Model" if kind.startswith("Dinov2") else "ForImageClassification"
            module = getattr(transformers, kind + head)(config)
        weights = parity.published(module, module.state_dict())  # in the module's own memory
        for key, value in weights.items():
            if value.is_floating_point():
                value.copy_(torch.tensor(draw(key, tuple(value.shape))))
        case = parity.Case("", small.places, small.backbone, norm="layernorm" if kind.startswith("Dinov2") else "")
        features = parity.run_torch(module, case, image(small.size), train=False).features
        found |= {f"{name}/c{level}": some(f) for level, f in enumerate(features, start=6 - len(features))}
        lines = [" ".join(map(str, (key, *value.shape))) for key, value in weights.items() if value.is_floating_point()]
        found[f"{name}/weights"] = np.array(lines)
    functional = torch.nn.functional
    channels_first = lambda x: torch.tensor(x.transpose(0, 3, 1, 2))
    for variant, size in INCEPTION.items():
        module = torchvision.models.inception_v3(weights=None, transform_input=False, init_weights=False)
        fill(module)
        if variant == "fid":
            stub = types.SimpleNamespace(**{**vars(torchvision.models.inception.F), "avg_pool2d": parity.pool_of_fid})
            torchvision.models.inception.F = stub
        module.fc = torch.nn.Identity()
        target = (inception.SIZE, inception.SIZE)
        resized = functional.interpolate(channels_first(image(size)), target, mode="bilinear", align_corners=False)
        with torch.no_grad():
            found[f"inception-{variant}"] = some(module.eval()(resized).numpy())
    for name, (window, stride, padding) in POOLS.items():
        x = channels_first(image((9, 13), batch=2)).requires_grad_()
        y = functional.max_pool2d(x, window, stride, padding, ceil_mode=False).permute(0, 2, 3, 1)
        (y * torch.tensor(np.random.RandomState(1).standard_normal(y.shape).astype(np.float32))).sum().backward()
        found |= {f"pool-{name}": some(y.detach().numpy())}
        found |= {f"pool-{name}/gradient": some(x.grad.permute(0, 2, 3, 1).numpy())}
    for size in SIZES:
        y = functional.interpolate(channels_first(image((5, 7), batch=2)), size, mode="bilinear", align_corners=False)
        found[f"resize-{size[0]}x{size[1]}"] = some(y.permute(0, 2, 3, 1).numpy())
    return {name: value if value.dtype.kind == "U" else value.astype(np.float32) for name, value in found.items()}


if __name__ == "__main__":
    np.savez_compressed(VALUES, **make())

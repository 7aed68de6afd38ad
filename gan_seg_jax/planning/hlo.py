"""Read the text of an optimised program (HLO): what a chip moves in it, and what the chips say to each other."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16}  # others end in their number of bits
_ARRAY = re.compile(r"\b(pred|bf16|[fsuc]\d+\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)")
# What moves nothing by itself. A custom-call ConcatBitcast, neither: it names pieces that lie side by side.
_STILL = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional", "call", "after-all"}


class Collective(NamedTuple):
    """One operation of all chips together.

    Attributes:
        kind: One of `COLLECTIVES`.
        name: What of the program it was made of, by JAX.
        dtypes: Of its arrays, such as f32; several are sent at once where the compiler has combined them.
        shapes: Of the same.
        participants: Chips that take part.
    """

    kind: str
    name: str
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    participants: int

    @property
    def bytes(self) -> int:
        """Of its arrays, on one chip; of those of a reduce-scatter before they are reduced."""
        return sum(_bits(dtype) * math.prod(shape) for dtype, shape in zip(self.dtypes, self.shapes, strict=True)) // 8


def _bits(dtype: str) -> int:
    return _BITS.get(dtype) or int(re.findall(r"[a-z](\d+)", dtype)[0])


def name_of(line: str) -> str:
    """Return what of JAX's program the instruction of a line was made of, "" where it does not say."""
    found = re.search(r'op_name="([^"]*)"', line)
    return found[1] if found else ""


def collectives(text: str) -> list[Collective]:
    """Return the collectives of a program's text; those in the body of a loop are there once."""
    found = []
    for line in text.splitlines():
        match = re.search(rf" = (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(", line)
        if match:
            arrays = [(dtype, _shape(sizes)) for dtype, sizes in re.findall(r"\b(\w+)\[([\d,]*)\]", match[1])]
            if match[3] and match[2] != "all-reduce":  # it returns what goes in, what comes out, and its own state
                arrays = [max(arrays, key=lambda array: math.prod(array[1]))]
            dtypes, shapes = zip(*arrays, strict=True)
            chips = _participants(line)
            if match[2] == "reduce-scatter" and not match[3]:  # it makes a chip's part of what goes in
                shapes = tuple((chips * shape[0], *shape[1:]) for shape in shapes)
            found.append(Collective(match[2], name_of(line), dtypes, shapes, chips))
    return found


class Traffic(NamedTuple):
    """Bytes that go between a chip and its memory (HBM).

    Attributes:
        moved: All of them, as they lie there: the two innermost axes are filled up to whole tiles, such as 8 x 128.
        numbers: Those that are not filling.
    """

    moved: int
    numbers: int


def traffic(text: str) -> Traffic:
    """Return what a program reads from a chip's memory and writes to it.

    Each instruction reads all that it is given and writes what it makes. What the compiler keeps in the chip (VMEM:
    another memory space than the first) costs nothing but its copies; XLA's own "bytes accessed" counts it in full. The
    body of a loop is counted once.
    """
    parts = list(_computations(text))
    return Traffic(*(sum(sum(_moved(lines, tiles=tiles)) for lines in parts) for tiles in (True, False)))


def _computations(text: str) -> Iterator[list[str]]:
    """Yield the instructions of the program, and those of each loop in it; the inside of fusions moves nothing."""
    parts = {}
    for part in re.split(r"^(?=(?:ENTRY )?%?[\w.\-]+ .*\{$)", text, flags=re.M):
        header, _, body = part.partition("\n")
        parts[header] = body.partition("\n}")[0].splitlines()
    loops = set(re.findall(r"(?:body|condition)=%?([\w.\-]+)", text))
    for header, body in parts.items():
        if header.startswith("ENTRY ") or header.split(" ")[0].lstrip("%") in loops:
            yield body


def _moved(lines: list[str], *, tiles: bool) -> Iterator[int]:
    """Yield the bytes that each instruction of a computation moves, with what fills up tiles or without."""
    types: dict[str, str] = {}
    for line in lines:
        found = _INSTRUCTION.match(line)
        if not found:
            continue
        name, made, kind, rest = found.groups()
        types[name] = made
        given = [types.get(each, "") for each in re.findall(r"%([\w.\-]+)", rest.partition(")")[0])]
        if kind in ("copy-done", "slice-done"):  # of a copy that goes on beside other work
            yield _bytes(made, tiles=tiles) * sum(map(_in_hbm, _ARRAY.findall(given[0])[:2]))
        elif kind not in _STILL and not kind.endswith("-start") and "ConcatBitcast" not in line:
            yield sum(_bytes(each, tiles=tiles, hbm=True) for each in (made, *given))


def _in_hbm(array: tuple[str, ...]) -> bool:
    return "S(" not in array[3]


def _bytes(types: str, *, tiles: bool, hbm: bool = False) -> int:
    """Return the bytes of all arrays of a type, or of those in HBM; with `tiles`, filled up to whole ones."""
    total = 0
    for array in _ARRAY.findall(types):
        dtype, sizes, order, layout = array
        if hbm and not _in_hbm(array):
            continue
        shape, tile = _shape(sizes), re.search(r"T\(([\d,]+)\)", layout)
        if tiles and tile:
            units = _shape(tile[1])
            rows = [1] * (len(units) - len(shape)) + [shape[axis] for axis in reversed(_shape(order))]
            edge = [-(-size // unit) * unit for size, unit in zip(rows[-len(units) :], units, strict=True)]
            shape = (*rows[: -len(units)], *edge)
        total += _bits(dtype) * math.prod(shape) // 8
    return total


def _shape(sizes: str) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes.split(",") if size)


def _participants(line: str) -> int:
    """Return how many chips take part, from any of the four ways to write it."""
    if "source_target_pairs=" in line:  # {{0,1},{1,2}}
        pairs = line.split("source_target_pairs=")[1].split("}}")[0]
        return len(set(re.findall(r"\d+", pairs)))
    groups = line.split("replica_groups=")[1]
    if groups.startswith("mesh"):  # mesh['a'=8,'b'=1] {'a'}
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", groups.split("]")[0]))
        axes = re.findall(r"'(\w+)'", groups.split("{")[1].split("}")[0])
        return math.prod(int(sizes[axis]) for axis in axes)
    if groups.startswith("["):  # [1,8]<=[8]
        return int(groups.split("]")[0].split(",")[1])
    return groups.split("}")[0].count(",") + 1  # {{0,1,2,3,4,5,6,7}}

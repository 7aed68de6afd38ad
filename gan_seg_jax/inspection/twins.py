"""Images that are equal, and images that look the same, within and between splits.

Equal ones have equal digests of their pixels, the rule by which a training refuses them. Those that look the same have
nearly equal perceptual hashes (pHash: the signs of the lowest frequencies of a small grey version against their median;
Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"), by the library ImageHash, which is
an extra.
"""

import collections
import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

SIDE = 16  # of the hash: 256 bits
NEAR = 20  # bits of them that may differ
MOST_PAIRS = 1000  # that are kept, the nearest ones; all are counted
_ROWS = 256  # compared with all others at once


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that look the same: their paths and splits, and in how many of 256 bits their hashes differ."""

    first: str
    second: str
    splits: tuple[str, str]
    bits: int


@dataclasses.dataclass(frozen=True)
class Twins:
    """Images that are there more than once.

    Attributes:
        equal: Groups of paths of equal images.
        near: Pairs that look the same and are not equal, the nearest first, at most MOST_PAIRS.
        counts: How many such pairs there are in all, by their two splits.
        searched: Whether they were searched for: the library is there.
    """

    equal: list[list[str]]
    near: list[Pair]
    counts: dict[tuple[str, str], int]
    searched: bool


def can_search() -> bool:
    """Return whether the library for perceptual hashes is installed."""
    return importlib.util.find_spec("imagehash") is not None


def fingerprint(pixels: np.ndarray) -> np.ndarray | None:
    """Return the perceptual hash of an image uint8 [h, w, 3] as uint64 [4]; None where the library is missing."""
    if not can_search():
        return None
    import imagehash

    found = imagehash.phash(Image.fromarray(pixels), hash_size=SIDE)
    return np.packbits(found.hash.ravel()).view(np.uint64)


def find(splits: Mapping[str, Sequence[str]], digests: Mapping[str, str], prints: Mapping[str, np.ndarray]) -> Twins:
    """Find what is there twice.

    Args:
        splits: Split -> paths of its images.
        digests: Path -> digest, of those that can be read.
        prints: Path -> what `fingerprint` returned; {} without the library.
    """
    groups = collections.defaultdict(list)
    for paths in splits.values():
        for path in paths:
            if path in digests:
                groups[digests[path]].append(path)
    equal = [group for group in groups.values() if len(group) > 1]
    alone = {group[0] for group in groups.values()}  # one of each is enough to compare with others
    names = [(split, path) for split, paths in splits.items() for path in paths if path in alone and path in prints]
    near, counts = _near(names, prints)
    return Twins(equal, near, counts, can_search())


def _near(
    names: list[tuple[str, str]], prints: Mapping[str, np.ndarray]
) -> tuple[list[Pair], dict[tuple[str, str], int]]:
    """Return the nearest pairs, those between splits before others, and the number of all by their splits."""
    pairs: list[Pair] = []
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    if not names:
        return pairs, counts
    hashes = np.stack([prints[path] for _, path in names])
    for start in range(0, len(names), _ROWS):
        rows = hashes[start : start + _ROWS]
        bits = np.bitwise_count(rows[:, None] ^ hashes[None, start:]).sum(axis=-1, dtype=np.int32)
        for row, column in np.argwhere(np.triu(bits <= NEAR, 1)).tolist():
            (split, path), (other, other_path) = names[start + row], names[start + column]
            counts[split, other] += 1
            pairs.append(Pair(path, other_path, (split, other), int(bits[row, column])))
        if len(pairs) > 8 * MOST_PAIRS:
            pairs = _best(pairs)
    return _best(pairs), dict(counts)


def _best(pairs: list[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: (pair.splits[0] == pair.splits[1], pair.bits, pair.first))[:MOST_PAIRS]

"""Look once at every record of a prepared set, and remember what was found as long as its files stay the same."""

import dataclasses
import hashlib
import os

import numpy as np
from tqdm import tqdm

from gan_seg_jax.data import images, remembered


@dataclasses.dataclass(frozen=True, eq=False)
class RecordFacts:
    """What is known of the examples of one split, in their order.

    Attributes:
        ids: Their ids.
        digests: SHA-256 of each encoded image: equal files are found, not equal pixels of other files, whose decoding
            would cost far more than the reading of the records.
        labels: The same of each encoded mask.
        sizes: (height, width) of each mask, int32 [n, 2].
        values: The numbers that occur in each mask, ascending.
        counts: How many of its pixels hold each of them.
        deep: `top` and `deep_colour` (`images.Facts`) of the images with 16 bits.
    """

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: np.ndarray
    values: tuple[tuple[int, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    deep: tuple[tuple[int, bool], ...]

    def take(self, indices: np.ndarray) -> "RecordFacts":
        """Return the facts of some examples."""
        of = lambda values: tuple(values[index] for index in indices)
        texts, numbers = (self.ids, self.digests, self.labels), (self.values, self.counts)
        return RecordFacts(*map(of, texts), self.sizes[indices], *map(of, numbers), self.deep)


def look(directory: str, splits: dict[str, object], *, max_pixels: int) -> dict[str, RecordFacts]:
    """Return the facts of each split; they are read from the records where the set is new or has changed.

    Args:
        directory: Folder of the prepared version.
        splits: Name -> split with `__len__`, `record(index)` and `where(record)`.
        max_pixels: How many pixels a mask may have.

    Raises:
        InputError: A mask cannot be decoded, or an image of 16 bits.
    """
    files = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(directory))
    stamp = [list(file) for file in files]
    known = remembered.load(directory)
    try:
        if known.get("stamp") == stamp:
            facts = {name: _restored(known["splits"][name], len(split)) for name, split in splits.items()}
            if all(found.sizes.prod(axis=1, dtype=np.int64).max() <= max_pixels for found in facts.values()):
                return facts
    except (ValueError, TypeError, KeyError, IndexError):
        pass  # damaged: look again
    facts = {name: _read(name, split, max_pixels) for name, split in splits.items()}
    stored = {name: {**vars(found), "sizes": found.sizes.tolist()} for name, found in facts.items()}
    remembered.save(directory, {"stamp": stamp, "splits": stored})
    return facts


def _restored(entry: dict, count: int) -> RecordFacts:
    values, counts = (tuple(tuple(map(int, each)) for each in entry[name]) for name in ("values", "counts"))
    sizes = np.array(entry["sizes"], np.int32).reshape(-1, 2)
    deep = tuple((int(top), bool(colour)) for top, colour in entry["deep"])
    texts = (tuple(entry[name]) for name in ("ids", "digests", "labels"))
    facts = RecordFacts(*texts, sizes, values, counts, deep)
    if {len(found) for name, found in vars(facts).items() if name != "deep"} != {count}:
        raise ValueError("of another number of examples")
    if [len(each) for each in values] != [len(each) for each in counts]:
        raise ValueError("of another number of values")
    return facts


def _read(name: str, split, max_pixels: int) -> RecordFacts:
    ids, digests, labels, sizes, values, counts, deep = [], [], [], [], [], [], set()
    # disable=None: no bar where there is no terminal
    for index in tqdm(range(len(split)), desc=f"checking {name}", unit=" records", disable=None, leave=False):
        record = split.record(index)
        where = split.where(record)
        mask = images.decode_mask(f"{where}: the mask", record["segmentation_mask"], max_pixels=max_pixels)
        ids.append(record["id"])
        digests.append(hashlib.sha256(record["image"]).hexdigest())
        labels.append(hashlib.sha256(record["segmentation_mask"]).hexdigest())
        sizes.append(mask.shape)
        for found, each in zip((values, counts), np.unique(mask, return_counts=True), strict=True):
            found.append(tuple(each.tolist()))
        deep.add(images.top_value(f"{where}: the image", record["image"], max_pixels=max_pixels))
    sizes = np.array(sizes, np.int32).reshape(-1, 2)
    texts, numbers = map(tuple, (ids, digests, labels)), map(tuple, (values, counts))
    return RecordFacts(*texts, sizes, *numbers, tuple(deep - {(0, False)}))

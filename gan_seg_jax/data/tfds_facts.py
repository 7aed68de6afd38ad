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
        deep: `top` and `deep_colour` (`images.Facts`) of the images with 16 bits.
    """

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: np.ndarray
    values: tuple[tuple[int, ...], ...]
    deep: tuple[tuple[int, bool], ...]

    def take(self, indices: np.ndarray) -> "RecordFacts":
        """Return the facts of some examples."""
        of = lambda values: tuple(values[index] for index in indices)
        return RecordFacts(
            of(self.ids), of(self.digests), of(self.labels), self.sizes[indices], of(self.values), self.deep
        )


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
    values = tuple(tuple(map(int, values)) for values in entry["values"])
    sizes = np.array(entry["sizes"], np.int32).reshape(-1, 2)
    deep = tuple((int(top), bool(colour)) for top, colour in entry["deep"])
    facts = RecordFacts(tuple(entry["ids"]), tuple(entry["digests"]), tuple(entry["labels"]), sizes, values, deep)
    if {len(facts.ids), len(facts.digests), len(facts.labels), len(sizes), len(values)} != {count}:
        raise ValueError("of another number of examples")
    return facts


def _read(name: str, split, max_pixels: int) -> RecordFacts:
    ids, digests, labels, sizes, values, deep = [], [], [], [], [], set()
    # disable=None: no bar where there is no terminal
    for index in tqdm(range(len(split)), desc=f"checking {name}", unit=" records", disable=None, leave=False):
        record = split.record(index)
        where = split.where(record)
        mask = images.decode_mask(f"{where}: the mask", record["segmentation_mask"], max_pixels=max_pixels)
        ids.append(record["id"])
        digests.append(hashlib.sha256(record["image"]).hexdigest())
        labels.append(hashlib.sha256(record["segmentation_mask"]).hexdigest())
        sizes.append(mask.shape)
        values.append(tuple(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()))
        deep.add(images.top_value(f"{where}: the image", record["image"], max_pixels=max_pixels))
    sizes = np.array(sizes, np.int32).reshape(-1, 2)
    return RecordFacts(tuple(ids), tuple(digests), tuple(labels), sizes, tuple(values), tuple(deep - {(0, False)}))

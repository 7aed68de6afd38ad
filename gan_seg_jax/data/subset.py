"""Which training images keep their labels; the rest are images without any.

Semi-supervised methods are compared at a labelled fraction. It is chosen once, where a data set is opened, so that
training, class weights and classical baselines all see the same labels and none of the others.
"""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_seg_jax.data.catalog import Dataset, DatasetInfo, Example, Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.system import files

_SHOWN = 5  # ids in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some examples of a split (a `catalog.Split`); its files are still opened when an example is asked for.

    Attributes:
        split: The split.
        indices: Positions in it, int [n].
        name: The name of the part, such as "train".
    """

    split: Split
    indices: np.ndarray
    name: str

    @property
    def info(self) -> DatasetInfo:
        """The data set's facts."""
        return self.split.info

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the examples."""
        ids = self.split.ids
        return tuple(ids[index] for index in self.indices)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """Return example `index`, 0 <= index < len(self)."""
        return self.split[int(self.indices[index])]

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each label, int32 [n, 2]."""
        return self.split.sizes()[self.indices]

    def class_pixels(self) -> np.ndarray:
        """Return how many pixels of each label are of each class, int32 [n, k]."""
        return self.split.class_pixels()[self.indices]


@dataclasses.dataclass(frozen=True, eq=False)
class Unlabelled:
    """The images of some splits without their labels (a `catalog.Split`): every label is all 255.

    Attributes:
        parts: The splits, one after the other, each with at least one example.
        name: The name of the whole.
    """

    parts: tuple[Split, ...]
    name: str = "unlabelled"

    @property
    def info(self) -> DatasetInfo:
        """The data set's facts."""
        return self.parts[0].info

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the examples."""
        return tuple(name for part in self.parts for name in part.ids)

    def __len__(self) -> int:
        """Return the number of examples."""
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> Example:
        """Return example `index`, 0 <= index < len(self), as if it had never been labelled."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.info.name}, split {self.name}: index {index} is outside 0 to {len(self) - 1}")
        for part in self.parts:
            if index < len(part):
                example = part[index]
                unknown = np.full(example["image"].shape[:2], IGNORE, np.uint8)
                return {"image": example["image"], "label": unknown, "id": example["id"]}
            index -= len(part)
        raise AssertionError("parts are shorter than the whole")

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each image, int32 [n, 2]: a label has the size of its image."""
        return np.concatenate([part.sizes() for part in self.parts])

    def class_pixels(self) -> np.ndarray:
        """Return 0 for each class, int32 [n, k]: no label is known."""
        return np.zeros((len(self), self.info.num_classes), np.int32)


def keep_labels(dataset: Dataset, *, fraction: float = 1.0, seed: int = 0, index_file: str = "") -> Dataset:
    """Withhold the labels of training images.

    The images that keep theirs are the first round(fraction n) of n, at least one, by the SHA-256 of (seed, id): a
    larger fraction holds every smaller one, and whether an image is chosen hardly depends on the others. Or they are
    those that `index_file` lists, as papers publish their choice; it takes the place of the fraction.

    Args:
        dataset: The data set.
        fraction: Of the training images, above 0, at most 1; without meaning where there is an index file.
        seed: Another seed is another choice.
        index_file: Path of a text file with one id a line, the file's name without its ending; empty lines do not
            count. "" is none.

    Returns:
        The data set with "train" the labelled part, and "unlabelled" the rest, its labels all 255, followed by the
        images that had none from the start. Unchanged where every image keeps its label.

    Raises:
        InputError: A value is out of range, or the file cannot be read or lists ids that are not in the split.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"config.labelled.fraction is {fraction}; give a share above 0 and at most 1 (all).")
    if fraction == 1 and not index_file:
        return dataset
    train = dataset.splits["train"]
    ids = train.ids
    chosen = _listed(index_file, ids, dataset.info.name) if index_file else _drawn(ids, fraction, seed)
    rest = np.setdiff1d(np.arange(len(ids)), chosen)
    own = dataset.splits.get("unlabelled")
    without = ([Subset(train, rest, "train")] if len(rest) else []) + ([own] if own is not None else [])
    splits = {**dataset.splits, "train": Subset(train, chosen, "train")}
    splits |= {"unlabelled": Unlabelled(tuple(without))} if without else {}
    return dataclasses.replace(dataset, splits=splits)


def _drawn(ids: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Return the sorted positions of a fraction of the ids."""
    by_hash = sorted(range(len(ids)), key=lambda index: hashlib.sha256(os.fsencode(f"{seed} {ids[index]}")).digest())
    return np.sort(by_hash[: max(1, round(fraction * len(ids)))])


def _listed(index_file: str, ids: Sequence[str], name: str) -> np.ndarray:
    """Return the sorted positions of the ids in a file."""
    try:
        lines = files.read_bytes(Path(index_file).expanduser()).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"config.labelled.index_file {index_file} cannot be read: {reason}.") from error
    wanted = dict.fromkeys(unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip())  # as ids are
    if not wanted:
        raise InputError(f"config.labelled.index_file {index_file} lists no id; give one id a line.")
    known = set(ids)
    strange = [line for line in wanted if line not in known]
    if strange:
        shown = ", ".join(map(files.shown, strange[:_SHOWN]))
        shown += f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise InputError(
            f"config.labelled.index_file {index_file} lists ids that the training split of {name} does not have: "
            f"{shown}. Its ids are like {files.shown(ids[0])}; give one a line."
        )
    return np.array([index for index, image_id in enumerate(ids) if image_id in wanted])

"""Read prepared TensorFlow Datasets without TensorFlow.

Sets in array_record format allow random access; TFDS finds and splits the records, and the pictures in them are decoded
as those of a folder are. Nothing is downloaded.
"""

import contextlib
import os
import re
import struct
import sys
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.read_only_builder import _find_builder_dir, builder_from_files

from gan_seg_jax import files
from gan_seg_jax.data import checks, images, tfds_facts, tfds_metadata
from gan_seg_jax.data.catalog import IGNORE, MAX_CLASSES, Dataset, DatasetInfo, Example, Members
from gan_seg_jax.data.splits import Rules, carve, check
from gan_seg_jax.errors import InputError

_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_NAME_FEATURES = ("id", "file_name", "filename", "name")


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep the notes of TFDS on its own work, such as warnings that a config is custom, out of the log; errors stay."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


class TfdsSplit:
    """One split of a prepared set (`catalog.Split`); picklable, opens its files at the first use in each process.

    Args:
        info: Facts of the set.
        name: "train", "val" or "test".
        directory: Folder of the prepared version, with dataset_info.json in it.
        source: Name of the split there, such as "validation".
        indices: Positions in it that belong to this split; None for all.
        facts: What is known of these examples, where the records have been looked at.
        stored_ids: For each class, the number that masks hold; None where they hold the class ids.
        max_pixels: How many pixels a picture may have.
    """

    def __init__(
        self,
        info: DatasetInfo,
        name: str,
        directory: str,
        source: str,
        indices: np.ndarray | None = None,
        *,
        facts: tfds_facts.RecordFacts | None = None,
        stored_ids: tuple[int, ...] | None = None,
        max_pixels: int = images.MAX_PIXELS,
    ):
        self.info, self.name = info, name
        self._directory, self._source, self._indices = directory, source, indices
        self._max_pixels, self._class_ids = max_pixels, None if stored_ids is None else _lookup(stored_ids)
        self._ids, self._sizes = (None, None) if facts is None else (facts.ids, facts.sizes)
        self._lock, self._records, self._naming = threading.Lock(), None, None

    def __len__(self) -> int:
        return len(self._open()) if self._indices is None else len(self._indices)

    def __getitem__(self, index: int) -> Example:
        """Return example `index` (`catalog.Example`).

        Raises:
            IndexError: The index is outside.
            InputError: A picture cannot be decoded, sizes differ, or a class id is outside.
        """
        record = self.record(index)
        where = self.where(record)
        options = {"max_pixels": self._max_pixels}
        image = images.decode_image(f"{where}: the image", record["image"], bits=self.info.image_bits, **options)
        label = images.decode_mask(f"{where}: the mask", record["segmentation_mask"], **options)
        label = label if self._class_ids is None else self._class_ids[label]
        if image.shape[:2] != label.shape:
            raise InputError(
                f"{where}: the image has {image.shape[:2]} pixels, its mask {label.shape}; expected equal sizes."
            )
        largest = int(np.max(label, where=label != IGNORE, initial=0))
        if largest >= self.info.num_classes:
            raise InputError(
                f"{where}: the mask holds class id {largest}, but the {self.info.num_classes} classes have ids 0 to "
                f"{self.info.num_classes - 1} (and {IGNORE} for ignore). Ids are used as they are stored: a set that "
                "counts from 1 needs a name for class 0 as well; prepare it anew with ids below the number of names."
            )
        return {"image": image, "label": label, "id": record["id"]}

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each example, as in `catalog.Example`."""
        if self._ids is None:
            self._ids = tuple(self.record(index)["id"] for index in range(len(self)))
        return self._ids

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each label, int32 [n, 2]."""
        if self._sizes is None:
            headers = (self.record(index)["segmentation_mask"][16:24] for index in range(len(self)))  # of PNG
            self._sizes = np.array([struct.unpack(">II", header)[::-1] for header in headers], np.int32).reshape(-1, 2)
        return self._sizes

    def where(self, record: dict) -> str:
        """Return what an example is called in an error."""
        return files.shown(f"{self.info.name}, split {self._source}, example {record['id']}")

    def record(self, index: int) -> dict:
        """Return the encoded pictures and the id of an example.

        Raises:
            IndexError: The index is outside.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.info.name}, split {self.name}: index {index} is outside 0 to {len(self) - 1}")
        records = self._open()
        index = int(index if self._indices is None else self._indices[index])
        record = records[index]
        name = record[self._naming].decode("utf-8", "replace") if self._naming else f"{self._source}-{index:06d}"
        return {"image": record["image"], "segmentation_mask": record["segmentation_mask"], "id": name}

    def _open(self):
        """Return the records, opened once per process."""
        if self._records is None:
            with self._lock, quiet_logs():
                if self._records is None:
                    self._records = self._open_records()
        return self._records

    def _open_records(self):
        tfds_metadata.check(self._directory)
        try:
            builder = tfds.builder_from_directory(self._directory)
            skip = {name: tfds.decode.SkipDecoding() for name in ("image", "segmentation_mask")}
            records = builder.as_data_source(split=self._source, decoders=skip)
            features = dict(builder.info.features.items())
            texts = [n for n in _NAME_FEATURES if isinstance(features.get(n), tfds.features.Text)]
            self._naming = texts[0] if texts else None
            if len(records):
                records[0]
            return records
        except Exception as error:  # TFDS and array_record raise a dozen kinds for a missing or damaged file
            raise InputError(
                f"{self._directory} is damaged or incomplete ({_first_line(error)}); delete this folder and "
                "prepare the set anew (scenes are drawn anew by themselves)."
            ) from error

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_records")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _records=None)


def open_tfds(name: str, data_dir: str | os.PathLike, *, rules: Rules | None = None) -> Dataset:
    """Open a set that TFDS has prepared in array_record format; nothing is downloaded.

    Class names come from the feature `segmentation_mask` where it is a `LabeledImage`, and ids are then used as they
    are stored. Otherwise the classes are the ids other than 255 that occur in the masks, in their order:
    oxford_iiit_pet counts from 1, and a class 0 that no pixel has would only lower the scores. "validation" becomes
    "val"; without one, the tenth of train with the smallest hashes of their positions, at least one. All records are
    read at the first start; what was found is remembered.

    Args:
        name: As for `tfds.load`, such as "oxford_iiit_pet:3.*.*" or "name/config".
        data_dir: Where TFDS keeps its sets; "" for its own default, ~/tensorflow_datasets.
        rules: How it is read and checked; None for the defaults.

    Returns:
        The set with splits "train", "val" and, where there is one, "test".

    Raises:
        InputError: The set is not prepared there, not in array_record format, lacks a feature or a train split, a mask
            is no mask, or what must hold between splits does not.
    """
    rules = rules or Rules()
    directory, splits, classes = _find(name, data_dir)
    if not splits.get("train", 0):
        raise InputError(
            f"tfds:{name}: no split train with examples in {directory}, found {', '.join(sorted(splits)) or 'none'}."
        )
    sources = {ours: theirs for theirs, ours in _SPLITS.items() if splits.get(theirs, 0)}
    others = sorted(set(splits) - set(sources.values()))
    if others:
        print(f"left out in tfds:{name}: splits that are not read: {', '.join(others)}", file=sys.stderr)
    unknown = DatasetInfo(name, ("unknown",), ((0, 0, 0),))
    plain = {ours: TfdsSplit(unknown, ours, directory, theirs) for ours, theirs in sources.items()}
    facts = tfds_facts.look(directory, plain, max_pixels=rules.max_pixels)
    indices = dict.fromkeys(sources)
    members = {ours: Members(found.ids, found.ids, found.digests, found.labels) for ours, found in facts.items()}
    check(f"tfds:{name}", members, rules)
    if "val" not in sources:
        to_val = carve(f"tfds:{name}", members["train"], rules, [str(index) for index in range(splits["train"])])
        sources["val"], indices["val"], indices["train"] = "train", np.flatnonzero(to_val), np.flatnonzero(~to_val)
        facts |= {ours: facts["train"].take(indices[ours]) for ours in ("val", "train")}
    for ours, found in facts.items():
        if not {value for values in found.values for value in values} - {IGNORE}:
            checks.without_labels(f"tfds:{name}", ours)
    info, stored_ids = _describe(name, classes, facts, rules)
    options = {"stored_ids": stored_ids, "max_pixels": rules.max_pixels}
    return Dataset(
        info,
        {
            ours: TfdsSplit(info, ours, directory, sources[ours], indices[ours], facts=facts[ours], **options)
            for ours in ("train", "val", "test")
            if ours in sources
        },
        members,
    )


def _describe(
    name: str, classes: tuple[str, ...] | None, facts: dict[str, tfds_facts.RecordFacts], rules: Rules
) -> tuple[DatasetInfo, tuple[int, ...] | None]:
    """Return the facts of a set, and for each class the number that masks hold, where they are not the class ids."""
    protocol, stored_ids = "Class names from the set.", None
    if classes is None:
        found = {value for split in facts.values() for values in split.values for value in values}
        stored_ids = tuple(sorted(found - {IGNORE}))
        classes = tuple(f"class_{value}" for value in stored_ids)
        protocol = (
            f"No class names in the set: {len(classes)} classes, the ids that occur in its masks (255 is ignore), "
            "counted from 0 in their order."
        )
    colors = tuple(_color(value) for value in stored_ids or range(len(classes)))
    deep = [pair for split in facts.values() for pair in split.deep]
    bits = images.expect_bits(f"tfds:{name}", rules.image_bits, deep)
    try:
        return DatasetInfo(name, classes, colors, protocol=protocol, image_bits=bits), stored_ids
    except ValueError as error:  # names of classes that are equal
        raise InputError(f"tfds:{error} Prepare the set anew.") from None


def _lookup(stored_ids: tuple[int, ...]) -> np.ndarray:
    """Return the class of each number that a mask may hold, uint8 [256]; those that did not occur are no class."""
    classes = np.full(256, IGNORE - 1, np.uint8)
    classes[list(stored_ids)] = np.arange(len(stored_ids))
    classes[IGNORE] = IGNORE
    return classes


def _find(name: str, data_dir: str | os.PathLike) -> tuple[str, dict[str, int], tuple[str, ...] | None]:
    """Return (folder, examples per split, class names or None) of a prepared set, checked for format and features."""
    place = os.path.expanduser(os.fspath(data_dir)) if data_dir else None
    shown = place or "~/tensorflow_datasets"
    tfds_metadata.expect_regular_files(os.path.join(os.path.expanduser(shown), re.split("[:/]", name)[0]))
    try:
        with quiet_logs():
            found = _find_builder_dir(name, data_dir=place)  # what the next call opens, and imports the classes of
            if found is not None:
                tfds_metadata.check(os.fspath(found))
            builder = builder_from_files(name, data_dir=place)
    except InputError:
        raise
    except Exception as error:  # not found, damaged, a name TFDS does not understand: it raises many kinds
        raise InputError(
            f"tfds:{name}: not found as a prepared set in {shown} ({_first_line(error)}); prepare it "
            f"once, where TensorFlow is installed: `tfds build NAME --file_format=array_record --data_dir={shown}`."
        ) from error
    directory, info = os.fspath(builder.data_dir), builder.info
    if info.file_format is None or info.file_format.value != "array_record":
        found = info.file_format.value if info.file_format else "no format"
        raise InputError(
            f"tfds:{name}: {directory} is in format {found}; expected array_record: prepare it with "
            "--file_format=array_record."
        )
    features = dict(info.features.items())
    missing = [f for f in ("image", "segmentation_mask") if not isinstance(features.get(f), tfds.features.Image)]
    if missing:
        raise InputError(
            f"tfds:{name}: no image feature {' and no '.join(missing)}; found {', '.join(sorted(features))}. "
            "Only sets with image and segmentation_mask can be used."
        )
    mask = features["segmentation_mask"]
    named = isinstance(mask, tfds.features.LabeledImage) and mask.num_classes
    if named and mask.num_classes > MAX_CLASSES:  # before their names are made
        raise InputError(
            f"tfds:{name}: segmentation_mask has {mask.num_classes} classes; expected at most {MAX_CLASSES}, whose ids "
            "fit into 8 bits beside 255 for ignore: prepare the set with fewer."
        )
    names = tuple(map(files.shown, mask.names)) if named else None
    return directory, {s: i.num_examples for s, i in info.splits.items()}, names


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _color(index: int) -> tuple[int, int, int]:
    """Return the colour of a class in the palette of PASCAL VOC: the bits of its id, dealt out to the channels."""
    bits = [(index >> i) & 1 for i in range(8)]
    return tuple(sum(bits[3 * i + channel] << (7 - i) for i in range(3) if 3 * i + channel < 8) for channel in range(3))

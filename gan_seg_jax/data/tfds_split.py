"""One split of a prepared TensorFlow Dataset: records at random, decoded as the files of a folder are."""

import contextlib
import struct
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from gan_seg_jax.data import images, tfds_facts, tfds_metadata
from gan_seg_jax.data.catalog import DatasetInfo, Example
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.system import files

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
        self._ids, self._sizes, self._counts = None, None, None
        if facts is not None:
            self._ids, self._sizes, self._counts = facts.ids, facts.sizes, self._by_class(facts)
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

    def class_pixels(self) -> np.ndarray:
        """Return how many pixels of each label are of each class, int32 [n, k]; masks are decoded once where needed."""
        if self._counts is None:
            labels = (
                images.decode_mask("the mask", self.record(index)["segmentation_mask"]) for index in range(len(self))
            )
            found = [np.bincount(label.ravel(), minlength=256)[: self.info.num_classes] for label in labels]
            self._counts = np.array(found, np.int32).reshape(-1, self.info.num_classes)
        return self._counts

    def _by_class(self, facts: tfds_facts.RecordFacts) -> np.ndarray:
        """Return the pixels of each class by what is known of the records."""
        counts = np.zeros((len(facts.ids), self.info.num_classes), np.int32)
        for row, pairs in enumerate(zip(facts.values, facts.counts, strict=True)):
            for value, count in zip(*pairs, strict=True):
                class_id = value if self._class_ids is None else self._class_ids[value]
                if class_id < self.info.num_classes:
                    counts[row, class_id] += count
        return counts

    def where(self, record: dict) -> str:
        """Return what an example is called in an error."""
        return files.shown(f"{self.info.name}, split {self._source}, example {record['id']}")

    def record(self, index: int) -> dict:
        """Return the encoded pictures and the id of an example.

        Raises:
            IndexError: The index is outside.
            InputError: The record is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.info.name}, split {self.name}: index {index} is outside 0 to {len(self) - 1}")
        records = self._open()
        index = int(index if self._indices is None else self._indices[index])
        try:
            record = records[index]
        except MemoryError:
            raise
        except Exception as error:  # array_record raises RuntimeError, TFDS whatever the bytes lead to
            raise self._damaged(error) from error
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
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"{self._directory} is damaged or incomplete ({first_line(error)}); delete this folder and prepare the set "
            "anew (scenes are drawn anew by themselves)."
        )

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_records")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _records=None)


def _lookup(stored_ids: tuple[int, ...]) -> np.ndarray:
    """Return the class of each number that a mask may hold, uint8 [256]; those that did not occur are no class."""
    classes = np.full(256, IGNORE - 1, np.uint8)
    classes[list(stored_ids)] = np.arange(len(stored_ids))
    classes[IGNORE] = IGNORE
    return classes


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__

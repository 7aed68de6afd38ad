"""Read prepared TensorFlow Datasets without TensorFlow.

Sets in array_record format allow random access; TFDS finds and splits the records, Pillow decodes the pictures. Nothing
is downloaded.
"""

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image
from tensorflow_datasets.core.read_only_builder import builder_from_files
from tqdm import tqdm

from gan_seg_jax.data.catalog import IGNORE, Dataset, DatasetInfo, Example
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
    """

    def __init__(self, info: DatasetInfo, name: str, directory: str, source: str, indices: np.ndarray | None = None):
        self.info, self.name = info, name
        self._directory, self._source, self._indices = directory, source, indices
        self._lock, self._records, self._sizes, self._naming = threading.Lock(), None, None, None

    def __len__(self) -> int:
        return len(self._open()) if self._indices is None else len(self._indices)

    def __getitem__(self, index: int) -> Example:
        """Return example `index` (`catalog.Example`).

        Raises:
            IndexError: The index is outside.
            InputError: A picture cannot be decoded, sizes differ, or a class id is outside.
        """
        record = self._record(index)
        where = f"{self.info.name}, split {self._source}, example {record['id']}"
        image, label = decode_image(record["image"], where), decode_label(record["segmentation_mask"], where)
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
        return tuple(self._record(index)["id"] for index in range(len(self)))

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each label, int32 [n, 2], read from the headers of the masks once."""
        if self._sizes is None:
            shapes = [Image.open(io.BytesIO(self._record(i)["segmentation_mask"])).size[::-1] for i in range(len(self))]
            self._sizes = np.array(shapes, np.int32).reshape(-1, 2)
        return self._sizes

    def largest_id(self) -> int:
        """Return the largest class id of all masks but 255; reads them all, with a progress bar."""
        largest = 0
        for i in tqdm(
            range(len(self)),
            desc=f"{self.info.name}: class ids of {self._source}",
            unit=" masks",
            disable=None,
            leave=False,
        ):
            record = self._record(i)
            label = decode_label(
                record["segmentation_mask"], f"{self.info.name}, split {self._source}, example {record['id']}"
            )
            largest = max(largest, int(np.max(label, where=label != IGNORE, initial=0)))
        return largest

    def _record(self, index: int) -> dict:
        """Return the encoded pictures and the id of an example."""
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


def decode_image(content: bytes, where: str) -> np.ndarray:
    """Decode an image, uint8 [h, w, 3] RGB.

    A rotation in its EXIF data is not applied: TFDS does not either, and masks lie over the stored pixels.

    Args:
        content: A PNG or JPEG file.
        where: What it is called in an error.

    Raises:
        InputError: It cannot be decoded.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if image.mode.startswith("I"):
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's parsers raise a dozen kinds
        raise InputError(f"{where}: the image cannot be decoded ({error}); prepare the set anew.") from error


def decode_label(content: bytes, where: str) -> np.ndarray:
    """Decode a mask of class ids, uint8 [h, w].

    Args:
        content: A PNG file with one channel of up to 8 bits, grey or palette.
        where: What it is called in an error.

    Raises:
        InputError: It cannot be decoded or is no such file.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG",))
        label = np.array(image).astype(np.uint8)
    except Exception as error:  # Pillow's parsers raise a dozen kinds
        raise InputError(
            f"{where}: the mask cannot be decoded as PNG ({error}); expected a PNG with class ids."
        ) from error
    if image.mode not in ("1", "L", "P"):
        raise InputError(f"{where}: the mask has mode {image.mode}; expected one 8-bit channel of class ids.")
    bits = content[24]
    return (
        label // (255 // (2**bits - 1)) if image.mode == "L" and bits < 8 else label
    )  # Pillow stretches few bits to 0..255


def open_tfds(name: str, data_dir: str | os.PathLike) -> Dataset:
    """Open a set that TFDS has prepared in array_record format; nothing is downloaded.

    Class names come from the feature `segmentation_mask` where it is a `LabeledImage`; otherwise all masks are read
    once, and the largest id other than 255 gives the number of classes. Ids are used as they are stored
    (oxford_iiit_pet counts from 1: its class 0 never occurs). "validation" becomes "val";
    without one, the tenth of train with the smallest hashes of their positions, at least one.

    Args:
        name: As for `tfds.load`, such as "oxford_iiit_pet:3.*.*" or "name/config".
        data_dir: Where TFDS keeps its sets; "" for its own default, ~/tensorflow_datasets.

    Returns:
        The set with splits "train", "val" and, where there is one, "test".

    Raises:
        InputError: The set is not prepared there, not in array_record format, lacks a feature or a train split, or a
            mask is no mask.
    """
    directory, splits, classes = _find(name, data_dir)
    if not splits.get("train", 0):
        raise InputError(
            f"tfds:{name}: no split train with examples in {directory}, found {', '.join(sorted(splits)) or 'none'}."
        )
    sources = {ours: theirs for theirs, ours in _SPLITS.items() if splits.get(theirs, 0)}
    if classes is None:
        unknown = DatasetInfo(name, ("unknown",), ((0, 0, 0),))
        largest = max(TfdsSplit(unknown, ours, directory, theirs).largest_id() for ours, theirs in sources.items())
        classes = tuple(f"class_{i}" for i in range(largest + 1))
        protocol = f"No class names in the set: {largest + 1} classes, by the largest id in its masks (255 is ignore)."
    else:
        protocol = "Class names from the set."
    info = DatasetInfo(name, classes, tuple(_color(i) for i in range(len(classes))), protocol=protocol)
    indices = {ours: None for ours in sources}
    if "val" not in sources:
        if splits["train"] < 2:
            raise InputError(
                f"tfds:{name}: one example in train and no validation split; expected at least two examples."
            )
        sources["val"] = "train"
        order = sorted(range(splits["train"]), key=lambda i: hashlib.sha256(str(i).encode()).digest())
        count = max(1, len(order) // 10)
        indices["val"], indices["train"] = np.sort(order[:count]), np.sort(order[count:])
    return Dataset(
        info,
        {s: TfdsSplit(info, s, directory, sources[s], indices[s]) for s in ("train", "val", "test") if s in sources},
    )


def _find(name: str, data_dir: str | os.PathLike) -> tuple[str, dict[str, int], tuple[str, ...] | None]:
    """Return (folder, examples per split, class names or None) of a prepared set, checked for format and features."""
    place = os.path.expanduser(os.fspath(data_dir)) if data_dir else None
    shown = place or "~/tensorflow_datasets"
    try:
        with quiet_logs():
            builder = builder_from_files(name, data_dir=place)
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
    return directory, {s: i.num_examples for s, i in info.splits.items()}, tuple(mask.names) if named else None


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _color(index: int) -> tuple[int, int, int]:
    """Return the colour of a class in the palette of PASCAL VOC: the bits of its id, dealt out to the channels."""
    bits = [(index >> i) & 1 for i in range(8)]
    return tuple(sum(bits[3 * i + channel] << (7 - i) for i in range(3) if 3 * i + channel < 8) for channel in range(3))

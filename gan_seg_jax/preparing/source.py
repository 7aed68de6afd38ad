"""What a reader of a format hands to the writer: the classes, and an item for each example, read one at a time."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.data.decoding import ImageError


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of the command; `prepare.FLAGS` explains each. "" and negative numbers: not given."""

    format: str = ""
    source: str = ""
    output: str = ""
    splits: str = ""
    lists: str = ""
    val_fraction: float = 0.0
    test_fraction: float = 0.0
    seed: int = 0
    group_pattern: str = ""
    skip_damaged: bool = False
    skip_duplicates: bool = False
    max_pixels: int = 0
    images: str = ""
    masks: str = ""
    image_suffix: str = ""
    mask_suffix: str = ""
    missing_masks: str = ""
    exif: str = ""
    alpha: str = ""
    classes: str = ""
    class_names: str = ""
    mask_values: str = "ids"
    void: str = ""
    reduce_zero_label: bool = False
    unknown: str = ""
    max_ambiguous: float = 0.1
    objects: str = ""
    boundary_width: int = 1
    image_side: str = ""
    border: str = "void"
    trainaug: bool = False
    annotations: str = ""
    crowd: str = "void"
    overlap: str = ""
    window: float = 0.0
    level: float = 0.0
    percentiles: str = ""
    axis: str = ""
    channel: int = -1


class Unclear(ImageError):
    """A file that can be read, but whose meaning no flag says; `skip_damaged` does not leave it out.

    Attributes:
        detail: What was found in this file; `reason` is alike in all files with the same trouble.
    """

    def __init__(self, path: str | os.PathLike, reason: str, detail: str = ""):
        super().__init__(path, reason)
        self.detail = detail


class LeftOut(Exception):
    """An example that is left out on purpose; the message says why, alike for all that are for this reason."""


class Picture(NamedTuple):
    """An image as it is written.

    Attributes:
        content: The bytes of its file.
        ending: The ending of its file, such as ".png".
        size: (height, width), upright.
        digest: Equal for equal pixels, and only for them.
    """

    content: bytes
    ending: str
    size: tuple[int, int]
    digest: str


@dataclasses.dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        image: The image.
        label: Class ids and 255 = void, uint8 [h, w]; None without labels.
        target: What is to be made of the image, of pairs of images only.
        notes: What was counted in it, such as pixels whose class was ambiguous.
        spacing: Millimetres of a pixel in height and width and between slices; () where they are not known.
    """

    image: Picture
    label: np.ndarray | None = None
    target: Picture | None = None
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    spacing: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Item:
    """One example of a source that has not been read yet.

    Attributes:
        id: Its name in the new folder, without ending.
        files: What it is read from, whole paths; errors name the first one.
        read: Reads it. May raise `InputError` (a problem with this one) and `LeftOut`.
        split: "train", "val", "test" or "unlabelled"; "" where the source does not say.
        group: What must stay in one split, such as a patient; "" for the item alone.
    """

    id: str
    files: tuple[str, ...]
    read: Callable[[], Example]
    split: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Source:
    """A source whose files are listed.

    Attributes:
        info: Names and colours of the classes; None for pairs of images.
        items: Its examples.
        mapping: What became of the source's values, in words, for PREPARED.json.
        left_out: Why -> what is not read.
        void_is_meant: Whether masks of nothing but 0 and 255 are to be believed.
    """

    info: DatasetInfo | None
    items: list[Item]
    mapping: Mapping[str, str]
    left_out: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    void_is_meant: bool = True


class Format(Protocol):
    """A module of this folder that reads one format."""

    FLAGS: frozenset[str]
    """The flags that it reads besides those of every format."""

    @staticmethod
    def open_source(options: Options) -> Source:
        """List a source.

        Raises:
            InputError: it is laid out otherwise, or a flag is missing or wrong.
        """
        ...

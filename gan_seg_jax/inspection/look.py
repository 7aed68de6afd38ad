"""Look at one file of a set, and tell also of those that cannot be used what they hold."""

import dataclasses
import os

import numpy as np

from gan_seg_jax.data import decoding, images
from gan_seg_jax.inspection import twins

_KEPT = 12  # values or colours that are kept of a mask that cannot be used


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen in one file.

    Attributes:
        path: Of the file, below the root of the set.
        is_mask: Whether it was read as a mask.
        facts: What the training knows of it; None where it is refused.
        damage: Why it cannot be decoded; "" where it can.
        refused: Why what it holds cannot be used, though it is whole; "" where it can.
        kind: "PNG", "JPEG", ...; "" of a file that cannot be decoded. So are the next ones.
        mode: Pillow's mode, such as "RGB".
        bits: Of a sample.
        height: Rows, as stored.
        width: Columns, as stored.
        grey: Whether an image is stored in colour and has none.
        values: Of a mask that is refused, its values or RGB colours, the most frequent ones first, at most 12.
        num_values: How many there are in all.
        fingerprint: Of an image, equal or nearly so for images that look the same (`twins`); None without the library.
    """

    path: str
    is_mask: bool
    facts: images.Facts | None = None
    damage: str = ""
    refused: str = ""
    kind: str = ""
    mode: str = ""
    bits: int = 0
    height: int = 0
    width: int = 0
    grey: bool = False
    values: tuple = ()
    num_values: int = 0
    fingerprint: np.ndarray | None = None


def look(root: str, path: str, *, is_mask: bool, max_pixels: int = images.MAX_PIXELS) -> Look:
    """Decode a file once and return all that is to be known of it; no content of a file raises.

    Args:
        root: Of the set.
        path: Of the file, below it.
        is_mask: Read it as a mask.
        max_pixels: How many pixels it may have.
    """
    whole = os.path.join(root, path)
    try:
        stored = decoding.read(whole, max_pixels=max_pixels)
    except images.ImageError as error:
        return Look(path, is_mask, damage=error.reason)
    image = stored.image
    seen = Look(path, is_mask, None, "", "", stored.kind, image.mode, stored.bits, image.height, image.width)
    try:
        if is_mask:
            return dataclasses.replace(seen, facts=images.mask_facts(whole, stored))
        facts, pixels = images.image_facts(whole, stored)
    except images.ImageError as error:
        values, count = _values(stored) if is_mask else ((), 0)
        return dataclasses.replace(seen, refused=error.reason, values=values, num_values=count)
    colour = image.mode in ("RGB", "RGBA", "CMYK", "YCbCr")
    grey = colour and bool(np.all(pixels[:, :, :1] == pixels[:, :, 1:]))
    return dataclasses.replace(seen, facts=facts, grey=grey, fingerprint=twins.fingerprint(pixels))


def _values(stored: decoding.Stored) -> tuple[tuple, int]:
    """Return the most frequent values, or RGB colours, of what is no mask of class ids, and how many there are."""
    image = stored.image
    if image.mode in ("1", "L", "P", "F") or image.mode.startswith("I"):
        values, counts = np.unique(np.asarray(image), return_counts=True)
        found = values.tolist()
    else:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.uint32), -1, 0)
        values, counts = np.unique((red << 16) | (green << 8) | blue, return_counts=True)
        found = [(value >> 16, value >> 8 & 255, value & 255) for value in values.tolist()]
    order = np.argsort(-counts, kind="stable")[:_KEPT]
    return tuple(found[place] for place in order), len(found)

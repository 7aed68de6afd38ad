"""Read images and masks from files or from the records of prepared sets: always 8 bits, or an error that names them.

Both go through `decoding`, so that a picture is read, or refused, alike wherever it lies.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gan_seg_jax.data.decoding import ImageError, Stored, decode, opened, read
from gan_seg_jax.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp")
"""Endings, in any case, of the files that are looked at."""

MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""The same of masks: the kinds that keep every number as it was."""

MAX_PIXELS = 89_478_485
"""Largest image that is decoded by default, in pixels: a quarter GiB as RGB, Pillow's own limit."""

_TURNS = {  # EXIF orientation -> what turns the stored pixels upright
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.swapaxes(pixels[::-1, ::-1], 0, 1),
    8: lambda pixels: np.rot90(pixels),
}
QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
_LOSSY = ("jpeg", "tiff_jpeg", "webp")  # compressions inside of a TIFF
_MASK_MODES = {
    "RGB": "is a colour image (RGB)",
    "RGBA": "is a colour image (RGB) with an alpha channel",
    "LA": "has an alpha channel",
    "F": "holds numbers with a fraction",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the check of a data set needs to know of a file.

    Attributes:
        height: Rows, upright.
        width: Columns, upright.
        orientation: EXIF orientation, 1 to 8; 1 is upright as stored.
        digest: SHA-256 of the upright pixels, in hexadecimal.
        top: Of an image with 16 bits a sample the largest value (of colour, the most that it can be); otherwise 0.
        deep_colour: Whether that is in colour, of which only the upper 8 bits can be read.
        values: Of a mask the class ids that occur, ascending.
        counts: Of a mask how many pixels hold each of `values`.
        colors: Of a palette mask the RGB colour of each of `values`.
    """

    height: int
    width: int
    orientation: int
    digest: str
    top: int = 0
    deep_colour: bool = False
    values: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    colors: tuple[tuple[int, ...], ...] = ()


def read_image(
    path: str | os.PathLike, *, bits: int = 16, max_pixels: int = MAX_PIXELS, known: bool = False
) -> np.ndarray:
    """Read an image as it is meant to be seen, as 8-bit RGB.

    EXIF rotation is applied. Grey is repeated to three channels, palettes are looked up, CMYK is converted, an alpha
    channel is dropped (the stored colours count, as in most readers), and of 16 bits the upper 8 of those in use are
    kept: two images of a set stay comparable.

    Args:
        path: A PNG, JPEG, TIFF, BMP or WebP file, whatever its name.
        bits: Of samples with 16 bits, how many are in use: 12 for most cameras of microscopes.
        max_pixels: How many pixels it may have.
        known: Whether the file has been read before (`decoding.decode`).

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        ImageError: The file is missing, unreadable, of another kind, damaged, cut short or too large.
    """
    return _rgb(path, read(path, max_pixels=max_pixels, known=known), bits)


def decode_image(name: str, content: bytes, *, bits: int = 16, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image as `read_image` does, from bytes that are called `name` in an error.

    A rotation in its EXIF data is not applied: TFDS does not either, and masks lie over the stored pixels.
    """
    return _rgb(name, decode(name, content, max_pixels=max_pixels)._replace(orientation=1), bits)


def from_pillow(image: Image.Image, *, bits: int = 16, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return a PIL image as `read_image` returns a file; a rotation in its EXIF data is applied.

    Raises:
        ImageError: It is damaged, too large, or has more than 16 bits a pixel.
    """
    name = getattr(image, "filename", "") or "The image"
    try:
        stored = opened(name, image, max_pixels=max_pixels)
    except OSError as error:
        raise ImageError(name, f"is damaged or cut short ({error}); replace it.") from error
    return _rgb(name, stored, bits)


def inspect_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> Facts:
    """Return the facts of an image; raises as `read_image`."""
    return image_facts(path, read(path, max_pixels=max_pixels))[0]


def image_facts(path: str | os.PathLike, stored: Stored) -> tuple[Facts, np.ndarray]:
    """Return the facts of a decoded image and its pixels as of `read_image`; raises as that."""
    pixels = _rgb(path, stored, 16)
    found = digest(_deep(stored, pixels))
    return Facts(*pixels.shape[:2], stored.orientation, found, *_top(stored, pixels)), pixels


def top_value(name: str, content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, bool]:
    """Return `top` and `deep_colour` of `Facts` for an image in bytes, without decoding those of 8 bits."""
    if content[:4] != b"\x89PNG" or content[24:25] != b"\x10":
        return 0, False
    stored = decode(name, content, max_pixels=max_pixels)
    return _top(stored, _rgb(name, stored, 16))


def _deep(stored: Stored, pixels: np.ndarray) -> np.ndarray:
    """Return all bits of an image where they can be read, else its 8-bit pixels."""
    return upright(stored, np.asarray(stored.image)) if _is_deep_grey(stored) else pixels


def _top(stored: Stored, pixels: np.ndarray) -> tuple[int, bool]:
    if stored.bits <= 8:
        return 0, False
    if _is_deep_grey(stored):
        return int(_deep(stored, pixels).max()), False
    return 256 * int(pixels.max()) + 255, True


def bits_in_use(top: int) -> int:
    """Return how many bits images use whose largest value of 16 bits is `top`; 16 where there are none (0).

    One number for a whole set, so that its images stay comparable: that of the usual cameras.
    """
    return next(bits for bits in (8, 10, 12, 14, 16) if top < 1 << bits) if top else 16


def expect_bits(where: str, given: int, found: Sequence[tuple[int, bool]]) -> int:
    """Return how many bits the images of a set use.

    Args:
        where: What the set is called in an error.
        given: config.image_bits; 0 lets the images decide.
        found: `top` and `deep_colour` of each image of 16 bits.

    Raises:
        InputError: An image holds larger values, or colours of which nothing could be read.
    """
    top, colour = max((top for top, _ in found), default=0), any(colour for _, colour in found)
    bits = given or bits_in_use(top)
    if top >= 1 << bits:
        raise InputError(
            f"{where} has images of 16 bits with values up to {top}, beyond the {bits} bits of config.image_bits; give "
            f"--config.image_bits={bits_in_use(top)}, or the images that this was set for."
        )
    if colour and bits < 16:
        raise InputError(
            f"{where} has images in colour with 16 bits, of which the set uses the lower {bits}; only the upper 8 can "
            "be read, which would be nearly black: scale the images to 0 to 255 and save them with 8 bits."
        )
    return bits


def read_mask(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS, known: bool = False) -> np.ndarray:
    """Read a mask of class ids.

    Ids are the stored numbers: grey values (also of 1-, 2- and 4-bit files, which readers of images would stretch to
    255, and of more than 8 bits, if they are small), RGB whose three channels are equal, or the indices of a palette,
    whose colours do not matter.

    Args:
        path: A PNG, TIFF or BMP file.
        max_pixels: How many pixels it may have.
        known: Whether the file has been read before (`decoding.decode`).

    Returns:
        uint8 [h, w], class ids and 255 = ignore. Whether the ids are among the classes is not checked here.

    Raises:
        ImageError: As `read_image`, or the file is compressed with losses, in colour, with alpha, or its numbers are
            larger than 255.
    """
    return to_label(path, read(path, max_pixels=max_pixels, known=known))


def decode_mask(name: str, content: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a mask as `read_mask` does, from bytes called `name` in an error; EXIF rotation is not applied."""
    return to_label(name, decode(name, content, max_pixels=max_pixels)._replace(orientation=1))


def inspect_mask(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> Facts:
    """Return the facts of a mask; raises as `read_mask`."""
    return mask_facts(path, read(path, max_pixels=max_pixels))


def mask_facts(path: str | os.PathLike, stored: Stored) -> Facts:
    """Return the facts of a decoded mask; raises as `read_mask`."""
    label = to_label(path, stored)
    values, counts = (tuple(found.tolist()) for found in np.unique(label, return_counts=True))
    palette = stored.image.getpalette("RGB") if stored.image.mode == "P" else None
    colors = tuple(tuple(palette[3 * value : 3 * value + 3]) for value in values) if palette else ()
    return Facts(*label.shape, stored.orientation, digest(label), values=values, counts=counts, colors=colors)


def _rgb(name, stored: Stored, bits: int) -> np.ndarray:
    """Return the upright pixels, uint8 [h, w, 3]."""
    image = stored.image
    if _is_deep_grey(stored):
        values = np.asarray(image)
        if values.min() < 0:
            raise ImageError(name, "holds negative values; expected 0 to 65535: shift them, or save it with 8 bits.")
        if values.max() >= 1 << bits:
            raise ImageError(
                name,
                f"holds 16-bit values up to {values.max()}, beyond the {bits} bits that the images of its set, or of "
                "the run's training, use; scale it as they are, or train with --config.image_bits=16.",
            )
        grey = (values >> (bits - 8)).astype(np.uint8)
        return upright(stored, np.repeat(grey[:, :, None], 3, axis=2))
    if image.mode.startswith("I") or image.mode == "F":
        raise ImageError(name, "has 32 bits a pixel; expected 8 or 16: scale it to 0 to 255 and save it with 8 bits.")
    if stored.bits > 8 and bits < 16:  # Pillow reads the upper 8 bits of colour only
        raise ImageError(
            name,
            f"is in colour with 16 bits, of which the set uses the lower {bits}; only the upper 8 can be read, which "
            "would be nearly black: scale the images to 0 to 255 and save them with 8 bits.",
        )
    image.info.pop("transparency", None)  # else Pillow warns of every palette with an alpha channel
    return upright(stored, np.array(image.convert("RGB")))


def _is_deep_grey(stored: Stored) -> bool:
    """Tell whether a picture is grey of 16 bits."""
    return stored.image.mode.startswith("I") and 8 < stored.bits <= 16


def to_label(name: str | os.PathLike, stored: Stored) -> np.ndarray:
    """Return the upright ids of a decoded mask, uint8 [h, w]; raises as `read_mask`."""
    image, mode = stored.image, stored.image.mode
    if stored.kind in ("JPEG", "WebP") or image.info.get("compression") in _LOSSY:
        raise ImageError(
            name,
            f"is a {stored.kind}, which alters class ids; masks must be PNG, made from the original annotation.",
        )
    if stored.white_is_zero and mode in ("1", "L"):
        raise ImageError(name, "is a TIFF that counts from white, so that its ids are not clear; save it as PNG.")
    pixels = np.array(image)
    equal = mode == "RGB" and stored.bits == 8 and np.all(pixels == pixels[:, :, :1])
    if mode not in ("1", "L", "P") and not mode.startswith("I") and not equal:
        found = _MASK_MODES.get(mode, f"has mode {mode}")
        raise ImageError(
            name,
            f"{found}; a mask must have one channel that holds class ids. "
            "If its colours stand for classes, replace each by the id of its line in classes.txt and save as grey.",
        )
    if equal:
        pixels = pixels[:, :, 0]
    if mode.startswith("I") and not 0 <= pixels.min() <= pixels.max() <= 255:
        raise ImageError(
            name,
            f"holds numbers from {pixels.min()} to {pixels.max()} ({stored.bits} bits); class ids are 0 to 254, and "
            "255 means ignore: write the ids of classes.txt (masks of single objects have one number for each object).",
        )
    label = pixels.astype(np.uint8)
    if mode == "L" and stored.bits < 8:
        label //= 255 // (2**stored.bits - 1)  # Pillow stretches 2- and 4-bit grey to 0..255
    return upright(stored, label)


def upright(stored: Stored, pixels: np.ndarray) -> np.ndarray:
    """Apply the EXIF orientation to an array of pixels; TIFF files come upright."""
    if stored.orientation == 1 or stored.kind == "TIFF":
        return pixels
    return np.ascontiguousarray(turned(pixels, stored.orientation))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels [h, w, ...] turned upright by an EXIF orientation, 1 to 8."""
    return _TURNS[orientation](pixels) if orientation != 1 else pixels


def digest(pixels: np.ndarray) -> str:
    """Return the SHA-256 over type, shape and bytes of an array."""
    head = f"{pixels.dtype.str}{pixels.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()

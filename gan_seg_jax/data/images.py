"""Read images and masks from PNG and JPEG files: always 8 bits, always upright, or an error that names the file.

Only PNG and JPEG are decoded, told apart by content and never by name, since every further parser is a further risk.
The number of pixels is checked against `MAX_PIXELS` in the header, before memory is taken, and the checksums inside a
PNG are compared, which Pillow leaves out for pixels: one flipped bit in a mask would be a wrong label and no error.
"""

import os
import stat
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from gan_seg_jax.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg")
"""Endings, in any case, of the files that are looked at."""

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, in pixels: a quarter GiB as RGB, Pillow's own limit."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what turns the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
    b"%PDF": "PDF",
    b"PK\3\4": "ZIP",
    b"\x93NUMPY": "NumPy",
    b"version https://git-lfs": "Git LFS pointer (run `git lfs pull`)",
}
_MASK_MODES = {
    "RGB": "is a colour image (RGB)",
    "RGBA": "is a colour image (RGB) with an alpha channel",
    "LA": "has an alpha channel",
    "I;16": "has 16 bits per pixel",
}


class ImageError(InputError):
    """An image or a mask that cannot be used; `reason` is the message without the name of the file."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(path, reason)  # both in `args`, so that it can be pickled out of a worker process
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.args[0])}: {self.reason}"


class MaskFacts(NamedTuple):
    """What the check of a data set needs to know of a mask.

    Attributes:
        height: Rows, upright.
        width: Columns, upright.
        values: The class ids that occur, ascending.
        colors: For a palette file the RGB colour of each of `values`, otherwise empty.
    """

    height: int
    width: int
    values: tuple[int, ...]
    colors: tuple[tuple[int, ...], ...]


def printable(path: str | os.PathLike) -> str:
    """Return `path` as text that any terminal takes; bytes that are no UTF-8 become hexadecimal escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image as it is meant to be seen, as 8-bit RGB.

    EXIF rotation is applied. Grey is repeated to three channels, palettes are looked up, CMYK is converted, an alpha
    channel is dropped (the stored colours count, as in most readers), and of 16 bits the upper 8 are kept, so that
    65535 becomes 255 and two images stay comparable.

    Args:
        path: A PNG or JPEG file, whatever its name.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        InputError: The file is missing, unreadable, neither PNG nor JPEG, damaged, cut short or too large.
    """
    image, _ = _read(path)
    if image.mode == "I;16":
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    image.info.pop("transparency", None)  # else Pillow warns of every palette with an alpha channel
    return np.array(image.convert("RGB"))


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Read a mask of class ids.

    Ids are the stored numbers: grey values (also of 1-, 2- and 4-bit files, which readers of images would stretch to
    255) or the indices of a palette, whose colours do not matter.

    Args:
        path: A PNG file with one channel of at most 8 bits.

    Returns:
        uint8 [h, w], class ids and 255 = ignore. Whether the ids are among the classes is not checked here.

    Raises:
        InputError: As `read_image`, or the file is JPEG, in colour, with alpha, or has 16 bits.
    """
    return _read_mask(path)[0]


def inspect_mask(path: str | os.PathLike) -> MaskFacts:
    """Return size, values and palette colours of a mask; raises as `read_mask`."""
    label, palette = _read_mask(path)
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist()
    colors = tuple(tuple(palette[3 * value : 3 * value + 3]) for value in values) if palette else ()
    height, width = label.shape
    return MaskFacts(height, width, tuple(values), colors)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return (height, width) of an image as `read_image` would give it, from the header, without decoding pixels.

    Args:
        path: A PNG or JPEG file.

    Returns:
        (height, width) in pixels, after EXIF rotation.

    Raises:
        InputError: As `read_image`, as far as the header shows it.
    """
    image, _ = _read(path, pixels=False)
    height, width = image.height, image.width
    return (width, height) if _orientation(image) in _QUARTER_TURNS else (height, width)


def _read_mask(path) -> tuple[np.ndarray, list[int]]:
    """Return the ids, uint8 [h, w], and the palette of a palette file, flat RGB (otherwise empty)."""
    image, bits = _read(path)
    if image.format != "PNG":
        raise ImageError(
            path, "is a JPEG, which alters class ids; masks must be PNG, made from the original annotation."
        )
    if image.mode not in ("1", "L", "P"):
        found = _MASK_MODES.get(image.mode, f"has mode {image.mode}")
        raise ImageError(
            path,
            f"{found}; a mask must be a PNG with one 8-bit channel that holds class ids. "
            "If its colours stand for classes, replace each by the id of its line in classes.txt and save as grey.",
        )
    label = np.array(image).astype(np.uint8)
    if image.mode == "L" and bits < 8:
        label //= 255 // (2**bits - 1)  # Pillow stretches 2- and 4-bit grey to 0..255
    return label, (image.getpalette("RGB") or []) if image.mode == "P" else []


def _read(path, *, pixels: bool = True) -> tuple[Image.Image, int]:
    """Open `path`; return the image, upright if `pixels` are wanted, and its bits per sample (8 for JPEG)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a named pipe would wait for ever
            raise ImageError(path, "is not a file; expected a PNG or JPEG image.")
        with open(path, "rb") as file:
            image, bits = _open(path, file, pixels)
            if pixels:
                image.load()
                turn = _UPRIGHT.get(_orientation(image))
                if turn is not None:
                    kind, image = image.format, image.transpose(turn)
                    image.format = kind  # transposing forgets it
            return image, bits
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "does not exist, or is a link to a file that does not; restore it.") from None
    except PermissionError:
        raise ImageError(path, "may not be read; change its permissions.") from None
    except (
        Exception
    ) as error:  # Pillow's parsers raise a dozen kinds: OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(path, f"is damaged or cut short ({_first_line(error)}); replace it or remove it.") from error


def _open(path, file: BinaryIO, pixels: bool) -> tuple[Image.Image, int]:
    """Parse the header of an opened file and refuse what cannot be decoded within bounds."""
    head = file.read(32)
    kind = next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)
    if kind not in ("PNG", "JPEG"):
        found = "is empty" if not head else f"holds {kind or 'something else'}"
        raise ImageError(path, f"{found}; expected a PNG or JPEG image: convert it.")
    bits, late_metadata = 8, False
    if kind == "PNG":
        late_metadata = _walk_png(path, file, compare=pixels)
        bits = head[24]
    file.seek(0)
    image = PngImagePlugin.PngImageFile(file) if kind == "PNG" else JpegImagePlugin.jpeg_factory(file)
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise ImageError(
            path, f"has {image.height} x {image.width} pixels; expected 1 to {MAX_PIXELS} in all: cut it into tiles."
        )
    if late_metadata and not pixels:
        image.load()  # the rotation stands behind the pixels
    image.format = kind  # MPO, the format of many phones, is a JPEG with further pictures behind it
    return image, bits


def _walk_png(path, file: BinaryIO, *, compare: bool) -> bool:
    """Follow the chunks of a PNG to its end and compare their checksums; return whether metadata follow the pixels."""
    file.seek(8)
    after_pixels = late_metadata = False
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _take(file, 8))
        if kind == b"acTL":
            raise ImageError(path, "is an animation; expected one picture: save a single frame.")
        after_pixels |= kind == b"IDAT"
        late_metadata |= after_pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        if not compare:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = _take(file, length)
        (checksum,) = struct.unpack(">I", _take(file, 4))
        if zlib.crc32(kind + content) != checksum:
            raise OSError(f"wrong checksum in chunk {kind.decode('ascii', 'replace')}")
    return late_metadata


def _take(file: BinaryIO, count: int) -> bytes:
    """Read exactly `count` bytes."""
    content = file.read(count)
    if len(content) < count:
        raise OSError("the file ends early")
    return content


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1, upright, where there is none or it cannot be read."""
    try:
        return Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)  # PNG's own getexif decodes all pixels first
    except Exception:  # damaged metadata around sound pixels
        return 1


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__

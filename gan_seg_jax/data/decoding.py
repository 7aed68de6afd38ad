"""Decode the bytes of one picture, whoever stored them: a file of a folder, or a record of a prepared set.

The kind is told by content and never by name, and only the kinds of `KINDS` are parsed, since every further parser is a
further risk. The number of pixels is checked in the header, before memory is taken. What Pillow leaves out is checked
here: the checksums inside of a PNG (one flipped bit in a mask would be a wrong label and no error), and that a PNG or
TIFF holds all of its rows (Pillow fills the missing ones with 0, which is a class).
"""

import io
import os
import struct
import zlib
from typing import BinaryIO, NamedTuple

from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

KINDS = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
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
_ORIENTATION_TAG = 0x0112
_TIFF_PHOTOMETRIC, _TIFF_BITS = 262, 258
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_STEP = 1 << 20  # bytes that are inflated at once


class ImageError(InputError):
    """An image or a mask that cannot be used; `reason` is the message without the name of the file."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(path, reason)  # both in `args`, so that it can be pickled out of a worker process
        self.reason = reason

    def __str__(self) -> str:
        return f"{files.shown(self.args[0])}: {self.reason}"


class Stored(NamedTuple):
    """A decoded picture as it is stored, not turned.

    Attributes:
        image: The pixels (a TIFF's are upright: Pillow turns them).
        kind: A key of `KINDS`.
        bits: Bits of a sample.
        orientation: EXIF orientation, 1 to 8.
        white_is_zero: Whether a TIFF counts grey from white; Pillow has inverted it.
    """

    image: Image.Image
    kind: str
    bits: int
    orientation: int
    white_is_zero: bool


def decode(name: str | os.PathLike, content: bytes, *, max_pixels: int, known: bool = False) -> Stored:
    """Decode a picture.

    Args:
        name: What it is called in an error, such as its path.
        content: The whole file.
        max_pixels: How many pixels it may have.
        known: Whether it has been decoded before, so that the pixels of a PNG are not counted again: that takes a third
            of the time. Its checksums are compared all the same.

    Raises:
        ImageError: It is of no kind that is read, damaged, cut short, of several pictures, or too large.
    """
    kind = next((kind for signature, kind in _SIGNATURES.items() if content.startswith(signature)), None)
    if kind not in KINDS:
        found = "is empty" if not content else f"holds {kind or 'something else'}"
        raise ImageError(name, f"{found}; expected a {_either(KINDS)} image: convert it.")
    try:
        image = KINDS[kind](io.BytesIO(content))
        if not 0 < image.width * image.height <= max_pixels:
            raise ImageError(name, _too_large(image.height, image.width, max_pixels))
        bits, orientation, white_is_zero = 8, 1, False
        if kind == "PNG":
            bits = _check_png(name, content, count=not known)
        elif kind == "TIFF":
            tags = image.tag_v2
            bits, white_is_zero = max(tags.get(_TIFF_BITS, (1,))), tags.get(_TIFF_PHOTOMETRIC) == 0
            orientation = _known_orientation(tags.get(_ORIENTATION_TAG))
            _expect_all_rows(image)
        else:
            orientation = _orientation(image)
        if kind in ("TIFF", "WebP") and image.n_frames > 1:
            raise ImageError(name, f"holds {image.n_frames} pictures; expected one: save each as a file of its own.")
        image.load()
    except ImageError:
        raise
    except Exception as error:  # Pillow's parsers raise a dozen kinds: OSError, SyntaxError, ValueError, struct.error
        raise ImageError(name, f"is damaged or cut short ({_first_line(error)}); replace it or remove it.") from error
    if kind == "PNG":
        orientation = _orientation(image)  # it may stand behind the pixels
    return Stored(image, kind, bits, orientation, white_is_zero)


def read(path: str | os.PathLike, *, max_pixels: int, known: bool = False) -> Stored:
    """Read and decode a picture from a regular file; the arguments are those of `decode`.

    Raises:
        ImageError: As `decode`, or the file is missing, unreadable, or no regular file.
    """
    try:
        content = files.read_bytes(path, limit=8 * max_pixels + (64 << 20))  # four samples of 16 bits, and metadata
    except FileNotFoundError:
        raise ImageError(path, "does not exist, or is a link to a file that does not; restore it.") from None
    except PermissionError:
        raise ImageError(path, "may not be read; change its permissions.") from None
    except InputError as error:  # no regular file, or larger than any image of so many pixels
        raise ImageError(path, str(error).removeprefix(f"{files.shown(path)} ")) from None
    except OSError as error:
        raise ImageError(path, f"is damaged or cannot be read ({error.strerror}); replace it or remove it.") from None
    return decode(path, content, max_pixels=max_pixels, known=known)


def opened(name: str, image: Image.Image, *, max_pixels: int) -> Stored:
    """Return a picture that Pillow has opened, or made; the caller's own is left as it is.

    Raises:
        ImageError: It is too large.
        OSError: It is damaged.
    """
    if not 0 < image.width * image.height <= max_pixels:
        raise ImageError(name, _too_large(image.height, image.width, max_pixels))
    image.load()
    kind, bits = image.format or "", 16 if image.mode.startswith("I;16") else 8
    return Stored(image.copy(), kind, bits, _orientation(image), False)


def _check_png(name, content: bytes, *, count: bool) -> int:
    """Follow the chunks of a PNG to its end and compare their checksums, maybe count its pixels; return its bits."""
    file = io.BytesIO(content)
    file.seek(8)
    kind, header, inflate, found, expected = b"", b"", zlib.decompressobj(), 0, 0
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _take(file, 8))
        if kind == b"acTL":
            raise ImageError(name, "is an animation; expected one picture: save a single frame.")
        data = _take(file, length)
        (checksum,) = struct.unpack(">I", _take(file, 4))
        if zlib.crc32(kind + data) != checksum:
            raise OSError(f"wrong checksum in chunk {kind.decode('ascii', 'replace')}")
        if kind == b"IHDR" and header:  # Pillow would believe the second one
            raise OSError("it has two headers")
        if kind == b"IHDR":
            header, expected = data, _png_bytes(*struct.unpack(">IIBBBBB", data)) if count else 0
        while kind == b"IDAT" and data and found < expected and not inflate.eof:
            found += len(inflate.decompress(data, _STEP))
            data = inflate.unconsumed_tail
    if found < expected:
        raise OSError(f"its pixels end after {found} of {expected} bytes")
    return header[8]


def _png_bytes(width: int, height: int, bits: int, color: int, _compression, _filter, interlace: int) -> int:
    """Return the size of the pixels of a PNG before compression; each row of each pass has a byte for its filter."""
    passes = ((0, 0, 1, 1),) if not interlace else _ADAM7
    count = 0
    for top, left, down, right in passes:
        rows, columns = -(-(height - top) // down), -(-(width - left) // right)
        if rows > 0 and columns > 0:
            count += rows * (1 + -(-columns * _PNG_CHANNELS[color] * bits // 8))
    return count


def _expect_all_rows(image: Image.Image) -> None:
    """Raise OSError where the strips or tiles of a TIFF do not cover it."""
    boxes = {tuple(tile[1]) for tile in image.tile}
    if sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) < image.width * image.height:
        raise OSError("it lacks rows of pixels")


def _take(file: BinaryIO, count: int) -> bytes:
    """Read exactly `count` bytes."""
    content = file.read(count)
    if len(content) < count:
        raise OSError("the file ends early")
    return content


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1, upright, where there is none or it cannot be read."""
    try:
        return _known_orientation(Image.Image.getexif(image).get(_ORIENTATION_TAG))  # PNG's own decodes all pixels
    except Exception:  # damaged metadata around sound pixels
        return 1


def _known_orientation(found) -> int:
    return found if found in range(1, 9) else 1


def _too_large(height: int, width: int, max_pixels: int) -> str:
    return (
        f"has {height} x {width} pixels, {3 * height * width / 2**30:.1f} GiB in memory; expected 1 to {max_pixels} "
        "pixels (config.max_pixels): cut it into tiles, or allow more."
    )


def _either(names) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__

"""Read the image of an example and lay its mask over it, both upright."""

import os

import numpy as np

from gan_seg_jax.data import decoding, images
from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.pictures.png import encode_png
from gan_seg_jax.preparing.source import Example, Options, Picture, Unclear
from gan_seg_jax.system import files

FLAGS = frozenset({"exif", "alpha"})
_TURNED_AND_DEEP = "has 16 bits and an EXIF rotation; save its pixels upright, without the tag."


def pixel_limit(options: Options) -> int:
    """Return how many pixels a file may have."""
    return options.max_pixels or images.MAX_PIXELS


def open_picture(path: str, options: Options) -> tuple[Picture, images.Facts, np.ndarray | None]:
    """Read an image: byte for byte, or with an EXIF rotation applied, as PNG.

    Returns:
        The picture, its facts, and which pixels are not opaque, bool [h, w]; None where all are.

    Raises:
        ImageError: As `data.images.read_image`.
    """
    stored = decoding.read(path, max_pixels=pixel_limit(options))
    clear = transparent(stored)  # first: the facts drop a palette's transparency
    facts, pixels = images.image_facts(path, stored)
    size, ending = (facts.height, facts.width), os.path.splitext(path)[1].lower()
    if facts.orientation == 1:
        return Picture(files.read_bytes(path, limit=2**32), ending, size, facts.digest), facts, clear
    if facts.top:
        raise ImageError(path, _TURNED_AND_DEEP)
    return Picture(encode_png(pixels), ".png", size, facts.digest), facts, clear


def from_pixels(pixels: np.ndarray) -> Picture:
    """Return uint8 [h, w] or [h, w, 3] as a picture."""
    rgb = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    return Picture(encode_png(pixels), ".png", pixels.shape[:2], images.digest(rgb))


def example(path: str, label: np.ndarray | None, options: Options, *, turned: int = 1, mask: str = "") -> Example:
    """Return the example of an image and its label.

    Args:
        path: The image.
        label: uint8 [h, w], upright by the EXIF orientation of its own file; None without labels.
        options: The flags: `exif` and `alpha`.
        turned: That orientation.
        mask: The file of the label, for errors; the image's where it is "".

    Raises:
        ImageError: The label has another size; which way is up, or what transparent pixels mean, is not clear.
    """
    picture, facts, clear = open_picture(path, options)
    notes = {"upright_by_exif": 1} if facts.orientation != 1 else {}
    if label is not None:
        label = _laid_over(path, label, facts, options.exif, turned=turned, mask=mask or path)
    if clear is not None:
        if options.alpha not in ("drop", "void"):
            raise Unclear(
                path,
                "has transparent pixels; --alpha=drop takes the stored colours of all, --alpha=void also makes their "
                "labels void.",
            )
        notes["with_transparent_pixels"] = 1
        if options.alpha == "void" and label is not None:
            label = np.where(clear, np.uint8(IGNORE), label)
    return Example(picture, label, notes=notes)


def _laid_over(path, label, facts: images.Facts, exif: str, *, turned: int, mask: str) -> np.ndarray:
    """Return the label turned as its image was, where it was made of the stored pixels."""
    size, turn = (facts.height, facts.width), facts.orientation
    stored = size[::-1] if turn in images.QUARTER_TURNS else size
    if turn in (1, turned):
        fits = {"upright"} if label.shape == size else set()
    else:
        fits = {name for name, shape in (("upright", size), ("stored", stored)) if label.shape == shape}
    if len(fits) > 1 and exif not in fits:
        raise Unclear(
            path,
            f"has EXIF orientation {turn}, and its mask fits the upright and the stored pixels; --exif=upright says "
            "that masks were made of upright pictures (as shown by a browser), --exif=stored of the stored pixels.",
        )
    if not fits or (exif and exif not in fits and turn not in (1, turned)):
        asked = f" (--exif={exif})" if fits else ""
        found = f"{label.shape[0]} x {label.shape[1]}, image {size[0]} x {size[1]}"
        raise Unclear(mask, f"mask of another size than its image{asked}; save it at the size of the image.", found)
    if (exif if len(fits) > 1 else next(iter(fits))) == "upright":
        return label
    return np.ascontiguousarray(images.turned(label, turn))


def transparent(stored: decoding.Stored) -> np.ndarray | None:
    """Return which pixels are not opaque, bool [h, w]; None where all are."""
    image = stored.image
    if "A" not in image.mode and "a" not in image.mode and "transparency" not in image.info:
        return None
    alpha = images.upright(stored, np.asarray(image.convert("RGBA"))[:, :, 3])
    return None if alpha.min() == 255 else alpha < 255


def check_flags(options: Options) -> None:
    """Refuse values of --exif and --alpha that mean nothing.

    Raises:
        InputError: One of them does.
    """
    for flag, choices in (("exif", ("", "upright", "stored")), ("alpha", ("", "drop", "void"))):
        if getattr(options, flag) not in choices:
            raise InputError(f"--{flag} is {getattr(options, flag)!r}; expected {' or '.join(choices[1:])}.")

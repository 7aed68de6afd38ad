"""Small pictures of a set for the page, as addresses that hold the picture itself."""

import os

import numpy as np
from PIL import Image

from gan_seg_jax.data import decoding, images
from gan_seg_jax.inspection.survey import Survey
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.pictures import pages, panels

_MIDDLE = 1024  # before classes are drawn: thin ones shall still be seen
_BRIGHT = (230, 0, 110)  # a class may have the colour of what it lies on, or grey


def of_file(found: Survey, path: str) -> str | None:
    """Return the picture of an image or a mask, used or refused; None where it cannot be decoded.

    A usable mask has the colours of its classes; of a refused one the values are stretched to what can be seen.
    """
    seen = found.looks[path]
    try:
        if not seen.is_mask:
            return pages.address(_image(found, path))
        if seen.facts is not None:
            colors = () if found.info is None else found.info.class_colors
            label = _label(found, path)
            return pages.address(panels.colorize(label, colors) if colors else _stretched(label))
        stored = decoding.read(os.path.join(found.root, path), max_pixels=images.MAX_PIXELS)
        plain = stored.image.mode.startswith("I") or stored.image.mode in ("1", "F")
        return pages.address(
            _stretched(np.asarray(stored.image)) if plain else pages.small(stored.image.convert("RGB"), _MIDDLE)
        )
    except images.ImageError:
        return None


def of_class(found: Survey, image: str, mask: str, class_id: int) -> str | None:
    """Return an image in which one class is bright and the rest is pale grey.

    None where one of the two files cannot be used, or they do not fit.
    """
    try:
        picture, label = _image(found, image), _label(found, mask)
    except images.ImageError:
        return None
    if picture.shape[:2] != label.shape:
        return None
    pale = (picture.mean(axis=-1, keepdims=True) * 0.5 + 110).astype(np.uint8).repeat(3, axis=-1)
    return pages.address(panels.overlay(pale, np.where(label == class_id, 0, IGNORE), (_BRIGHT,), alpha=0.55))


def _image(found: Survey, path: str) -> np.ndarray:
    """Return an image uint8 [h, w, 3] of at most _MIDDLE pixels a side."""
    bits = images.bits_in_use(max((one.facts.top for one in found.looks.values() if one.facts), default=0))
    pixels = images.read_image(os.path.join(found.root, path), bits=bits)
    return pages.small(Image.fromarray(pixels), _MIDDLE)


def _label(found: Survey, path: str) -> np.ndarray:
    """Return a mask uint8 [h, w] of at most _MIDDLE pixels a side."""
    return pages.small(
        Image.fromarray(images.read_mask(os.path.join(found.root, path))), _MIDDLE, Image.Resampling.NEAREST
    )


def _stretched(values: np.ndarray) -> np.ndarray:
    """Return values as grey from their smallest to their largest, uint8 [h, w]."""
    values = values.astype(np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    return np.nan_to_num((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)

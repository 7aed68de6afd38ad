"""Pictures as PNG files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a PNG in one step, its folder made if it is missing; a link of its name is replaced, not followed.

    Args:
        path: the file.
        picture: uint8 [h, w] or [h, w, 3].

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, encode_png(picture))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def encode_png(picture: np.ndarray) -> bytes:
    """Return uint8 [h, w] or [h, w, 3] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()

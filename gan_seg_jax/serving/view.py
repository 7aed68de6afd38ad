"""What the page shows of an image: a sentence, pictures, areas and the mask to download; errors as sentences."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.segmenter import Result
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.pictures import pages, panels
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.system import faults

SIDE = 1600  # larger images are shown by every second, third, ... pixel, until the longer side fits
KEPT = 4  # images whose results are kept, so that a switch or a slider does not label again
WELCOME = "<p>Drop an image above: PNG, JPEG, TIFF, BMP or WebP.</p>"


class View(NamedTuple):
    """What is shown of an image; without one, or where it cannot be used, `message` alone.

    Attributes:
        message: HTML: what the image is, or what is wrong with it.
        overlay: the image under the colours of the classes that are switched on, uint8 [h, w, 3].
        mask: these colours alone, uint8 [h, w, 3]; what is switched off is grey-blue.
        confidence: round(255 p) of the chosen class, uint8 [h, w].
        areas: HTML: a table of the classes that occur, the largest first.
        download: file of the whole mask, class ids as `predict` writes them.
    """

    message: str
    overlay: np.ndarray | None = None
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    areas: str = ""
    download: str | None = None


class Viewer:
    """Shows uploaded images as a segmenter labels them; several threads may share one."""

    def __init__(self, segmenter: Callable[[Path], Result]):
        """Take a segmenter of `gan_seg_jax.load`."""
        self._label = functools.lru_cache(KEPT)(segmenter)

    def show(self, upload: str | None, shown: Sequence[int], opacity: float) -> View:
        """Return what is shown of an image.

        Args:
            upload: its file, whose folder is its own: the mask is written beside it. None where there is none.
            shown: ids of the classes that are switched on.
            opacity: of their colours over the image, 0 to 1.
        """
        if upload is None:
            return View(WELCOME)
        try:
            return self._view(Path(upload), shown, opacity)
        except Exception as error:
            found = error if isinstance(error, InputError) else faults.known(error)
            if found is None:
                raise
            reason = f"{Path(upload).name}: {found.reason}" if isinstance(found, ImageError) else str(found)
            return View(f'<div class="wrong" role="alert">{pages.escaped(reason)}</div>')

    def _view(self, upload: Path, shown: Sequence[int], opacity: float) -> View:
        result = self._label(upload)
        height, width = result.labels.shape
        mean = result.confidence.mean(dtype=np.float64)
        message = pages.paragraph(f"{upload.name}: {width} x {height} pixels, mean confidence {mean:.2f}.")
        download = upload.with_name(f"{upload.stem}_mask.png")
        write_picture(download, result.labels)
        step = math.ceil(max(height, width) / SIDE)
        image, labels, confidence = (full[::step, ::step] for full in (result.image, result.labels, result.confidence))
        labels = np.where(np.isin(labels, shown), labels, IGNORE)
        colors = result.class_colors
        return View(
            message,
            panels.overlay(image, labels, colors, alpha=opacity),
            panels.colorize(labels, colors),
            np.rint(255 * confidence).astype(np.uint8),
            _table(result),
            str(download),
        )


def _table(result: Result) -> str:
    """Return the areas of the classes that occur, as HTML."""
    areas = zip(result.areas().items(), result.class_colors, strict=True)
    found = sorted(areas, key=lambda each: each[0][1]["pixels"], reverse=True)
    rows = [
        [f"{pages.swatch(color)}{pages.escaped(name)}", str(area["pixels"]), f"{100 * area['share']:.1f}%"]
        for (name, area), color in found
        if area["pixels"]
    ]
    return pages.cells_table(("class", "pixels", "share"), rows)

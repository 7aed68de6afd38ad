"""What is written of masks: a table of class areas, and polygons.

Made in a pass over the masks as they lie on disk, so that a command that was killed and goes on leaves the same files.
"""

import contextlib
import csv
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tqdm

from gan_seg_jax.data import images
from gan_seg_jax.data.spacing import Spacing
from gan_seg_jax.errors import InputError
from gan_seg_jax.postprocess import polygons
from gan_seg_jax.postprocess.areas import class_areas
from gan_seg_jax.system import files

AREAS = "areas.csv"
VOLUMES = "volumes.csv"
COCO = "polygons.json"
POLYGONS = "polygons"  # folder of GeoJSON


class Mask(NamedTuple):
    """A mask as it lies on disk.

    Attributes:
        image: what the image is called.
        name: the mask's name.
        labels: class ids, uint8 [h, w], 255 where nothing is known.
        spacing: millimetres from one row, and from one column, to the next; None where that is not known.
    """

    image: str
    name: Path
    labels: np.ndarray
    spacing: Spacing | None = None


def read_masks(
    folder: Path, named: Iterable[tuple[str, Path]], max_pixels: int, sizes: Mapping[str, Spacing] | None = None
) -> Iterator[Mask]:
    """Yield masks of a folder.

    Args:
        folder: of the masks.
        named: (what the image is called, name of its mask).
        max_pixels: how many pixels a mask may have.
        sizes: spacing by the image's name without its ending.
    """
    for image, name in named:
        spacing = (sizes or {}).get(Path(image).with_suffix("").as_posix())
        yield Mask(image, name, images.read_mask(folder / name, max_pixels=max_pixels), spacing)


def write_masks(
    output: Path, masks: Iterable[Mask], class_names: tuple[str, ...], *, areas: bool = False, form: str | None = None
) -> None:
    """Write the table of areas and the polygons of masks into a folder.

    Args:
        output: the folder.
        masks: the masks.
        class_names: k names.
        areas: whether to write `AREAS`: image, class_id, class, pixels, share, mm2 (empty where no spacing is known).
        form: "geojson", a file for each image; "coco", one for all; or None. Of a mask with too many regions there are
            no polygons, which is said on stderr.

    Raises:
        InputError: a file cannot be written.
    """
    coco = polygons.Coco(class_names)
    with contextlib.ExitStack() as stack:
        add = stack.enter_context(_table(output / AREAS, ("image", "pixels", "mm2"))) if areas else None
        for image, name, labels, spacing in masks:
            if add is not None:
                add(image, class_areas(labels, class_names, spacing))
            try:
                if form == "geojson":
                    found = polygons.geojson(labels, class_names)
                    files.write_text(output / POLYGONS / name.with_suffix(".geojson"), json.dumps(found) + "\n")
                elif form == "coco":
                    coco.add(image, labels)
            except polygons.TooManyRegions as error:
                tqdm.tqdm.write(f"no polygons of {files.shown(image)}: its mask {error}", file=sys.stderr)
    if form == "coco":
        files.write_text(output / COCO, json.dumps(coco.to_json()) + "\n")


def write_volumes(
    output: Path, volumes: Iterable[tuple[str, np.ndarray, tuple[float, ...]]], class_names: tuple[str, ...]
) -> None:
    """Write `VOLUMES` into a folder: volume, class_id, class, voxels, share, mm3 (empty where no spacing is known).

    Args:
        output: the folder.
        volumes: (name, labels uint8 [slices, h, w], millimetres of (h, w, slices) or ()) of each.
        class_names: k names.

    Raises:
        InputError: the file cannot be written.
    """
    with _table(output / VOLUMES, ("volume", "voxels", "mm3")) as add:
        for name, labels, spacing in volumes:
            found = class_areas(labels, class_names)
            if spacing:
                found = {key: {**area, "mm3": area["pixels"] * math.prod(spacing)} for key, area in found.items()}
            add(name, found)


@contextlib.contextmanager
def _table(path: Path, columns: tuple[str, str, str]) -> Iterator[Callable[[str, dict], None]]:
    """Yield what adds the areas of `class_areas` of something as lines, which are not kept in memory."""
    what, count, size = columns
    with files.written(path), files.replaced(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow((what, "class_id", "class", count, "share", size))

        def add(name: str, areas: dict[str, dict[str, Any]]) -> None:
            for number, (key, area) in enumerate(areas.items()):
                measured = f"{area[size]:.9g}" if size in area else ""
                table.writerow((name, number, key, area["pixels"], f"{area['share']:.6f}", measured))

        try:
            yield add
        finally:
            text.detach()  # flushed; the file is closed where it was opened


def expect_writable(output: Path, folders: Iterable[str]) -> None:
    """Make a folder if it is missing, and see whether files can be made in it, before work is done for it.

    Args:
        output: the folder.
        folders: those inside of it that will be written to, where they are there.

    Raises:
        InputError: one cannot be written to.
    """
    for place in (output, *(output / folder for folder in folders if os.path.lexists(output / folder))):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise InputError(
                f"{files.shown(place)} cannot be written: {error.strerror}; give another --output."
            ) from error

"""What is written of masks: a table of class areas, and polygons.

Made in a pass over the masks as they lie on disk, so that a command that was killed and goes on leaves the same files.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tqdm

from gan_seg_jax.data import images, spacing
from gan_seg_jax.errors import InputError
from gan_seg_jax.postprocess import polygons
from gan_seg_jax.postprocess.areas import class_areas
from gan_seg_jax.system import files

AREAS = "areas.csv"
COCO = "polygons.json"
POLYGONS = "polygons"  # folder of GeoJSON
Masks = Iterable[tuple[str, Path, np.ndarray]]


def read_masks(
    folder: Path, named: Iterable[tuple[str, Path]], max_pixels: int
) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Yield (image, mask's name, class ids uint8 [h, w]) of masks in a folder.

    Args:
        folder: of the masks.
        named: (what the image is called, name of its mask).
        max_pixels: how many pixels a mask may have.
    """
    for image, name in named:
        yield image, name, images.read_mask(folder / name, max_pixels=max_pixels)


def area_rows(
    image: str, labels: np.ndarray, class_names: tuple[str, ...], sizes: dict[str, spacing.Spacing]
) -> list[tuple]:
    """Return the rows of an image in `AREAS`, one for each class; `sizes` by the image's name without its ending."""
    found = class_areas(labels, class_names, sizes.get(Path(image).with_suffix("").as_posix()))
    return [
        (image, number, name, area["pixels"], f"{area['share']:.6f}", f"{area['mm2']:.9g}" if "mm2" in area else "")
        for number, (name, area) in enumerate(found.items())
    ]


def write_masks(
    output: Path,
    masks: Masks,
    class_names: tuple[str, ...],
    *,
    areas: bool = False,
    form: str | None = None,
    sizes: dict[str, spacing.Spacing] | None = None,
) -> None:
    """Write the table of areas and the polygons of masks into a folder.

    Args:
        output: the folder.
        masks: of `read_masks`.
        class_names: k names.
        areas: whether to write `AREAS`: image, class_id, class, pixels, share, mm2 (empty where no spacing is known).
        form: "geojson", a file for each image; "coco", one for all; or None. Of a mask with too many regions there are
            no polygons, which is said on stderr.
        sizes: spacing by the image's name without its ending.

    Raises:
        InputError: a file cannot be written.
    """
    rows, coco = [("image", "class_id", "class", "pixels", "share", "mm2")], polygons.Coco(class_names)
    for image, name, labels in masks:
        if areas:
            rows += area_rows(image, labels, class_names, sizes or {})
        try:
            if form == "geojson":
                found = polygons.geojson(labels, class_names)
                files.write_text(output / POLYGONS / name.with_suffix(".geojson"), json.dumps(found) + "\n")
            elif form == "coco":
                coco.add(image, labels)
        except polygons.TooManyRegions as error:
            tqdm.tqdm.write(f"no polygons of {files.shown(image)}: its mask {error}", file=sys.stderr)
    if areas:
        files.write_text(output / AREAS, files.csv_text(rows))
    if form == "coco":
        files.write_text(output / COCO, json.dumps(coco.to_json()) + "\n")


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

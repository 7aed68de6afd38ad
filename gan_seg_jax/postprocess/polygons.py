"""Regions of a label map as polygons, for GeoJSON and COCO.

A region is what of one class hangs together by the sides of pixels; its outline runs half-way between the centres of
its border pixels and those beyond (`skimage.measure.find_contours`), so that a pixel's centre is inside if and only if
the pixel is of the region. Coordinates are x, y in pixels from the top left: pixel (0, 0) has its centre at (0.5, 0.5).
"""

from typing import Any, NamedTuple

import numpy as np
from skimage import measure

from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE

MOST_REGIONS = 100_000  # of an image: a mask with more is noise, and its polygons would be gigabytes
Ring = list[list[float]]  # [[x, y], ...], the first point once more at the end


class TooManyRegions(InputError):
    """A label map has more than `MOST_REGIONS`."""


class Region(NamedTuple):
    """A region.

    Attributes:
        class_id: its class.
        outer: its outline, closed.
        holes: the outlines of what it surrounds.
        pixels: how many it has.
        box: x, y, width, height.
        mask: bool [height, width], its pixels in the box.
    """

    class_id: int
    outer: Ring
    holes: list[Ring]
    pixels: int
    box: tuple[int, int, int, int]
    mask: np.ndarray


def regions(labels: np.ndarray) -> list[Region]:
    """Return the regions of a label map uint8 [h, w], from the top down, those of every class; 255 is of none.

    Raises:
        TooManyRegions: it has more than `MOST_REGIONS`.
    """
    known = np.where(labels == IGNORE, 0, labels.astype(np.int16) + 1)
    numbered, number = measure.label(known, connectivity=1, return_num=True)
    if number > MOST_REGIONS:
        raise TooManyRegions(f"has {number} regions; expected at most {MOST_REGIONS}: clean it up with --min_region.")
    found = []
    for part in measure.regionprops(numbered):
        top, left, bottom, right = part.bbox
        mask = part.image
        rings = []
        for contour in measure.find_contours(np.pad(mask, 1).astype(np.float32), 0.5, fully_connected="low"):
            # Padding moved the centre of pixel (0, 0) to 1, and here it is at 0.5.
            points = _corners(contour[:, ::-1] + (left - 0.5, top - 0.5))
            rings.append((_area(points), points.tolist()))
        rings.sort(key=lambda ring: -abs(ring[0]))  # the outline surrounds its holes
        # RFC 7946, section 3.1.6: the outline has a positive area in x, y, holes a negative one.
        outer, *holes = [
            ring if (area > 0) == (number == 0) else ring[::-1] for number, (area, ring) in enumerate(rings)
        ]
        row, column = np.unravel_index(np.argmax(mask), mask.shape)
        class_id = int(labels[top + row, left + column])
        found.append(Region(class_id, outer, holes, int(part.area), (left, top, right - left, bottom - top), mask))
    return found


def _corners(points: np.ndarray) -> np.ndarray:
    """Return a closed ring [n, 2] without the points between which it goes straight on."""
    steps = np.diff(points, axis=0)
    kept = points[:-1][np.any(steps != np.roll(steps, 1, axis=0), axis=1)]
    return np.concatenate([kept, kept[:1]])


def _area(points: np.ndarray) -> float:
    """Return the signed area of a closed ring [n, 2] of x, y."""
    x, y = (points - points[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


def geojson(labels: np.ndarray, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return a label map as a GeoJSON FeatureCollection (RFC 7946), in pixels: a Polygon for each region."""
    features = [
        {
            "type": "Feature",
            "properties": {
                "class_id": region.class_id,
                "class": class_names[region.class_id],
                "pixels": region.pixels,
            },
            "geometry": {"type": "Polygon", "coordinates": [region.outer, *region.holes]},
        }
        for region in regions(labels)
    ]
    return {"type": "FeatureCollection", "features": features}


class Coco:
    """Collects label maps as the annotations of one COCO file (format of cocodataset.org, "object detection")."""

    def __init__(self, class_names: tuple[str, ...]):
        """Start from nothing; category ids are the class ids."""
        self._categories = [{"id": number, "name": name} for number, name in enumerate(class_names)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, labels: np.ndarray) -> None:
        """Add the regions of an image: as a polygon, or where it has holes, which COCO's polygons lack, run lengths."""
        (height, width), found = labels.shape, regions(labels)
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for region in found:
            flat = [coordinate for point in region.outer[:-1] for coordinate in point]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": region.class_id,
                    "segmentation": _run_lengths(region, labels.shape) if region.holes else [flat],
                    "area": region.pixels,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                }
            )

    def to_json(self) -> dict[str, Any]:
        """Return the file."""
        return {"images": self._images, "categories": self._categories, "annotations": self._annotations}


def _run_lengths(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """Return a region as COCO's run lengths: pixels outside, inside, outside, ... down column after column."""
    left, top, width, height = region.box
    columns = np.zeros((size[0], width), bool)
    columns[top : top + height] = region.mask
    flat = columns.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))  # where it begins and ends, in turn
    counts = np.diff(edges + left * size[0], prepend=0, append=size[0] * size[1])
    return {"counts": counts.tolist(), "size": list(size)}

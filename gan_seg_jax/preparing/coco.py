"""COCO: a file of annotations for each split; polygons and run-length codes become class ids (needs pycocotools).

The format is that of https://cocodataset.org/#format-data (Lin et al., ECCV 2014): `images`, `annotations` and
`categories`. Class 0 is the background, the categories follow in the order of their ids. Crowds (`iscrowd`), regions of
many objects, are void where no single object is, or with --crowd=class of their class.
"""

import collections
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import listing, pictures, regions
from gan_seg_jax.preparing.extras import need
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import folder, one_of
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS | {"images", "annotations", "splits", "crowd", "overlap"}
_LARGEST = 2**32  # bytes of annotations
_NOT_LISTED = "images that the annotations do not list"
_FORM = "expected images with id, file_name, height and width, annotations with image_id and category_id, categories"


def open_source(options: Options) -> Source:
    """List the images of the annotation files; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    regions.check_flags(options)
    one_of("crowd", options.crowd, ("void", "class"))
    need("pycocotools.mask", "coco")
    image_folders, label_files = listing.by_template(options, "images"), listing.by_template(options, "annotations")
    if set(image_folders) != set(label_files):
        raise InputError("--images and --annotations do not go together: {split} must be in both or in none.")
    found, items, categories = listing.Listing(options.source), [], None
    for split, name in label_files.items():
        path = os.path.join(options.source, name)
        content = _read(path)
        if categories is not None and content.categories != categories:
            raise InputError(f"{files.shown(path)} has other categories than another split's file; they must agree.")
        categories = content.categories
        ids = {category: number for number, category in enumerate(_order(categories), start=1)}
        ids |= {category: 0 for category, word in categories.items() if word == regions.BACKGROUND}
        where = folder(options.source, image_folders[split], "which --images names")
        for image in content.images:
            read = functools.partial(_example, path, image, content.annotations[image["id"]], ids, where, options)
            items.append(Item(_id(image["file_name"]), (os.path.join(where, image["file_name"]),), read, split))
        listed = {os.path.join(where, image["file_name"]) for image in content.images}
        others = [each for each in found.scan(image_folders[split]).values() if each not in listed]
        found.left_out[_NOT_LISTED] += [os.path.relpath(each, options.source) for each in others]
    info = regions.classes_of(categories[category] for category in _order(categories))
    return Source(info, items, _mapping(info, options), found.left_out)


@dataclasses.dataclass(frozen=True)
class _Content:
    images: list[dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    categories: dict[int, str]


def _read(path: str) -> _Content:
    """Read a file of annotations and check its form.

    Raises:
        InputError: It is missing, no JSON, or of another form.
    """
    try:
        content = files.read_json(path, limit=_LARGEST)
    except FileNotFoundError:
        raise InputError(
            f"{files.shown(path)} does not exist; --annotations names the file, {{split}} the split."
        ) from None
    try:
        categories = {int(row["id"]): str(row["name"]) for row in content["categories"]}
        images = [{key: row[key] for key in ("id", "file_name", "height", "width")} for row in content["images"]]
        by_image: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)
        for row in content["annotations"]:
            by_image[row["image_id"]].append(row)
            if row["category_id"] not in categories:
                raise InputError(
                    f"{files.shown(path)}: an annotation has category_id {row['category_id']!r}, which is none."
                )
        for image in images:
            parts = str(image["file_name"]).split("/")
            if ".." in parts or parts[0] == "" or not (image["height"] > 0 and image["width"] > 0):
                raise InputError(f"{files.shown(path)}: image {image['id']!r} has a wrong file_name or size.")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{files.shown(path)} is no file of annotations of COCO ({error!r}); {_FORM}.") from None
    unknown = set(by_image) - {image["id"] for image in images}
    if unknown or len({image["id"] for image in images}) < len(images):
        found = (
            f"annotations of image {min(unknown, key=str)!r}, which it does not list" if unknown else "an image twice"
        )
        raise InputError(f"{files.shown(path)} has {found}; {_FORM}.")
    return _Content(images, by_image, categories)


def _order(categories: dict[int, str]) -> list[int]:
    """Return the ids of the categories, ascending, but for a background."""
    return [category for category in sorted(categories) if categories[category] != regions.BACKGROUND]


def _id(file_name: str) -> str:
    return os.path.splitext(file_name)[0].replace("/", listing.BETWEEN)


def _mapping(info: DatasetInfo, options: Options) -> dict[str, str]:
    return {
        "outside of all objects": info.class_names[0],
        "crowds": options.crowd,
        "objects over each other": options.overlap or "refused",
    }


def _example(path: str, image: dict, rows: list[dict], ids: dict[int, int], where: str, options: Options) -> Example:
    """Read one image and draw its annotations; raises `ImageError`."""
    height, width = int(image["height"]), int(image["width"])
    if height * width > pictures.pixel_limit(options):
        raise Unclear(path, f"says that image {image['id']} has {height} x {width} pixels; allow more by --max_pixels.")
    crowds, found = np.zeros((height, width), bool), []
    for row in rows:
        pixels = _pixels(path, row, height, width)
        if row.get("iscrowd") and options.crowd == "void":
            crowds |= pixels
        else:
            found.append((ids[row["category_id"]], pixels))
    file = os.path.join(where, image["file_name"])
    label, notes = regions.paint(file, (height, width), found, overlap=options.overlap, void=crowds)
    example = pictures.example(file, label, options)
    return dataclasses.replace(example, notes={**example.notes, **notes})


def _pixels(path: str, row: dict, height: int, width: int) -> np.ndarray:
    """Return the pixels of one annotation, bool [h, w].

    Raises:
        Unclear: It has no region, or one that does not fit the image.
    """
    mask = need("pycocotools.mask", "coco")
    region, name = row.get("segmentation"), f"annotation {row.get('id')!r} of image {row['image_id']!r}"
    if isinstance(region, list) and region:
        if not all(isinstance(part, list) and len(part) % 2 == 0 and len(part) >= 6 for part in region):
            raise Unclear(path, f"{name}: a polygon needs three points or more, x and y of each; correct it.")
        codes = mask.frPyObjects([[float(number) for number in part] for part in region], height, width)
        region = mask.merge(codes)
    if not isinstance(region, dict) or region.get("size") != [height, width]:
        found = "a region of another size than its image" if region else "no region (a box alone says too little)"
        raise Unclear(path, f"{name} has {found}; correct it.")
    counts = region.get("counts")
    try:
        runs = np.array(counts if isinstance(counts, list) else run_lengths(counts), np.int64)
    except (ValueError, TypeError, OverflowError):
        runs = np.array([-1])
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise Unclear(path, f"{name}: its run lengths are no numbers that add up to {height} x {width}; correct it.")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T  # down each column


def run_lengths(text: str | bytes) -> list[int]:
    """Return the run lengths in a string of COCO (rleFrString of its maskApi.c).

    Each letter minus 48 holds five bits, lowest first, and a sixth that says whether more follow; the last one's fifth
    bit is the sign. From the fourth number on, the one two places before is added.

    Raises:
        ValueError: A letter is none of these, or the last number has no end.
    """
    found: list[int] = []
    value, shift = 0, 0
    for letter in text if isinstance(text, bytes) else text.encode():
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError(letter)
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError(text)
    return found

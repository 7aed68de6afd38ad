"""Labelme: a JSON file for each image, with polygons, rectangles, circles and masks.

Keys as labelme writes them (labelme/_label_file.py): `shapes` with `label`, `points` and `shape_type`, `imagePath`,
`imageHeight` and `imageWidth`. `_background_` is class 0 and `__ignore__` void, as in its examples.
"""

import base64
import binascii
import dataclasses
import functools
import os
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from gan_seg_jax.data import decoding
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import class_names, listing, pictures, regions
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS | class_names.FLAGS | {"annotations", "splits", "overlap"}
_LARGEST = 2**30  # bytes of a file, which may hold the image
_VOID, _BACKGROUND = "__ignore__", ("_background_", regions.BACKGROUND)


def open_source(options: Options) -> Source:
    """List the JSON files; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    regions.check_flags(options)
    options = dataclasses.replace(options, annotations=options.annotations or os.curdir)
    found, paths, names = listing.Listing(options.source), [], set()
    for split, name in listing.by_template(options, "annotations").items():
        paths += [(split, *row) for row in listing.Listing(options.source).scan(name, endings=(".json",)).items()]
    items = []
    for split, image_id, path in paths:
        content = _read(path)
        names |= {shape["label"] for shape in content["shapes"]}
        image = os.path.join(os.path.dirname(path), content["imagePath"].replace("\\", "/"))
        items.append((image_id, (os.path.normpath(image), path), split))
    if options.classes or options.class_names:
        info, _ = class_names.find(options)
    else:
        info = regions.classes_of(sorted(names - {_VOID, *_BACKGROUND}))
    ids = {name: number for number, name in enumerate(info.class_names)} | {_VOID: IGNORE}
    ids |= {name: 0 for name in _BACKGROUND if name not in ids}
    if names - set(ids):
        raise InputError(
            f"{files.shown(options.source)} has labels that are no classes: {', '.join(sorted(names - set(ids)))}; "
            f"expected {', '.join(info.class_names)}, or {_VOID} for void."
        )
    mapping = {"outside of all shapes": info.class_names[0], "shapes over each other": options.overlap or "refused"}
    read = [Item(name, each, functools.partial(_example, *each, ids, options), split) for name, each, split in items]
    return Source(info, read, mapping, found.left_out)


def _read(path: str) -> dict[str, Any]:
    """Read what is needed of a file.

    Raises:
        InputError: It is no JSON, or not labelme's.
    """
    content = files.read_json(path, limit=_LARGEST)
    try:
        shapes = [{key: row.get(key) for key in ("label", "points", "shape_type", "mask")} for row in content["shapes"]]
        size = (content["imageHeight"], content["imageWidth"])
        sound = all(isinstance(shape["label"], str) for shape in shapes) and all(isinstance(side, int) for side in size)
        if not sound or not isinstance(content["imagePath"], str) or min(size) < 1:
            raise TypeError("a value of another kind")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{files.shown(path)} is not written by labelme ({error!r}); expected shapes, imagePath, imageHeight and "
            "imageWidth: move other files away, or name the folder by --annotations."
        ) from None
    return {"shapes": shapes, "imagePath": content["imagePath"], "size": size}


def _example(image: str, path: str, ids: dict[str, int], options: Options) -> Example:
    content = _read(path)
    height, width = content["size"]
    if height * width > pictures.pixel_limit(options):
        raise Unclear(path, f"says that the image has {height} x {width} pixels; allow more by --max_pixels.")
    found = [(ids[shape["label"]], _pixels(path, shape, height, width)) for shape in content["shapes"]]
    label, notes = regions.paint(path, (height, width), found, overlap=options.overlap)
    example = pictures.example(image, label, options, mask=path)
    return dataclasses.replace(example, notes={**example.notes, **notes})


def _pixels(path: str, shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Return the pixels of a shape, bool [h, w], its edge included.

    Raises:
        Unclear: It has no area, or too few points.
    """
    kind, name = shape["shape_type"] or "polygon", f"the shape {shape['label']!r}"
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (TypeError, ValueError):
        raise Unclear(path, f"{name} has points that are none; expected x and y of each.") from None
    if kind not in ("polygon", "rectangle", "circle", "mask"):
        raise Unclear(path, f"{name} is a {kind}, which has no area; draw polygons, or remove it.")
    if len(points) < 3 if kind == "polygon" else len(points) != 2:
        raise Unclear(path, f"{name} is a {kind} of {len(points)} points; draw it again, or remove it.")
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    if kind == "polygon":
        draw.polygon(points, outline=1, fill=1)
    elif kind == "rectangle":
        (left, top), (right, bottom) = np.sort(points, axis=0)
        draw.rectangle((left, top, right, bottom), outline=1, fill=1)
    elif kind == "circle":
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    else:
        canvas.paste(_stored_mask(path, shape, name), tuple(int(round(value)) for value in points[0]))
    return np.asarray(canvas)


def _stored_mask(path: str, shape: dict[str, Any], name: str) -> Image.Image:
    try:
        content = base64.b64decode(shape["mask"], validate=True)
    except (TypeError, binascii.Error):
        raise Unclear(path, f"{name} is a mask without pixels; draw it again, or remove it.") from None
    stored = decoding.decode(path, content, max_pixels=2**28)
    return stored.image.convert("1")

"""Pictures of two halves, image and label side by side, as pix2pix reads them (Isola et al., CVPR 2017).

With --classes or --class_names the label half becomes class ids; without, both halves are images, for translation.
"""

import functools
import os

from gan_seg_jax.data import decoding, images
from gan_seg_jax.preparing import class_names, listing, masks, meanings, pictures
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import SPLITS, one_of

FLAGS = class_names.FLAGS | {"image_side", "mask_values", "unknown", "max_ambiguous"}


def open_source(options: Options) -> Source:
    """List the pictures, in `train`, `val` and `test` where these are; raises `InputError` as `Format.open_source`."""
    why = "It is the half that is seen; the other half is what is to be made of it."
    one_of("image_side", options.image_side, ("left", "right"), why)
    info, meaning, mapping = None, None, {}
    if options.classes or options.class_names:
        one_of("mask_values", options.mask_values, ("colors", "binary"), "It says what the other half holds.")
        info, void_color = class_names.find(options)
        meaning = meanings.meaning_of(options, info, void_color)
        mapping = meanings.describe(meaning, info)
    found, items = listing.Listing(options.source), []
    there = [split for split in SPLITS if os.path.isdir(os.path.join(options.source, split))]
    for split in there if "train" in there else [""]:
        for image_id, path in found.scan(split or os.curdir).items():
            items.append(Item(image_id, (path,), functools.partial(read, path, meaning, options), split))
    return Source(info, items, mapping, found.left_out)


def read(path: str, meaning: Meaning | None, options: Options) -> Example:
    """Read one picture of two halves; raises `ImageError`."""
    stored = decoding.read(path, max_pixels=pictures.pixel_limit(options))
    if pictures.transparent(stored) is not None:
        raise Unclear(path, "has transparent pixels, whose colour is not clear; save it without alpha channel.")
    facts, pixels = images.image_facts(path, stored)
    if facts.width % 2 or facts.top:
        found = f"is {facts.width} pixels wide" if facts.width % 2 else "has 16 bits"
        raise Unclear(path, f"{found}; expected 8 bits and two halves of the same width.")
    left, right = pixels[:, : facts.width // 2], pixels[:, facts.width // 2 :]
    seen, other = (left, right) if options.image_side == "left" else (right, left)
    if meaning is None:
        return Example(pictures.from_pixels(seen), target=pictures.from_pixels(other))
    label, notes = masks.classes_of_colors(path, other, meaning, lossy=masks.is_lossy(stored))
    return Example(pictures.from_pixels(seen), label, notes=notes)

"""Folders of images and masks under any names: `images/a.jpg` and `labels/a.png`, or `a.jpg` and `a_mask.png`.

`{split}` in --images and --masks stands for a split, as in ADE20K's `images/training` and `annotations/training`
(--images=images/{split} --splits=train=training,val=validation; --reduce_zero_label, since 0 is void there).
"""

import dataclasses
import functools
import os
from collections.abc import Iterator

from gan_seg_jax.data.images import ENDINGS
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import class_names, listing, masks, meanings, pictures
from gan_seg_jax.preparing.source import Example, Item, LeftOut, Options, Source, Unclear
from gan_seg_jax.preparing.words import one_of

NAMES = class_names.FLAGS | {"images", "masks", "splits", "image_suffix", "mask_suffix", "missing_masks"}
"""Flags that say which file is what, and what the classes are."""
FLAGS = NAMES | meanings.FLAGS | pictures.FLAGS
WITHOUT = "image without a mask"


def open_source(options: Options) -> Source:
    """List the pairs of a source; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    one_of("missing_masks", options.missing_masks, ("", "unlabelled", "skip"))
    info, void_color = class_names.find(options, _default_names(options))
    meaning = meanings.meaning_of(options, info, void_color)
    found = listing.Listing(options.source)
    items = []
    for split, image_files, mask_files in by_split(options, found):
        for image_id, path in image_files.items():
            mask = mask_files.pop(image_id, "")
            items.append(_item(image_id, split, path, mask, meaning, options))
        found.left_out["masks without an image"] += [
            os.path.relpath(path, options.source) for path in mask_files.values()
        ]
    meant = meaning.name != "ids" or bool(options.void) or options.reduce_zero_label
    mapping = meanings.describe(meaning, info)
    return Source(info, items, mapping, found.left_out, void_is_meant=meant)


def _default_names(options: Options) -> tuple[str, ...]:
    if options.mask_values == "binary":
        return ("background", "foreground")
    if options.mask_values != "instances":
        return ()
    why = "foreground: objects are one class; boundary: their edges are another one, so that neighbours stay apart."
    objects = one_of("objects", options.objects, ("foreground", "boundary"), why)
    return ("background", "object") if objects == "foreground" else ("background", "object", "boundary")


def by_split(
    options: Options,
    found: listing.Listing,
    endings: tuple[str, ...] = ENDINGS,
    mask_endings: tuple[str, ...] = (),
) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """Yield split, images and masks by id, of each split that the flags name.

    Args:
        options: The flags.
        found: Lists, and counts what is left out.
        endings: Of the images.
        mask_endings: Of the masks; () for the same.

    Raises:
        InputError: Folders are missing, or cannot be told apart, or hold no image.
    """
    image_folders, mask_folders = listing.by_template(options, "images"), listing.by_template(options, "masks")
    if set(image_folders) != set(mask_folders):
        raise InputError(
            f"--images={options.images} and --masks={options.masks} do not go together: {{split}} must be in both or "
            "in none, and both folders of each split there."
        )
    for split, name in image_folders.items():
        same = os.path.normpath(name) == os.path.normpath(mask_folders[split])
        if same and options.image_suffix == options.mask_suffix:
            raise InputError(
                "--images and --masks are one folder, so a suffix must tell them apart: --mask_suffix=_mask of "
                "ID_mask.png, or with the ending --image_suffix=.jpg --mask_suffix=.png."
            )
        both = endings, mask_endings or endings
        image_files, mask_files = _scan(found, name, mask_folders[split], options, both, same=same)
        if not image_files:
            raise InputError(f"{options.source}/{name} holds no image; see --images and --image_suffix.")
        yield split, image_files, mask_files


def _scan(
    found: listing.Listing,
    images: str,
    labels: str,
    options: Options,
    endings: tuple[tuple[str, ...], tuple[str, ...]],
    *,
    same: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return images and masks of one split by id; of one folder for both, the one with a suffix is looked for first."""
    image_flags = {"suffix": options.image_suffix, "without": "" if same else labels, "endings": endings[0]}
    mask_flags = {"suffix": options.mask_suffix, "without": "" if same else images, "endings": endings[1]}
    if not same:
        return found.scan(images, **image_flags), found.scan(labels, **mask_flags)
    first = listing.Listing(found.root)  # what it leaves out, the other one takes
    if options.mask_suffix:
        mask_files = first.scan(labels, **mask_flags)
        return found.scan(images, **image_flags, taken=set(mask_files.values())), mask_files
    image_files = first.scan(images, **image_flags)
    return image_files, found.scan(labels, **mask_flags, taken=set(image_files.values()))


def _item(image_id: str, split: str, path: str, mask: str, meaning: meanings.Meaning, options: Options) -> Item:
    if mask:
        return Item(image_id, (path, mask), functools.partial(read_pair, path, mask, meaning, options), split)
    if options.missing_masks == "unlabelled":
        return Item(image_id, (path,), functools.partial(pictures.example, path, None, options), "unlabelled")
    return Item(image_id, (path,), functools.partial(miss, path, options), split)


def read_pair(path: str, mask: str, meaning: meanings.Meaning, options: Options) -> Example:
    """Read an image and its mask; raises `ImageError` where one cannot be read or they do not go together."""
    label, turned, counted = masks.read_label(mask, meaning, options)
    example = pictures.example(path, label, options, turned=turned, mask=mask)
    return dataclasses.replace(example, notes={**example.notes, **counted})


def miss(path: str, options: Options) -> Example:
    """Raise what becomes of an image without a mask: `LeftOut` or `Unclear`."""
    if options.missing_masks == "skip":
        raise LeftOut(WITHOUT)
    raise Unclear(
        path,
        "image without a mask; expected --masks/ID.png of the same name (see --mask_suffix), or --missing_masks=skip, "
        "or --missing_masks=unlabelled for methods that learn from images alone.",
    )

"""PASCAL VOC: `JPEGImages`, `SegmentationClass` and the lists of `ImageSets/Segmentation`; also sets laid out alike.

Layout and void (255, the borders of objects) after the development kit of VOC 2012 (Everingham et al., IJCV 2015).
Masks are palettes whose indices are the ids; masks saved in the colours of the palette are taken as well. Most papers
train on `trainaug` (Chen et al., DeepLab): 10,582 images, with labels of SBD (Hariharan et al., "Semantic Contours from
Inverse Detectors", ICCV 2011) as PNG files in `SegmentationClassAug`.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator

from gan_seg_jax.data import decoding
from gan_seg_jax.data.catalog import CATALOG, DatasetInfo, palette
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import class_names, listing, meanings, pairs, pictures, splitting
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import folder, one_of
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS | class_names.FLAGS | {"unknown", "max_ambiguous", "trainaug"}
LISTS = os.path.join("ImageSets", "Segmentation")
MASKS, AUGMENTED = "SegmentationClass", "SegmentationClassAug"
TRAINAUG, TRAINAUG_IMAGES = ("trainaug.txt", "train_aug.txt"), 10_582
VOID_COLOR = palette(256)[255]
_WITHHELD = "lists of images without masks (labels that are withheld)"
_UNION = "lists that join others"
_REPLACED = "lists whose place trainaug takes"


def open_source(options: Options) -> Source:
    """List a VOC set; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    root = find_root(options.source)
    info = CATALOG["voc2012"] if os.path.basename(root) == "VOC2012" else None
    if options.classes or options.class_names:
        info, _ = class_names.find(options)
    elif info is None:
        names = CATALOG["voc2012"].class_names
        info = DatasetInfo("voc", names, palette(len(names)))
    if options.trainaug and info.counts:
        info = dataclasses.replace(info, counts=(("train", TRAINAUG_IMAGES), *info.counts[1:]))
    one_of("unknown", options.unknown, ("", "void", "nearest"))
    lenient = {"unknown": options.unknown, "max_ambiguous": options.max_ambiguous}
    by_id, by_color = Meaning("ids", info.num_classes), meanings.of_colors(info, VOID_COLOR, **lenient)
    found = listing.Listing(root)

    def read(path: str, mask: str) -> Example:
        stored = decoding.read(mask, max_pixels=pictures.pixel_limit(options))
        return pairs.read_pair(path, mask, by_color if stored.image.mode in ("RGB", "RGBA") else by_id, options)

    rows = list_sets(root, found, trainaug=options.trainaug)
    items = [Item(name, (path, mask), functools.partial(read, path, mask), split) for name, path, mask, split in rows]
    mapping = meanings.describe(by_id, info) | {"in masks of colours": "the colours of classes.txt, void 224 224 192"}
    return Source(info, items, mapping, found.left_out)


def find_root(source: str) -> str:
    """Return the folder with the images: the source, or the only one of a year below it.

    Raises:
        InputError: There is none, or there are several.
    """
    tops = [source, os.path.join(source, "VOCdevkit")]
    years = [os.path.join(top, name) for top in tops if os.path.isdir(top) for name in sorted(os.listdir(top))]
    found = [path for path in [*tops, *years] if os.path.isdir(os.path.join(path, "SegmentationClass"))]
    if len(found) > 1:
        names = ", ".join(files.shown(os.path.relpath(path, source)) for path in found)
        raise InputError(f"{files.shown(source)} holds several sets ({names}); point --source at one.")
    return found[0] if found else os.path.dirname(folder(source, "SegmentationClass", "of a set in the layout of VOC"))


def list_sets(
    root: str, found: listing.Listing, images: str = "JPEGImages", *, trainaug: bool = False
) -> Iterator[tuple[str, str, str, str]]:
    """Yield id, image, mask and split of what the lists name; "" is the split of a list `default`.

    With `trainaug` that list takes the place of train.txt, and its masks are those of AUGMENTED, else of MASKS.

    Raises:
        InputError: A folder or all lists are missing, or a list names what is not there or what another one names.
    """
    folder(root, LISTS, "with lists such as train.txt and val.txt")
    image_files, mask_files = found.scan(images), found.scan(MASKS, endings=(".png",))
    names = {"train": "train", "val": "val", "validation": "val", "test": "test", "default": ""}
    lists = {name: os.path.join(LISTS, name) for name in sorted(os.listdir(os.path.join(root, LISTS)))}
    of_train, where = mask_files, MASKS
    if trainaug:
        folder(root, AUGMENTED, "with the labels of SBD, as --trainaug asks")
        of_train, where = mask_files | found.scan(AUGMENTED, endings=(".png",)), f"{AUGMENTED} or {MASKS}"
        chosen, replaced = _trainaug_list(root), [lists.pop(name) for name in ("train.txt", *TRAINAUG) if name in lists]
        found.left_out[_REPLACED] += [path for path in replaced if path != chosen]
        lists["train.txt"] = chosen
    seen: dict[str, str] = {}
    for name, relative in lists.items():
        path, (stem, ending) = os.path.join(root, relative), os.path.splitext(name)
        if stem.lower() not in names or ending != ".txt":
            found.left_out[_UNION].append(relative)
            continue
        split, ids = names[stem.lower()], [_stem(line) for line in splitting.read_list(path)]
        if split == "test" and not any(image_id in mask_files for image_id in ids):
            found.left_out[_WITHHELD].append(relative)
            continue
        masks, there = (of_train, where) if split == "train" else (mask_files, MASKS)
        for image_id in ids:
            if seen.setdefault(image_id, relative) != relative:
                raise InputError(f"{files.shown(path)}: {files.shown(image_id)!r} is in {seen[image_id]} as well.")
            for kind, known in ((images, image_files), (there, masks)):
                if image_id not in known:
                    raise Unclear(path, f"names {files.shown(image_id)!r}, which is not in {kind}; restore it.")
            yield image_id, image_files[image_id], masks[image_id], split
    if not seen:
        raise InputError(f"{files.shown(os.path.join(root, LISTS))} has no train.txt, val.txt or default.txt.")
    found.left_out["images and masks in no list"] += sorted({*image_files, *of_train} - set(seen))


def _trainaug_list(root: str) -> str:
    """Return where the list of trainaug lies below a set: among the others or in a folder of its own."""
    folders = (LISTS, f"{LISTS}Aug")
    for relative in (os.path.join(each, name) for each in folders for name in TRAINAUG):
        if os.path.isfile(os.path.join(root, relative)):
            return relative
    raise InputError(
        f"{files.shown(root)} has no {' or '.join(TRAINAUG)} in {' or '.join(folders)}, the list that --trainaug asks "
        f"for; it came with DeepLab, and names {TRAINAUG_IMAGES:,} images."
    )


def _stem(line: str) -> str:
    """Return the id in a line, which may name the files, too, as those of DeepLab's lists do."""
    first = line.split("/JPEGImages/")[-1].split(".jpg ")[0] if line.startswith("/") else line
    return first.removesuffix(".jpg")

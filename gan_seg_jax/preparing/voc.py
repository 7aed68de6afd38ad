"""PASCAL VOC: `JPEGImages`, `SegmentationClass` and the lists of `ImageSets/Segmentation`; also sets laid out alike.

Layout and void (255, the borders of objects) after the development kit of VOC 2012 (Everingham et al., IJCV 2015).
Masks are palettes whose indices are the ids; masks saved in the colours of the palette are taken as well.
"""

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

FLAGS = pictures.FLAGS | class_names.FLAGS | {"unknown", "max_ambiguous"}
LISTS = os.path.join("ImageSets", "Segmentation")
VOID_COLOR = palette(256)[255]
_WITHHELD = "lists of images without masks (labels that are withheld)"
_UNION = "lists that join others"


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
    one_of("unknown", options.unknown, ("", "void", "nearest"))
    lenient = {"unknown": options.unknown, "max_ambiguous": options.max_ambiguous}
    by_id, by_color = Meaning("ids", info.num_classes), meanings.of_colors(info, VOID_COLOR, **lenient)
    found = listing.Listing(root)

    def read(path: str, mask: str) -> Example:
        stored = decoding.read(mask, max_pixels=pictures.pixel_limit(options))
        return pairs.read_pair(path, mask, by_color if stored.image.mode in ("RGB", "RGBA") else by_id, options)

    rows = list_sets(root, found)
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


def list_sets(root: str, found: listing.Listing, images: str = "JPEGImages") -> Iterator[tuple[str, str, str, str]]:
    """Yield id, image, mask and split of what the lists name; "" is the split of a list `default`.

    Raises:
        InputError: A folder or all lists are missing, or a list names what is not there or what another one names.
    """
    folder(root, LISTS, "with lists such as train.txt and val.txt")
    image_files, mask_files = found.scan(images), found.scan("SegmentationClass", endings=(".png",))
    names = {"train": "train", "val": "val", "validation": "val", "test": "test", "default": ""}
    seen: dict[str, str] = {}
    for name in sorted(os.listdir(os.path.join(root, LISTS))):
        path, (stem, ending) = os.path.join(root, LISTS, name), os.path.splitext(name)
        if stem.lower() not in names or ending != ".txt":
            found.left_out[_UNION].append(os.path.join(LISTS, name))
            continue
        ids = [_stem(line) for line in splitting.read_list(path)]
        if stem.lower() == "test" and not any(image_id in mask_files for image_id in ids):
            found.left_out[_WITHHELD].append(os.path.join(LISTS, name))
            continue
        for image_id in ids:
            if seen.setdefault(image_id, name) != name:
                raise InputError(f"{files.shown(path)}: {files.shown(image_id)!r} is in {seen[image_id]} as well.")
            for kind, there in ((images, image_files), ("SegmentationClass", mask_files)):
                if image_id not in there:
                    raise Unclear(path, f"names {files.shown(image_id)!r}, which is not in {kind}; restore it.")
            yield image_id, image_files[image_id], mask_files[image_id], names[stem.lower()]
    if not seen:
        raise InputError(f"{files.shown(os.path.join(root, LISTS))} has no train.txt, val.txt or default.txt.")
    found.left_out["images and masks in no list"] += sorted({*image_files, *mask_files} - set(seen))


def _stem(line: str) -> str:
    """Return the id in a line, which may name the files, too, as those of DeepLab's lists do."""
    first = line.split("/JPEGImages/")[-1].split(".jpg ")[0] if line.startswith("/") else line
    return first.removesuffix(".jpg")

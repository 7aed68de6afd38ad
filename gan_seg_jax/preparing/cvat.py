"""CVAT's "Segmentation mask 1.1" (and Datumaro's VOC): colours of `labelmap.txt`, the folders of VOC.

`labelmap.txt` holds lines `label:R,G,B:parts:actions` (docs of CVAT, "Segmentation mask"). Images are in `JPEGImages`
where they were exported along, or in the folder that --images names.
"""

import functools
import os

from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import class_names, listing, meanings, pairs, pictures, splitting, voc
from gan_seg_jax.preparing.source import Item, Options, Source
from gan_seg_jax.preparing.words import folder, one_of
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS | {"images", "unknown", "max_ambiguous"}
LABELS = "labelmap.txt"


def open_source(options: Options) -> Source:
    """List an export of CVAT; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    one_of("unknown", options.unknown, ("", "void", "nearest"))
    info = read_labels(os.path.join(options.source, LABELS))
    meaning = meanings.of_colors(info, None, unknown=options.unknown, max_ambiguous=options.max_ambiguous)
    found = listing.Listing(options.source)
    images = options.images or "JPEGImages"
    folder(options.source, images, "with the images: export them along, or name their folder by --images")
    items = [
        Item(name, (path, mask), functools.partial(pairs.read_pair, path, mask, meaning, options), split)
        for name, path, mask, split in voc.list_sets(options.source, found, images)
    ]
    return Source(info, items, meanings.describe(meaning, info), found.left_out)


def read_labels(path: str) -> DatasetInfo:
    """Read labelmap.txt; `background` becomes class 0.

    Raises:
        InputError: It is missing, or a line has another form.
    """
    rows: dict[str, tuple[int, int, int]] = {}
    for line in splitting.read_list(path):
        name, *rest = line.rsplit(":", 3)
        color = rest[0].split(",") if len(rest) == 3 else []
        if len(color) != 3 or not all(word.strip().isdigit() and int(word) <= 255 for word in color) or name in rows:
            raise InputError(f"{files.shown(path)}: {files.shown(line)!r}; expected `label:R,G,B::`, each label once.")
        rows[name] = tuple(int(word) for word in color)
    names = sorted(rows, key=lambda name: name != "background")
    return DatasetInfo("cvat", class_names.named(tuple(names)).class_names, tuple(rows[name] for name in names))

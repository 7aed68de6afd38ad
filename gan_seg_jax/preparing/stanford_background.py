"""Stanford Background (`iccv09Data`): `images/ID.jpg` and `labels/ID.regions.txt` (Gould et al., ICCV 2009).

A row of numbers for each row of pixels: 0 sky, 1 tree, 2 road, 3 grass, 4 water, 5 building, 6 mountain, 7 foreground,
and -1 unknown. There is no official split; five-fold cross-validation is usual (--test_fraction=0.2).
"""

import functools
import os

import numpy as np

from gan_seg_jax.data.catalog import CATALOG
from gan_seg_jax.preparing import listing, masks, meanings, pictures
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS
_SUFFIX = ".regions.txt"
_MEANING = Meaning("ids", 8, void=(-1,))


def open_source(options: Options) -> Source:
    """List the scenes; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    info, found = CATALOG["stanford_background"], listing.Listing(options.source)
    labels = listing.Listing(options.source).scan("labels", suffix=_SUFFIX)  # beside it are surfaces and layers
    items = []
    for image_id, path in found.scan("images").items():
        if image_id not in labels:
            raise Unclear(path, f"has no labels/{files.shown(image_id)}{_SUFFIX}; unpack the whole archive.")
        read = functools.partial(_read, path, labels.pop(image_id), options)
        items.append(Item(image_id, (path, os.path.join(options.source, "labels", image_id + _SUFFIX)), read))
    found.left_out["labels without an image"] += sorted(labels)
    return Source(info, items, meanings.describe(_MEANING, info), found.left_out)


def _read(path: str, labels: str, options: Options) -> Example:
    try:
        rows = [[int(word) for word in line.split()] for line in files.read_bytes(labels).splitlines() if line.strip()]
        numbers = np.array(rows, np.int64)
    except (OSError, ValueError):  # ValueError: a word that is no number, or rows of different length
        raise Unclear(labels, "is no table of whole numbers, as long in every row; restore it.") from None
    return pictures.example(path, masks.classes_of_numbers(labels, numbers, _MEANING), options, mask=labels)

"""Oxford-IIIT Pet: `images`, `annotations/trimaps`, and the lists trainval.txt and test.txt (Parkhi et al., CVPR 2012).

Of the trimaps 1 is the pet, 2 the background and 3 "not classified" (README of the annotations): void, or with
--border=class a class of its own.
"""

import functools
import os

from gan_seg_jax.data.catalog import CATALOG
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import class_names, listing, meanings, pairs, pictures, splitting
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import one_of
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS | {"border"}
LISTS = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}


def open_source(options: Options) -> Source:
    """List the pets; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    info, void, table = CATALOG["oxford_iiit_pet"], (3, IGNORE), {1: 1, 2: 0}
    if one_of("border", options.border, ("void", "class")) == "class":
        info, void, table = class_names.named((*info.class_names, "border")), (IGNORE,), {1: 1, 2: 0, 3: 2}
    meaning = Meaning("ids", info.num_classes, void=void, table=table)
    found = listing.Listing(options.source)
    image_files, trimaps = found.scan("images"), found.scan("annotations/trimaps")
    items, listed = [], set()
    for split, name in LISTS.items():
        path = os.path.join(options.source, name)
        for line in splitting.read_list(path):
            image_id = line.split()[0]
            if image_id not in image_files or image_id not in trimaps:
                kind = "images" if image_id not in image_files else "annotations/trimaps"
                raise Unclear(path, f"names {files.shown(image_id)!r}, which is not in {kind}; unpack both archives.")
            listed.add(image_id)
            pair = image_files[image_id], trimaps[image_id]
            items.append(Item(image_id, pair, functools.partial(pairs.read_pair, *pair, meaning, options), split))
    found.left_out["images in no list"] += sorted(set(image_files) - listed)
    return Source(info, items, meanings.describe(meaning, info), found.left_out)

"""Cityscapes: `leftImg8bit` and `gtFine`, the 34 labels of `*_labelIds.png` mapped to the 19 that are scored.

Names and numbers after cityscapesscripts/helpers/labels.py (Cordts et al., CVPR 2016). Where `*_labelTrainIds.png` were
made by its scripts and the archive's own files are gone, these are read. The labels of test are withheld.
"""

import functools
import os

from gan_seg_jax.data.catalog import CATALOG
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import listing, meanings, pairs, pictures
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import folder

FLAGS = pictures.FLAGS
TRAIN_IDS = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)
)
"""Label id -> class; all others up to 33 are void."""
_VOID = tuple(sorted({*range(34), IGNORE} - set(TRAIN_IDS)))
_IMAGE, _LABEL, _TRAIN_LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"


def open_source(options: Options) -> Source:
    """List Cityscapes; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    info = CATALOG["cityscapes"]
    by_label = Meaning("ids", info.num_classes, void=_VOID, table=TRAIN_IDS)
    by_train_label = Meaning("ids", info.num_classes)
    found, items = listing.Listing(options.source), []
    folder(options.source, "gtFine", "with the fine annotations")
    for split in ("train", "val"):
        scan = functools.partial(listing.Listing(options.source).scan, whole_path=False)  # ids begin with their city
        image_files = found.scan(os.path.join("leftImg8bit", split), suffix=_IMAGE, whole_path=False)
        labels = scan(os.path.join("gtFine", split), suffix=_LABEL)
        train_labels = scan(os.path.join("gtFine", split), suffix=_TRAIN_LABEL)
        for image_id, path in image_files.items():
            mask, meaning = labels.get(image_id), by_label
            if mask is None:
                mask, meaning = train_labels.get(image_id), by_train_label
            if mask is None:
                raise Unclear(
                    path, f"has neither *{_LABEL} nor *{_TRAIN_LABEL} in gtFine/{split}; unpack both archives."
                )
            read = functools.partial(pairs.read_pair, path, mask, meaning, options)
            items.append(Item(image_id, (path, mask), read, split))
    for name in ("test", "train_extra"):
        if os.path.isdir(os.path.join(options.source, "leftImg8bit", name)):
            found.left_out["without fine labels"].append(f"leftImg8bit/{name}")
    return Source(info, items, meanings.describe(by_label, info), found.left_out)

"""ISIC's lesion segmentation of 2016, 2017 or 2018: the folders of images and of masks (0/255) of every part.

Names of the folders as the official archives of the challenges unpack (https://challenge.isic-archive.com/data).
"""

import functools
import os

from gan_seg_jax.data.catalog import CATALOG
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import listing, meanings, pairs, pictures
from gan_seg_jax.preparing.source import Item, Options, Source, Unclear
from gan_seg_jax.system import files

FLAGS = pictures.FLAGS
PARTS = {
    "isic2016": {
        "train": ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"),
        "test": ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
    },
    "isic2017": {
        "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        "val": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    },
    "isic2018": {
        "train": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        "val": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
        "test": ("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
    },
}
"""Data set -> split -> folders of images and of masks."""
_SUFFIXES = ("_segmentation", "_Segmentation")


def open_source(options: Options) -> Source:
    """List the parts that are there; raises `InputError` as `Format.open_source`."""
    pictures.check_flags(options)
    there = [name for name, parts in PARTS.items() if os.path.isdir(os.path.join(options.source, parts["train"][0]))]
    if len(there) != 1:
        names = ", ".join(parts["train"][0] for parts in PARTS.values())
        raise InputError(
            f"{files.shown(options.source)} holds {' and '.join(there) or 'none'} of these folders: {names}; expected "
            "the unpacked archives of one year."
        )
    info = CATALOG[there[0]]
    meaning = meanings.Meaning("binary", 2, colors=((0, 0, 0), (255, 255, 255)), ids=(0, 1))
    found, items = listing.Listing(options.source), []
    for split, (images, labels) in PARTS[there[0]].items():
        if not os.path.isdir(os.path.join(options.source, images)):
            found.left_out["parts that are not there"].append(images)
            continue
        there_are = [listing.Listing(options.source).scan(labels, suffix=each, endings=(".png",)) for each in _SUFFIXES]
        mask_files = there_are[0] | there_are[1]
        for image_id, path in found.scan(images, endings=(".jpg",)).items():  # beside it are superpixels, as PNG
            if image_id not in mask_files:
                raise Unclear(path, f"has no {labels}/{files.shown(image_id)}_segmentation.png; unpack both archives.")
            pair = path, mask_files[image_id]
            items.append(Item(image_id, pair, functools.partial(pairs.read_pair, *pair, meaning, options), split))
    return Source(info, items, meanings.describe(meaning, info), found.left_out)

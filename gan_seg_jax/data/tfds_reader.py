"""Read prepared TensorFlow Datasets without TensorFlow.

Sets in array_record format allow random access; TFDS finds and splits the records, and the pictures in them are decoded
as those of a folder are. Nothing is downloaded.
"""

import os
import re
import sys

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.read_only_builder import _find_builder_dir, builder_from_files

from gan_seg_jax.data import checks, images, tfds_facts, tfds_metadata
from gan_seg_jax.data.catalog import Dataset, DatasetInfo, Members
from gan_seg_jax.data.splits import Rules, carve, check
from gan_seg_jax.data.tfds_split import TfdsSplit, first_line, quiet_logs
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE, MAX_CLASSES
from gan_seg_jax.system import files

_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def open_tfds(name: str, data_dir: str | os.PathLike, *, rules: Rules | None = None) -> Dataset:
    """Open a set that TFDS has prepared in array_record format; nothing is downloaded.

    Class names come from the feature `segmentation_mask` where it is a `LabeledImage`, and ids are then used as they
    are stored. Otherwise the classes are the ids other than 255 that occur in the masks, in their order:
    oxford_iiit_pet counts from 1, and a class 0 that no pixel has would only lower the scores. "validation" becomes
    "val"; without one, the tenth of train with the smallest hashes of their positions, at least one. All records are
    read at the first start; what was found is remembered.

    Args:
        name: As for `tfds.load`, such as "oxford_iiit_pet:3.*.*" or "name/config".
        data_dir: Where TFDS keeps its sets; "" for its own default, ~/tensorflow_datasets.
        rules: How it is read and checked; None for the defaults.

    Returns:
        The set with splits "train", "val" and, where there is one, "test".

    Raises:
        InputError: The set is not prepared there, not in array_record format, lacks a feature or a train split, a mask
            is no mask, or what must hold between splits does not.
    """
    rules = rules or Rules()
    directory, splits, classes = _find(name, data_dir)
    if not splits.get("train", 0):
        raise InputError(
            f"tfds:{name}: no split train with examples in {directory}, found {', '.join(sorted(splits)) or 'none'}."
        )
    sources = {ours: theirs for theirs, ours in _SPLITS.items() if splits.get(theirs, 0)}
    others = sorted(set(splits) - set(sources.values()))
    if others:
        print(f"left out in tfds:{name}: splits that are not read: {', '.join(others)}", file=sys.stderr)
    unknown = DatasetInfo(name, ("unknown",), ((0, 0, 0),))
    plain = {ours: TfdsSplit(unknown, ours, directory, theirs) for ours, theirs in sources.items()}
    facts = tfds_facts.look(directory, plain, max_pixels=rules.max_pixels)
    indices = dict.fromkeys(sources)
    members = {ours: Members(found.ids, found.ids, found.digests, found.labels) for ours, found in facts.items()}
    check(f"tfds:{name}", members, rules)
    if "val" not in sources:
        to_val = carve(f"tfds:{name}", members["train"], rules, [str(index) for index in range(splits["train"])])
        sources["val"], indices["val"], indices["train"] = "train", np.flatnonzero(to_val), np.flatnonzero(~to_val)
        facts |= {ours: facts["train"].take(indices[ours]) for ours in ("val", "train")}
    for ours, found in facts.items():
        if not {value for values in found.values for value in values} - {IGNORE}:
            checks.without_labels(f"tfds:{name}", ours)
    info, stored_ids = _describe(name, classes, facts, rules)
    options = {"stored_ids": stored_ids, "max_pixels": rules.max_pixels}
    return Dataset(
        info,
        {
            ours: TfdsSplit(info, ours, directory, sources[ours], indices[ours], facts=facts[ours], **options)
            for ours in ("train", "val", "test")
            if ours in sources
        },
        members,
    )


def _describe(
    name: str, classes: tuple[str, ...] | None, facts: dict[str, tfds_facts.RecordFacts], rules: Rules
) -> tuple[DatasetInfo, tuple[int, ...] | None]:
    """Return the facts of a set, and for each class the number that masks hold, where they are not the class ids."""
    protocol, stored_ids = "Class names from the set.", None
    if classes is None:
        found = {value for split in facts.values() for values in split.values for value in values}
        stored_ids = tuple(sorted(found - {IGNORE}))
        classes = tuple(f"class_{value}" for value in stored_ids)
        protocol = (
            f"No class names in the set: {len(classes)} classes, the ids that occur in its masks (255 is ignore), "
            "counted from 0 in their order."
        )
    colors = tuple(_color(value) for value in stored_ids or range(len(classes)))
    deep = [pair for split in facts.values() for pair in split.deep]
    bits = images.expect_bits(f"tfds:{name}", rules.image_bits, deep)
    try:
        return DatasetInfo(name, classes, colors, protocol=protocol, image_bits=bits), stored_ids
    except ValueError as error:  # names of classes that are equal
        raise InputError(f"tfds:{error} Prepare the set anew.") from None


def _find(name: str, data_dir: str | os.PathLike) -> tuple[str, dict[str, int], tuple[str, ...] | None]:
    """Return (folder, examples per split, class names or None) of a prepared set, checked for format and features."""
    place = os.path.expanduser(os.fspath(data_dir)) if data_dir else None
    shown = place or "~/tensorflow_datasets"
    tfds_metadata.expect_regular_files(os.path.join(os.path.expanduser(shown), re.split("[:/]", name)[0]))
    try:
        with quiet_logs():
            found = _find_builder_dir(name, data_dir=place)  # what the next call opens, and imports the classes of
            if found is not None:
                tfds_metadata.check(os.fspath(found))
            builder = builder_from_files(name, data_dir=place)
    except InputError:
        raise
    except Exception as error:  # not found, damaged, a name TFDS does not understand: it raises many kinds
        raise InputError(
            f"tfds:{name}: not found as a prepared set in {shown} ({first_line(error)}); prepare it "
            f"once, where TensorFlow is installed: `tfds build NAME --file_format=array_record --data_dir={shown}`."
        ) from error
    directory, info = os.fspath(builder.data_dir), builder.info
    if info.file_format is None or info.file_format.value != "array_record":
        found = info.file_format.value if info.file_format else "no format"
        raise InputError(
            f"tfds:{name}: {directory} is in format {found}; expected array_record: prepare it with "
            "--file_format=array_record."
        )
    features = dict(info.features.items())
    missing = [f for f in ("image", "segmentation_mask") if not isinstance(features.get(f), tfds.features.Image)]
    if missing:
        raise InputError(
            f"tfds:{name}: no image feature {' and no '.join(missing)}; found {', '.join(sorted(features))}. "
            "Only sets with image and segmentation_mask can be used."
        )
    mask = features["segmentation_mask"]
    named = isinstance(mask, tfds.features.LabeledImage) and mask.num_classes
    if named and mask.num_classes > MAX_CLASSES:  # before their names are made
        raise InputError(
            f"tfds:{name}: segmentation_mask has {mask.num_classes} classes; expected at most {MAX_CLASSES}, whose ids "
            "fit into 8 bits beside 255 for ignore: prepare the set with fewer."
        )
    names = tuple(map(files.shown, mask.names)) if named else None
    return directory, {s: i.num_examples for s, i in info.splits.items()}, names


def _color(index: int) -> tuple[int, int, int]:
    """Return the colour of a class in the palette of PASCAL VOC: the bits of its id, dealt out to the channels."""
    bits = [(index >> i) & 1 for i in range(8)]
    return tuple(sum(bits[3 * i + channel] << (7 - i) for i in range(3) if 3 * i + channel < 8) for channel in range(3))

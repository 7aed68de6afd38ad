"""Make a folder that the other commands read of the data that you have; the source is never written to.

    python -m gan_seg_jax.prepare --format=pairs --source=DIR --output=NEW --images=images --masks=labels
        --mask_suffix=_mask --mask_values=binary --val_fraction=0.1 --test_fraction=0.1

docs/prepare.md has a command for each format. What is ambiguous is refused, with the flag that decides.
NEW/PREPARED.json says what was done, and what was left out. Killed and started again, the same command goes on; once it
is done, it checks the files, and makes those anew that have changed.
"""

import dataclasses
import shlex
import sys
from typing import Any

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.system import files

FLAGS = {
    "format": "What the source is; see docs/prepare.md.",
    "source": "Folder of the data, unpacked.",
    "output": "New folder.",
    "splits": "What the source calls the splits, where {split} is in a name: train=training,val=validation.",
    "lists": "Files that list the ids of each split, in the source or elsewhere: train=train.txt,val=val.txt.",
    "val_fraction": "Share of the images that is drawn for val, where the source has no splits.",
    "test_fraction": "The same for test.",
    "seed": "Of this draw.",
    "group_pattern": "Regular expression with one group that finds in an id what must stay in one split: '^(p\\d+)_'.",
    "skip_damaged": "Leave out files that cannot be read, instead of refusing them.",
    "skip_duplicates": "Leave out an image that is equal to one of another split, instead of refusing it.",
    "max_pixels": "Largest image, in pixels; 0 for 89 million.",
    "exif": "upright | stored: which pixels masks were made of, where an EXIF rotation leaves it open.",
    "alpha": "drop | void: what transparent pixels are; void: without label.",
    "images": "Folder of the images in the source.",
    "masks": "Folder of the masks in the source.",
    "image_suffix": "What ends the names of images before the ending, or with it: _img, _img.png.",
    "mask_suffix": "The same of masks: _mask.",
    "missing_masks": "unlabelled | skip: what becomes of images without a mask.",
    "classes": "File of lines `id name R G B`; a line for id 255 names the colour of void.",
    "class_names": "Names of the classes in the order of their ids, instead: background,polyp.",
    "mask_values": "ids | binary (0/255) | colors (of --classes) | instances (a number for each object).",
    "void": "Numbers in masks that mean nothing is known: 255.",
    "reduce_zero_label": "0 is void, and ids count from 1.",
    "unknown": "void | nearest: what colours are that no class has; nearest: the class of the nearest colour.",
    "max_ambiguous": "With nearest, share of a mask's pixels that may lie between two classes; they become void.",
    "objects": "foreground | boundary: classes that are made of instances.",
    "boundary_width": "Pixels of each object that are its boundary.",
    "image_side": "left | right: the half of a picture of two that is the image.",
    "annotations": "File of annotations of COCO; folder of labelme's files.",
    "crowd": "void | class: what regions of many objects (iscrowd) are.",
    "overlap": "small | order | void: which object holds where two classes lie over each other.",
    "window": "Of NIfTI and DICOM: how many units there are from black to white (CT of soft tissue: 400).",
    "level": "The value in the middle of them (40).",
    "percentiles": "Of NIfTI, instead: which percentiles of each volume are black and white: 1,99.",
    "axis": "Of NIfTI: axial | coronal | sagittal, or 0 | 1 | 2 of the stored array; across it volumes are cut.",
    "channel": "Of NIfTI with several channels or times: which one.",
    "trainaug": "Of VOC: train on the images of trainaug.txt, with SBD's labels in SegmentationClassAug.",
    "border": "void | class: what 3 is in the trimaps of Oxford-IIIT Pet.",
}
"""Flag -> what it says; the defaults are those of `preparing.source.Options`."""


def main() -> None:
    """Run the command."""
    from gan_seg_jax.preparing.run import prepare

    options = _options({name: getattr(flags.FLAGS, name) for name in FLAGS})
    record = prepare(options)
    print(report(record, options.output))


def _options(values: dict[str, Any]):
    from gan_seg_jax.preparing.source import Options

    return Options(**values)


def report(record: dict[str, Any], output: str) -> str:
    """Return what was done, as a few lines."""
    lines = []
    for name, split in record["splits"].items():
        known = sum(split["pixels"].values())
        void = split["void"] / max(1, known + split["void"])
        shares = ", ".join(f"{each} {count / max(1, known):.1%}" for each, count in split["pixels"].items())
        labelled = f"; void {void:.1%} of the pixels; of the others {shares}" if split["labelled"] else ""
        lines.append(f"{name}: {split['images']} images{labelled}")
    for name, official in record["official_counts"].items():
        found = record["splits"].get(name, {}).get("images", 0)
        if found != official:
            print(f"warning: {name} has {found} images, officially {official}.", file=sys.stderr)
    lines += [f"{key.replace('_', ' ')}: {count}" for key, count in record["notes"].items()]
    for why, found in record["left_out"].items():
        lines.append(f"left out, {why}: {found['count']} ({', '.join(map(files.shown, found['such_as'][:3]))})")
    where = f"--config.data_dir={shlex.quote(output)}"
    if record["classes"]:
        lines.append(f"gan-seg inspect --data_dir={shlex.quote(output)}")
        lines.append(f"gan-seg train --config=configs/auto.py {where}")
    else:
        lines.append(f"gan-seg train --config=configs/translation.py:pairs --config.dataset=pairs {where}")
    return "\n".join(lines)


def define_flags() -> None:
    """Define the flags, each of the kind of its default."""
    from gan_seg_jax.preparing.source import Options

    kinds = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    defaults = dataclasses.asdict(Options())
    for name, text in FLAGS.items():
        kinds[type(defaults[name])](name, defaults[name], text)


if __name__ == "__main__":
    define_flags()
    commands.run(main, __doc__, devices=False)

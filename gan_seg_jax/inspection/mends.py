"""The commands that mend a set; {files} in them stands for the file that lists the paths, each ended by a NUL.

Those of a shell move files of the set and delete none. Those of `prepare` write a new folder beside it; they are given
where all masks of the set are of one kind, for which the flags are clear, and refuse what does not fit.
"""

import os
import shlex

from gan_seg_jax.data import images
from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.inspection.look import Look, look
from gan_seg_jax.inspection.survey import Survey

_MOVE = """'mkdir -p "$0/${1%/*}" && mv -n "$1" "$0/$1"'"""  # keeps the folders below the root
_MANY = 64  # colours that no hand has chosen


def set_aside(root: str) -> str:
    """Return the command that moves the listed files out of the set, their folders kept."""
    return f"cd {shlex.quote(root)} && xargs -0 -n 1 sh -c {_MOVE} {shlex.quote(root + '-set-aside')} < {{files}}"


def to_unlabelled(root: str) -> str:
    """Return the command that moves the listed images to those without labels."""
    move = "xargs -0 -I FILE mv -n FILE unlabeled/images/ < {files}"
    return f"cd {shlex.quote(root)} && mkdir -p unlabeled/images && {move}"


def prepare_masks(found: Survey) -> str:
    """Return the command that makes class ids of masks that are none; "" where that is not clear."""
    masks = [seen for split in found.splits for seen in found.masks(split) if not seen.damage]
    if not masks or found.info is None:
        return ""
    lossy = " --unknown=nearest" if any(_is_lossy(seen) for seen in masks) else ""
    if all(_is_coloured(seen) for seen in masks):
        return prepare(found, f"--mask_values=colors{lossy}")
    if any(_is_coloured(seen) for seen in masks) or found.info.num_classes != 2:
        return prepare(found, "--mask_values=ids --reduce_zero_label") if _counts_from_one(masks, found.info) else ""
    if all(_values(seen) <= {0, 255} for seen in masks) or (lossy and all({0, 255} & _values(seen) for seen in masks)):
        return prepare(found, f"--mask_values=binary{lossy}")
    if all(seen.mode[:1] == "I" for seen in masks):
        return prepare(found, "--mask_values=instances --objects=foreground")
    return prepare(found, "--mask_values=ids --reduce_zero_label") if _counts_from_one(masks, found.info) else ""


def prepare_palettes(found: Survey) -> str:
    """Return the command that takes the colours of palettes for the classes, and not their indices."""
    masks = [seen for split in found.splits for seen in found.masks(split) if not seen.damage]
    return prepare(found, "--mask_values=colors") if all(seen.mode == "P" for seen in masks) else ""


def prepare_lossy(found: Survey, unread: list[str]) -> str:
    """Return the command that reads the masks that lie under endings of lossy kinds; "" where there are none.

    Args:
        found: The set.
        unread: Paths that were left out for their ending.
    """
    masks = [path for path in unread if "/masks/" in path and os.path.splitext(path)[1].lower() in images.ENDINGS]
    seen = look(found.root, masks[0], is_mask=True) if masks else None
    if seen is None or seen.damage or found.info is None:
        return ""
    if seen.mode == "RGB":
        return prepare(found, "--mask_values=colors --unknown=nearest")
    return prepare(found, "--mask_values=binary --unknown=nearest") if found.info.num_classes == 2 else ""


def prepare_names(found: Survey, lonely: list[str]) -> str:
    """Return the command that pairs images with masks of another name, such as ID_mask.png; "" where there is none.

    Args:
        found: The set.
        lonely: Paths of masks without an image.
    """
    ids = {name for files in found.splits.values() for name in files.images if name not in files.partners}
    suffixes = set()
    for path in lonely:
        stem = os.path.splitext(os.path.basename(path))[0]
        suffixes.add(next((stem[len(name) :] for name in ids if stem.startswith(name)), ""))
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    return prepare(found, f"--mask_values=ids --mask_suffix={shlex.quote(suffix)}") if suffix else ""


def prepare(found: Survey, flags: str) -> str:
    """Return a command that writes the set anew beside itself, read by other flags."""
    root, new = shlex.quote(found.root), shlex.quote(found.root + "-prepared")
    splits = ",".join(f"{split}={split}" for split in found.splits if split != "unlabelled")
    classes = os.path.join(found.root, "classes.txt")
    named = f"--classes={shlex.quote(classes)}"
    if not os.path.lexists(classes):  # of a set that is known by name
        named = f"--class_names={shlex.quote(','.join(found.info.class_names))}" if found.info else ""
    folders = f"--images='{{split}}/images' --masks='{{split}}/masks' --splits={splits}"
    also = f" && cp -r {root}/unlabeled {new}/" if "unlabelled" in found.splits else ""
    return f"gan-seg prepare --format=pairs --source={root} --output={new} {folders} {named} {flags}{also}"


def _values(seen: Look) -> set:
    return set(seen.facts.values if seen.facts is not None else seen.values)


def _is_coloured(seen: Look) -> bool:
    return seen.facts is None and seen.mode in ("RGB", "RGBA")


def _is_lossy(seen: Look) -> bool:
    return seen.kind in ("JPEG", "WebP") or (_is_coloured(seen) and seen.num_values > _MANY)


def _counts_from_one(masks: list[Look], info: DatasetInfo) -> bool:
    values = set().union(*map(_values, masks)) - {255} if not any(map(_is_coloured, masks)) else set()
    return bool(values) and values <= set(range(info.num_classes + 1)) and max(values) == info.num_classes

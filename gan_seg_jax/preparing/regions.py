"""Make one map of class ids of the regions of objects, which may lie over each other."""

from collections.abc import Iterable

import numpy as np

from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import class_names
from gan_seg_jax.preparing.source import Options, Unclear
from gan_seg_jax.preparing.words import one_of

OVERLAPS = ("", "order", "small", "void")
BACKGROUND = "background"


def check_flags(options: Options) -> None:
    """Refuse a value of --overlap that means nothing; raises `InputError`."""
    one_of("overlap", options.overlap, OVERLAPS)


def classes_of(names: Iterable[str]) -> DatasetInfo:
    """Return the classes of objects: the background, and each name."""
    return class_names.named((BACKGROUND, *(name for name in names if name != BACKGROUND)))


def paint(
    name: str,
    shape: tuple[int, int],
    regions: list[tuple[int, np.ndarray]],
    *,
    overlap: str,
    void: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, int]]:
    """Return class ids, 0 where no region is, and what was counted.

    Args:
        name: The file, for errors.
        shape: (height, width).
        regions: Class id (255: void) and pixels, bool [h, w], of each.
        overlap: Which class holds where two lie over each other: "order", that of the later one; "small", that of the
            smaller one; "void", none; "" refuses them.
        void: Pixels that are void where no region is, bool [h, w].

    Raises:
        Unclear: Regions of two classes overlap, and `overlap` is "".
    """
    label = np.zeros(shape, np.uint8)
    if void is not None:
        label[void] = IGNORE
    painted, disputed = np.zeros(shape, bool), np.zeros(shape, bool)
    if overlap == "small":
        regions = sorted(regions, key=lambda region: -np.count_nonzero(region[1]))
    for class_id, pixels in regions:
        disputed |= painted & pixels & (label != class_id)
        label[pixels] = class_id
        painted |= pixels
    count = int(np.count_nonzero(disputed))
    if count and not overlap:
        raise Unclear(
            name,
            "has objects of different classes that lie over each other; --overlap=small takes the smaller one, "
            "--overlap=order the later one, and --overlap=void makes such pixels void.",
        )
    if overlap == "void":
        label[disputed] = IGNORE
    return label, {"overlapping_pixels": count} if count else {}

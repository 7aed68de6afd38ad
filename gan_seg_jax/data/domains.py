"""Two domains: labels from one data set, images to be segmented from another."""

from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.data.subset import Unlabelled
from gan_seg_jax.errors import InputError


def from_source(source: Dataset, target: Dataset) -> Dataset:
    """Take the labelled training images from another data set.

    Args:
        source: Where labels come from; of the same classes in the same order.
        target: The data set to be segmented.

    Returns:
        The target's set, whose "train" is the source's, whose "target" are its own training images, with the labels
        withheld, and those it has without labels; "unlabelled" is the source's where there is one. "val" and "test"
        stay.

    Raises:
        InputError: the classes differ.
    """
    names, expected = source.info.class_names, target.info.class_names
    if names != expected:
        raise InputError(
            f"config.source.dataset has the classes {', '.join(names)}, but {target.info.name} has "
            f"{', '.join(expected)}; adaptation needs the same classes in the same order."
        )
    own = [target.splits[name] for name in ("train", "unlabelled") if name in target.splits]
    kept = {name: split for name, split in target.splits.items() if name not in ("train", "unlabelled")}
    given = {name: source.splits[name] for name in ("train", "unlabelled") if name in source.splits}
    return Dataset(target.info, {**given, **kept, "target": Unlabelled(tuple(own), "target")})

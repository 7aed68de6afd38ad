"""Two domains: labels from one data set, images to be segmented from another."""

import dataclasses

from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.data.splits import Rules, check
from gan_seg_jax.data.subset import Unlabelled
from gan_seg_jax.errors import InputError


def from_source(source: Dataset, target: Dataset, rules: Rules | None = None) -> Dataset:
    """Take the labelled training images from another data set.

    Args:
        source: Where labels come from; of the same classes in the same order.
        target: The data set to be segmented.
        rules: Whether an image may be among the source's labelled ones and in "val" or "test"; None for the defaults.

    Returns:
        The target's set, whose "train" is the source's, whose "target" are its own training images, with the labels
        withheld, and those it has without labels; "unlabelled" is the source's where there is one. "val" and "test"
        stay.

    Raises:
        InputError: the classes differ, or images are in two splits.
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
    scored = {name: target.members[name] for name in ("val", "test") if name in target.members}
    labelled = {f"{name} of the source": part for name, part in source.members.items() if name in given}
    check(target.info.name, {**labelled, **scored}, dataclasses.replace(rules or Rules(), group_pattern=""))
    splits = {**given, **kept, "target": Unlabelled(tuple(own), "target")}
    return Dataset(target.info, splits, {**labelled, **target.members})

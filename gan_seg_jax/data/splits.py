"""What must hold between the splits of a set: no image in two of them, no group torn apart, labels to score by.

A score over images that were trained on says nothing. Equal images are found by a digest of each, which whoever opens
the set remembers; groups (a patient, a video) by a pattern in the ids.
"""

import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from gan_seg_jax.data import images
from gan_seg_jax.data.catalog import Members
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

_VAL_FRACTION = 10  # one in ten
_ONE_SIDE = {"unlabelled": "train"}  # whose groups are those of train: neither is scored


@dataclasses.dataclass(frozen=True)
class Rules:
    """How a set is read and checked: the fields of the same names in `configs/common.py`."""

    allow_duplicates: bool = False
    group_pattern: str = ""
    max_pixels: int = images.MAX_PIXELS
    image_bits: int = 0


def check(where: str, splits: Mapping[str, Members], rules: Rules) -> None:
    """Refuse images that are in two splits, unless they are allowed, and groups that are.

    Raises:
        InputError: There are some (counted, two are named), or the pattern of groups cannot be used.
    """
    if not rules.allow_duplicates:
        _check_duplicates(where, splits)
    if rules.group_pattern:
        _check_groups(where, splits, rules.group_pattern)


def _check_duplicates(where: str, splits: Mapping[str, Members]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    pairs: collections.Counter[tuple[str, str]] = collections.Counter()
    example = None
    for split, members in splits.items():
        for name, digest in zip(members.names, members.digests, strict=True):
            other, other_name = seen.setdefault(digest, (split, name))
            if other != split:
                pairs[other, split] += 1
                example = example or (other_name, name)
    if example is None:
        return
    counts = ", ".join(f"{count} of {one} and {other}" for (one, other), count in pairs.items())
    first, second = map(files.shown, example)
    found = "1 image is" if pairs.total() == 1 else f"{pairs.total()} images are"
    raise InputError(
        f"{files.shown(where)}: {found} in two splits ({counts}), such as {first} and {second}, "
        "which are equal; scores would be of images that are trained on. Remove them from one of the splits, or say "
        "that they are meant: --config.allow_duplicates."
    )


def _check_groups(where: str, splits: Mapping[str, Members], pattern: str) -> None:
    seen: dict[str, tuple[str, str]] = {}
    strange: dict[str, tuple[str, str]] = {}
    for split, members in splits.items():
        side = _ONE_SIDE.get(split, split)
        for group, name in zip(groups(where, members.ids, pattern), members.names, strict=True):
            other, other_name = seen.setdefault(group, (side, name))
            if other != side:
                strange.setdefault(group, (other_name, name))
    if strange:
        group, (first, second) = next(iter(strange.items()))
        raise InputError(
            f"{files.shown(where)}: groups of config.group_pattern that are in two splits: {len(strange)}, such as "
            f"{group!r} of {files.shown(first)} and {files.shown(second)}; move each into one split, or leave "
            "config.group_pattern away."
        )


def groups(where: str, ids: Sequence[str], pattern: str, *, flag: str = "config.group_pattern") -> list[str]:
    """Return the group of each id: what the one group of the pattern finds in it. Errors name `flag`.

    Raises:
        InputError: The pattern is no regular expression with one group, or finds nothing in an id.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{flag} {pattern!r} is no regular expression: {error}.") from None
    if compiled.groups != 1:
        raise InputError(
            f"{flag} {pattern!r} has {compiled.groups} groups; expected one, in parentheses, around what "
            r"is equal in the ids of a patient or video, such as '^(\d+)_'."
        )
    found = [compiled.search(image_id) for image_id in ids]
    missed = [image_id for image_id, match in zip(ids, found, strict=True) if match is None or match[1] is None]
    if missed:
        raise InputError(
            f"{flag} {pattern!r} finds nothing in {len(missed)} of {len(ids)} ids of "
            f"{files.shown(where)}, such as {files.shown(missed[0])!r}; every id needs a group."
        )
    return [match[1] for match in found]


def carve(where: str, members: Members, rules: Rules, keys: Sequence[str] | None = None) -> np.ndarray:
    """Choose the tenth of train that validates, at least one image, by hashes of the ids.

    Equal images, and those of one group, stay together: whole groups are taken, by the hashes of their names, as long
    as they fit into the tenth; where none does, the smallest one.

    Args:
        where: The set, for errors.
        members: The images of train.
        rules: The pattern of groups; where duplicates are allowed, equal images count as different.
        keys: What is hashed in place of the ids.

    Returns:
        bool [n], True for val.

    Raises:
        InputError: Nothing would be left to train on.
    """
    names = list(members.ids if keys is None else keys)
    ties = [] if rules.allow_duplicates else [members.digests]
    if rules.group_pattern:
        names = groups(where, members.ids, rules.group_pattern)
        ties.append(names)
    blocks = sorted(_blocks(len(names), ties), key=lambda block: _hash(min(names[index] for index in block)))
    if len(blocks) < 2:
        raise InputError(
            f"{files.shown(where)} has no val, and its train is a single image or group, or equal images; expected at "
            "least two, one to learn from and one to validate with: add images or a val."
        )
    chosen, room = np.zeros(len(names), bool), max(1, len(names) // _VAL_FRACTION)
    for block in blocks:
        if len(block) <= room:
            chosen[block] = True
            room -= len(block)
    if not chosen.any():
        chosen[min(blocks, key=len)] = True
    return chosen


def _blocks(count: int, ties: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return the positions 0..count-1 in blocks: those with an equal entry in any list of `ties` are together."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for labels in ties:
        first: dict[str, int] = {}
        for index, label in enumerate(labels):
            low, high = sorted((root(index), root(first.setdefault(label, index))))
            parent[high] = low
    blocks: dict[int, list[int]] = collections.defaultdict(list)
    for index in range(count):
        blocks[root(index)].append(index)
    return list(blocks.values())


def _hash(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()

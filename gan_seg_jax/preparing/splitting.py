"""Say which example is of which split: by the source, by lists of ids, or by chance, groups together."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence

from gan_seg_jax.data import splits
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing.source import Item, Options
from gan_seg_jax.preparing.words import by_split
from gan_seg_jax.system import files

NOT_LISTED = "in none of the lists"


def assign(items: Sequence[Item], options: Options) -> tuple[list[Item], list[str]]:
    """Give every item its split.

    Args:
        items: Those of a source.
        options: The flags: `lists`, or `val_fraction`, `test_fraction` and `seed`; `group_pattern`.

    Returns:
        The items in their order, without those that no list names; and the ids of these.

    Raises:
        InputError: The source says already which split an item is of, a list names what is not there or the same in
            two splits, a group would be in two splits, or nothing would be left to train on.
    """
    if (
        not 0 <= options.val_fraction + options.test_fraction < 1
        or min(options.val_fraction, options.test_fraction) < 0
    ):
        raise InputError(
            f"--val_fraction is {options.val_fraction} and --test_fraction {options.test_fraction}; expected shares "
            "from 0 to 1 that leave something to train on."
        )
    chosen = [item for item in items if not item.split]
    asked = options.lists or options.val_fraction or options.test_fraction
    if asked and not chosen:
        raise InputError(
            "The source says which split each image is of, so --lists, --val_fraction and --test_fraction have no "
            "meaning; leave them away. (Without val, training sets a tenth of train aside.)"
        )
    if options.lists and (options.val_fraction or options.test_fraction):
        raise InputError("--lists names the images of each split, and --val_fraction draws them; give one of them.")
    if options.group_pattern:
        names = splits.groups(
            options.source, [item.id for item in items], options.group_pattern, flag="--group_pattern"
        )
        items = [dataclasses.replace(item, group=name) for item, name in zip(items, names, strict=True)]
        chosen = [item for item in items if not item.split]
    found = _by_lists(chosen, options) if options.lists else _by_chance(chosen, options)
    kept = [dataclasses.replace(item, split=item.split or found.get(item.id, "")) for item in items]
    _check_groups([item for item in kept if item.split], options.source)
    return [item for item in kept if item.split], [item.id for item in kept if not item.split]


def _by_chance(items: Sequence[Item], options: Options) -> dict[str, str]:
    """Return id -> split: the groups in the order of a hash of seed and name, as near to the shares as groups allow."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.group or f"id:{item.id}", []).append(item.id)
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{options.seed}:{name}".encode()).digest())
    found, wanted = {}, {"test": options.test_fraction, "val": options.val_fraction}
    for split, share in wanted.items():
        room = max(1, round(share * len(items))) if share else 0
        while room > 0 and order:
            members = groups[order[0]]
            if split in found.values() and 2 * room < len(members):
                break  # leaving it out is nearer to the share
            found |= dict.fromkeys(members, split)
            room -= len(members)
            order.pop(0)
    if items and not order:
        raise InputError(
            f"{files.shown(options.source)}: {len(items)} images in {len(groups)} groups; nothing would be left to "
            "train on. Lower --val_fraction and --test_fraction."
        )
    return found | {image_id: "train" for name in order for image_id in groups[name]}


def _by_lists(items: Sequence[Item], options: Options) -> dict[str, str]:
    """Return id -> split of those that lists name: by id, by the name or the path of a file, or by group."""
    names: dict[str, list[str]] = {}
    for item in items:
        path = os.path.relpath(item.files[0], options.source)
        known = {item.id, path, os.path.splitext(path)[0], os.path.basename(path), item.group} - {""}
        known.add(os.path.splitext(os.path.basename(path))[0])
        for name in known:
            names.setdefault(name, []).append(item.id)
    groups = {item.group for item in items}
    found: dict[str, str] = {}
    for split, name in by_split("lists", options.lists).items():
        path = os.path.join(options.source, os.path.expanduser(name))
        lines = read_list(path)
        missing = [line for line in lines if line not in names]
        if missing:
            raise InputError(
                f"{files.shown(path)} names {len(missing)} of {len(lines)} images that are not there, such as "
                f"{files.shown(missing[0])!r}; expected ids such as {files.shown(items[0].id) if items else 'a'!r}."
            )
        for line in lines:
            if len(names[line]) > 1 and line not in groups:
                raise InputError(
                    f"{files.shown(path)}: {files.shown(line)!r} may be each of {names[line][:3]}; give ids."
                )
            for image_id in names[line]:
                if found.setdefault(image_id, split) != split:
                    raise InputError(f"--lists: {files.shown(image_id)!r} is in {found[image_id]} and in {split}.")
    return found


def read_list(path: str) -> list[str]:
    """Return the lines of a list of ids, empty ones and those that begin with # aside.

    Raises:
        InputError: It is missing, cannot be read, or is empty.
    """
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{files.shown(path)} cannot be read ({error.strerror}); expected a list, an id a line."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{files.shown(path)} is not UTF-8 text; expected a list, an id a line.") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise InputError(f"{files.shown(path)} is empty; expected a list, an id a line.")
    return lines


def _check_groups(items: Sequence[Item], source: str) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        side = "train" if item.split == "unlabelled" else item.split
        first = seen.setdefault(item.group, dataclasses.replace(item, split=side)) if item.group else item
        if item.group and first.split != side:
            raise InputError(
                f"{files.shown(source)}: {files.shown(first.id)} of {first.split} and {files.shown(item.id)} of "
                f"{item.split} are of one group; scores would be of what is trained on. Move each into one split, or "
                "let --val_fraction split it, groups together."
            )

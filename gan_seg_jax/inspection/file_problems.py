"""What is wrong with single files of a set, and with its pairs of image and mask."""

import collections
import re
import shlex
from collections.abc import Iterator

from gan_seg_jax.data import checks, listing
from gan_seg_jax.inspection import mends
from gan_seg_jax.inspection.look import Look
from gan_seg_jax.inspection.problem import ERROR, NOTE, WARNING, Problem, counted, paths, with_partners
from gan_seg_jax.inspection.survey import Survey
from gan_seg_jax.labels import IGNORE

_SMALL = 32  # pixels: what is left of it after five halvings is a point


def find(found: Survey) -> Iterator[Problem]:
    """Yield all of them."""
    yield from _unreadable(found)
    yield from _pairing(found)
    yield from _sizes(found)
    if found.info is not None:
        yield from _values(found)
    yield from _forms(found)


def by_reason(problems: list[checks.Problem]) -> dict[str, list[checks.Problem]]:
    """Return problems by their reasons."""
    groups: dict[str, list[checks.Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.reason, []).append(problem)
    return groups


def _unreadable(found: Survey) -> Iterator[Problem]:
    """Yield what cannot be listed, decoded or used."""
    groups: dict[tuple[str, bool, str], list[Look]] = collections.defaultdict(list)
    for one in found.looks.values():
        reason = one.damage or one.refused
        if reason:
            groups[re.sub(r"\d+", "N", reason), one.is_mask, "damaged" if one.damage else _form(one)].append(one)
    for (_, is_mask, form), group in groups.items():
        kind = "mask" if is_mask else "image"
        title = f"{counted(group, kind)} cannot be used: it {group[0].damage or group[0].refused}"
        if len(group) > 1:
            title = f"{counted(group, kind)} cannot be used, such as one that {group[0].damage or group[0].refused}"
        meaning = "Training refuses the folder until they are replaced, changed or set aside with their partners."
        details = [(one.path, _shown_values(one)) for one in group]
        files, command = tuple(details), mends.prepare_masks(found) if is_mask else ""
        if form == "damaged":
            files, command = with_partners(details, found.partner_of), mends.set_aside(found.root)
        yield Problem(ERROR, f"{form}-{kind}s", title, meaning, files, command, len(group))


def _form(one: Look) -> str:
    """Return a word for what a file holds that cannot be used."""
    if not one.is_mask:
        return "unusual"
    if one.kind in ("JPEG", "WebP"):
        return "lossy"
    if one.mode in ("RGB", "RGBA", "LA"):
        return "colour"
    return "deep" if one.mode.startswith("I") else "unusual"


def _shown_values(one: Look) -> str:
    shown = ", ".join(map(str, one.values[:5]))
    return f"{one.num_values} values: {shown}{', ...' if one.num_values > 5 else ''}" if one.values else ""


def _pairing(found: Survey) -> Iterator[Problem]:
    unread = [path for why, names in found.left_out.items() if why.startswith("files") for path in names]
    lonely = found.left_out.get(listing.LONELY_MASKS, [])
    for reason, group in by_reason(found.unpaired).items():
        command = mends.prepare_names(found, lonely) or mends.prepare_lossy(found, unread)
        if not command and all(problem.path.startswith("train/") for problem in group):
            command = mends.to_unlabelled(found.root)
        title = f"{counted(group, 'image')} without a mask of the same name"
        meaning = f"{reason[0].upper()}{reason[1:]} Training refuses the folder."
        files = tuple((path, detail) for path, _, detail in group)
        yield Problem(ERROR, "images-without-mask", title, meaning, files, command)
    if lonely:
        title = f"{counted(lonely, 'mask')} without an image"
        meaning = "They are left out. Were their images renamed or lost?"
        yield Problem(WARNING, "masks-without-image", title, meaning, tuple((path, "") for path in lonely))
    for why, names in found.left_out.items():
        if why != listing.LONELY_MASKS:
            severity = NOTE if why.startswith("beside") else WARNING
            title = f"{counted(names, 'file or folder', 'files or folders')} not read: {why}"
            meaning = "They are left out. Is that meant?"
            yield Problem(severity, "left-out", title, meaning, tuple((path, "") for path in names))


def _sizes(found: Survey) -> Iterator[Problem]:
    problems = [problem for split in found.splits for problem in checks.compare_sizes(found.pairs(split), found.facts)]
    for reason, group in by_reason(problems).items():
        title = f"{counted(group, 'pair')} of image and mask that do not fit"
        meaning = f"{reason[0].upper()}{reason[1:]} Training refuses the folder."
        yield Problem(ERROR, "sizes-differ", title, meaning, tuple((path, detail) for path, _, detail in group))


def _values(found: Survey) -> Iterator[Problem]:
    """Yield values that are no ids of the classes, and splits that nobody can learn from or score by."""
    problems = []
    for split in found.splits:
        masks = [mask for _, mask in found.pairs(split)]
        known = [found.facts[mask] for mask in masks if mask in found.facts]
        void = all(set(facts.values) <= {IGNORE} for facts in known)
        meant = (found.ignore_is_named or void) and split != "train"
        problems += checks.check_values(masks, found.facts, found.info, ignore_is_meant=meant)
        if known and void:
            follows = "nothing can be learnt from it" if split == "train" else "it can have no scores"
            severity = ERROR if split == "val" else WARNING
            title = f"No pixel of {split} is labelled: its masks hold nothing but 255, which means ignore"
            yield Problem(
                severity, "nothing-labelled", title, f"So {follows}; write class ids into the masks.", count=1
            )
    for reason, group in by_reason(problems).items():
        files = tuple((path, detail) for path, _, detail in group)
        title = f"{counted(group, 'mask')} with values that are not class ids of classes.txt"
        meaning = f"{reason[0].upper()}{reason[1:]} Training refuses the folder."
        palettes = reason.startswith("palette")
        command = mends.prepare_palettes(found) if palettes else mends.prepare_masks(found)
        yield Problem(ERROR, "values", title, meaning, files, command)
    if not found.ignore_is_named:
        yield from _half_white(found)


def _half_white(found: Survey) -> Iterator[Problem]:
    """Yield masks of 0/255 among masks of ids, which no rule can tell from masks with void."""
    masks = [one for split in found.splits for one in found.masks(split) if one.facts is not None]
    white = [one for one in masks if set(one.facts.values) == {0, IGNORE}]
    if white and any(set(one.facts.values) - {0, IGNORE} for one in masks):
        title = f"{counted(white, 'mask')} with nothing but 0 and 255, among others with ids"
        meaning = (
            "255 means ignore, so that they show class 0 alone. If it is an object in them, write its id instead; if "
            "it is void, a line for 255 in classes.txt says so."
        )
        yield Problem(WARNING, "black-and-white-masks", title, meaning, paths(white))


def _forms(found: Survey) -> Iterator[Problem]:
    """Yield what is unusual about images and masks that can be used."""
    pictures = [one for split in found.splits for one in found.images(split) if one.facts is not None]
    turned = [(one.path, f"orientation {one.facts.orientation}") for one in pictures if one.facts.orientation != 1]
    if turned:
        title = f"{counted(turned, 'image')} with an EXIF rotation"
        meaning = "It is applied here, so masks must be of the upright picture. Other programs may not apply it."
        yield Problem(
            NOTE,
            "exif",
            title,
            meaning,
            tuple(turned),
            f"cd {shlex.quote(found.root)} && xargs -0 mogrify -auto-orient < {{files}}",
        )
    grey = [one for one in pictures if one.grey]
    plain = [one for one in pictures if one.grey or one.mode in ("1", "L", "LA") or one.mode.startswith("I")]
    if grey:
        title = f"{counted(grey, 'grey image')} stored in colour"
        yield Problem(NOTE, "grey-as-colour", title, "Harmless; as grey files they take less room.", paths(grey))
    if 0 < len(plain) < len(pictures):
        title = f"{len(plain)} grey images among {len(pictures) - len(plain)} in colour"
        meaning = "Both are read as RGB. If colour says nothing, let training drop it: --config.augment.greyscale=0.5"
        yield Problem(NOTE, "grey-and-colour", title, meaning, paths(plain))
    deep = [one for one in pictures if one.bits > 8]
    if deep and len(deep) < len(pictures):
        title = f"{len(deep)} images of {deep[0].bits} bits among {len(pictures) - len(deep)} of 8"
        meaning = "Of the former, the upper 8 of the bits that the set uses are read: do both look alike?"
        yield Problem(WARNING, "mixed-bit-depths", title, meaning, paths(deep))
    clear = [one for one in pictures if one.mode in ("RGBA", "LA", "PA")]
    if clear:
        title = f"{counted(clear, 'image')} with an alpha channel"
        yield Problem(NOTE, "alpha", title, "It is dropped: the colours count that are stored.", paths(clear))
    tiny = [one for one in pictures if min(one.facts.height, one.facts.width) < _SMALL]
    if tiny:
        title = f"{counted(tiny, 'image')} of less than {_SMALL} pixels on a side"
        yield Problem(
            WARNING, "tiny", title, "Networks halve an image five times; little is left of these.", paths(tiny)
        )

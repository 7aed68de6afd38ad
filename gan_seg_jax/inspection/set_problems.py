"""What is wrong between the splits of a set, and with its classes."""

import collections
import re
import shlex
from collections.abc import Iterator, Sequence

import numpy as np

from gan_seg_jax.inspection.mends import set_aside
from gan_seg_jax.inspection.problem import ERROR, NOTE, WARNING, Problem, counted, paths, with_partners
from gan_seg_jax.inspection.survey import Survey
from gan_seg_jax.labels import IGNORE

_FEW = 10  # images of a split that say little
_VOID = 0.3  # share of void that is worth a warning
_RARE = 0.01  # share of the known pixels below which a class is rare
GROUPS = r"^(.+)[-_. ][^-_. ]*$"
"""What is before the last separator of a name: the usual video or patient."""


def find(found: Survey) -> Iterator[Problem]:
    """Yield all of them."""
    yield from _equal(found)
    yield from _near(found)
    yield from _splits(found)
    if found.info is not None:
        yield from _classes(found)


def _equal(found: Survey) -> Iterator[Problem]:
    """Yield equal images: in two splits, with other labels, or simply twice."""
    split_of = {file.path: split for split, files in found.splits.items() for file in files.images.values()}
    mask_of = {image: mask for split in found.splits for image, mask in found.pairs(split)}
    between, contradicted, within = [], [], []
    beside: dict[str, str] = {}
    for group in found.twins.equal:
        first = group[0]
        beside |= dict.fromkeys(group[1:], first) | {first: group[1]}
        others = [(path, f"equal to {first}") for path in group[1:]]
        labels = {found.facts[mask_of[path]].digest for path in group if mask_of.get(path) in found.facts}
        between += [(path, f"equal to {_other(path, group, split_of)}") for path in _to_go(group, split_of)]
        if len(labels) > 1:
            contradicted += [(first, f"as {len(group) - 1} more"), *others]
        if len({split_of[path] for path in group}) < len(group):
            within += others
    if between:
        title = f"{counted(between, 'image')} of one split, each equal to an image of another"
        meaning = (
            "Scores would be of images that are trained on; training refuses it. Set aside one of each, with masks."
        )
        files, count = with_partners(between, mask_of), len(between)
        yield Problem(ERROR, "in-two-splits", title, meaning, files, set_aside(found.root), count, beside)
    if contradicted:
        title = f"{counted(contradicted, 'image')} equal to another one but with other labels"
        yield Problem(
            WARNING, "contradictory-labels", title, "One of the labels is wrong.", tuple(contradicted), beside=beside
        )
    if within:
        title = f"{counted(within, 'image')} equal to another one of the set"
        meaning = "Those within one split count several times in training and in scores."
        yield Problem(WARNING, "equal-images", title, meaning, tuple(within), beside=beside)


def _to_go(group: Sequence[str], split_of: dict[str, str]) -> list[str]:
    """Return which of equal images are to go so that one split has them: it is test, else val, else train."""
    order = ("test", "val", "train", "unlabelled")
    kept = min((split_of[path] for path in group), key=order.index)
    return [path for path in group if split_of[path] != kept]


def _other(path: str, group: Sequence[str], split_of: dict[str, str]) -> str:
    return next(other for other in group if split_of[other] != split_of[path])


def _near(found: Survey) -> Iterator[Problem]:
    same = found.twins
    if not same.searched:
        title = "Images that look the same were not searched for"
        meaning = 'Equal ones were. The others need a library: pip install "gan_seg_jax[inspect]"'
        yield Problem(NOTE, "near-duplicates-not-searched", title, meaning, count=1)
    for between, severity in ((True, WARNING), (False, NOTE)):
        count = sum(number for splits, number in same.counts.items() if (splits[0] != splits[1]) == between)
        pairs = [pair for pair in same.near if (pair.splits[0] != pair.splits[1]) == between]
        if not count:
            continue
        names = {" and ".join(dict.fromkeys(splits)) for splits in same.counts if (splits[0] != splits[1]) == between}
        title = f"{count} pair{'s' * (count > 1)} of images that look the same, {'between' if between else 'within'} "
        meaning = (
            "If they are (frames of a video, parts of a picture), scores are of what was nearly learnt: look at them, "
            "and keep what belongs together in one split (--config.group_pattern)."
            if between
            else "Frames of a video, or copies of a picture? They teach less than their number says."
        )
        files = tuple((pair.first, f"looks like {pair.second}, {pair.bits} of 256 bits differ") for pair in pairs)
        name = "near-duplicates-between-splits" if between else "near-duplicates"
        beside = {pair.first: pair.second for pair in reversed(pairs)}
        yield Problem(severity, name, title + ", ".join(sorted(names)), meaning, files, count=count, beside=beside)


def _splits(found: Survey) -> Iterator[Problem]:
    counts = {split: len(files.images) for split, files in found.splits.items()}
    if "val" not in counts and counts.get("train", 0) > 1:
        title = f"There is no val; training sets aside a tenth of train, {max(1, counts['train'] // 10)} images"
        yield Problem(NOTE, "no-val", title, "By a hash of the names, so that it is always the same tenth.", count=1)
    if "test" not in counts:
        yield Problem(
            NOTE, "no-test", "There is no test; val is scored in its place", "It has chosen the step, too.", count=1
        )
    for split in ("train", "val", "test"):
        if 0 < counts.get(split, 0) < _FEW:
            title = f"{split} has {counts[split]} image{'s' * (counts[split] > 1)}"
            meaning = (
                "A network needs more to learn from." if split == "train" else "Its scores will be far from certain."
            )
            yield Problem(WARNING, f"few-in-{split}", title, meaning, count=counts[split])
    hint = _prefixes(found)
    if hint:
        title = f"{len(hint)} beginnings of names are in several splits"
        meaning = (
            "A hint only: if they name a video or a patient, scores are of what was trained on. Keep them together by "
            "--config.group_pattern, which refuses a set that does not."
        )
        command = f"--config.group_pattern={shlex.quote(GROUPS)}"
        yield Problem(NOTE, "same-prefix", title, meaning, tuple(hint.items()), command)


def _prefixes(found: Survey) -> dict[str, str]:
    """Return beginnings of names that are in several splits -> in which; {} where all names begin alike."""
    places: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for split in ("train", "val", "test"):
        for name in found.splits[split].images if split in found.splits else ():
            if match := re.match(GROUPS, name):
                places[match[1]][split] = places[match[1]].get(split, 0) + 1
    if len(places) < 2:
        return {}
    return {
        prefix: ", ".join(f"{count} in {split}" for split, count in counts.items())
        for prefix, counts in sorted(places.items())
        if len(counts) > 1 and sum(counts.values()) > len(counts)
    }


def _classes(found: Survey) -> Iterator[Problem]:
    """Yield classes that are absent or rare, labels without content, and much void."""
    names, train = found.info.class_names, None
    for split in found.splits:
        pixels = found.class_pixels(split)
        known = pixels.sum(axis=0)
        if not known.any():
            continue
        absent = [names[index] for index in np.flatnonzero(known == 0)]
        train = known if split == "train" else train
        if absent:
            follows = "it is never learnt" if split == "train" else "its score is undefined, or 0 where it is predicted"
            title = f"{counted(absent, 'class', 'classes')} without a pixel in {split}: {', '.join(absent[:8])}"
            yield Problem(WARNING, f"absent-from-{split}", title, f"So {follows}.", count=len(absent))
        yield from _empty_labels(found, split)
        shares = known / known.sum()
        rare = [f"{names[index]} {shares[index]:.2%}" for index in np.flatnonzero((0 < shares) & (shares < _RARE))]
        if split == "train" and rare:
            title = (
                f"{counted(rare, 'class', 'classes')} with less than {_RARE:.0%} of the pixels: {', '.join(rare[:8])}"
            )
            meaning = "Weighted by how often it occurs, a class of few pixels counts in the loss."
            command = "--config.losses.class_weighting=fourth_root_median_frequency"
            yield Problem(NOTE, "rare-classes", title, meaning, (), command, len(rare))


def _empty_labels(found: Survey, split: str) -> Iterator[Problem]:
    masks = [one for one in found.masks(split) if one.facts is not None]
    void = [one for one in masks if set(one.facts.values) == {IGNORE}]
    constant = [one for one in masks if len(set(one.facts.values) - {IGNORE}) == 1]
    total = sum(sum(one.facts.counts) for one in masks)
    ignored = sum(dict(zip(one.facts.values, one.facts.counts, strict=True)).get(IGNORE, 0) for one in masks)
    if void and len(void) < len(masks):
        title = f"{counted(void, 'mask')} of {split} that are nothing but 255 (ignore)"
        yield Problem(WARNING, "void-masks", title, "Nothing is learnt from them, or scored.", paths(void))
    if constant:
        title = f"{len(constant)} of {len(masks)} masks of {split} hold a single class"
        severity = WARNING if len(constant) == len(masks) and len(masks) > 1 else NOTE
        meaning = "Images without an object teach what background is; were masks left empty by mistake?"
        yield Problem(severity, "constant-masks", title, meaning, paths(constant))
    if len(void) < len(masks) and ignored > _VOID * total:
        title = f"{ignored / total:.0%} of the pixels of {split} are 255 (ignore)"
        yield Problem(
            WARNING, "much-void", title, "They count neither in training nor in scores. Is that meant?", count=1
        )

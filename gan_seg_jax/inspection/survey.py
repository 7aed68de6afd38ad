"""Look at all of a folder set, whatever is wrong with it, by the reader that training uses."""

import collections
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_seg_jax.data import checks, class_weights, folder, images, listing
from gan_seg_jax.data.catalog import CATALOG, DatasetInfo
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.inspection import twins
from gan_seg_jax.inspection.look import Look, look
from gan_seg_jax.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was found in a folder.

    Attributes:
        root: Its absolute path.
        dataset: "folder" or a name of the catalog.
        info: Its classes; None where classes.txt cannot be used.
        ignore_is_named: Whether classes.txt has a line for 255.
        splits: Split -> its files.
        looks: Path -> what was seen in that file.
        refusals: Why parts of it could not be listed or understood, in sentences.
        unpaired: Images without masks.
        left_out: Why -> paths of what is not read.
        twins: Images that are there more than once.
    """

    root: str
    dataset: str
    info: DatasetInfo | None
    ignore_is_named: bool
    splits: dict[str, listing.Files]
    looks: dict[str, Look]
    refusals: list[str]
    unpaired: list[checks.Problem]
    left_out: dict[str, list[str]]
    twins: twins.Twins

    @property
    def facts(self) -> dict[str, images.Facts]:
        """Facts of the files that can be used, by path."""
        return {path: seen.facts for path, seen in self.looks.items() if seen.facts is not None}

    def images(self, split: str) -> list[Look]:
        """Return what was seen in the images of a split."""
        return [self.looks[file.path] for file in self.splits[split].images.values()]

    def masks(self, split: str) -> list[Look]:
        """Return what was seen in the masks of a split."""
        return [self.looks[file.path] for file in self.splits[split].partners.values()]

    def pairs(self, split: str) -> list[tuple[str, str]]:
        """Return paths of the images and masks of a split that belong together."""
        files = self.splits[split]
        return [(files.images[name].path, mask.path) for name, mask in files.partners.items()]

    @property
    def partner_of(self) -> dict[str, str]:
        """The mask of each image that has one, and the image of each mask, by path."""
        pairs = [pair for split in self.splits for pair in self.pairs(split)]
        return dict(pairs) | {mask: image for image, mask in pairs}

    def class_pixels(self, split: str) -> np.ndarray:
        """Return how many pixels of each usable mask of a split are of each class, int64 [n, k]."""
        found = [seen.facts for seen in self.masks(split) if seen.facts is not None]
        counts = np.zeros((len(found), self.info.num_classes), np.int64)
        for row, facts in enumerate(found):
            for value, count in zip(facts.values, facts.counts, strict=True):
                if value < self.info.num_classes:
                    counts[row, value] = count
        return counts


def expect(data_dir: str | os.PathLike, dataset: str = "folder") -> None:
    """Refuse what `survey` refuses; no file is read.

    Raises:
        InputError: There is no such folder or kind of set, or nothing of the layout in it.
    """
    if dataset not in ("folder", *CATALOG):
        raise unknown("--dataset", dataset, ["folder", *CATALOG])
    listing.require_layout(os.path.abspath(os.path.expanduser(data_dir)), folder.LAYOUT)


def survey(data_dir: str | os.PathLike, dataset: str = "folder", *, max_pixels: int = images.MAX_PIXELS) -> Survey:
    """Look at every file of a folder in the project's layout; what was found in sound ones is remembered.

    Args:
        data_dir: The folder; `~` is the home directory.
        dataset: "folder", or a set of the catalog whose classes.txt may be missing.
        max_pixels: How many pixels a file may have.

    Raises:
        InputError: As `expect`.
    """
    expect(data_dir, dataset)
    root = os.path.abspath(os.path.expanduser(data_dir))
    refusals: list[str] = []
    try:
        info, ignore_is_named = folder.resolve_info(root, CATALOG.get(dataset), dataset)
    except InputError as error:
        info, ignore_is_named = None, False
        refusals.append(str(error))
    found = listing.Listing(root)
    splits = {
        split: files
        for split, name in folder.FOLDERS.items()
        if os.path.lexists(os.path.join(root, name)) and (files := _scan(found, split, name, refusals)) is not None
    }
    found.look_beside("", {*folder.FOLDERS.values(), *folder.NOT_DATA})
    jobs = [(file, False) for files in splits.values() for file in files.images.values()]
    jobs += [(file, True) for files in splits.values() for file in files.partners.values()]
    seen = checks.on_threads(lambda job: look(root, job[0].path, is_mask=job[1], max_pixels=max_pixels), jobs)
    usable = {file: one.facts for (file, _), one in zip(jobs, seen, strict=True) if one.facts is not None}
    checks.remember(root, usable)
    looks = {one.path: one for one in seen}
    same = twins.find(
        {split: [file.path for file in files.images.values()] for split, files in splits.items()},
        {file.path: facts.digest for file, facts in usable.items()},
        {one.path: one.fingerprint for one in seen if one.fingerprint is not None},
    )
    left_out = {why: sorted(paths) for why, paths in found.left_out.items() if paths}
    return Survey(root, dataset, info, ignore_is_named, splits, looks, refusals, found.problems, left_out, same)


def _scan(found: listing.Listing, split: str, name: str, refusals: list[str]) -> listing.Files | None:
    """List a split; where its masks cannot be listed, at least its images."""
    partner = None if split == "unlabelled" else "masks"
    for kind in dict.fromkeys((partner, None)):
        try:
            return found.scan(name, kind)
        except InputError as error:
            if str(error) not in refusals:
                refusals.append(str(error))
    return None


def as_json(found: Survey) -> dict[str, Any]:
    """Return the facts of a survey as JSON values: by split, by class, and of each file."""
    names = () if found.info is None else found.info.class_names
    return {
        "data_dir": found.root,
        "dataset": found.dataset,
        "classes": list(names),
        "splits": {split: _split_json(found, split) for split in found.splits},
        "class_weights": weights(found),
        "left_out": found.left_out,
        "equal_images": found.twins.equal,
        "near_duplicates": {
            "searched": found.twins.searched,
            "counts": {" and ".join(splits): count for splits, count in found.twins.counts.items()},
            "pairs": [dataclasses.asdict(pair) for pair in found.twins.near],
        },
        "files": {path: _file_json(one) for path, one in found.looks.items()},
    }


def weights(found: Survey) -> dict[str, list[float]]:
    """Return the weight of each class by every rule, from the masks of train; {} where nothing is labelled."""
    if found.info is None or "train" not in found.splits:
        return {}
    pixels = found.class_pixels("train")
    if not pixels.any():
        return {}
    counts = class_weights.totals(pixels)
    rules = class_weights.RULES
    return {rule: list(class_weights.rounded(class_weights.class_weights(counts, rule))) for rule in rules}


def _split_json(found: Survey, split: str) -> dict[str, Any]:
    seen, masks = found.images(split), found.masks(split)
    facts = [one.facts for one in seen if one.facts is not None]
    values: collections.Counter[int] = collections.Counter()
    for one in masks:
        if one.facts is not None:
            values.update(dict(zip(one.facts.values, one.facts.counts, strict=True)))
    result = {
        "images": len(seen),
        "masks": len(masks),
        "sizes": counted((one.height, one.width) for one in facts),
        "kinds": counted(one.kind for one in seen if one.kind),
        "modes": counted(one.mode for one in seen if one.mode),
        "bits": counted(one.bits for one in seen if one.bits),
        "orientations": counted(one.orientation for one in facts),
        "mask_kinds": counted(one.kind for one in masks if one.kind),
        "mask_modes": counted(one.mode for one in masks if one.mode),
        "mask_values": [[value, count] for value, count in sorted(values.items())],
        "void": values[IGNORE] / values.total() if values else None,
    }
    if found.info is not None and masks:
        pixels = found.class_pixels(split)
        result["class_pixels"] = pixels.sum(axis=0).tolist()
        result["images_with_class"] = (pixels > 0).sum(axis=0).tolist()
    return result


def counted(values) -> list[list[Any]]:
    """Return [value, how often] of all values, the most frequent first."""
    return [[value, count] for value, count in collections.Counter(values).most_common()]


def _file_json(one: Look) -> dict[str, Any]:
    """Return what was seen in a file without what is empty."""
    fields = {name: value for name, value in _plain(one).items() if value or name in ("height", "width")}
    return fields if one.kind else {"damage": one.damage}


def _plain(one: Look) -> Mapping[str, Any]:
    facts = one.facts
    fields = {name: getattr(one, name) for name in ("kind", "mode", "bits", "height", "width", "grey", "refused")}
    if facts is None:
        return fields | {"values": list(one.values), "num_values": one.num_values}
    upright = {"height": facts.height, "width": facts.width, "digest": facts.digest}
    turned = {"orientation": facts.orientation} if facts.orientation != 1 else {}
    pixels = [list(pair) for pair in zip(facts.values, facts.counts, strict=True)]
    return fields | upright | turned | {"top": facts.top, "pixels": pixels}

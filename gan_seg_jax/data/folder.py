"""Read a data set from a folder of images and masks.

    classes.txt              id name R G B
    train/images/ID.*        train/masks/ID.*      image and mask have the same name
    val/...                  optional: else a tenth of train, chosen by a hash of the ids
    test/...                 optional
    unlabeled/images/...     optional: images without masks, for semi-supervised methods

Images are PNG, JPEG, TIFF, BMP or WebP (`images.ENDINGS`), masks PNG, TIFF or BMP. Of the target of an adaptation,
whose labels come from elsewhere, train needs no masks, or need not be there where unlabeled is; then val must be, with
masks: the best step is chosen by it.

Hidden files are not looked at. Whatever else is not read (other endings, folders inside `images` and `masks`, masks
without image, files beside the folders) is counted and named on stderr.
"""

import dataclasses
import operator
import os

import numpy as np

from gan_seg_jax.data import checks, classes, images, listing
from gan_seg_jax.data.catalog import Dataset, DatasetInfo, Example, Members
from gan_seg_jax.data.listing import Files, Listing
from gan_seg_jax.data.splits import Rules, carve, check
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.system.files import shown

FOLDERS = {"train": "train", "val": "val", "test": "test", "unlabelled": "unlabeled"}
"""Split -> its folder."""
NOT_DATA = {"classes.txt", "provenance.json", "PREPARED.json", "PREPARED.jsonl"}
LAYOUT = "expected classes.txt, train/images/ID.png (or .jpg, ...) and train/masks/ID.png (val, test, unlabeled too)"
"""What a folder should hold, in a message."""


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSplit:
    """A split of a folder set; files are opened when an example is asked for (a `catalog.Split`).

    Attributes:
        info: The data set's facts.
        name: "train", "val", "test" or "unlabelled".
        root: The folder of the set.
        ids: Names of the images without their ending, sorted.
        image_files: Paths of the images below `root`.
        mask_files: Paths of the masks; empty for a split without labels.
        label_sizes: (height, width) of each label, int32 [n, 2].
        label_counts: How many pixels of each label are of each class, int32 [n, k].
        max_pixels: How many pixels an image may have.
    """

    info: DatasetInfo
    name: str
    root: str
    ids: tuple[str, ...]
    image_files: tuple[str, ...]
    mask_files: tuple[str, ...]
    label_sizes: np.ndarray
    label_counts: np.ndarray
    max_pixels: int

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        """Read an example.

        Args:
            index: 0 <= index < len(self).

        Returns:
            `image` uint8 [h, w, 3], `label` uint8 [h, w] (all 255 without labels) and `id`.

        Raises:
            InputError: A file has gone, has been damaged or no longer fits since the folder was checked.
        """
        index = operator.index(index)
        options = {"max_pixels": self.max_pixels, "known": True}  # the check of the folder has read it
        file = os.path.join(self.root, self.image_files[index])
        image = images.read_image(file, bits=self.info.image_bits, **options)
        if not self.mask_files:
            return {"image": image, "label": np.full(image.shape[:2], IGNORE, np.uint8), "id": self.ids[index]}
        path = os.path.join(self.root, self.mask_files[index])
        label = images.read_mask(path, **options)
        if label.shape != image.shape[:2] or np.any((label >= self.info.num_classes) & (label != IGNORE)):
            raise images.ImageError(path, "has changed since the folder was checked and no longer fits; start again.")
        return {"image": image, "label": label, "id": self.ids[index]}

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each label, int32 [n, 2], as the check of the folder found them."""
        return self.label_sizes

    def class_pixels(self) -> np.ndarray:
        """Return how many pixels of each label are of each class, int32 [n, k], as the check found them."""
        return self.label_counts


def open_folder(
    data_dir: str | os.PathLike,
    *,
    info: DatasetInfo | None = None,
    name: str = "folder",
    target: bool = False,
    rules: Rules | None = None,
) -> Dataset:
    """Open a folder of images and masks after looking at every file in it.

    Without `val`, the tenth of train with the smallest hashes of their ids becomes "val", at least one: the same on
    every machine, and nearly the same when images are added.

    Args:
        data_dir: The folder, laid out as in the head of this file; `~` is the home directory.
        info: Facts of a known set; its classes.txt may be missing, but if there it must name the same classes. None
            reads them from classes.txt.
        name: Name of the set where `info` is None.
        target: Whether labels for training come from another set: see the head of this file.
        rules: How it is read and checked; None for the defaults.

    Returns:
        The data set, with "train" (of a target perhaps without labels, or none) and "val", and "test" and "unlabelled"
        where they are.

    Raises:
        InputError: The folder, classes.txt or files cannot be used; the message counts and names them.
    """
    if not os.fspath(data_dir):
        raise InputError(f"data_dir is empty; {name} needs the folder of the set: --config.data_dir=FOLDER.")
    root, rules = os.path.abspath(os.path.expanduser(data_dir)), rules or Rules()
    listing.require_layout(root, LAYOUT, splits=("train", "unlabeled") if target else ("train",))
    info, ignore_is_named = resolve_info(root, info, name)
    found = Listing(root)
    train_has_masks = not target or os.path.lexists(os.path.join(root, "train", "masks"))
    without = {"unlabelled"} if train_has_masks else {"unlabelled", "train"}
    splits = {
        split: found.scan(folder, None if split in without else "masks")
        for split, folder in FOLDERS.items()
        if os.path.lexists(os.path.join(root, folder))
    }
    found.report({*FOLDERS.values(), *NOT_DATA})
    if "val" not in splits and not train_has_masks:
        raise InputError(
            f"{shown(root)} has no val, and no train/masks of which a part could be set aside; the best step is "
            "chosen by labelled images of the target: add val/images/ID.png and val/masks/ID.png."
        )
    facts = _check(found, splits, info, ignore_is_named, rules)
    splits = settle(root, splits, facts, rules)
    checks.expect_labels(root, {name: [file.path for file in splits[name].partners.values()] for name in splits}, facts)
    info = with_bits(info, splits, facts, rules)
    return Dataset(
        info,
        {split: _make_split(root, split, splits[split], facts, info, rules) for split in FOLDERS if split in splits},
        {split: members(files, facts) for split, files in splits.items()},
    )


def settle(root: str, splits: dict[str, Files], facts: dict[str, images.Facts], rules: Rules) -> dict[str, Files]:
    """Check what must hold between splits, and split train into train and val where there is no val.

    Raises:
        InputError: An image or a group is in two splits, or there is one image only.
    """
    check(root, {name: members(files, facts) for name, files in splits.items()}, rules)
    if "val" in splits:
        return splits
    train = splits["train"]
    chosen = carve(root, members(train, facts), rules)

    def take(is_val: bool) -> Files:
        ids = [image_id for image_id, to_val in zip(train.images, chosen, strict=True) if to_val == is_val]
        partners = {name: train.partners[name] for name in ids if name in train.partners}
        return Files({name: train.images[name] for name in ids}, partners)

    return {**splits, "train": take(False), "val": take(True)}


def members(files: Files, facts: dict[str, images.Facts]) -> Members:
    """Return what the files of a split hold."""
    paths = [file.path for file in files.images.values()]
    labels = [facts[file.path].digest for file in files.partners.values()]
    return Members(tuple(files.images), paths, [facts[path].digest for path in paths], labels)


def with_bits(info: DatasetInfo, splits: dict[str, Files], facts: dict[str, images.Facts], rules: Rules) -> DatasetInfo:
    """Return the facts of the set with the number of bits that its images of 16 bits use.

    Raises:
        InputError: They hold more than the rules say, or are in colour, of which only the upper 8 bits can be read.
    """
    groups = [group for files in splits.values() for group in (files.images, files.partners)]  # targets count as well
    deep = [facts[file.path] for group in groups for file in group.values() if facts[file.path].top]
    bits = images.expect_bits(info.name, rules.image_bits, [(image.top, image.deep_colour) for image in deep])
    return info if bits == info.image_bits else dataclasses.replace(info, image_bits=bits)


def resolve_info(root: str, info: DatasetInfo | None, name: str) -> tuple[DatasetInfo, bool]:
    """Return the facts that hold, and whether classes.txt has a line for the ignore label.

    Raises:
        InputError: classes.txt is missing where `info` does not stand in for it, cannot be used or names other classes.
    """
    path = os.path.join(root, "classes.txt")
    if info is not None and not os.path.lexists(path):
        return info, False
    listed, void_color = classes.read_classes(path, name=name)
    if info is not None and listed.class_names != info.class_names:
        raise InputError(
            f"{shown(path)} names {', '.join(listed.class_names)}, but {info.name} has the classes "
            f"{', '.join(info.class_names)}; point data_dir at {info.name}, or use --config.dataset=folder."
        )
    return info or listed, void_color is not None


def _check(
    found: Listing, splits: dict[str, Files], info: DatasetInfo, ignore_is_named: bool, rules: Rules
) -> dict[str, images.Facts]:
    """Look at all files; return their facts or raise with everything that was found."""
    image_files = [file for files in splits.values() for file in files.images.values()]
    mask_files = [file for files in splits.values() for file in files.partners.values()]
    facts, damaged = checks.inspect(found.root, image_files, mask_files, max_pixels=rules.max_pixels)
    problems = found.problems + damaged
    for split, files in splits.items():
        pairs = [(files.images[image_id].path, mask.path) for image_id, mask in files.partners.items()]
        problems += checks.compare_sizes(pairs, facts)
        void = all(set(facts[mask].values) <= {IGNORE} for _, mask in pairs if mask in facts)  # `expect_labels` says so
        # Nothing can be learnt from a train split of 0 and ignore.
        meant = (ignore_is_named or void) and split != "train"
        problems += checks.check_values([mask for _, mask in pairs], facts, info, ignore_is_meant=meant)
    checks.raise_problems(found.root, problems, len(image_files) + len(mask_files))
    return facts


def _make_split(
    root: str, name: str, files: Files, facts: dict[str, images.Facts], info: DatasetInfo, rules: Rules
) -> FolderSplit:
    image_files = tuple(file.path for file in files.images.values())
    mask_files = tuple(files.partners[image_id].path for image_id in files.images) if files.partners else ()
    sizes = np.array([(facts[path].height, facts[path].width) for path in image_files], np.int32)
    counts = np.zeros((len(image_files), info.num_classes), np.int32)
    for row, path in enumerate(mask_files):
        for value, count in zip(facts[path].values, facts[path].counts, strict=True):
            if value < info.num_classes:  # else ignored
                counts[row, value] = count
    return FolderSplit(info, name, root, tuple(files.images), image_files, mask_files, sizes, counts, rules.max_pixels)

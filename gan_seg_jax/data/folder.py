"""Read a data set from a folder of images and masks.

    classes.txt                       id name R G B
    train/images/ID.{png,jpg,jpeg}    train/masks/ID.png
    val/...                           optional: else a tenth of train, chosen by a hash of the ids
    test/...                          optional
    unlabeled/images/...              optional: images without masks, for semi-supervised methods

Of the target of an adaptation, whose labels come from elsewhere, train needs no masks, or need not be there where
unlabeled is; then val must be, with masks: the best step is chosen by it.

Hidden files, folders inside `images` and `masks`, files with other endings and masks without image are not looked at.
"""

import dataclasses
import hashlib
import operator
import os

import numpy as np

from gan_seg_jax.data import checks, classes, images
from gan_seg_jax.data.catalog import IGNORE, Dataset, DatasetInfo, Example
from gan_seg_jax.errors import InputError

FOLDERS = {"train": "train", "val": "val", "test": "test", "unlabelled": "unlabeled"}
"""Split -> its folder."""
_LAYOUT = "expected classes.txt, train/images/ID.{png,jpg,jpeg} and train/masks/ID.png (val, test, unlabeled as well)"
_VAL_FRACTION = 10  # one in ten


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
    """

    info: DatasetInfo
    name: str
    root: str
    ids: tuple[str, ...]
    image_files: tuple[str, ...]
    mask_files: tuple[str, ...]
    label_sizes: np.ndarray

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
        image = images.read_image(os.path.join(self.root, self.image_files[index]))
        if not self.mask_files:
            return {"image": image, "label": np.full(image.shape[:2], IGNORE, np.uint8), "id": self.ids[index]}
        path = os.path.join(self.root, self.mask_files[index])
        label = images.read_mask(path)
        if label.shape != image.shape[:2] or np.any((label >= self.info.num_classes) & (label != IGNORE)):
            raise images.ImageError(path, "has changed since the folder was checked and no longer fits; start again.")
        return {"image": image, "label": label, "id": self.ids[index]}

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each label, int32 [n, 2], as the check of the folder found them."""
        return self.label_sizes


@dataclasses.dataclass(frozen=True)
class Files:
    """The images of one split by id, and their partners: masks, or the target images of pairs."""

    images: dict[str, checks.File]
    partners: dict[str, checks.File]


def open_folder(
    data_dir: str | os.PathLike, *, info: DatasetInfo | None = None, name: str = "folder", target: bool = False
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

    Returns:
        The data set, with "train" (of a target perhaps without labels, or none) and "val", and "test" and "unlabelled"
        where they are.

    Raises:
        InputError: The folder, classes.txt or files cannot be used; the message counts and names them.
    """
    if not os.fspath(data_dir):
        raise InputError(f"data_dir is empty; {name} needs the folder of the set: --config.data_dir=FOLDER.")
    root = os.path.abspath(os.path.expanduser(data_dir))
    require_layout(root, splits=("train", "unlabeled") if target else ("train",))
    info, ignore_is_named = _resolve_info(root, info, name)
    problems: list[checks.Problem] = []
    train_has_masks = not target or os.path.lexists(os.path.join(root, "train", "masks"))
    splits = {
        split: scan(root, folder, problems, targets=None if train_has_masks or split != "train" else False)
        for split, folder in FOLDERS.items()
        if os.path.lexists(os.path.join(root, folder))
    }
    if "val" not in splits and not train_has_masks:
        raise InputError(
            f"{_show(root)} has no val, and no train/masks of which a part could be set aside; the best step is chosen "
            "by labelled images of the target: add val/images/ID.{png,jpg,jpeg} and val/masks/ID.png."
        )
    facts = _check(root, splits, info, problems, ignore_is_named)
    if "val" not in splits:
        splits["train"], splits["val"] = carve(root, splits["train"])
    return Dataset(
        info, {split: _make_split(root, split, splits[split], facts, info) for split in FOLDERS if split in splits}
    )


def _resolve_info(root: str, info: DatasetInfo | None, name: str) -> tuple[DatasetInfo, bool]:
    """Return the facts that hold, and whether classes.txt has a line for the ignore label."""
    path = os.path.join(root, "classes.txt")
    if info is not None and not os.path.lexists(path):
        return info, False
    listed, ignore_is_named = classes.read_classes(path, name=name)
    if info is not None and listed.class_names != info.class_names:
        raise InputError(
            f"{_show(path)} names {', '.join(listed.class_names)}, but {info.name} has the classes "
            f"{', '.join(info.class_names)}; point data_dir at {info.name}, or use --config.dataset=folder."
        )
    return info or listed, ignore_is_named


def require_layout(root: str, layout: str = _LAYOUT, *, splits: tuple[str, ...] = ("train",)):
    """Refuse a folder that is missing, no folder, empty, or without the images of any of `splits`.

    `layout` says what it should hold.
    """
    if not os.path.lexists(root):
        raise InputError(f"The data folder {_show(root)} does not exist; {layout} in it. Check --config.data_dir.")
    if not os.path.isdir(root):
        raise InputError(f"{_show(root)} is not a folder; give the folder of the set: {layout} in it.")
    try:
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{_show(root)} cannot be listed ({error.strerror}); change its permissions.") from None
    if not names:
        raise InputError(f"The data folder {_show(root)} is empty; {layout} in it.")
    if not any(os.path.isdir(os.path.join(root, split, "images")) for split in splits):
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        missing = " or ".join(f"{split}/images" for split in splits)
        raise InputError(f"{_show(root)} has no folder {missing} (it has {_show(found)}); {layout}.")


def scan(root: str, folder: str, problems: list[checks.Problem], *, targets: bool | None = None) -> Files:
    """List the files of a split and note images without partners.

    Args:
        root: Absolute path of the set.
        folder: Of the split, below `root`.
        problems: To which images without partners are added.
        targets: None pairs images with masks; True with targets; False with nothing.

    Raises:
        InputError: The folders cannot be listed, hold no image, or two files of one id.
    """
    found = _list_files(root, f"{folder}/images", images.ENDINGS)
    if not found:
        raise InputError(
            f"{_show(root)}/{folder}/images holds no image (.png, .jpg, .jpeg); put images there"
            + ("." if folder == "train" else f" or remove the folder {folder}.")
        )
    if folder == "unlabeled" or targets is False:
        return Files(found, {})
    if targets:
        partners = _list_files(root, f"{folder}/targets", images.ENDINGS)
        reason = "image without a target; add targets/ID.png (or .jpg) of the same name, or remove the image."
    else:
        partners = _list_files(root, f"{folder}/masks", (".png",))
        reason = (
            "image without a mask; add masks/ID.png of the same name, or move images without labels to "
            "unlabeled/images."
        )
    problems += [checks.Problem(file.path, reason) for image_id, file in found.items() if image_id not in partners]
    return Files(found, {image_id: partners[image_id] for image_id in found if image_id in partners})


def _list_files(root: str, folder: str, endings: tuple[str, ...]) -> dict[str, checks.File]:
    """Return the files in a folder that have one of the endings, by id, sorted; two for one id are refused."""
    files: dict[str, checks.File] = {}
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{_show(root)}/{folder} cannot be listed ({error.strerror}); expected this folder in every split."
        ) from None
    clashes = []
    for entry in listed:
        image_id, ending = os.path.splitext(entry.name)
        if entry.name.startswith(".") or ending.lower() not in endings:
            continue
        try:
            if entry.is_dir():
                continue
            state = entry.stat()
            file = checks.File(f"{folder}/{entry.name}", state.st_size, state.st_mtime_ns)
        except OSError:  # a link to nothing or to itself: reading it will say so
            file = checks.File(f"{folder}/{entry.name}", -1, -1)
        if image_id in files:
            clashes.append(f"{os.path.basename(files[image_id].path)} and {entry.name}")
        files.setdefault(image_id, file)
    if clashes:
        more = f" (and {len(clashes) - 1} more pairs)" if len(clashes) > 1 else ""
        raise InputError(
            f"{_show(root)}/{folder} holds {_show(clashes[0])}{more}, which have the same id; expected one file for "
            "each id: rename or remove one."
        )
    return dict(sorted(files.items()))


def _check(
    root: str, splits: dict[str, Files], info: DatasetInfo, problems: list[checks.Problem], ignore_is_named: bool
) -> dict[str, images.MaskFacts]:
    """Look at all files; return their facts or raise with everything that was found."""
    image_files = [file for files in splits.values() for file in files.images.values()]
    mask_files = [file for files in splits.values() for file in files.partners.values()]
    facts, damaged = checks.inspect(root, image_files, mask_files)
    problems += damaged
    for split, files in splits.items():
        pairs = [(files.images[image_id].path, mask.path) for image_id, mask in files.partners.items()]
        problems += checks.compare_sizes(pairs, facts)
        meant = ignore_is_named and split != "train"  # nothing can be learnt from a train split of 0 and ignore
        problems += checks.check_values([mask for _, mask in pairs], facts, info, ignore_is_meant=meant)
    checks.raise_problems(root, problems, len(image_files) + len(mask_files))
    return facts


def carve(root: str, train: Files) -> tuple[Files, Files]:
    """Split train into train and val by a hash of the ids.

    Raises:
        InputError: There is one image only.
    """
    if len(train.images) < 2:
        raise InputError(
            f"{_show(root)} has no val and a single image in train/images; expected at least two, one to learn from "
            "and one to validate with: add images or a folder val."
        )
    by_hash = sorted(train.images, key=lambda image_id: hashlib.sha256(os.fsencode(image_id)).digest())
    chosen = set(by_hash[: max(1, len(by_hash) // _VAL_FRACTION)])

    def take(is_val: bool) -> Files:
        ids = [image_id for image_id in train.images if (image_id in chosen) == is_val]
        partners = {name: train.partners[name] for name in ids if name in train.partners}
        return Files({name: train.images[name] for name in ids}, partners)

    return take(False), take(True)


def _make_split(
    root: str, name: str, files: Files, facts: dict[str, images.MaskFacts], info: DatasetInfo
) -> FolderSplit:
    image_files = tuple(file.path for file in files.images.values())
    mask_files = tuple(files.partners[image_id].path for image_id in files.images) if files.partners else ()
    sizes = np.array([facts[path][:2] for path in image_files], np.int32)
    return FolderSplit(info, name, root, tuple(files.images), image_files, mask_files, sizes)


def _show(path) -> str:
    return images.printable(path)

"""Read pairs of images from a folder: what a network sees, and what it is to make of it.

    train/images/ID.png (or .jpg, ...)    train/targets/ID.png (or .jpg, ...)
    val/...                               optional: else a tenth of train, as of a folder of masks
    test/...                              optional

Both are RGB images of the same size. A folder without train/targets holds images alone, for methods that make input
and target of one image. Nothing has a class: the label of every pixel is 0, so that 255 marks padding alone.
"""

import dataclasses
import operator
import os

import numpy as np

from gan_seg_jax.data import checks, folder, images, listing
from gan_seg_jax.data.catalog import Dataset, DatasetInfo, Example
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError

INFO = DatasetInfo("pairs", ("image",), ((255, 255, 255),))
_SPLITS = ("train", "val", "test")
_LAYOUT = "expected train/images/ID.png (or .jpg, ...) and train/targets/ID.png (val and test as well)"


@dataclasses.dataclass(frozen=True, eq=False)
class PairsSplit:
    """A split of pairs; files are opened when an example is asked for (a `catalog.Split`).

    Attributes:
        info: The data set's facts.
        name: "train", "val" or "test".
        root: The folder of the set.
        ids: Names of the images without their ending, sorted.
        image_files: Paths of the images below `root`.
        target_files: Paths of the targets; empty for a set of images alone.
        image_sizes: (height, width) of each image, int32 [n, 2].
        max_pixels: How many pixels an image may have.
    """

    info: DatasetInfo
    name: str
    root: str
    ids: tuple[str, ...]
    image_files: tuple[str, ...]
    target_files: tuple[str, ...]
    image_sizes: np.ndarray
    max_pixels: int

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        """Read an example.

        Args:
            index: 0 <= index < len(self).

        Returns:
            `image` uint8 [h, w, 3], `label` uint8 [h, w], all 0, `id`, and `target` uint8 [h, w, 3] if there are any.

        Raises:
            InputError: A file has gone, has been damaged or no longer fits since the folder was checked.
        """
        index = operator.index(index)
        options = {"bits": self.info.image_bits, "max_pixels": self.max_pixels, "known": True}
        image = images.read_image(os.path.join(self.root, self.image_files[index]), **options)
        example: Example = {"image": image, "label": np.zeros(image.shape[:2], np.uint8), "id": self.ids[index]}
        if self.target_files:
            path = os.path.join(self.root, self.target_files[index])
            example["target"] = images.read_image(path, **options)
            if example["target"].shape != image.shape:
                raise images.ImageError(
                    path, "has changed since the folder was checked and no longer fits; start again."
                )
        return example

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each image, int32 [n, 2], as the check of the folder found them."""
        return self.image_sizes

    def class_pixels(self) -> np.ndarray:
        """Return the pixels of each image, int32 [n, 1]: all are of the one class."""
        return self.image_sizes.prod(axis=1, dtype=np.int32, keepdims=True)


def open_pairs(data_dir: str | os.PathLike, *, rules: Rules | None = None) -> Dataset:
    """Open a folder of pairs after looking at every file in it.

    Args:
        data_dir: The folder, laid out as in the head of this file; `~` is the home directory.
        rules: How it is read and checked; None for the defaults.

    Returns:
        The data set, with "train" and "val", and "test" where it is.

    Raises:
        InputError: The folder or files in it cannot be used; the message counts and names them.
    """
    if not os.fspath(data_dir):
        raise InputError("data_dir is empty; pairs need the folder of the set: --config.data_dir=FOLDER.")
    root, rules = os.path.abspath(os.path.expanduser(data_dir)), rules or Rules()
    listing.require_layout(root, _LAYOUT)
    found = listing.Listing(root)
    targets = "targets" if os.path.lexists(os.path.join(root, "train", "targets")) else None
    splits = {
        split: found.scan(folder.FOLDERS[split], targets)
        for split in _SPLITS
        if os.path.lexists(os.path.join(root, folder.FOLDERS[split]))
    }
    found.report({*_SPLITS, *folder.NOT_DATA})
    files = [file for split in splits.values() for group in (split.images, split.partners) for file in group.values()]
    facts, damaged = checks.inspect(root, files, (), max_pixels=rules.max_pixels)
    problems = found.problems + damaged
    for split in splits.values():
        pairs = [(split.images[image_id].path, target.path) for image_id, target in split.partners.items()]
        problems += checks.compare_sizes(pairs, facts, partner="target")
    checks.raise_problems(root, problems, len(files))
    splits = folder.settle(root, splits, facts, rules)
    info = folder.with_bits(INFO, splits, facts, rules)
    return Dataset(
        info,
        {name: _make_split(root, name, splits[name], facts, info, rules) for name in _SPLITS if name in splits},
        {name: folder.members(files, facts) for name, files in splits.items()},
    )


def _make_split(
    root: str, name: str, files: listing.Files, facts: dict[str, images.Facts], info: DatasetInfo, rules: Rules
) -> PairsSplit:
    image_files = tuple(file.path for file in files.images.values())
    target_files = tuple(files.partners[image_id].path for image_id in files.images) if files.partners else ()
    sizes = np.array([(facts[path].height, facts[path].width) for path in image_files], np.int32)
    return PairsSplit(info, name, root, tuple(files.images), image_files, target_files, sizes, rules.max_pixels)

"""Generated pairs among the training pairs, read from a folder of the command `sample`.

Of every batch the first round(share b) rows are generated pairs instead of real ones: as many steps and images as
without, and the real rows are the ones that the run without generated pairs has there. Which pair is where is a
function of (seed, position) alone, as all reading is; every pair is shown once before any is shown again.
"""

import dataclasses
import os

import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.data.catalog import DatasetInfo, Example, Split
from gan_seg_jax.data.folder import open_folder
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError

_STREAM = 7  # keeps the order of generated pairs apart from other draws by the same seed
ON_THE_DEVICE = "augmentation"  # the method that makes pairs itself


@dataclasses.dataclass(frozen=True, eq=False)
class MadePairs:
    """The generated pairs of a run; picklable for worker processes.

    Attributes:
        parts: where they are read, one split after the other.
        rows: how many rows of every batch, the first ones, they take.
        batch_size: of all rows, over all processes.
        seed: of the order.
    """

    parts: tuple[Split, ...]
    rows: int
    batch_size: int
    seed: int

    def find(self, position: int) -> int | None:
        """Return which made pair is at a position of the run, None where a real one is."""
        batch, row = divmod(position, self.batch_size)
        if row >= self.rows:
            return None
        epoch, place = divmod(batch * self.rows + row, len(self))
        return int(np.random.default_rng((self.seed, _STREAM, epoch)).permutation(len(self))[place])

    def __len__(self) -> int:
        """Return the number of generated pairs."""
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> Example:
        """Return made pair number `index`."""
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError("behind the last made pair")


def open_made_pairs(config: ConfigDict, info: DatasetInfo) -> MadePairs | None:
    """Open the folder of generated pairs that a config names; None where it wants none.

    Args:
        config: synthetic, batch_size, seed, method.
        info: facts of the real data: the generated pairs must have the same classes.

    Raises:
        InputError: share and folder do not fit together or with the method, or the folder cannot be used.
    """
    share, folder = config.synthetic.share, config.synthetic.folder
    if not folder:
        if share > 0 and config.method != ON_THE_DEVICE:
            raise InputError(
                f"config.synthetic.share is {share}, but config.synthetic.folder is empty and the method "
                f"{config.method} makes no pairs: name a folder of the command sample, or use configs/augment_seg.py."
            )
        return None
    rows = round(share * config.batch_size)
    if not 0 < rows <= config.batch_size:
        raise InputError(
            f"config.synthetic.folder is {folder!r} and config.synthetic.share is {share}, {rows} of a batch of "
            f"{config.batch_size}; give a share that is at least one image."
        )
    made = open_folder(folder, name="generated pairs", rules=Rules(allow_duplicates=True))
    if made.info.class_names != info.class_names:
        raise InputError(
            f"The generated pairs in {folder} have the classes {', '.join(made.info.class_names)}, {info.name} has "
            f"{', '.join(info.class_names)}; sample from a generator of {info.name}."
        )
    # A folder without `val` lends a tenth of its images to it; here all are for training.
    parts = ("train",) if os.path.isdir(os.path.join(os.path.expanduser(folder), "val")) else ("train", "val")
    return MadePairs(tuple(made.splits[name] for name in parts), rows, config.batch_size, config.seed)

"""The embedded data set: street scenes, drawn at the first use by a TensorFlow Datasets builder without TensorFlow.

Ten classes in the manner of CamVid (grass and hedges count as `tree`, road markings as `road`, traffic lights as
`sign`). Every scene is a function of (seed, split, index, size), so any number of any size can be had; prepared sets
of different sizes lie side by side in the cache. `domains` shows the same scenes at night, in rain or through
another camera: another domain with the same classes.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import sys
import time

import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import tqdm_utils
from tqdm import tqdm

from gan_seg_jax.data.catalog import Dataset, DatasetInfo
from gan_seg_jax.data.scenes.canvas import CLASS_COLORS, CLASS_NAMES
from gan_seg_jax.data.scenes.domains import DOMAINS
from gan_seg_jax.data.scenes.encoding import encode_scenes
from gan_seg_jax.data.tfds_split import TfdsSplit, quiet_logs
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.system import process

INFO = DatasetInfo(
    "scenes",
    CLASS_NAMES,
    CLASS_COLORS,
    protocol="Drawn street scenes, 10 classes, no void; mean IoU from one confusion matrix over the test split.",
)
SPLITS = ("train", "val", "test")
_STALE = 24 * 3600.0  # seconds after which what a killed preparation left is cleared away


@dataclasses.dataclass(kw_only=True)
class ScenesConfig(tfds.core.BuilderConfig):
    """Which scenes.

    Attributes:
        name: Folder in the cache; made from the rest, since equal names must mean equal scenes.
        height, width: Size of a scene in pixels.
        counts: Scenes in train, val and test.
        seed: Of the whole set.
        look: A name in `domains.DOMAINS`.
    """

    name: str = ""
    height: int = 96
    width: int = 128
    counts: tuple[int, int, int] = (1000, 100, 200)
    seed: int = 0
    look: str = "day"

    def __post_init__(self):
        self.name = f"{self.height}x{self.width}-{'-'.join(map(str, self.counts))}-seed{self.seed}"
        if self.look != "day":
            self.name += f"-{self.look}"


class _LocalInfo(tfds.core.DatasetInfo):
    """Facts that nobody looks up in a bucket of TFDS, where each domain leaves an empty temporary folder behind."""

    def initialize_from_bucket(self) -> None:
        """Leave the facts as the builder has them."""


class Scenes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the scenes; a new VERSION for every change of the drawing."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # TFDS would look for checksums of downloads next to the code, by a package it does not require

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.builder_config.height, self.builder_config.width)
        features = {
            "image": tfds.features.Image(shape=(*shape, 3), encoding_format="png"),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=list(CLASS_NAMES), shape=(*shape, 1), encoding_format="png"
            ),
            "id": tfds.features.Text(),
        }
        # The order of the records is the order of the indices.
        return _LocalInfo(
            builder=self, description=__doc__, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(i) for i, split in enumerate(SPLITS) if self.builder_config.counts[i]}

    def _generate_examples(self, split: int):
        config = self.builder_config
        scenes = encode_scenes(config.seed, split, config.counts[split], (config.height, config.width), config.look)
        # disable=None: no bar where there is no terminal
        with tqdm(
            scenes, desc=f"drawing scenes, {SPLITS[split]}", total=config.counts[split], unit=" scenes", disable=None
        ) as bar:
            for i, (image, label) in enumerate(bar):
                yield i, {"image": image, "segmentation_mask": label, "id": f"{SPLITS[split]}-{i:06d}"}


def open_scenes(
    data_dir: str | os.PathLike, *, size: tuple[int, int], counts: tuple[int, int, int], seed: int, domain: str = "day"
) -> Dataset:
    """Open the embedded data set; draw it first where it is not in the cache.

    Args:
        data_dir: Folder of the cache; "" for gan_seg_jax in the user's own, $XDG_CACHE_HOME or ~/.cache, or where
            that cannot be written for a temporary folder.
        size: (height, width) of the scenes in pixels, each at least 8.
        counts: Scenes in train, val and test; train and val at least 1.
        seed: Of the whole set, at least 0.
        domain: A name in `domains.DOMAINS`.

    Returns:
        The set with splits "train", "val" and, where its count is not 0, "test".

    Raises:
        InputError: A number is out of range, there is no such domain, or the cache cannot be written or is damaged.
    """
    for name, values, least in (("size", size, (8, 8)), ("counts", counts, (1, 1, 0)), ("seed", (seed,), (0,))):
        whole = len(values) == len(least) and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        if not whole or any(v < low for v, low in zip(values, least, strict=True)):
            raise InputError(
                f"scenes.{name} is {values}; expected whole numbers of at least {', '.join(map(str, least))}."
            )
    if domain not in DOMAINS:
        raise unknown("domain of the scenes", domain, DOMAINS)
    config = ScenesConfig(height=size[0], width=size[1], counts=tuple(counts), seed=seed, look=domain)
    root = pathlib.Path(data_dir).expanduser() if str(data_dir) else default_data_dir()
    place = pathlib.Path("scenes") / config.name / str(Scenes.VERSION)
    if not str(data_dir) and not (root / place / "dataset_info.json").exists():
        root = _writable(root)
    directory = root / place
    if not (directory / "dataset_info.json").exists():
        _prepare(root, config, directory)
    splits = {s: TfdsSplit(INFO, s, str(directory), s) for s, count in zip(SPLITS, counts, strict=True) if count}
    for (name, split), count in zip(splits.items(), (c for c in counts if c), strict=True):
        if len(split) != count:
            raise InputError(
                f"{directory} holds {len(split)} scenes in {name}, expected {count}; "
                "delete this folder to draw them anew."
            )
    return Dataset(INFO, splits)


def default_data_dir() -> pathlib.Path:
    """Return the cache of this user: gan_seg_jax in $XDG_CACHE_HOME, or in ~/.cache where that is not set."""
    base = os.environ["XDG_CACHE_HOME"] if os.environ.get("XDG_CACHE_HOME") else "~/.cache"
    return pathlib.Path(base).expanduser() / "gan_seg_jax"


def _writable(cache: pathlib.Path) -> pathlib.Path:
    """Return the cache, or where it cannot be written a temporary folder."""
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK | os.X_OK):
            return cache
    folder = pathlib.Path(process.own_folder())
    print(f"{cache} cannot be written, so scenes go to {folder}; set XDG_CACHE_HOME to keep them.", file=sys.stderr)
    return folder


def _prepare(root: pathlib.Path, config: ScenesConfig, directory: pathlib.Path) -> None:
    """Draw a set into the cache.

    TFDS writes into a folder of its own and renames it, so that a killed process leaves no half of a set.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        for left in directory.parent.glob("incomplete.*"):
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
        print(
            f"drawing {sum(config.counts)} scenes of {config.height} x {config.width} into {directory}, once",
            file=sys.stderr,
        )
        bars = tqdm_utils._active
        tqdm_utils.display_progress_bar(False)
        try:
            with quiet_logs(), contextlib.redirect_stdout(io.StringIO()):
                Scenes(data_dir=root, config=config, file_format="array_record").download_and_prepare()
        finally:
            tqdm_utils.display_progress_bar(bars)
    except OSError as error:
        if (directory / "dataset_info.json").exists():  # another process was faster
            return
        raise InputError(
            f"the scenes cannot be written to {directory.parent} ({error.strerror or error}); "
            "make it writable, free some space, or give another folder as data_dir."
        ) from error

"""NIfTI volumes, labelled slice by slice, cut and scaled as `prepare` does it, and written as volumes of the same grid.

OUTPUT/masks/NAME, OUTPUT/confidence/NAME and so on have the name of the input, and its shape without channels, affine,
spacing and units (`preparing.nifti` has the sources of the format's facts). Voxels that hold no number are 255, as in
training: nothing is known of them.
"""

import dataclasses
import gzip
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm
from absl import flags

from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.inference import finding, mask_files
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import intensity, nifti
from gan_seg_jax.preparing.source import Options
from gan_seg_jax.runs import prepared
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import track

WINDOW = "intensity_window"  # what `prepare` calls --window, which is that of sliding windows here


def define_flags() -> None:
    """Define the flags that say how volumes become slices, where the run does not know it."""
    flags.DEFINE_float(WINDOW, None, "Of volumes: how many units there are from black to white, prepare's --window.")
    flags.DEFINE_float("level", None, "Of volumes: the value in the middle of them.")
    flags.DEFINE_string("percentiles", None, "Of volumes, instead: which percentiles are black and white: 1,99.")
    flags.DEFINE_string("axis", None, "Of volumes: axial | coronal | sagittal, or 0 | 1 | 2 of the stored array.")
    flags.DEFINE_integer("channel", None, "Of volumes with several channels or times: which one.")


def cut_from_flags(workdir: str | Path) -> Options:
    """Return how volumes become slices: as the data of the run were prepared, but for what the flags say.

    Raises:
        InputError: neither says it, a flag is wrong, or nibabel is missing.
    """
    names = {name: WINDOW if name == "window" else name for name in prepared.FIELDS}
    given = {name: flags.FLAGS[flag].value for name, flag in names.items() if flags.FLAGS[flag].value is not None}
    known = prepared.read(workdir)
    if {"window", "percentiles"} & set(given):
        known = {name: value for name, value in known.items() if name not in intensity.FLAGS}
    cut = Options(**known | given)
    nifti.check_flags(cut, window=WINDOW)
    return cut


class Volumes:
    """Labels volumes into a folder."""

    ENDINGS = finding.VOLUME_ENDINGS

    def __init__(self, output: Path, maps: Sequence[str], cut: Options):
        """Write to `output`, of `maps` a volume each, too; `cut` says how volumes become slices."""
        self._output, self._folders, self._cut = output, ("masks", "confidence", *maps), cut

    def has(self, name: Path) -> bool:
        """Tell whether all that is made of a volume is there."""
        return all(os.path.isfile(self._output / folder / name) for folder in self._folders)

    def label(self, make: Callable, file: Path, name: Path) -> None:
        """Label a volume.

        Args:
            make: of `tasks.task.Pictures.maker`.
            file: the volume.
            name: of its outputs.

        Raises:
            ImageError: it cannot be read, or is not clear.
            InputError: an output cannot be written.
        """
        volume = _read(file, self._cut)
        found = {folder: np.empty(volume.values.shape, np.uint8) for folder in self._folders}
        picture = lambda number: np.repeat(volume.grey(number)[:, :, None], 3, axis=2)
        numbers = range(len(volume.values))
        for number, made in track(make(zip(numbers, numbers, strict=True), picture), len(numbers), "slice"):
            for folder, values in found.items():
                values[number] = made[folder]
        unknown = ~np.isfinite(volume.values)
        if unknown.any():
            tqdm.tqdm.write(f"{files.shown(file)}: {unknown.sum()} voxels hold no number: void, 255", file=sys.stderr)
            found["masks"][unknown] = IGNORE
        for folder, values in found.items():
            _write(self._output / folder / name, values, volume, is_label=folder == "masks")

    def read(self, name: Path) -> tuple[np.ndarray, tuple[float, ...]]:
        """Return the labels of a volume, uint8 [slices, h, w], and millimetres of (h, w, slices), maybe ()."""
        volume = _read(self._output / "masks" / name, dataclasses.replace(self._cut, channel=-1))
        return volume.values.astype(np.uint8), volume.spacing

    def masks(self, image: str, name: Path) -> Iterator[mask_files.Mask]:
        """Yield the labels of each slice of a volume that is called `image`."""
        labels, spacing = self.read(name)
        for number, mask in enumerate(labels):
            yield mask_files.Mask(f"{image}/{number:04d}", name / f"{number:04d}.png", mask, spacing[:2] or None)


def _read(file: Path, cut: Options) -> nifti.Volume:
    if not file.is_file():  # a pipe would be waited for
        raise ImageError(file, "does not exist, or is no regular file.")
    return nifti.read(os.fspath(file), cut)


def _write(path: Path, values: np.ndarray, volume: nifti.Volume, *, is_label: bool) -> None:
    """Write values, uint8 [slices, h, w], as a NIfTI volume of the grid that they were cut from."""
    header = volume.image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_intent("label" if is_label else "none")
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b""  # of the image, as the extensions, in which a patient may be named
    header.extensions.clear()
    made = type(volume.image)(nifti.uncut(values, volume.axes), None, header)  # None: as the header has it
    content = made.to_bytes()
    with files.written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, gzip.compress(content, mtime=0) if path.suffix.lower() == ".gz" else content)

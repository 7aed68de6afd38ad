"""Videos, labelled frame by frame: a mask of each frame, and the video under the colours of its classes.

    OUTPUT/masks/NAME/000000.png      NAME with its ending; the number of the frame; further maps likewise
    OUTPUT/overlays/NAME/STEM.mp4     the size, times and shape of pixels of the video, turned upright; without sound

Frames are decoded twice: to be labelled, and, once all masks lie there, to be drawn over. So no more than a batch is in
memory, and a command that was killed goes on with the masks that are missing.
"""

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm
from ml_collections import ConfigDict

from gan_seg_jax.data import images
from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.inference import finding, frames, mask_files
from gan_seg_jax.pictures.panels import overlay
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.preparing.extras import need
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import Progress


class Videos:
    """Labels videos into a folder."""

    ENDINGS = finding.VIDEO_ENDINGS

    def __init__(self, output: Path, maps: Sequence[str], config: ConfigDict, *, keep: bool):
        """Say how.

        Args:
            output: the folder.
            maps: further pictures of each frame.
            config: of the run.
            keep: whether frames whose pictures are all there are left as they are.

        Raises:
            InputError: PyAV is not installed.
        """
        need("av", "video")
        self._output, self._folders, self._config, self._keep = output, ("masks", *maps), config, keep

    def has(self, name: Path) -> bool:
        """Tell whether all that is made of a video is there; its overlay is made last."""
        counts = {self._count(folder, name) for folder in self._folders}
        return os.path.isfile(self._overlay(name)) and len(counts) == 1 and counts != {0}

    def label(self, make: Callable, file: Path, name: Path) -> None:
        """Label a video.

        Args:
            make: of `tasks.task.Pictures.maker`.
            file: the video.
            name: of its outputs.

        Raises:
            ImageError: it cannot be read to its end; the frames before that are labelled.
            InputError: an output cannot be written.
        """
        video = frames.Video(file, self._config.max_pixels)
        damage: list[ImageError] = []
        seen = 0

        def missing() -> Iterator[tuple[np.ndarray, int]]:
            nonlocal seen
            try:
                for seen, (pixels, _) in enumerate(video.frames(), start=1):
                    number = seen - 1
                    if not (self._keep and all(os.path.isfile(path) for path in self._paths(name, number))):
                        yield pixels, number
            except ImageError as error:  # what waits for its batch to be full is labelled yet
                damage.append(error)

        for number, made in _shown(make(missing(), lambda pixels: pixels), video.count, "frame"):
            for folder, path in zip(self._folders, self._paths(name, number), strict=True):
                write_picture(path, made[folder])
        if damage:
            before = f" The masks of the {seen} frames before are there." if seen else ""
            raise ImageError(file, damage[0].reason + before)
        if not seen:
            raise ImageError(file, "holds no frames; replace it or remove it.")
        if video.ends_early:
            told = f"ends after {video.end:.1f} s, and its header says {video.seconds:.1f} s; it may be cut short"
            tqdm.tqdm.write(f"{files.shown(file)}: {told}", file=sys.stderr)
        self._remove_from(name, seen)
        drawn = (self._drawn(file, name, number, frame) for number, frame in enumerate(video.frames()))
        frames.write(self._overlay(name), _shown(drawn, seen, "overlay"), video)

    def masks(self, image: str, name: Path) -> Iterator[mask_files.Mask]:
        """Yield the labels of each frame of a video that is called `image`."""
        for number in range(self._count("masks", name)):
            own = name / f"{number:06d}.png"
            labels = images.read_mask(self._output / "masks" / own, max_pixels=self._config.max_pixels)
            yield mask_files.Mask(f"{image}/{number:06d}", own, labels)

    def _drawn(self, file: Path, name: Path, number: int, frame: frames.Frame) -> frames.Frame:
        """Return a frame under the colours of its mask."""
        path = self._output / "masks" / name / f"{number:06d}.png"
        mask = images.read_mask(path, max_pixels=self._config.max_pixels)
        if mask.shape != frame.pixels.shape[:2]:
            raise ImageError(file, f"has frames of another size than {files.shown(path)}; give another --output.")
        return frame._replace(pixels=overlay(frame.pixels, mask, self._config.class_colors))

    def _remove_from(self, name: Path, first: int) -> None:
        """Remove what an earlier command has made of a longer video of this name, from the frame `first` on."""
        for number in itertools.count(first):
            found = [path for path in self._paths(name, number) if os.path.isfile(path)]
            if not found:
                return
            for path in found:
                with files.written(path):
                    path.unlink()

    def _paths(self, name: Path, number: int) -> list[Path]:
        return [self._output / folder / name / f"{number:06d}.png" for folder in self._folders]

    def _count(self, folder: str, name: Path) -> int:
        """Return how many frames there are in a row, from the first on."""
        place = self._output / folder / name
        return next(number for number in itertools.count() if not os.path.isfile(place / f"{number:06d}.png"))

    def _overlay(self, name: Path) -> Path:
        return self._output / "overlays" / name / f"{name.stem}.mp4"


def _shown(items: Iterable, total: int, unit: str) -> Iterator:
    """Yield the items and show how many of about `total` are done."""
    with Progress(total, unit) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            if done <= total:
                progress.show(done)

"""Files of images of any size as batches: read as in training, those of like size together."""

import collections
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tqdm
from ml_collections import ConfigDict
from PIL import Image

from gan_seg_jax.data import canvas, images
from gan_seg_jax.errors import InputError


def reader(config: ConfigDict, *, masks: bool = False) -> Callable[[Path], np.ndarray]:
    """Return what reads a file as the run's training did: an image, or a mask of class ids."""
    limit = {"max_pixels": config.max_pixels}
    if masks:
        return functools.partial(images.read_mask, **limit)
    return functools.partial(images.read_image, bits=config.image_bits, **limit)


def groups(
    files: list[tuple[Path, Path]], read: Callable, shown: Callable, batch_size: Callable
) -> Iterator[tuple[tuple[int, int], list[tuple[Path, np.ndarray, np.ndarray]]]]:
    """Yield (bucket of sizes, [(output name, what was read, what is shown of it), ...]), at most a batch of each.

    Args:
        files: (file, output name).
        read: of `reader`; a file that it cannot read is reported on stderr and left out.
        shown: what was read -> what a network is shown of it, whose size chooses the bucket.
        batch_size: bucket -> most images of it at once.
    """
    waiting: dict[tuple[int, int], list] = collections.defaultdict(list)
    for path, name in files:
        try:
            image = read(path)
        except InputError as error:
            tqdm.tqdm.write(f"skipped: {error}", file=sys.stderr)  # a bar may stand there
            continue
        seen = shown(image)
        out_size = canvas.bucket(seen.shape)
        waiting[out_size].append((name, image, seen))
        if len(waiting[out_size]) == batch_size(out_size):
            yield out_size, waiting.pop(out_size)
    yield from waiting.items()


def stack(rows: list[dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Return a batch of `count` rows, the last one repeated."""
    rows = rows + rows[-1:] * (count - len(rows))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def resized(array: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """Return an array [h, w] or [h, w, 3] at another (height, width)."""
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize(size[::-1], resampling))

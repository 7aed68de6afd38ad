"""Images, labels and logits to time with, as like photographs as a few filters make them."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SIZE, CLASSES = (360, 480), 11
CRF = (3.0, 1.0, 4.0, 67.0, 3.0)  # the defaults of `postprocess.crf.CRFParameters`


def synthetic(size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of shaded and noisy regions, [h, w, 3], 0 to 255, and the regions' classes, [h, w]."""
    rng = np.random.default_rng(0)
    label = ndimage.gaussian_filter(rng.normal(size=(*size, CLASSES)), (25, 25, 0)).argmax(-1)
    shade = 3000 * ndimage.gaussian_filter(rng.normal(size=size), 40) + 4 * rng.normal(size=size)
    image = rng.uniform(40, 215, (CLASSES, 3))[label] + shade[..., None] + rng.normal(size=(*size, 3))
    return np.clip(image, 0, 255), label


def unaries(label: np.ndarray) -> np.ndarray:
    """Return logits float32 [h, w, k] with blurred borders and blotchy errors, as of a network that is 0.7 sure."""
    rng = np.random.default_rng(0)
    one_hot = (label[..., None] == np.arange(CLASSES)).astype(float)
    noise = ndimage.gaussian_filter(rng.normal(size=one_hot.shape), (2, 2, 0))
    return (3.15 * (ndimage.gaussian_filter(one_hot, (3, 3, 0)) + 1.2 * noise)).astype(np.float32)


def write_folder(counts: dict[str, int], classes: int) -> Path:
    """Write a folder set of such images, each the first one turned round by another number of rows and columns.

    Args:
        counts: images of each split.
        classes: how many there are, at most `CLASSES`.

    Returns:
        Its folder, among the temporary ones, which the driver removes.
    """
    root, number = Path(tempfile.mkdtemp()), 0
    image, label = synthetic()
    image, label = np.uint8(image), np.uint8(np.minimum(label, classes - 1))
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for _ in range(count):
            number += 1
            for kind, array in (("images", image), ("masks", label)):
                turned = np.roll(array, (number, 3 * number), (0, 1))
                Image.fromarray(turned).save(root / split / kind / f"{number:04d}.png")
    lines = (f"{index} class{index} {20 * index} {index} 0\n" for index in range(classes))
    (root / "classes.txt").write_text("".join(lines))
    return root


def write_files(count: int, size: tuple[int, int]) -> list[Path]:
    """Write so many images of that height and width as JPEG, each the first one turned round; return their files."""
    root, image = Path(tempfile.mkdtemp()), np.uint8(synthetic(size)[0])
    files = [root / f"{number:04d}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(np.roll(image, (number, 3 * number), (0, 1))).save(file, quality=95)
    return files

"""Canvases: images of any size as arrays of one size, at one scale or several, on the host."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from gan_seg_jax.labels import IGNORE


def fit_to_canvas(
    image: np.ndarray,
    label: np.ndarray,
    canvas_size: tuple[int, int],
    *,
    resize: str,
    rng: np.random.Generator | None,
    target: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Put an image and its label, and its target image if there is one, into the top left of a canvas.

    Args:
        image: uint8 [h, w, 3].
        label: uint8 [h, w].
        canvas_size: (H, W) of the canvas.
        resize: "fit" scales until the image just fits (bilinear with anti-aliasing; the label by nearest); "none"
            keeps the scale and cuts out a window where the image is larger.
        rng: draws the window's place; None takes the centre.
        target: uint8 [h, w, 3], what is to be made of the image; treated as the image is.

    Returns:
        image uint8 [H, W, 3] (padding 0), label uint8 [H, W] (padding 255), content int32 [2], the part that is used;
        and target uint8 [H, W, 3] (padding 0) where one is given.
    """
    pictures = [image] if target is None else [image, target]
    size = np.array(image.shape[:2])
    if resize == "fit":
        scale = min(canvas_size[0] / size[0], canvas_size[1] / size[1])
        fitted = tuple(int(n) for n in np.clip(np.round(size * scale), 1, canvas_size))
        if fitted != image.shape[:2]:
            pictures = [
                np.asarray(Image.fromarray(x).resize(fitted[::-1], Image.Resampling.BILINEAR)) for x in pictures
            ]
            label = np.asarray(Image.fromarray(label).resize(fitted[::-1], Image.Resampling.NEAREST))
    else:
        room = np.maximum(size - canvas_size, 0)
        top, left = room // 2 if rng is None else rng.integers(room + 1)
        window = (slice(top, top + canvas_size[0]), slice(left, left + canvas_size[1]))
        pictures, label = [x[window] for x in pictures], label[window]
    content = np.array(label.shape, np.int32)
    padded = {name: pad(x, canvas_size) for name, x in zip(("image", "target"), pictures, strict=False)}
    return {**padded, "label": pad(label, canvas_size, IGNORE), "content": content}


def view_names(scale: float) -> tuple[str, str]:
    """Return what an image at a scale, and the part of its canvas that it occupies, are called in a stream."""
    return ("image", "content") if scale == 1 else (f"image@{scale}", f"content@{scale}")


def scaled_views(
    image: np.ndarray, canvas_size: tuple[int, int], scales: tuple[float, ...], *, resize: str
) -> dict[str, np.ndarray]:
    """Return an image at scales other than 1, each resized from the original, so that larger ones show more of it.

    Args:
        image: uint8 [h, w, 3].
        canvas_size: (H, W) of the canvas at scale 1.
        scales: factors. With resize "fit" they scale the canvas, which the image then fits; with "none" the image.
        resize: as in `fit_to_canvas`.

    Returns:
        For each scale but 1, by `view_names`: uint8 [H', W', 3], and int32 [2], the part that is used.
    """
    arrays = {}
    for scale in scales:
        if scale == 1:
            continue
        scaled, canvas = image, tuple(max(1, round(n * scale)) for n in canvas_size)
        if resize == "none":
            canvas = bucket(canvas)
            target = tuple(max(1, round(n * scale)) for n in image.shape[:2])
            scaled = np.asarray(Image.fromarray(image).resize(target[::-1], Image.Resampling.BILINEAR))
        view = fit_to_canvas(scaled, np.zeros(scaled.shape[:2], np.uint8), canvas, resize=resize, rng=None)
        arrays |= dict(zip(view_names(scale), (view["image"], view["content"]), strict=True))
    return arrays


def bucket(size: Sequence[int]) -> tuple[int, int]:
    """Return the smallest of 32, 64, ..., 256, 320, ..., 512, 640, ... that hold a height and a width.

    Steps of 32, from 256 on of an eighth of the next power of two: images of all sizes share few of them. This is the
    canvas of an image that keeps its scale, whatever other images there are, and the array that its labels come in.
    """

    def hold(length):
        step = max(32, (1 << (int(length) - 1).bit_length()) // 8)
        return -(-int(length) // step) * step

    return hold(size[0]), hold(size[1])


def canvas_of(size: Sequence[int], canvas_size: tuple[int, int], *, resize: str) -> tuple[int, int]:
    """Return the canvas on which a network that is used sees an image of this size: with resize "fit" `canvas_size`."""
    return tuple(canvas_size) if resize == "fit" else bucket(size)


def pad(array: np.ndarray, size: tuple[int, int], value: int = 0) -> np.ndarray:
    """Return an image or label in the top left of a canvas [*size, ...] that otherwise holds `value`."""
    canvas = np.full((*size, *array.shape[2:]), value, array.dtype)
    canvas[: array.shape[0], : array.shape[1]] = array
    return canvas

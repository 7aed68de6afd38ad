"""Which window of the canvas a training crop shows: where it lies, how far it is zoomed, and whether it is mirrored."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_seg_jax.augment.photometric import where_chosen
from gan_seg_jax.labels import IGNORE


class Axis(NamedTuple):
    """What one axis of the crop shows, in pixels of the canvas.

    start: position of the crop's first border; integer where nothing is scaled.
    step: canvas pixels per crop pixel; negative mirrors.
    """

    start: jax.Array
    step: jax.Array


def draw(
    key: jax.Array,
    label: jax.Array,
    content: jax.Array,
    flips: tuple[jax.Array, jax.Array],
    chosen: Mapping[str, jax.Array],
    *,
    size: tuple[int, int],
    options: Any,
) -> list[Axis]:
    """Draw the window of a crop, rows and columns.

    Args:
        key: a PRNG key.
        label: uint8 [H, W].
        content: int32 [2], height and width that the image occupies.
        flips: whether rows and columns are mirrored.
        chosen: see `photometric.change`.
        size: h, w of the crop (static).
        options: `scale`, `aspect`, `translation`, `class_balance`, see `paired.prepare` (static).
    """
    _, window_key = jax.random.split(key)
    zoom_key, *axis_keys = jax.random.split(window_key, 3)
    zooms = _draw_zooms(zoom_key, jax.random.fold_in(key, 3), chosen, options)
    pixel = (None, None)
    if options.class_balance:
        pixel = draw_balanced_pixel(jax.random.fold_in(key, 2), label, content, share=options.class_balance)
    axes = [draw_axis(axis_keys[i], content[i], flips[i], zooms[i], pixel[i], out_size=size[i]) for i in range(2)]
    if options.translation:
        limit = options.translation
        shares = jax.random.uniform(jax.random.fold_in(key, 4), (2,), minval=-limit, maxval=limit)
        for i, share in enumerate(where_chosen(chosen, "translation", shares, 0.0)):
            shift = share * size[i] * axes[i].step
            axes[i] = axes[i]._replace(start=axes[i].start + (jnp.round(shift) if zooms[i] is None else shift))
    return axes


def changes_size(options: Any) -> bool:
    """Return whether windows may have another size, in canvas pixels, than the crop."""
    return tuple(options.scale) != (1.0, 1.0) or options.aspect > 0


def _draw_zooms(
    zoom_key: jax.Array, aspect_key: jax.Array, chosen: Mapping[str, jax.Array], options: Any
) -> tuple[jax.Array | None, jax.Array | None]:
    """Return the zoom of rows and columns; None, which keeps exact pixels, where nothing zooms."""
    zooms = (None, None)
    if tuple(options.scale) != (1.0, 1.0):
        low, high = (jnp.log(jnp.float32(limit)) for limit in options.scale)
        zooms = (jnp.exp(jax.random.uniform(zoom_key, minval=low, maxval=high)),) * 2
    if options.aspect:
        limit = 0.5 * math.log(1.0 + options.aspect)
        half = jnp.exp(jax.random.uniform(aspect_key, minval=-limit, maxval=limit))
        half = where_chosen(chosen, "aspect", half, 1.0)
        rows, columns = (jnp.float32(1.0) if zoom is None else zoom for zoom in zooms)
        zooms = (rows * half, columns / half)
    return zooms


def content_mask(content: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return bool [b, *size]: the canvas pixels that hold the image."""
    rows = jnp.arange(size[0]) < content[:, 0, None]
    columns = jnp.arange(size[1]) < content[:, 1, None]
    return rows[:, :, None] & columns[:, None, :]


def draw_balanced_pixel(
    key: jax.Array, label: jax.Array, content: jax.Array, *, share: float
) -> tuple[jax.Array, jax.Array]:
    """Draw a class uniformly from those in the image, and one of its pixels uniformly.

    Args:
        key: a PRNG key.
        label: uint8 [H, W].
        content: int32 [2].
        share: probability that a pixel is drawn at all.

    Returns:
        Row and column, int32; -1 where none is drawn or no pixel of the image is known.
    """
    share_key, class_key, pixel_key = jax.random.split(key, 3)
    width = label.shape[1]
    label = jnp.where(content_mask(content[None], label.shape)[0], label, IGNORE).reshape(-1)
    occurs = jnp.bincount(label, length=256)[:IGNORE] > 0
    index = _draw_index(pixel_key, label == _draw_index(class_key, occurs))
    found = jax.random.bernoulli(share_key, share) & jnp.any(occurs)
    return jnp.where(found, index // width, -1), jnp.where(found, index % width, -1)


def _draw_index(key: jax.Array, mask: jax.Array) -> jax.Array:
    """Return an index, int32, drawn uniformly from those where the mask, bool [n], holds."""
    counts = jnp.cumsum(mask)
    return jnp.argmax(counts > jax.random.randint(key, (), 0, jnp.maximum(counts[-1], 1)))


def draw_axis(
    key: jax.Array,
    content: jax.Array,
    flip: jax.Array,
    zoom: jax.Array | None,
    pixel: jax.Array | None,
    *,
    out_size: int,
) -> Axis:
    """Place a window uniformly: inside the content, or around it where the content is smaller than the window.

    Where `pixel` is given and not -1, only windows inside the content that show this row or column are drawn; a window
    around the content shows all of them.
    """
    if zoom is None:
        slack = content - out_size
        first, last = jnp.int32(0), jnp.abs(slack)
        if pixel is not None:
            wanted = (pixel >= 0) & (slack > 0)
            first = jnp.where(wanted, jnp.maximum(pixel - out_size + 1, first), first)
            last = jnp.where(wanted, jnp.minimum(pixel, last), last)
        start, step = jnp.sign(slack) * jax.random.randint(key, (), first, last + 1), 1.0
        seen = out_size
    else:
        step = 1.0 / zoom
        seen = out_size * step
        first, last = 0.0, content - seen
        if pixel is not None:
            wanted = (pixel >= 0) & (last > 0)
            centre = pixel + 0.5
            first = jnp.where(wanted, jnp.maximum(centre - seen, 0.0), 0.0)
            last = jnp.where(wanted, jnp.minimum(centre, last), last)
        start = first + jax.random.uniform(key) * (last - first)
    return Axis(start=start + jnp.where(flip, seen, 0), step=jnp.where(flip, -step, step))

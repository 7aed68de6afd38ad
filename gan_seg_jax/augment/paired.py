"""Augmentation on the device: pure functions of arrays and a key.

An image and its label share one geometric draw; colour is changed in the image alone. Labels are only ever picked,
never interpolated. Every image of a batch draws from a key of its own, by its row, so results do not depend on the
number of devices. Options that are off, and sizes, are known when the step is compiled and cost nothing.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.augment import resample
from gan_seg_jax.augment.photometric import change
from gan_seg_jax.labels import IGNORE


class Axis(NamedTuple):
    """What one axis of the crop shows, in pixels of the canvas.

    start: position of the crop's first border; integer where nothing is scaled.
    step: canvas pixels per crop pixel; negative mirrors.
    """

    start: jax.Array
    step: jax.Array


def prepare(
    stream: dict[str, jax.Array], key: jax.Array, *, crop_size: tuple[int, int], options: Any, train: bool
) -> dict[str, jax.Array]:
    """Turn a stream as the host delivers it into what methods see.

    Args:
        stream: `image` uint8 [b, H, W, 3] canvas; `label` uint8 [b, H, W], 255 = ignore and padding; `content` int32
            [b, 2], height and width that the image occupies, top-left; `valid` bool [b]; `id` int32 [b]; and, of
            pairs, `target` uint8 [b, H, W, 3], which has the image's geometry and keeps its colours.
        key: a PRNG key; not used unless `train`.
        crop_size: height and width (h, w) of a training crop (static).
        options: static fields. Geometry: `flip_horizontal`, `flip_vertical`, `transpose` (bool; each with
            probability 0.5; all three give the 8 symmetries of the square, 90-degree turns included; classes that
            have a left and a right side are not exchanged); `scale` (low, high), zoom, log-uniform; `class_balance`,
            the probability that the window is drawn among those that show a pixel drawn uniformly from a class drawn
            uniformly from the classes in the image. Colour: see `photometric.change`. (1.0, 1.0), False and 0 are off.
        train: True draws crop, geometry and colour. False draws nothing and keeps the whole canvas.

    Returns:
        `image` float32 [b, h, w, 3] in [-1, 1], 0 (mid grey) outside the content, and `target` if there is one;
        `label` int32 [b, h, w], 255 outside the content; `valid` and `id` as they came. h, w is the canvas where
        `train` is False.

    """
    image, label, content = stream["image"], stream["label"], stream["content"]
    chex.assert_rank([image, label, content], [4, 3, 2])
    chex.assert_equal_shape_prefix([image, label], 3)
    paired = "target" in stream
    if paired:
        image = jnp.concatenate([image, stream["target"]], axis=-1)  # one image of six channels: the same geometry
    inside = _content_mask(content, image.shape[1:3])
    if train:
        keys = jax.vmap(lambda k: jax.random.split(k, 2))(jax.random.split(key, image.shape[0]))
        if image.shape[1:3] == tuple(crop_size) and not _scales(options):
            flip = jax.vmap(lambda *arrays: _flip(*arrays, options=options))
            image, label, inside = flip(image, label, inside, keys[:, 0])
        else:
            crop = jax.vmap(lambda *arrays: _crop(*arrays, crop_size=crop_size, options=options))
            image, label, inside = crop(image, label, content, keys[:, 0])
    image = (2.0 * image.astype(jnp.float32) - 255.0) / 255.0  # in this form 0 and 255 are -1 and 1 exactly
    image, target = image[..., :3], image[..., 3:]
    if train:
        image = jax.vmap(lambda *arrays: change(*arrays, options=options))(image, inside, keys[:, 1])
    image, target = (jnp.where(inside[..., None], x, 0.0) for x in (image, target))
    label = jnp.where(inside, label.astype(jnp.int32), IGNORE)
    pair = {"target": target} if paired else {}
    return {"image": image, **pair, "label": label, "valid": stream["valid"], "id": stream["id"]}


def to_uint8(image: jax.Array) -> jax.Array:
    """Return images in [-1, 1] as uint8: what `prepare` makes of them is as near as 8 bits allow."""
    return jnp.clip(jnp.rint(127.5 * (image.astype(jnp.float32) + 1.0)), 0, 255).astype(jnp.uint8)


def shown(image: jax.Array) -> jax.Array:
    """Tell which pixels of an image, as `prepare` returns it, show it: padding is exactly 0 there.

    For images without labels, whose label cannot tell padding. No pixel of 8 bits becomes 0 (2 x - 255 is odd), nor
    does one of which `photometric.change` has changed more than brightness, contrast and saturation; where these or
    zoom make new values one may be taken for padding, by a coincidence of three channels.

    Args:
        image: float32 [b, h, w, 3].

    Returns:
        bool [b, h, w].
    """
    return jnp.any(image != 0.0, axis=-1)


def _scales(options: Any) -> bool:
    return tuple(options.scale) != (1.0, 1.0)


def _content_mask(content: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return bool [b, *size]: the canvas pixels that hold the image."""
    rows = jnp.arange(size[0]) < content[:, 0, None]
    columns = jnp.arange(size[1]) < content[:, 1, None]
    return rows[:, :, None] & columns[:, None, :]


def _draw_flips(key: jax.Array, options: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return three bools: flip rows (vertically), flip columns (horizontally), transpose."""
    wanted = jnp.array([options.flip_vertical, options.flip_horizontal, options.transpose])
    return tuple(wanted & jax.random.bernoulli(key, shape=(3,)))


def _flip(image: jax.Array, label: jax.Array, inside: jax.Array, key: jax.Array, *, options: Any) -> tuple:
    """Flip and transpose one whole canvas; exact, and without a matrix product or a gather."""
    flips_key, _ = jax.random.split(key)
    vertical, horizontal, transpose = _draw_flips(flips_key, options)

    def apply(x):
        if options.flip_vertical:
            x = jnp.where(vertical, x[::-1], x)
        if options.flip_horizontal:
            x = jnp.where(horizontal, x[:, ::-1], x)
        if options.transpose:
            x = jnp.where(transpose, x.swapaxes(0, 1), x)
        return x

    return apply(image), apply(label), apply(inside)


def _crop(
    image: jax.Array,
    label: jax.Array,
    content: jax.Array,
    key: jax.Array,
    *,
    crop_size: tuple[int, int],
    options: Any,
) -> tuple:
    """Zoom, crop and flip one image and its label by the same draw.

    Args:
        image: uint8 [H, W, c].
        label: uint8 [H, W].
        content: int32 [2].
        key: a PRNG key.
        crop_size: h, w (static).
        options: as in `prepare`.

    Returns:
        image, uint8 (exact pixels) or, where the options scale, float32 in 0..255 [h, w, c]; label uint8 [h, w];
        inside bool [h, w].
    """
    flips_key, window_key = jax.random.split(key)
    *flips, transpose = _draw_flips(flips_key, options)
    zoom_key, *axis_keys = jax.random.split(window_key, 3)
    if _scales(options):
        low, high = (jnp.log(jnp.float32(limit)) for limit in options.scale)
        zoom = jnp.exp(jax.random.uniform(zoom_key, minval=low, maxval=high))
    else:
        zoom = None
    pixel = (None, None)
    if options.class_balance:
        pixel = _draw_balanced_pixel(jax.random.fold_in(key, 2), label, content, share=options.class_balance)
    axes = [_draw_axis(axis_keys[i], content[i], flips[i], zoom, pixel[i], out_size=crop_size[i]) for i in range(2)]
    coordinates = [resample.source_coordinates(crop_size[i], start=axes[i].start, step=axes[i].step) for i in range(2)]
    rows, columns = (resample.nearest_index(coordinates[i], content=content[i]) for i in range(2))
    label = label[rows][:, columns]
    if zoom is None:
        image = image[rows][:, columns]
    else:
        weights = [
            resample.bilinear_weights(coordinates[i], in_size=image.shape[i], content=content[i]) for i in range(2)
        ]
        # Weights sum to 1 only up to rounding.
        image = jnp.clip(resample.apply_weights(image.astype(jnp.float32), *weights), 0.0, 255.0)
    in_rows, in_columns = ((c >= -0.5) & (c < n - 0.5) for c, n in zip(coordinates, content, strict=True))
    inside = in_rows[:, None] & in_columns[None, :]
    if options.transpose:
        image, label, inside = (jnp.where(transpose, x.swapaxes(0, 1), x) for x in (image, label, inside))
    return image, label, inside


def _draw_balanced_pixel(
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
    label = jnp.where(_content_mask(content[None], label.shape)[0], label, IGNORE).reshape(-1)
    occurs = jnp.bincount(label, length=256)[:IGNORE] > 0
    index = _draw_index(pixel_key, label == _draw_index(class_key, occurs))
    found = jax.random.bernoulli(share_key, share) & jnp.any(occurs)
    return jnp.where(found, index // width, -1), jnp.where(found, index % width, -1)


def _draw_index(key: jax.Array, mask: jax.Array) -> jax.Array:
    """Return an index, int32, drawn uniformly from those where the mask, bool [n], holds."""
    counts = jnp.cumsum(mask)
    return jnp.argmax(counts > jax.random.randint(key, (), 0, jnp.maximum(counts[-1], 1)))


def _draw_axis(
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

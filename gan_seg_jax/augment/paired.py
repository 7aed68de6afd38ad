"""Augmentation on the device: pure functions of arrays and a key.

An image and its label share one geometric draw; colour is changed in the image alone. Labels are only ever picked,
never interpolated. Every image of a batch draws from a key of its own, by its row, so results do not depend on the
number of devices. Options that are off, and sizes, are known when the step is compiled and cost nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.augment import resample, warp, window
from gan_seg_jax.augment.mixing import hole
from gan_seg_jax.augment.photometric import change, where_chosen
from gan_seg_jax.augment.window import Axis
from gan_seg_jax.labels import IGNORE

# Of which `options.operations` chooses some for each image, in any order.
OPERATIONS = ("rotation", "shear", "aspect", "translation", "elastic", "brightness", "contrast", "saturation", "hue")
OPERATIONS += ("gamma", "greyscale", "blur", "noise", "cutout")


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
        options: static fields; (1.0, 1.0), False and 0 are off.
            Geometry: `flip_horizontal`, `flip_vertical`, `transpose` (bool; each with probability 0.5; all three give
            the 8 symmetries of the square, 90-degree turns included; classes that have a left and a right side are not
            exchanged); `scale` (low, high), zoom, log-uniform; `aspect`, by which height and width are zoomed
            differently, their ratio log-uniform up to 1 + aspect; `translation`, the largest shift of the window, a
            share of the crop; `rotation` and `shear`, the largest angles, degrees, about the window's centre;
            `elastic`, the largest standard deviation of `warp.displacement`, pixels of the crop, and `elastic_sigma`,
            its smoothness; `class_balance`, the probability that the window is drawn among those that show a pixel
            drawn uniformly from a class drawn uniformly from the classes in the image (a shift or turn may still lose
            that pixel).
            Colour: see `photometric.change`.
            `cutout`: the side of a hole, a share of height and width, where nothing is shown, nor known.
            `operations`: how many of `OPERATIONS` that are on an image gets, drawn for each; 0 is all.
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
    inside = window.content_mask(content, image.shape[1:3])
    if train:
        rows = jax.random.split(key, image.shape[0])
        keys = jax.vmap(lambda k: jax.random.split(k, 2))(rows)
        chosen = jax.vmap(lambda k: _choose(jax.random.fold_in(k, 2), options))(rows)
        if image.shape[1:3] == tuple(crop_size) and not moves(options):
            flip = jax.vmap(lambda *arrays: _flip(*arrays, options=options))
            image, label, inside = flip(image, label, inside, keys[:, 0])
        else:
            crop = jax.vmap(lambda *arrays: _crop(*arrays, crop_size=crop_size, options=options))
            image, label, inside = crop(image, label, content, keys[:, 0], chosen)
        if options.cutout:
            holes = jax.vmap(lambda k: hole(jax.random.fold_in(k, 3), crop_size, share=options.cutout))(rows)
            inside &= ~where_chosen(chosen, "cutout", holes, False)
    image = from_uint8(image)
    image, target = image[..., :3], image[..., 3:]
    if train:
        image = jax.vmap(lambda *arrays: change(*arrays, options=options))(image, inside, keys[:, 1], chosen)
    image, target = (jnp.where(inside[..., None], x, 0.0) for x in (image, target))
    label = jnp.where(inside, label.astype(jnp.int32), IGNORE)
    pair = {"target": target} if paired else {}
    return {"image": image, **pair, "label": label, "valid": stream["valid"], "id": stream["id"]}


def from_uint8(image: jax.Array) -> jax.Array:
    """Return images of 8 bits as methods see them, float32 in [-1, 1]."""
    return (2.0 * image.astype(jnp.float32) - 255.0) / 255.0  # in this form 0 and 255 are -1 and 1 exactly


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


def _choose(key: jax.Array, options: Any) -> dict[str, jax.Array]:
    """Return which operations one image gets, name -> bool; {} stands for all of them."""
    on = [name for name in OPERATIONS if options[name]]
    if not 0 < options.operations < len(on):
        return {}
    places = jax.random.permutation(key, len(on))
    return {name: places[i] < options.operations for i, name in enumerate(on)}


def moves(options: Any) -> bool:
    """Return whether pixels are moved by more than flips."""
    return window.changes_size(options) or _warps(options) or options.translation > 0


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
    chosen: Mapping[str, jax.Array],
    *,
    crop_size: tuple[int, int],
    options: Any,
) -> tuple:
    """Zoom, crop, flip and warp one image and its label by the same draw.

    Args:
        image: uint8 [H, W, c].
        label: uint8 [H, W].
        content: int32 [2].
        key: a PRNG key.
        chosen: see `photometric.change`.
        crop_size: h, w (static).
        options: as in `prepare`.

    Returns:
        image, uint8 (exact pixels) or, where it is interpolated, float32 in 0..255 [h, w, c]; label uint8 [h, w];
        inside bool [h, w].
    """
    *flips, transpose = _draw_flips(jax.random.split(key)[0], options)
    axes = window.draw(key, label, content, flips, chosen, size=crop_size, options=options)
    if _warps(options):
        where = _draw_places(jax.random.fold_in(key, 5), axes, chosen, size=crop_size, options=options)
        image, label, inside = _warp(image, label, content, axes, where, options=options)
    else:
        image, label, inside = _cut(image, label, content, axes, size=crop_size, options=options)
    if options.transpose:
        image, label, inside = (jnp.where(transpose, x.swapaxes(0, 1), x) for x in (image, label, inside))
    return image, label, inside


def _cut(
    image: jax.Array, label: jax.Array, content: jax.Array, axes: list[Axis], *, size: tuple[int, int], options: Any
) -> tuple:
    """Cut out a window, as `_crop`: axis by axis, by indices or as matrix products."""
    coordinates = [resample.source_coordinates(size[i], start=axes[i].start, step=axes[i].step) for i in range(2)]
    rows, columns = (resample.nearest_index(coordinates[i], content=content[i]) for i in range(2))
    label = label[rows][:, columns]
    if window.changes_size(options):
        weights = [
            resample.bilinear_weights(coordinates[i], in_size=image.shape[i], content=content[i]) for i in range(2)
        ]
        # Weights sum to 1 only up to rounding.
        image = jnp.clip(resample.apply_weights(image.astype(jnp.float32), *weights), 0.0, 255.0)
    else:
        image = image[rows][:, columns]
    in_rows, in_columns = ((c >= -0.5) & (c < n - 0.5) for c, n in zip(coordinates, content, strict=True))
    return image, label, in_rows[:, None] & in_columns[None, :]


def _warps(options: Any) -> bool:
    return bool(options.rotation or options.shear or options.elastic)


def _draw_places(
    key: jax.Array, axes: list[Axis], chosen: Mapping[str, jax.Array], *, size: tuple[int, int], options: Any
) -> jax.Array:
    """Draw where in the canvas the pixels of a crop are, float32 [h, w, 2]: its window, turned, sheared, deformed."""
    turn_key, shear_key, strength_key, field_key = jax.random.split(key, 4)
    matrix = moved = None
    if options.rotation or options.shear:
        draw = lambda key, shape, limit: math.radians(limit) * jax.random.uniform(key, shape, minval=-1.0)
        rotation = where_chosen(chosen, "rotation", draw(turn_key, (), options.rotation), 0.0)
        matrix = warp.affine(rotation, where_chosen(chosen, "shear", draw(shear_key, (2,), options.shear), 0.0))
    if options.elastic:
        strength = options.elastic * jax.random.uniform(strength_key)
        strength = where_chosen(chosen, "elastic", strength, 0.0)
        moved = strength * warp.displacement(field_key, size, sigma=options.elastic_sigma)
    starts, steps = ([getattr(axis, name) for axis in axes] for name in ("start", "step"))
    return warp.places(size, starts, steps, matrix=matrix, moved=moved)


def _warp(
    image: jax.Array, label: jax.Array, content: jax.Array, axes: list[Axis], where: jax.Array, *, options: Any
) -> tuple:
    """Sample a canvas at some places, as `_crop`; where it shrinks it is first smoothed by that much, axis by axis."""
    image = image.astype(jnp.float32)
    if window.changes_size(options):
        weights = [
            resample.bilinear_weights(
                jnp.arange(image.shape[i], dtype=jnp.float32),
                in_size=image.shape[i],
                content=content[i],
                step=jnp.abs(axes[i].step),
            )
            for i in range(2)
        ]
        image = resample.apply_weights(image, *weights)
    image = jnp.clip(warp.interpolate(image, where, content), 0.0, 255.0)
    return image, warp.pick(label, where, content), warp.within(where, content)

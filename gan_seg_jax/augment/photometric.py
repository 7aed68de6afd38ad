"""What changes the colours of an image and moves nothing: jitter, hue, grey, gamma, blur, noise.

Pure functions of arrays and a key; every image of a batch draws from a key of its own, by its row, so results do not
depend on the number of devices. What is off is known when the step is compiled and costs nothing. All of it is own
code: dm-pix, the library of such operations for JAX, has jitter, hue and gamma by the same equations, but its blur
takes what lies beyond the image and its padding for black, which darkens every border.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601 luma of R, G, B
NEARLY_GREY = 2.0**-10  # in place of a 0 that an operation makes, which would be taken for padding
ALL: Mapping[str, jax.Array] = MappingProxyType({})


class StrongView(NamedTuple):
    """Options of `change` for the strong view of an image; the values are UniMatch's."""

    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.25
    jitter: float = 0.8
    gamma: float = 0.0
    greyscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    noise: float = 0.0


STRONG_VIEW = StrongView()


def strong_view(image: jax.Array, inside: jax.Array, key: jax.Array, *, options: Any = STRONG_VIEW) -> jax.Array:
    """Make the strong view of weakly augmented images: colours are distorted, nothing moves.

    The photometric part of the strong perturbation of FixMatch for segmentation, with the operations and values of
    UniMatch (Yang et al. 2023, arXiv:2208.09910): colour jitter with probability 0.8, greyscale 0.2, Gaussian blur 0.5.

    Differs from the paper's code: as `color_jitter` says; the blur's kernel ends at three standard deviations, and
    padding does not enter it.

    Args:
        image: float [b, h, w, 3] in [-1, 1].
        inside: bool [b, h, w], the pixels that hold the image (`paired.shown`).
        key: a PRNG key.
        options: as in `change` (static).

    Returns:
        float32 [b, h, w, 3] in [-1, 1], exactly 0 outside and not 0 inside.
    """
    chex.assert_rank([image, inside], [4, 3])
    chex.assert_equal_shape_prefix([image, inside], 3)
    view = jax.vmap(lambda *arrays: change(*arrays, options=options))
    return view(image.astype(jnp.float32), inside, jax.random.split(key, len(image)))


def change(
    image: jax.Array, inside: jax.Array, key: jax.Array, chosen: Mapping[str, jax.Array] = ALL, *, options: Any
) -> jax.Array:
    """Change one image: colour jitter, gamma, greyscale, blur and noise, in this order.

    With x in 0..1:
        gamma: x^e, log e ~ U(-log(1 + gamma), log(1 + gamma));   greyscale: the grey of ITU-R 601
        blur: `gaussian_blur`, sigma ~ U(low, high) of `blur_sigma`
        noise: x + s n, s ~ U(0, noise), n ~ N(0, 1) for each pixel and channel, and a clip to 0..1

    Args:
        image: float32 [h, w, 3] in [-1, 1].
        inside: bool [h, w], the pixels that hold the image.
        key: a PRNG key.
        chosen: name of an operation -> bool, whether the image gets it at all; {} is all of them.
        options: static; 0 is off. `brightness`, `contrast`, `saturation`, `hue`, `jitter`: see `color_jitter`.
            `gamma`: strength; `greyscale` and `blur`: probabilities; `blur_sigma`: pixels; `noise`: the largest
            standard deviation, as a share of the range of values.

    Returns:
        float32 [h, w, 3] in [-1, 1]; where anything but brightness, contrast and saturation is on, exactly 0 outside
        and not 0 inside.
    """
    image = color_jitter(image, inside, key, chosen, options=options)
    keys = [jax.random.fold_in(key, number) for number in range(5, 9)]  # those below are the jitter's
    if not (options.hue or options.gamma or options.greyscale or options.blur or options.noise):
        return image
    x = 0.5 * (image + 1.0)
    if options.gamma:
        limit = math.log(1.0 + options.gamma)
        x = x ** where_chosen(chosen, "gamma", jnp.exp(jax.random.uniform(keys[0], minval=-limit, maxval=limit)), 1.0)
    if options.greyscale:
        lost = where_chosen(chosen, "greyscale", jax.random.bernoulli(keys[1], options.greyscale), False)
        x = jnp.where(lost, grey(x), x)
    if options.blur:
        apply_key, sigma_key = jax.random.split(keys[2])
        low, high = options.blur_sigma
        blurred = gaussian_blur(x, inside, jax.random.uniform(sigma_key, minval=low, maxval=high), largest=high)
        x = jnp.where(where_chosen(chosen, "blur", jax.random.bernoulli(apply_key, options.blur), False), blurred, x)
    if options.noise:
        strength_key, noise_key = jax.random.split(keys[3])
        strength = where_chosen(chosen, "noise", options.noise * jax.random.uniform(strength_key), 0.0)
        x = jnp.clip(x + strength * jax.random.normal(noise_key, x.shape), 0.0, 1.0)
    return keep_shown(2.0 * x - 1.0, inside)


def where_chosen(chosen: Mapping[str, jax.Array], name: str, value: Any, identity: Any) -> Any:
    """Return the value that was drawn for an operation, or the one that does nothing to images that do not get it."""
    if name not in chosen:
        return value
    return jnp.where(
        jnp.reshape(chosen[name], chosen[name].shape + (1,) * (jnp.ndim(value) - chosen[name].ndim)), value, identity
    )


def keep_shown(image: jax.Array, inside: jax.Array) -> jax.Array:
    """Make images [..., h, w, 3] exactly 0 outside, and not 0 inside, where a value may have become so by chance."""
    image = jnp.where(jnp.any(image != 0.0, axis=-1, keepdims=True), image, NEARLY_GREY)
    return jnp.where(inside[..., None], image, 0.0)


def color_jitter(
    image: jax.Array, inside: jax.Array, key: jax.Array, chosen: Mapping[str, jax.Array] = ALL, *, options: Any
) -> jax.Array:
    """Change brightness, contrast, saturation and hue of one image, in this order.

    With x in 0..1 and each factor f ~ U(max(0, 1 - strength), 1 + strength), as torchvision's ColorJitter:
        brightness: f x;   contrast: m + f (x - m), m the image's mean grey;
        saturation: g + f (x - g), g the pixel's grey;   hue: by t ~ U(-strength, strength) turns, see `turn_hue`
    Differs from torchvision: fixed order, and one clip to 0..1 instead of one after each.

    Args:
        image: float32 [h, w, 3] in [-1, 1].
        inside: bool [h, w], the pixels that hold the image (for the mean).
        key: a PRNG key.
        chosen: as in `change`.
        options: `brightness`, `contrast`, `saturation` and `hue`: strengths, 0 = off (static); `jitter`: the
            probability that they are applied, all or none.

    Returns:
        float32 [h, w, 3] in [-1, 1].
    """
    if not (options.brightness or options.contrast or options.saturation or options.hue):
        return image

    def factor(key, name):
        strength = getattr(options, name)
        drawn = jax.random.uniform(key, minval=max(0.0, 1.0 - strength), maxval=1.0 + strength)
        return where_chosen(chosen, name, drawn, 1.0)

    keys = jax.random.split(key, 3)
    x = 0.5 * (image + 1.0)
    if options.brightness:
        x = x * factor(keys[0], "brightness")
    if options.contrast:
        count = jnp.maximum(jnp.sum(inside), 1)
        mean = jnp.sum(jnp.where(inside[..., None], grey(x), 0.0)) / count
        x = mean + factor(keys[1], "contrast") * (x - mean)
    if options.saturation:
        grey_x = grey(x)
        x = grey_x + factor(keys[2], "saturation") * (x - grey_x)
    x = jnp.clip(x, 0.0, 1.0)
    if options.hue:
        turns = jax.random.uniform(jax.random.fold_in(key, 3), minval=-options.hue, maxval=options.hue)
        x = turn_hue(x, where_chosen(chosen, "hue", turns, 0.0))
    changed = 2.0 * x - 1.0
    if options.jitter < 1.0:
        changed = jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 4), options.jitter), changed, image)
    return changed


def grey(x: jax.Array) -> jax.Array:
    """Return the grey [..., 1] of colours [..., 3], by ITU-R 601."""
    red, green, blue = GREY_WEIGHTS
    return (red * x[..., 0] + green * x[..., 1] + blue * x[..., 2])[..., None]


def turn_hue(x: jax.Array, turns: chex.Numeric) -> jax.Array:
    """Turn the hue of colours; saturation and value (of HSV) stay.

    With v and c the largest channel and its distance to the smallest, h the hue in sixths of a turn (Smith 1978, Color
    gamut transform pairs), each channel becomes
        v - c max(0, min(k, 4 - k, 1)),   k = (n + h + 6 turns) mod 6,   n = 5, 3, 1 for red, green, blue

    Args:
        x: float [..., 3] in 0..1.
        turns: 1/3 makes red green.

    Returns:
        float [..., 3] in 0..1.
    """
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    value = jnp.max(x, axis=-1)
    chroma = value - jnp.min(x, axis=-1)
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    # Order, not equality with the maximum: a compiler may round its operands otherwise than the channels.
    sixths = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        jnp.where(green >= blue, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    k = (jnp.array([5.0, 3.0, 1.0]) + (sixths + 6.0 * turns)[..., None]) % 6.0
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)


def gaussian_blur(x: jax.Array, inside: jax.Array, sigma: chex.Numeric, *, largest: float) -> jax.Array:
    """Blur an image by a Gaussian; what is not of the image does not enter.

        sum_d g(d) m(p + d) x(p + d) / sum_d g(d) m(p + d),   g(d) = exp(-|d|^2 / (2 sigma^2))
    m being 1 inside, else 0 (normalised convolution, Knutsson and Westin, CVPR 1993). Two passes of shifted sums, which
    every platform fuses; for the few taps of a small blur they cost a tenth of matrix products.

    Args:
        x: float [h, w, c].
        inside: bool [h, w], the pixels that hold the image.
        sigma: standard deviation, pixels, positive; may be traced.
        largest: bound of `sigma` (static): the kernel ends at three times it.

    Returns:
        float [h, w, c]; outside the values have no meaning.
    """
    radius = max(1, math.ceil(3.0 * largest))
    taps = jnp.exp(-0.5 * jnp.square(jnp.arange(-radius, radius + 1) / sigma))
    sums = jnp.concatenate([jnp.where(inside[..., None], x, 0.0), inside[..., None].astype(x.dtype)], axis=-1)
    for axis in (0, 1):
        size = sums.shape[axis]
        padded = jnp.pad(sums, [(radius, radius) if i == axis else (0, 0) for i in range(3)])
        shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]
        sums = sum(taps[i] * part for i, part in enumerate(shifted))
    return sums[..., :-1] / jnp.maximum(sums[..., -1:], jnp.finfo(x.dtype).tiny)

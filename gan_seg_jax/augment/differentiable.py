"""Differentiable augmentation of what a discriminator sees, and instance noise.

Both are applied to real and fake examples alike, in the losses of both players, so the generator's gradient passes
through them and it does not learn to make augmented images. Pure functions of arrays and a key; every example draws
from a key of its own, by its row, so results do not depend on the number of devices. What is off is known when the
step is compiled and costs nothing.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.augment.mixing import hole
from gan_seg_jax.errors import unknown

# Every effect, in order; the first three are colour.
POLICY: tuple[str, ...] = ("brightness", "saturation", "contrast", "translation", "cutout")
TRANSLATION = 0.125  # largest shift, as a share of height and width
CUTOUT = 0.5  # side of the hole, as a share of height and width


def diff_augment(
    images: Sequence[jax.Array], maps: Sequence[jax.Array], key: jax.Array, *, policy: Sequence[str]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Augment what belongs together by one draw: colour of the images, geometry of images and maps.

    Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training (arXiv:2006.10738), in the order of
    `POLICY` whatever the order of `policy`; u ~ U(0, 1), one for each example and effect:
        brightness:   x + (u - 1/2)
        saturation:   m + 2u (x - m), m the mean of the pixel's channels
        contrast:     m + (u + 1/2) (x - m), m the mean of the image
        translation:  by whole pixels, up to 1/8 of height and width, 0 moves in
        cutout:       0 in a rectangle of half the height and width whose centre is anywhere in the image
    As in the paper's code nothing is clipped, so images may leave [-1, 1].

    Every array has the same draw, so pass the real image and mask in one call and the fakes in another, with the same
    key or with a second one (the paper). A map that says which pixels are known may be among the maps: it turns 0
    where nothing is shown.

    Args:
        images: float [b, h, w, c] each, in [-1, 1].
        maps: float [b, h, w, c] each, such as masks, or [b, h, w]; geometry only.
        key: a PRNG key; not used where the policy is empty.
        policy: names in `POLICY` (static); () returns the inputs as they are.

    Returns:
        The images and the maps, of their shapes and dtypes.

    Raises:
        InputError: a name is not in `POLICY`.
    """
    for name in policy:
        if name not in POLICY:
            raise unknown("effect in the policy of diff_augment:", name, POLICY)
    images, maps = list(images), list(maps)
    if not policy or not (images or maps):
        return images, maps
    chex.assert_rank(images, 4)
    chex.assert_equal_shape_prefix([*images, *maps], 3)

    def one(images, maps, key):
        keys = dict(zip(POLICY, jax.random.split(key, len(POLICY)), strict=True))
        images = [_color(x, keys, policy) for x in images]
        return jax.tree.map(lambda x: _geometry(x, keys, policy), (images, maps))

    return jax.vmap(one)(images, maps, jax.random.split(key, len((images + maps)[0])))


def instance_noise(arrays: Sequence[jax.Array], key: jax.Array, *, stddev: chex.Numeric) -> list[jax.Array]:
    """Add Gaussian noise to everything that a discriminator sees, so that real and fake overlap.

    Sonderby et al. 2017, Amortised MAP Inference for Image Super-resolution (arXiv:1610.04490); Arjovsky
    and Bottou 2017, Towards Principled Methods for Training GANs (arXiv:1701.04862). Real and fake examples need the
    same standard deviation; give them different keys.

    Args:
        arrays: float, any shapes; each has noise of its own, by its place in the list.
        key: a PRNG key.
        stddev: not negative, in the arrays' units; a Python 0 is off and costs nothing, a traced number can anneal.

    Returns:
        The arrays with their noise, of their shapes and dtypes.
    """
    if isinstance(stddev, int | float) and stddev == 0:
        return list(arrays)
    keys = jax.random.split(key, max(len(arrays), 1))
    return [
        (x + stddev * jax.random.normal(keys[i], x.shape, jnp.float32)).astype(x.dtype) for i, x in enumerate(arrays)
    ]


def _color(image: jax.Array, keys: dict[str, jax.Array], policy: Sequence[str]) -> jax.Array:
    """Change the colour of one image [h, w, c]."""
    x = image.astype(jnp.float32)
    if "brightness" in policy:
        x = x + (jax.random.uniform(keys["brightness"]) - 0.5)
    if "saturation" in policy:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        x = mean + 2.0 * jax.random.uniform(keys["saturation"]) * (x - mean)
    if "contrast" in policy:
        mean = jnp.mean(x)
        x = mean + (jax.random.uniform(keys["contrast"]) + 0.5) * (x - mean)
    return x.astype(image.dtype)


def _geometry(x: jax.Array, keys: dict[str, jax.Array], policy: Sequence[str]) -> jax.Array:
    """Shift one array [h, w, ...] and cut a hole into it; the draw depends on key, height and width only."""
    size = x.shape[:2]
    if "translation" in policy:
        limits = [round(TRANSLATION * n) for n in size]
        shift = jax.random.randint(keys["translation"], (2,), -jnp.array(limits), jnp.array(limits) + 1)
        rest = x.ndim - 2
        padded = jnp.pad(x, [(limit, limit) for limit in limits] + [(0, 0)] * rest)
        starts = [limits[axis] - shift[axis] for axis in range(2)] + [0] * rest
        x = jax.lax.dynamic_slice(padded, starts, x.shape)
    if "cutout" in policy:
        cut = hole(keys["cutout"], size, share=CUTOUT)
        x = jnp.where(cut.reshape(size + (1,) * (x.ndim - 2)), jnp.zeros((), x.dtype), x)
    return x

"""Masks that mix two images and their labels: CutMix, ClassMix and LabelMix; MixUp, and the hole of cut-out.

A mask says, for each pixel, whether it comes from the first (True) or the second of two arrays; `mix` carries it out.
Pure functions of arrays and a key; every example draws from a key of its own, by its row, so results do not depend on
the number of devices.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp


def mix(mask: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Take each pixel from the first array where the mask holds, else from the second.

    Args:
        mask: bool [b, h, w].
        first: [b, h, w, ...], images, labels, logits or weights.
        second: the same shape.

    Returns:
        The mixture, of the same shape.
    """
    chex.assert_rank(mask, 3)
    chex.assert_equal_shape([first, second])
    chex.assert_equal_shape_prefix([mask, first], 3)
    return jnp.where(mask.reshape(mask.shape + (1,) * (first.ndim - 3)), first, second)


def mix_pairs(stream: dict[str, jax.Array], key: jax.Array, *, options: Any, num_classes: int) -> dict[str, jax.Array]:
    """Paste parts of the next image of a batch, with their labels, into some of its images.

    CutMix and ClassMix (below) of labelled images: each pixel keeps the label of its image, void stays void.

    Args:
        stream: of `paired.prepare`: `image` float [b, h, w, 3], `label` int [b, h, w] and, of pairs, `target`.
        key: a PRNG key.
        options: `cutmix` and `classmix`: probabilities, together at most 1, that an image gets a rectangle of the
            next one, or half of the classes in it (static).
        num_classes: number of classes k.

    Returns:
        The stream, its other arrays as they came.
    """
    batch_size, *size = stream["label"].shape
    draw_key, box_key, class_key = jax.random.split(key, 3)
    following = jnp.roll(stream["label"], -1, axis=0)
    draw = jax.vmap(jax.random.uniform)(jax.random.split(draw_key, batch_size))[:, None, None]
    pasted = jnp.zeros(stream["label"].shape, bool)
    if options.cutmix:
        pasted = (draw < options.cutmix) & cutmix_mask(box_key, batch_size, tuple(size))
    if options.classmix:
        classes = classmix_mask(class_key, following, num_classes=num_classes)
        pasted |= (draw >= options.cutmix) & (draw < options.cutmix + options.classmix) & classes
    names = [name for name in ("image", "target", "label") if name in stream]
    return stream | {name: mix(pasted, jnp.roll(stream[name], -1, axis=0), stream[name]) for name in names}


def mixup(image: jax.Array, share: chex.Numeric) -> jax.Array:
    """Blend each image of a batch with the next one: share x + (1 - share) x'.

    Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization (arXiv:1710.09412). Labels are not blended: the loss is
    taken of both, x's weighted by the share, so that what is void in one stays void in its term.

    Args:
        image: float [b, h, w, c].
        share: 0..1, one number for the batch, as in the paper's code.

    Returns:
        Of the same shape and dtype.
    """
    chex.assert_rank(image, 4)
    return (share * image + (1.0 - share) * jnp.roll(image, -1, axis=0)).astype(image.dtype)


def cutmix_mask(key: jax.Array, batch_size: int, size: tuple[int, int], *, share: chex.Numeric = 0.5) -> jax.Array:
    """Draw a rectangle for each example, of a given share of the image.

        height = share^u h,   width = share^(1 - u) w,   u ~ U(0, 1),   wherever it fits, uniformly
    so that height times width is the share, up to rounding to whole pixels.

    French et al. 2020, Semi-supervised semantic segmentation needs strong, varied perturbations (arXiv:1906.01916),
    with share 1/2, after CutMix (Yun et al. 2019, arXiv:1905.04899), whose share is drawn.

    Args:
        key: a PRNG key.
        batch_size: b (static).
        size: height and width (static).
        share: of the image's area, above 0, at most 1: one for all, or [b], one for each; may be traced.

    Returns:
        bool [b, h, w], True inside the rectangle.
    """

    def one(key, share):
        aspect_key, *place_keys = jax.random.split(key, 3)
        exponent = jax.random.uniform(aspect_key)
        inside = []
        for n, power, place_key in zip(size, (exponent, 1.0 - exponent), place_keys, strict=True):
            length = jnp.round(n * share**power).astype(jnp.int32)
            start = jax.random.randint(place_key, (), 0, n - length + 1)
            position = jnp.arange(n)
            inside.append((position >= start) & (position < start + length))
        return inside[0][:, None] & inside[1][None, :]

    shares = jnp.broadcast_to(jnp.float32(share), (batch_size,))
    return jax.vmap(one)(jax.random.split(key, batch_size), shares)


def hole(key: jax.Array, size: tuple[int, int], *, share: float) -> jax.Array:
    """Draw the hole of cut-out in one image: a rectangle of a share of its height and width, its centre anywhere in it.

    DeVries and Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout (arXiv:1708.04552),
    whose hole is a square.

    Args:
        key: a PRNG key.
        size: height and width (static).
        share: of height and of width, 0 to 1 (static).

    Returns:
        bool [h, w], True inside.
    """
    sides = [round(share * n) for n in size]
    # Centres between pixels for an even side, on them for an odd one, so that each border is met equally often.
    last = jnp.array([n + (side + 1) % 2 for n, side in zip(size, sides, strict=True)])
    centre = jax.random.randint(key, (2,), 0, last)
    starts = [centre[i] - sides[i] // 2 for i in range(2)]
    rows, columns = (
        (jnp.arange(size[i]) >= starts[i]) & (jnp.arange(size[i]) < starts[i] + sides[i]) for i in range(2)
    )
    return rows[:, None] & columns[None, :]


def classmix_mask(key: jax.Array, label: jax.Array, *, num_classes: int) -> jax.Array:
    """Choose half of the classes of each label map, to be pasted onto another image.

    Olsson et al. 2021, ClassMix (arXiv:2007.07936), algorithm 1: floor(n / 2) of the n classes that occur (of a
    prediction there), drawn without replacement; nothing where there is but one.

    Args:
        key: a PRNG key.
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: number of classes k, at most 255.

    Returns:
        bool [b, h, w], True on the pixels of chosen classes; False on ignored ones.
    """

    def one(key, label):
        is_class = label[..., None] == jnp.arange(num_classes)
        occurs = jnp.any(is_class, axis=(0, 1))
        # A random order of the classes, those that do not occur last.
        draw = jnp.where(occurs, jax.random.uniform(key, (num_classes,)), jnp.inf)
        rank = jnp.argsort(jnp.argsort(draw))
        return jnp.any(is_class & (rank < jnp.sum(occurs) // 2), axis=-1)

    chex.assert_rank(label, 3)
    return jax.vmap(one)(jax.random.split(key, len(label)), label)


def labelmix_mask(key: jax.Array, label: jax.Array, *, num_classes: int) -> jax.Array:
    """Assign each class of a label map to the first or the second image, each with probability 1/2.

    LabelMix of OASIS: Sushko et al. 2021, You Only Need Adversarial Supervision for Semantic Image Synthesis
    (arXiv:2012.04781): real and generated image of one label map are mixed along its borders. Drawn for
    each image; the released code draws once for a class in the whole batch.

    Args:
        key: a PRNG key.
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: number of classes k, at most 255.

    Returns:
        bool [b, h, w]; ignored pixels are one more region, with a draw of their own.
    """

    def one(key, label):
        first = jax.random.bernoulli(key, shape=(num_classes + 1,))
        is_class = label[..., None] == jnp.arange(num_classes)
        return jnp.where(jnp.any(is_class, axis=-1), jnp.any(is_class & first[:-1], axis=-1), first[-1])

    chex.assert_rank(label, 3)
    return jax.vmap(one)(jax.random.split(key, len(label)), label)

"""Label maps as colours, back again, and what a generated image differs from its target by.

Isola et al. 2017 (arXiv:1611.07004) draw labels in a colour for each class, so that one network of three channels
makes labels or photographs. Distances between such colours are no distances between classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import segmentation

STDDEV = 0.1  # of a made colour around its class's, of 2 from black to white: 13 of 255
DIFFERENCES = {"l1": segmentation.l1, "mse": segmentation.mse}


def palette(class_colors: Sequence[Sequence[int]], num_classes: int) -> jax.Array:
    """Return the colour of each class, float32 [k, 3] in [-1, 1], as images are scaled.

    Args:
        class_colors: RGB of each class, 0..255.
        num_classes: k.

    Raises:
        InputError: there is not one colour for each class, or two classes share one.
    """
    colors = [tuple(color) for color in class_colors]
    if len(colors) != num_classes or len(set(colors)) != num_classes:
        raise InputError(
            f"config.class_colors has {len(set(colors))} different colours, found in {len(colors)}, for {num_classes} "
            "classes; expected one for each class, all different: edit classes.txt."
        )
    return 2.0 * jnp.array(colors, jnp.float32) / 255.0 - 1.0


def colorize(label: jax.Array, colors: jax.Array) -> jax.Array:
    """Return the colour of each pixel's class, float32 [b, h, w, 3]; 0, mid grey, where the pixel has none.

    Args:
        label: int [b, h, w], class ids, 255 = ignore.
        colors: float32 [k, 3], from `palette`.
    """
    # Full precision: on accelerators the default would round colours.
    return jnp.matmul(segmentation.one_hot(label, len(colors)), colors, precision=jax.lax.Precision.HIGHEST)


def color_logits(image: jax.Array, colors: jax.Array) -> jax.Array:
    """Return class logits of which the largest is the nearest colour's.

        z_k = -|x - c_k|^2 / (2 s^2),  s = STDDEV

    that is, softmax(z) is the posterior of classes whose colours are seen through Gaussian noise of deviation s. The
    differences of logits are linear in x, so interpolated logits decode to the colour nearest to the interpolated one.

    Args:
        image: float [b, h, w, 3] in [-1, 1].
        colors: float32 [k, 3], from `palette`.

    Returns:
        float32 [b, h, w, k].
    """
    chex.assert_axis_dimension(image, -1, 3)
    distance = jnp.sum(jnp.square(image.astype(jnp.float32)[..., None, :] - colors), axis=-1)
    return -distance / (2.0 * STDDEV**2)


def check_differences(weights: Mapping[str, float]) -> None:
    """Raise InputError if a loss of classes has a weight where images are compared."""
    for name, weight in weights.items():
        if weight > 0 and name not in DIFFERENCES:
            raise InputError(
                f"config.losses.weights.{name} is {weight}, but {name} compares classes and this network makes "
                f"colours; set it to 0 and weigh {' or '.join(DIFFERENCES)}."
            )


def weighted_differences(
    image: jax.Array, target: jax.Array, known: jax.Array, weights: Mapping[str, float]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Compute w_l1 mean |x - y| + w_mse mean (x - y)^2 over known pixels and channels.

    Args:
        image: float [b, h, w, c], x.
        target: float [b, h, w, c], y.
        known: bool [b, h, w], the pixels that count.
        weights: term -> weight (static); those that `check_differences` forbids are 0.

    Returns:
        The sum, float32 scalar, 0 with zero gradient where no pixel is known, and each term before its weight.
    """
    terms = {name: difference(image, target, known) for name, difference in DIFFERENCES.items() if weights[name] > 0}
    return sum((weights[name] * value for name, value in terms.items()), jnp.float32(0.0)), terms


def with_heads(
    image: jax.Array, heads: Mapping[str, jax.Array], target: jax.Array, known: jax.Array, options: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Compute S(image) + auxiliary_weight * sum of S over auxiliary heads, with S the `weighted_differences`.

    Args:
        image: float [b, h, w, c].
        heads: name -> image of an auxiliary head, of the same shape; {} for a network without any.
        target: float [b, h, w, c].
        known: bool [b, h, w], the pixels that count.
        options: `config.losses` (static): `weights` and `auxiliary_weight`.

    Returns:
        The loss, float32 scalar, and the value of each term of the image and of each head ("auxiliary/NAME").
    """
    loss, terms = weighted_differences(image, target, known, options.weights)
    for name, head in heads.items():
        terms[f"auxiliary/{name}"], _ = weighted_differences(head, target, known, options.weights)
        loss += options.auxiliary_weight * terms[f"auxiliary/{name}"]
    return loss, terms

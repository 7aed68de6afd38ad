"""Which places of an image speak for a class: Grad-CAM, integrated gradients and occlusion, of a segmentation network.

All three are about one number, the mean score of a class over the region R that was labelled with it,

    F(x) = 1/|R| sum_{u in R} z_c(u; x),

z the logits. What they show is what the network uses, not what is right; none of them is evidence without the check
that maps of random weights differ (Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv:1810.03292), which the
tests make.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models.perturbation import ends_encoder

Network = Callable[[jax.Array], jax.Array]  # from an image [1, h, w, 3] in [-1, 1] to logits [1, h, w, k]
GREY = 0.0  # what stands for nothing: the middle of the range, as padding


def region_score(logits: jax.Array, region: jax.Array, number: jax.Array) -> jax.Array:
    """Return F: the mean of a class's score over a region.

    Args:
        logits: float [1, h, w, k].
        region: bool [h, w]; 0 is returned where it is empty.
        number: int32, the class.
    """
    score = jnp.take(logits[0], number, axis=-1)
    return jnp.sum(jnp.where(region, score, 0.0)) / jnp.maximum(jnp.sum(region), 1)


def grad_cam(network: Network, image: jax.Array, region: jax.Array, number: jax.Array) -> jax.Array | None:
    """Return where the encoder's deepest map speaks for the class.

        a_k = mean_{ij} dF / dA_k(i, j),   L(i, j) = max(0, sum_k a_k A_k(i, j))

    Selvaraju et al. 2017, Grad-CAM (arXiv:1610.02391); for regions of a segmentation Vinogradova et al. 2020, Towards
    Interpretable Semantic Segmentation via Gradient-Weighted Class Activation Mapping (arXiv:2002.11434).

    Args:
        network: the network; it is a Flax module or calls some, and shows where its encoder ends.
        image: float [1, h, w, 3].
        region: bool [h, w].
        number: int32, the class.

    Returns:
        float32 [h', w'], the size of the deepest map, 0 or more; None where the network does not show where its
        encoder ends.
    """
    ends = _encoder_ends(network, image)
    if not ends:
        return None

    def score(delta):
        logits, features = _with_features(network, image, delta, call=len(ends))
        return region_score(logits, region, number), features

    gradient, features = jax.grad(score, has_aux=True)(jnp.zeros(ends[-1].shape, ends[-1].dtype))
    weights = jnp.mean(gradient[0], axis=(0, 1))
    return jax.nn.relu(jnp.sum(features[0] * weights, axis=-1)).astype(jnp.float32)


def integrated_gradients(
    network: Network, image: jax.Array, region: jax.Array, number: jax.Array, *, steps: int = 16
) -> jax.Array:
    """Return how much each pixel adds to F on the way from a grey image to this one.

        IG(u) = sum_channels (x - x')(u) 1/n sum_i dF/dx(u) at x' + (i - 1/2) / n (x - x'),   i = 1..n

    Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks (arXiv:1703.01365), by the midpoint rule. With
    enough steps its sum is F(x) - F(x').

    Args:
        network: the network.
        image: float [1, h, w, 3].
        region: bool [h, w].
        number: int32, the class.
        steps: n (static).

    Returns:
        float32 [h, w]; negative where a pixel speaks against the class.
    """
    way = image - GREY
    gradient = jax.grad(lambda x: region_score(network(x), region, number))

    def add(total, share):
        return total + gradient(GREY + share * way), None

    shares = (jnp.arange(steps) + 0.5) / steps
    total, _ = jax.lax.scan(add, jnp.zeros_like(image), shares)
    return jnp.sum(way * total / steps, axis=-1)[0].astype(jnp.float32)


def occlusion(
    network: Network, image: jax.Array, regions: jax.Array, numbers: jax.Array, *, parts: int = 6
) -> jax.Array:
    """Return how far the probabilities of classes in their regions fall where a grey square hides the image.

    Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks (arXiv:1311.2901). The square's side is
    a `parts`-th of the canvas's and it moves by half of that; a place has the mean over the squares that hide it.

    Args:
        network: the network.
        image: float [1, h, w, 3].
        regions: bool [n, h, w].
        numbers: int32 [n], their classes.
        parts: how many squares lie side by side (static).

    Returns:
        float32 [n, h, w], -1 to 1.
    """
    size = image.shape[1:3]
    sides = [max(2, -(-length // parts)) for length in size]
    starts = [jnp.arange(0, length, max(1, side // 2)) - side // 4 for length, side in zip(size, sides, strict=True)]
    rows, columns = (grid.ravel() for grid in jnp.meshgrid(*starts, indexing="ij"))

    def probabilities(x):
        found = jax.nn.softmax(network(x))
        return jax.vmap(lambda region, number: region_score(found, region, number))(regions, numbers)

    def hidden_at(row, column):
        down, across = jnp.arange(size[0]) - row, jnp.arange(size[1]) - column
        return ((down >= 0) & (down < sides[0]))[:, None] & ((across >= 0) & (across < sides[1]))

    whole = probabilities(image)

    def add(found, place):
        hidden = hidden_at(*place)
        fall = whole - probabilities(jnp.where(hidden[None, :, :, None], GREY, image))
        total, count = found
        return (total + fall[:, None, None] * hidden, count + hidden), None

    nothing = jnp.zeros((len(regions), *size), jnp.float32), jnp.zeros(size, jnp.float32)
    (total, count), _ = jax.lax.scan(add, nothing, (rows, columns))
    return total / jnp.maximum(count, 1)


def _encoder_ends(network: Network, image: jax.Array) -> list[jax.ShapeDtypeStruct]:
    """Return the shape of the deepest map of each encoder that acts, in order; nothing is computed."""
    found = []

    def watch(call, args, kwargs, context):
        output = call(*args, **kwargs)
        if ends_encoder(context):
            leaves = jax.tree.leaves(output)
            deepest = leaves[_deepest(leaves)]
            found.append(jax.ShapeDtypeStruct(deepest.shape, deepest.dtype))
        return output

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda x: network(x), image)  # a new function, of which JAX remembers no trace
    return found


def _with_features(network: Network, image: jax.Array, delta: jax.Array, *, call: int) -> tuple[jax.Array, jax.Array]:
    """Return the logits and an encoder's deepest map, to which `delta` is added on the way to the decoder.

    The encoder is that of the `call`-th network that acts, from 1: of several, one after the other, the last one's.
    """
    ends, kept = [], []

    def add(apply, args, kwargs, context):
        output = apply(*args, **kwargs)
        if ends_encoder(context):
            ends.append(context.module.name)
            if len(ends) == call:
                leaves, tree = jax.tree.flatten(output)
                place = _deepest(leaves)
                kept.append(leaves[place])
                leaves[place] = leaves[place] + delta
                output = jax.tree.unflatten(tree, leaves)
        return output

    with nn.intercept_methods(add):
        return network(image), kept[0]


def _deepest(leaves: list[Any]) -> int:
    """Return the place of the smallest map of an encoder, the last one of several."""
    areas = [
        (leaf.shape[1] * leaf.shape[2], -place)
        for place, leaf in enumerate(leaves)
        if leaf.ndim == 4 and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return -min(areas)[1]

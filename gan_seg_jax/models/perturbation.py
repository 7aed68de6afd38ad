"""Perturbing what an encoder hands to its decoder, in any segmentation network, from outside.

A network's encoder ends where the module called "backbone" returns, or where it passes its maps through an
`EncoderFeatures`. Whoever applies the network within `decoded_twice` gets its output for the maps as they are and for
the maps without some of their channels; the encoder runs once.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models.network import BACKBONE
from gan_seg_jax.models.rows import together


class EncoderFeatures(nn.Module):
    """The place where the encoder of a network without a backbone ends: it returns what it is given."""

    @nn.compact
    def __call__(self, features: Any) -> Any:
        """Return the features, any tree of arrays [b, ...] that is all that the decoder sees."""
        return features


def ends_encoder(context: nn.module.InterceptorContext) -> bool:
    """Tell whether a call that `flax.linen.intercept_methods` has intercepted returns what the decoder sees."""
    ends = context.module.path == (BACKBONE,) or isinstance(context.module, EncoderFeatures)
    return ends and context.method_name == "__call__"


@contextlib.contextmanager
def decoded_twice(rate: float, key: chex.PRNGKey) -> Iterator[None]:
    """Let the decoder of the network that is applied within see 2 b examples: each of its b, and the same perturbed.

    Perturbed is each map by the dropout of whole channels, drawn for each example and each map:
        f'[i, ..., c] = f[i, ..., c] keep[i, c] / (1 - rate),   keep ~ Bernoulli(1 - rate)
    Yang et al. 2023, Revisiting Weak-to-Strong Consistency (UniMatch, arXiv:2208.09910), with rate 1/2. Both
    pass through the decoder in one batch (`rows.together`), whose statistics they share, as in the paper's code.

    Args:
        rate: share of the channels that are dropped, at least 0 and less than 1 (static).
        key: a PRNG key; every example draws from one of its own, by its row.

    Raises:
        InputError: the network does not show where its encoder ends.
    """
    found = []

    def perturb(features, index):
        if not jnp.issubdtype(features.dtype, jnp.floating):  # places of maxima, not features
            return features
        keys = jax.random.split(jax.random.fold_in(key, index), len(features))
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, features.shape[-1:]))(keys)
        keep = keep.reshape(len(features), *(1,) * (features.ndim - 2), -1)
        return jnp.where(keep, features / (1.0 - rate), 0.0).astype(features.dtype)

    def intercept(call, args, kwargs, context):
        output = call(*args, **kwargs)
        if not ends_encoder(context):
            return output
        found.append(context.module.name)
        leaves, tree = jax.tree.flatten(output)
        twice = [together(leaf, perturb(leaf, index)) for index, leaf in enumerate(leaves)]
        return jax.tree.unflatten(tree, twice)

    with nn.intercept_methods(intercept):
        yield
    if not found:
        raise InputError(
            "The network has no encoder whose features could be perturbed; use one with a backbone, or a U-Net."
        )

"""Several batches as one, row by row, so that a device that holds rows of each holds the same rows of the whole.

One after the other they would have to be sent round: of two batches on n devices the first half of the whole, and so
half of the devices, would be the first batch.
"""

from typing import Any

import jax
import jax.numpy as jnp


def together(*arrays: jax.Array) -> jax.Array:
    """Return arrays [b, ...] of the same shape as one [n b, ...]: the first row of each, the second of each, ..."""
    return jnp.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])


def apart(tree: Any, number: int) -> list[Any]:
    """Return what `together` has joined: for each of `number` batches the tree, its arrays [n b, ...] as [b, ...]."""

    def part(index):
        return jax.tree.map(lambda x: x.reshape(-1, number, *x.shape[1:])[:, index], tree)

    return [part(index) for index in range(number)]

"""Every class's probability at every pixel: more numbers than labels need, so made for one image and on demand."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.data.canvas import bucket
from gan_seg_jax.inference.options import Options
from gan_seg_jax.inference.scoring import Views, apply_crf, band_rows, needed, own_size


def make_probabilities(config: ConfigDict, options: Options, device: Any) -> Callable:
    """Return a function that gives every class's probability at an image's own size, on one `device`.

    The function takes (views, stream, size) of one image: what `make_views` returned and the stream hold a batch of
    one; `size` is its height and width. It returns float32 [*size, k], NumPy: only a band of it is on the device.
    """

    @functools.partial(jax.jit, static_argnums=3)
    def rows_from(views, stream, first, size):
        return jax.nn.softmax(own_size(views, stream, config, options, size, first))[0]

    @functools.partial(jax.jit, static_argnums=2)
    def whole(views, stream, out_size):
        scores = own_size(views, stream, config, options, out_size)
        return jax.nn.softmax(apply_crf(scores, stream["original"], stream["size"], options.crf, None))[0]

    def probabilities(views: Views, stream: dict[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
        height, width = bucket(size)
        stream = {name: stream[name] for name in needed(options)}
        views, stream = jax.device_put((tuple(views), stream), device)  # once, not for each band
        if options.crf is not None:
            return np.asarray(whole(views, stream, (height, width)))[: size[0], : size[1]]
        rows, found = (
            band_rows((height, width), config.num_classes, 1),
            np.empty((*size, config.num_classes), np.float32),
        )
        for first in range(0, size[0], rows):
            first = min(first, height - rows)  # the last band ends with the array
            part = np.asarray(rows_from(views, stream, jnp.int32(first), (rows, width)))[: size[0] - first, : size[1]]
            found[first : first + len(part)] = part
        return found

    return probabilities

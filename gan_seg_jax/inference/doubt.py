"""The discriminator's doubt: where it takes what was predicted of an image for made up."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.data.canvas import view_names
from gan_seg_jax.inference.options import Options
from gan_seg_jax.inference.scoring import Views, from_canvas, prepare
from gan_seg_jax.models.layers import resize_logits
from gan_seg_jax.state import AdversarialState, inference_view


def make_doubt(method: Any, config: ConfigDict, options: Options, mesh: Mesh) -> Callable:
    """Return a compiled function that gives 1 - `score_map` at the images' own sizes.

    The function takes (state, views, stream, out_size), `views` being what `make_views` returned, and returns float32
    [b, *out_size], 0 (real) to 1 (fake). The discriminator sees the softmax of the first view. Each image is scored by
    itself, since a loss without a threshold centres the scores on those that it is given.
    """
    image_name, content_name = view_names(options.scales[0])

    def doubt(state: AdversarialState, views: Views, stream: dict[str, jax.Array], out_size: tuple[int, int]):
        canvas = prepare({**stream, "image": stream[image_name], "content": stream[content_name]}, config)["image"]
        found = doubt_on_canvas(method, config, state, canvas, jax.nn.softmax(views[0][0]))
        found = from_canvas(found, stream, config, options.scales[0], out_size)
        return jnp.clip(found[..., 0], 0, 1)

    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    by_view = NamedSharding(mesh, PartitionSpec(None, *sharded.spec))
    shardings = {"in_shardings": (whole, by_view, sharded), "out_shardings": sharded}
    return jax.jit(doubt, static_argnums=3, **shardings)


def doubt_on_canvas(
    method: Any, config: ConfigDict, state: AdversarialState, images: jax.Array, masks: jax.Array
) -> jax.Array:
    """Return 1 - `score_map` of images [b, h, w, 3] and their probabilities [b, h, w, k], float32 [b, h, w, 1]."""
    nets = inference_view(state, jax.random.key(0))

    def one(pair):
        image, mask = pair
        return method.score_map(nets, image[None], mask[None], config)[0].astype(jnp.float32)

    return resize_logits(1 - jax.lax.map(one, (images, masks))[..., None], images.shape[1:3])

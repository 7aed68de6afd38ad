"""What is judged of a run, image by image: its probabilities, and its discriminator's scores of truth and fakes."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.augment import resample
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.inference.load import Run
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.inference.scoring import from_canvas, images_at_once, make_views, prepare, total_variation
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.losses import segmentation
from gan_seg_jax.methods import game
from gan_seg_jax.models.layers import resize_logits
from gan_seg_jax.state import inference_view

OWN_SIZE = ("label", "logits", "before", "after", "mirror", "doubt")  # arrays of the label's size


def make_step(run: Run) -> Callable:
    """Return a function of (state, stream, temperature) that gives all that is judged of a batch.

    Args:
        run: the run.

    Returns:
        Function to a dict of arrays [b, ...]: `label` uint8 [h, w], `size` and `valid` as in the stream, `id`,
        `before` and `after` float32 [h, w, k], probabilities without and with temperature; `mirror` float32 [h, w], the
        total variation distance of `before` and of those of the mirror image, 0 to 1; of a method with a `score_map`
        also what `score_discriminator` returns.
    """
    look = make_views(run.method, run.config, Options(flip=True))

    def step(state, stream, temperature):
        out_size = stream["label"].shape[1:]
        views = look(state, stream)[0]
        logits, mirrored = (from_canvas(view, stream, run.config, 1.0, out_size) for view in views)
        found = {name: stream[name] for name in ("label", "size", "valid", "id")}
        found |= {"before": jax.nn.softmax(logits), "after": jax.nn.softmax(logits / temperature)}
        found["mirror"] = total_variation(found["before"], jax.nn.softmax(mirrored))
        if run.method.score_map is not None:
            found |= score_discriminator(run.method, run.config, state, stream, out_size)
        return found

    return step


def score_discriminator(
    method: Any, config: ConfigDict, state: Any, stream: dict[str, jax.Array], out_size: tuple[int, int]
) -> dict[str, jax.Array]:
    """Return how real the discriminator finds a batch, at the size of its map [h', w'] but for `doubt`.

    Returns:
        float32 [b, h', w'] each: `soft` and `real_soft`, of prediction and truth as in training (the method's
        `discriminator_inputs`, or else the softmax and the one-hot truth); `crisp` and `real_crisp`, of the arg max and
        the one-hot truth, two maps as crisp as each other. `counted` bool [b, h', w'], whether a patch shows a labelled
        pixel; `doubt` float32 [b, *out_size], 1 - `soft` at the labels' sizes.
    """
    key = jax.random.key(0)  # nothing is drawn
    nets, batch = inference_view(state, key), prepare(stream, config)
    canvas = batch["image"].shape[1:3]
    label = label_on_canvas(stream, canvas)
    known = segmentation.known(label, config.num_classes)[..., None].astype(jnp.float32)
    truth = segmentation.one_hot(label, config.num_classes)
    logits = method.predict(nets, {"labelled": batch}, key, config).astype(jnp.float32)
    crisp = jax.nn.one_hot(jnp.argmax(logits, axis=-1), config.num_classes)

    # Real and fake in one batch: a loss without a threshold centres its scores on those of the batch.
    def score(fake):
        image, maps = jnp.concatenate([batch["image"]] * 2), jnp.concatenate([truth, fake * known])
        return method.score_map(nets, image, maps, config)

    if method.discriminator_inputs is None:
        soft = score(jax.nn.softmax(logits))
    else:
        pair = method.discriminator_inputs(nets, {"labelled": {**batch, "label": label}}, key, config)
        both = jax.tree.map(lambda *pair: jnp.concatenate(pair), *pair)
        soft = game.realness(nets.apply("discriminator", *both.images, *both.maps)[0], config)
    found = {}
    for name, scores in (("soft", soft), ("crisp", score(crisp))):
        found[f"real_{name}"], found[name] = jnp.split(scores.astype(jnp.float32), 2)
    doubt = resize_logits(1 - found["soft"][..., None], canvas)
    doubt = resample.resize_bilinear(doubt, stream["content"], stream["size"], out_size=out_size)
    counted = resize_logits(known, found["soft"].shape[1:])[..., 0] > 0
    return {**found, "counted": counted, "doubt": jnp.clip(doubt[..., 0], 0, 1)}


def label_on_canvas(stream: dict[str, jax.Array], canvas: tuple[int, int]) -> jax.Array:
    """Return labels of their own sizes as the canvas shows the images: int32 [b, *canvas], 255 outside."""

    def one(label, size, content):
        def pick(axis):
            step = size[axis] / content[axis].astype(jnp.float32)
            places = resample.source_coordinates(canvas[axis], start=0.0, step=step)
            return resample.nearest_index(places, content=size[axis]), jnp.arange(canvas[axis]) < content[axis]

        (rows, inside), (columns, beside) = pick(0), pick(1)
        return jnp.where(inside[:, None] & beside, label[rows][:, columns].astype(jnp.int32), IGNORE)

    return jax.vmap(one)(stream["label"], stream["size"], stream["content"])


def rows_of(step: Callable, run: Run, split: Split, mesh: Mesh, *more: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yield what `step(state, stream, *more)` finds of each image of a split, on the host, like sizes together.

    Every process gets all images, since scores such as an AUC need them together; arrays of `OWN_SIZE` are cut to the
    image's own. Batches are smaller where images are large.
    """
    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    step = jax.jit(step, in_shardings=(whole, sharded, *(whole for _ in more)), out_shardings=sharded)
    state = parallel.place(run.state, whole)
    at_once = lambda size: images_at_once(run.config, PLAIN, size, mesh)
    process = (jax.process_index(), jax.process_count())
    batches = pipeline.eval_batches(split, run.config, process=process, at_once=at_once)
    for _, found in parallel.one_behind(lambda batch: step(state, parallel.place(batch, sharded), *more), batches):
        several = jax.process_count() > 1
        found = multihost_utils.process_allgather(found, tiled=True) if several else jax.device_get(found)
        for row in np.flatnonzero(found["valid"]):
            height, width = found["size"][row]
            window = (row, slice(0, height), slice(0, width))
            yield {name: value[window if name in OWN_SIZE else row] for name, value in found.items()}

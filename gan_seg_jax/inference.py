"""A trained run, ready to label images: what `evaluate`, `predict` and the pictures of a run share."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from gan_seg_jax import augment, checkpoint, integrity, resample, tiling
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data.canvas import view_names
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference_options import PLAIN, Options
from gan_seg_jax.methods import get_method
from gan_seg_jax.postprocess import crf
from gan_seg_jax.state import AdversarialState, create_state, inference_view, variable_shapes

PIXELS_AT_ONCE = 2**22  # in a batch, where images are large: 12 classes take 200 MB an array
CRF_PIXELS = 2**21  # of one image; the CRF needs 2.5 kB for each


@dataclasses.dataclass(frozen=True)
class Run:
    """A method, the config it was trained with, its state, and the step of its checkpoint."""

    method: Any
    config: ConfigDict
    state: AdversarialState
    step: int


def example_batch(streams: tuple[str, ...], config: ConfigDict, count: int = 2) -> dict[str, dict[str, jax.Array]]:
    """Return an all-zero batch of `count` examples as methods see it, for shapes."""
    size = (count, *config.crop_size)
    stream = {
        "image": jnp.zeros((*size, 3)), "label": jnp.zeros(size, jnp.int32), "target": jnp.zeros((*size, 3)),
        "valid": jnp.ones(count, bool), "id": jnp.zeros(count, jnp.int32),
    }  # fmt: skip
    return dict.fromkeys(streams, stream)


def load_run(workdir: str | Path, which: str = "best", data_dir: str | None = None) -> Run:
    """Load a run for inference: averaged weights where it has them, no optimizers.

    Args:
        workdir: the run's folder.
        which: "best", "latest" or a step.
        data_dir: where the data set is now; None: where it was.

    Raises:
        InputError: the folder holds no run, or the checkpoint cannot be read.
    """
    config = checkpoint.read_config(workdir)
    if config.method in BASELINES:
        raise InputError(
            f"{workdir} holds the run of {config.method}, a classical method: it has no checkpoint; its scores are in "
            "its summary.json."
        )
    method = get_method(config.method)
    modules = method.build(config)
    template = variable_shapes(method, modules, example_batch(method.STREAMS, config), config)
    arrays, meta = checkpoint.load_checkpoint(workdir, which, training=False, limit=integrity.room(template))
    checkpoint.check_config(workdir, config, meta)
    stored = {role: checkpoint.network_variables(arrays, role, origin=str(workdir)) for role in modules}
    variables = checkpoint.fill(template, checkpoint.flatten(stored), origin=f"The checkpoint in {workdir}")
    state = create_state(jax.tree.map(jnp.asarray, variables), modules, {}, seed=config.seed)
    if data_dir is not None:
        config.data_dir = data_dir
    return Run(method, config, state.replace(step=jnp.int32(meta["step"])), meta["step"])


def prepare(stream: dict[str, jax.Array], config: ConfigDict) -> dict[str, jax.Array]:
    """Return what methods see of canvases that are to be labelled; every pixel counts as not labelled.

    The stream's own `label`, if it is there, may have another size than the canvas: it is for scoring.
    """
    unknown = jnp.full(stream["image"].shape[:3], augment.IGNORE, jnp.uint8)
    key = jax.random.key(0)  # nothing is drawn
    stream = {**stream, "label": unknown}
    return augment.prepare(stream, key, crop_size=config.crop_size, options=config.augment, train=False)


def make_predictor(method: Any, config: ConfigDict, options: Options = PLAIN, mesh: Mesh | None = None) -> Callable:
    """Return a function that labels a batch of canvases at the images' own sizes.

    The function takes (state, stream, out_size), `out_size` static, and returns (labels uint8 [b, *out_size],
    probability of the chosen class float32 [b, *out_size]); only the first `stream["size"]` pixels have a meaning.
    What `options` wants beyond the image itself must be in the stream: see `make_scorer`. Clean-up, which is the host's
    work (`morphology.clean`), is not done here.
    """
    score = make_scorer(method, config, options, mesh)

    def predict(state: AdversarialState, stream: dict[str, jax.Array], out_size: tuple[int, int]):
        logits = score(state, stream, out_size)
        chosen = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
        confidence = jnp.exp(jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1))
        return chosen, confidence

    return predict


def make_scorer(method: Any, config: ConfigDict, options: Options = PLAIN, mesh: Mesh | None = None) -> Callable:
    """Return a function that gives the classes' scores at the images' own sizes.

    The function takes (state, stream, out_size), `out_size` static, and returns float32 [b, *out_size, k] of which
    softmax is the probabilities: logits of the network; with several scales, mirror images or windows the log of the
    mean probability; with the CRF its log-marginals. For scales other than 1 the stream holds `canvas.scaled_views`;
    for the CRF the image as it is stored, `original` uint8 [b, *out_size, 3].

    Args:
        method: the method.
        config: the run's config.
        options: how the scores are made.
        mesh: the devices over which the batch is sharded, which the CRF must know; None is one device.
    """

    def score(state: AdversarialState, stream: dict[str, jax.Array], out_size: tuple[int, int]) -> jax.Array:
        nets = inference_view(state, jax.random.key(0))
        network = _make_network(method, config, options, nets, stream)
        scores = jnp.zeros((len(stream["size"]), *out_size, config.num_classes))
        for scale in options.scales:
            image, content = view_names(scale)
            canvas = prepare({**stream, "image": stream[image], "content": stream[content]}, config)["image"]

            def resized(logits, scale=scale, content=content):
                if config.resize == "none" and scale == 1:  # the canvas is at the images' own scale
                    return logits[:, : out_size[0], : out_size[1]]
                return resample.resize_bilinear(logits, stream[content], stream["size"], out_size=out_size)

            if options.views == 1:
                scores = resized(network(canvas))
                break

            def add(total, view, resized=resized):
                image, mirrored = view
                logits = network(image)
                logits = jnp.where(mirrored, logits[:, :, ::-1], logits)
                return total + jax.nn.softmax(resized(logits)) / options.views, None

            # A loop with the sum as its state: one view's maps are in memory at a time.
            views = jnp.stack([canvas, canvas[:, :, ::-1]][: 1 + options.flip])
            scores, _ = jax.lax.scan(add, scores, (views, jnp.arange(len(views)) == 1))
        if options.views > 1:
            scores = _log(scores)
        if options.crf is not None:
            scores = apply_crf(scores, stream["original"], stream["size"], options.crf, mesh)
        return scores

    return score


def _make_network(method, config, options, nets, stream) -> Callable[[jax.Array], jax.Array]:
    """Return a function from canvases [b, h, w, 3], as methods see them, to the network's scores [b, h, w, k]."""

    def network(image):
        unknown = jnp.full(image.shape[:3], augment.IGNORE, jnp.int32)
        view = {"image": image, "label": unknown, "valid": stream["valid"], "id": stream["id"]}
        return method.predict(nets, {"labelled": view}, jax.random.key(0), config).astype(jnp.float32)

    def by_windows(image):
        probabilities = tiling.blend(
            lambda tile: jax.nn.softmax(network(tile)),
            image, window=options.window, overlap=options.overlap, channels=config.num_classes,
        )  # fmt: skip
        return _log(probabilities)

    return network if options.window == (0, 0) else by_windows


def images_at_once(config: ConfigDict, options: Options, out_size: tuple[int, int], mesh: Mesh) -> int:
    """Return how many images a batch may hold: `config.batch_size`, or fewer where they are large.

    Args:
        config: the run's config.
        options: how images are labelled. The CRF does one image after the other, so there filling up a batch only
            costs.
        out_size: height and width of the labels.
        mesh: the devices; the result is a multiple of their number.
    """
    enlarged = max(1.0, *options.scales) ** 2
    view = config.canvas_size if config.resize == "fit" else out_size
    pixels = max(out_size[0] * out_size[1], view[0] * view[1] * enlarged)
    fitting = 1 if options.crf is not None else min(config.batch_size, int(PIXELS_AT_ONCE / pixels))
    return max(-(-fitting // mesh.size), 1) * mesh.size


def _log(probabilities: jax.Array) -> jax.Array:
    """Return the logarithm, finite where a probability has underflowed: what is interpolated later must not be nan."""
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))


def apply_crf(
    scores: jax.Array, original: jax.Array, size: jax.Array, parameters: crf.CRFParameters, mesh: Mesh | None
) -> jax.Array:
    """Return the log-marginals of the fully connected CRF, float32 [b, h, w, k].

    Args:
        scores: float32 [b, h, w, k] at the images' own sizes.
        original: the images as they are stored, uint8 [b, h, w, 3].
        size: int32 [b, 2], height and width of each; the rest is padding and takes no part.
        parameters: of the CRF; may be traced.
        mesh: over which the batch is sharded: each device does its own images. None is one device.

    Raises:
        InputError: the images are larger than memory should be asked to hold (CRF_PIXELS).
    """
    height, width = scores.shape[1:3]
    if height * width > CRF_PIXELS:
        raise InputError(f"The CRF takes images of up to {CRF_PIXELS} pixels, found {height}x{width}; leave out --crf.")
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    inside = (rows < size[:, 0, None, None]) & (columns < size[:, 1, None, None])
    run, arguments = crf.mean_field, (scores, original.astype(jnp.float32), inside, parameters)
    if mesh is not None and mesh.size > 1:  # the CRF goes through its images in a loop, which jit would not split
        own, whole = PartitionSpec("data"), PartitionSpec()
        specs = {"in_specs": (own, own, own, whole), "out_specs": own}
        arguments = (*arguments[:3], jax.tree.map(jnp.float32, parameters))
        run = jax.shard_map(run, mesh=mesh, **specs, check_vma=False)
    return run(*arguments)

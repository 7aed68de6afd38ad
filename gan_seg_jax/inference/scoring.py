"""From images on their canvases to scores and labels at the images' own sizes: what everything that labels shares.

Two programs: `make_views`, the network on canvases, compiled for each size of canvas, and what makes labels of it,
compiled for each `canvas.bucket` of images' own sizes. The second goes through an image in bands of rows, so that its
scores, every class at every pixel, are never in memory at once: a photograph of 24 megapixels has 14 GB of them for 150
classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.augment import paired, resample
from gan_seg_jax.data.canvas import canvas_of, view_names
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import tiling
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.postprocess import crf
from gan_seg_jax.state import AdversarialState, inference_view

PIXELS_AT_ONCE = 2**22  # in a batch, where images are large: 12 classes take 200 MB an array
BAND = 32  # rows whose labels are made at once; as few for small images, so that no rounding differs
SCORES_AT_ONCE = 2**26  # or fewer, so that a band has so many numbers on a device: 256 MB, in about three arrays
CRF_PIXELS = 2**21  # of one image; the CRF needs 2.5 kB for each

Views = tuple[jax.Array, ...]


def prepare(stream: dict[str, jax.Array], config: ConfigDict) -> dict[str, jax.Array]:
    """Return what methods see of canvases that are to be labelled; every pixel counts as not labelled.

    The stream's own `label`, if it is there, may have another size than the canvas: it is for scoring.
    """
    unknown = jnp.full(stream["image"].shape[:3], IGNORE, jnp.uint8)
    key = jax.random.key(0)  # nothing is drawn
    stream = {**stream, "label": unknown}
    return paired.prepare(stream, key, crop_size=config.crop_size, options=config.augment, train=False)


def make_views(
    method: Any, config: ConfigDict, options: Options = PLAIN
) -> Callable[[AdversarialState, dict[str, jax.Array]], Views]:
    """Return a function that runs the network on canvases.

    The function takes (state, stream) and returns, for each of the scales, float32 [v, b, h, w, k]: the scores on the
    canvas of the images and, with `options.flip`, of their mirror images, mirrored back. For scales other than 1 the
    stream holds `canvas.scaled_views`.
    """

    def views(state: AdversarialState, stream: dict[str, jax.Array]) -> Views:
        network, found = make_network(method, config, options, state, stream), []
        for scale in options.scales:
            image, content = view_names(scale)
            canvas = prepare({**stream, "image": stream[image], "content": stream[content]}, config)["image"]

            def look(view):
                image, mirrored = view
                logits = network(image)
                return jnp.where(mirrored, logits[:, :, ::-1], logits)

            pictures = jnp.stack([canvas, canvas[:, :, ::-1]][: 1 + options.flip])
            # A loop: the network is compiled once, and is in memory once.
            found.append(jax.lax.map(look, (pictures, jnp.arange(len(pictures)) == 1)))
        return tuple(found)

    return views


def make_network(
    method: Any, config: ConfigDict, options: Options, state: AdversarialState, stream: dict[str, jax.Array]
) -> Callable[[jax.Array], jax.Array]:
    """Return a function from canvases [b, h, w, 3], as methods see them, to the network's scores [b, h, w, k]."""
    nets = inference_view(state, jax.random.key(0))

    def network(image):
        unknown = jnp.full(image.shape[:3], IGNORE, jnp.int32)
        view = {"image": image, "label": unknown, "valid": stream["valid"], "id": stream["id"]}
        return method.predict(nets, {"labelled": view}, jax.random.key(0), config).astype(jnp.float32)

    def by_windows(image):
        probabilities = tiling.blend(
            lambda tile: jax.nn.softmax(network(tile)),
            image,
            window=options.window,
            overlap=options.overlap,
            channels=config.num_classes,
        )
        return _log(probabilities)

    return network if options.window == (0, 0) else by_windows


def from_canvas(
    maps: jax.Array,
    stream: dict[str, jax.Array],
    config: ConfigDict,
    scale: float,
    out_size: tuple[int, int],
    first: jax.Array | int = 0,
) -> jax.Array:
    """Return maps [b, h', w', c] on the canvases of a scale at the images' own sizes, rows `first` and on."""
    if config.resize == "none" and scale == 1:  # the canvas is at the images' own scale
        return jax.lax.dynamic_slice_in_dim(maps, first, out_size[0], axis=1)[:, :, : out_size[1]]
    content = stream[view_names(scale)[1]]
    return resample.resize_bilinear(maps, content, stream["size"], out_size=out_size, first=first)


def own_size(
    views: Views,
    stream: dict[str, jax.Array],
    config: ConfigDict,
    options: Options,
    out_size: tuple[int, int],
    first: jax.Array | int = 0,
) -> jax.Array:
    """Return the scores of rows `first` and on, float32 [b, *out_size, k], of which softmax is the probabilities."""
    resized = lambda logits, scale: from_canvas(logits, stream, config, scale, out_size, first)
    if options.views == 1:
        return resized(views[0][0], options.scales[0])
    total = jnp.zeros((len(stream["size"]), *out_size, config.num_classes), jnp.float32)
    for scale, found in zip(options.scales, views, strict=True):
        for logits in found:
            total += jax.nn.softmax(resized(logits, scale)) / options.views
    return _log(total)


def make_scorer(method: Any, config: ConfigDict, options: Options = PLAIN, mesh: Mesh | None = None) -> Callable:
    """Return a function that gives the classes' scores at the images' own sizes, all at once.

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
    look = make_views(method, config, options)

    def score(state: AdversarialState, stream: dict[str, jax.Array], out_size: tuple[int, int]) -> jax.Array:
        scores = own_size(look(state, stream), stream, config, options, out_size)
        if options.crf is not None:
            scores = apply_crf(scores, stream["original"], stream["size"], options.crf, mesh)
        return scores

    return score


def make_chooser(
    config: ConfigDict, options: Options = PLAIN, mesh: Mesh | None = None, maps: Sequence[str] = ("confidence",)
) -> Callable:
    """Return a function that makes labels of what `make_views` returned.

    The function takes (views, stream, out_size), `out_size` static, and returns (labels uint8 [b, *out_size], and of
    the names in `maps`, float32 [b, *out_size] each: `confidence_of` or `entropy_of` the scores). Only the first
    `stream["size"]` pixels count. Of the stream it needs `size`, the contents and, for the CRF, `original`. Clean-up,
    which is the host's work (`morphology.clean`), is not done here.
    """
    measures = [{"confidence": confidence_of, "entropy": entropy_of}[name] for name in maps]

    def choose(scores):
        return jnp.argmax(scores, axis=-1).astype(jnp.uint8), *(measure(scores) for measure in measures)

    def chooser(views: Views, stream: dict[str, jax.Array], out_size: tuple[int, int]) -> tuple[jax.Array, ...]:
        height, width = out_size
        if options.crf is not None:  # whose images are small
            scores = own_size(views, stream, config, options, out_size)
            return choose(apply_crf(scores, stream["original"], stream["size"], options.crf, mesh))
        images = len(stream["size"])
        rows = band_rows(out_size, config.num_classes, -(-images // (1 if mesh is None else mesh.size)))

        def band(found, first):
            scores = own_size(views, stream, config, options, (rows, width), first)
            place = lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, first, axis=1)
            return jax.tree.map(place, found, choose(scores)), None

        kinds = (jnp.uint8, *(jnp.float32 for _ in maps))
        nothing = tuple(jnp.zeros((images, *out_size), kind) for kind in kinds)
        # The last band ends with the image, so it may do some rows of the one before again.
        starts = jnp.minimum(jnp.arange(0, height, rows), height - rows)
        return jax.lax.scan(band, nothing, starts)[0]

    return chooser


def confidence_of(scores: jax.Array) -> jax.Array:
    """Return the probability of the most probable class, of scores [..., k]."""
    return jnp.exp(jnp.max(scores, axis=-1) - jax.nn.logsumexp(scores, axis=-1))


def entropy_of(scores: jax.Array) -> jax.Array:
    """Return the entropy of the probabilities of scores [..., k], as a share of log k, the highest there can be."""
    logarithms = jax.nn.log_softmax(scores)
    return -jnp.sum(jnp.exp(logarithms) * logarithms, axis=-1) / jnp.log(jnp.maximum(scores.shape[-1], 2.0))


def total_variation(probabilities: jax.Array, others: jax.Array) -> jax.Array:
    """Return half the sum of |p - q| over the last axis of probabilities [..., k]: from 0, the same, to 1."""
    return 0.5 * jnp.sum(jnp.abs(probabilities - others), axis=-1)


def band_rows(out_size: tuple[int, int], num_classes: int, images: int) -> int:
    """Return how many rows of so many images have their scores made at once."""
    height, width = out_size
    return min(height, BAND, max(1, SCORES_AT_ONCE // (width * num_classes * images)))


def needed(options: Options) -> tuple[str, ...]:
    """Return what of a stream is needed beside what `make_views` returned."""
    contents = (view_names(scale)[1] for scale in options.scales)
    return ("size", *contents, *(["original"] if options.crf is not None else []))


class Labeller:
    """Labels batches of images; compiled once for each canvas, and once for each size of the labels."""

    def __init__(
        self, method: Any, config: ConfigDict, options: Options, mesh: Mesh, maps: Sequence[str] = ("confidence",)
    ):
        """Prepare to label on the devices of the mesh, over which batches are sharded; `maps` as `make_chooser`."""
        whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
        views = NamedSharding(mesh, PartitionSpec(None, *sharded.spec))
        self._look = jax.jit(make_views(method, config, options), in_shardings=(whole, sharded), out_shardings=views)
        self._choose = jax.jit(
            make_chooser(config, options, mesh, maps),
            static_argnums=2,
            in_shardings=(views, sharded),
            out_shardings=sharded,
        )
        self._needed = needed(options)

    def __call__(
        self, state: AdversarialState, stream: dict[str, jax.Array], out_size: tuple[int, int]
    ) -> tuple[jax.Array, ...]:
        """Return labels and the maps, as of `make_chooser`.

        Args:
            state: the state, on the mesh.
            stream: a batch as the host delivers it but for its labels, on the mesh.
            out_size: height and width of the results.
        """
        return self.choose(self.look(state, stream), stream, out_size)

    def look(self, state: AdversarialState, stream: dict[str, jax.Array]) -> Views:
        """Return the scores on the canvases, as of `make_views`."""
        return self._look(state, {name: value for name, value in stream.items() if name not in ("size", "original")})

    def choose(self, views: Views, stream: dict[str, jax.Array], out_size: tuple[int, int]) -> tuple[jax.Array, ...]:
        """Return labels and the maps of what `look` returned of the same stream."""
        return self._choose(views, {name: stream[name] for name in self._needed}, out_size)


def images_at_once(config: ConfigDict, options: Options, out_size: tuple[int, int], mesh: Mesh) -> int:
    """Return how many images a batch may hold: `config.batch_size`, or fewer where they are large.

    Args:
        config: the run's config.
        options: how images are labelled. The CRF does one image after the other, so there filling up a batch only
            costs.
        out_size: height and width of the labels.
        mesh: the devices; the result is a multiple of their number.
    """
    seen = sum(scale**2 for scale in options.scales) * (1 + options.flip)  # all views, as parts of the canvas
    view = canvas_of(out_size, config.canvas_size, resize=config.resize)
    pixels = max(out_size[0] * out_size[1], view[0] * view[1] * seen)
    fitting = int(PIXELS_AT_ONCE / pixels)
    if fitting < config.batch_size:  # a power of two: few batch sizes, each of which the network is compiled for
        fitting = 1 << (max(fitting, 1).bit_length() - 1)
    fitting = 1 if options.crf is not None else min(config.batch_size, fitting)
    return -(-fitting // mesh.size) * mesh.size


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

"""Images of any sizes, labelled in batches of like size: what `predict` and `gan_seg_jax.load` share."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from gan_seg_jax import parallel
from gan_seg_jax.data import canvas
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import file_batches, scoring
from gan_seg_jax.inference.doubt import make_doubt
from gan_seg_jax.inference.load import Run
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.inference.probabilities import make_probabilities
from gan_seg_jax.postprocess import morphology

MAPS = ("entropy", "doubt")
"""Further maps: the entropy of the probabilities as a share of log k, and 1 - the discriminator's score."""
KEPT_BYTES = 2**25  # of an image's scores on its canvas, which are kept for its probabilities if they are no more


class Labelled(NamedTuple):
    """What was found of one image; but for `image` the arrays are its own, not parts of a batch's.

    Attributes:
        name: what the caller called it.
        image: uint8 [h, w, 3].
        labels: class ids, uint8 [h, w].
        confidence: probability of the chosen class before any clean-up, float32 [h, w].
        maps: of `MAPS` those that were asked for, float32 [h, w], 0 to 1.
        views: the scores on its canvas, float32 [v, h', w', k] for each scale, where they were asked for and are small.
    """

    name: Any
    image: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    maps: dict[str, np.ndarray]
    views: tuple[np.ndarray, ...] | None = None


class ImageLabeller:
    """Labels images of any sizes with a run; several threads may share one.

    With the CRF, images of more than a million pixels are labelled at about that size, and the labels enlarged.
    """

    def __init__(
        self,
        run: Run,
        options: Options = PLAIN,
        *,
        mesh: Mesh,
        maps: Sequence[str] = (),
        keep_views: bool = False,
    ):
        """Put the run on the devices of the mesh.

        Args:
            run: a run of segmentation.
            options: how images are labelled.
            mesh: the devices.
            maps: of `MAPS` those that are wanted.
            keep_views: whether to keep `Labelled.views` of small images.

        Raises:
            InputError: the doubt is wanted of a run without such a discriminator.
        """
        if "doubt" in maps and run.method.score_map is None:
            raise InputError(
                f"A run of {run.config.method} has no discriminator that scores places of a label map, so there is no "
                "map of its doubt; leave out --doubt."
            )
        self._config, self._options, self._mesh, self._keep = run.config, options, mesh, keep_views
        self._maps = [name for name in MAPS if name in maps]
        of_scores = ("confidence", *(["entropy"] if "entropy" in maps else []))
        self._label = scoring.Labeller(run.method, run.config, options, mesh, of_scores)
        self._doubt = make_doubt(run.method, run.config, options, mesh) if "doubt" in maps else None
        self._state = parallel.place(run.state, parallel.replicated(mesh))
        self._probabilities = make_probabilities(run.config, options, mesh.devices.flat[0])
        self._lock = threading.Lock()  # else two threads would compile the same program

    def __call__(self, items: Iterable[tuple[Any, Any]], read: Callable[[Any], np.ndarray]) -> Iterator[Labelled]:
        """Yield what is found of each image, those of the same bucket of sizes together.

        Args:
            items: (what to read, name).
            read: returns uint8 [h, w, 3]; where it raises InputError, that is printed and the image left out.
        """
        groups = file_batches.groups(items, read, self._shown, self._batch_size)
        for (_, group), found in parallel.one_behind(self._dispatch, groups):
            chosen, *maps, views = jax.device_get(found)
            for row, (name, image, seen) in enumerate(group):
                window, size = (row, slice(0, seen.shape[0]), slice(0, seen.shape[1])), image.shape[:2]
                labels = np.array(file_batches.resized(chosen[window], size, Image.Resampling.NEAREST))
                if self._options.clean_up:
                    labels = morphology.clean(labels, **self._options.clean_up, num_classes=self._config.num_classes)
                own = None if views is None else tuple(np.array(view[:, row]) for view in views)
                sure, *others = [
                    np.array(file_batches.resized(x[window], size, Image.Resampling.BILINEAR)) for x in maps
                ]
                yield Labelled(name, image, labels, sure, dict(zip(self._maps, others, strict=True)), own)

    def probabilities(self, labelled: Labelled) -> np.ndarray:
        """Return every class's probability before any clean-up, float32 [h, w, k].

        Without `views` the image passes the network again.
        """
        image, views = labelled.image, labelled.views
        seen = self._shown(image)
        stream = on_canvas(seen, self._config, canvas.bucket(seen.shape), self._options)
        if views is None:
            batch = self._stack([stream], canvas.bucket(seen.shape))
            with self._lock:
                views = [view[:, :1] for view in self._label.look(self._state, batch)]
        else:
            views = [view[:, None] for view in views]
        with self._lock:
            found = self._probabilities(views, {name: value[None] for name, value in stream.items()}, seen.shape[:2])
        if image.shape == seen.shape:
            return found
        by_class = (np.ascontiguousarray(found[..., c]) for c in range(found.shape[-1]))
        enlarge = lambda scores: file_batches.resized(scores, image.shape[:2], Image.Resampling.BILINEAR)
        return np.stack([enlarge(scores) for scores in by_class], axis=-1)

    def _shown(self, image: np.ndarray) -> np.ndarray:
        """Return what is labelled of an image."""
        return image if self._options.crf is None else _shrunk(image)

    def _batch_size(self, out_size: tuple[int, int]) -> int:
        return scoring.images_at_once(self._config, self._options, out_size, self._mesh)

    def _stack(self, streams: list[dict[str, np.ndarray]], out_size: tuple[int, int]) -> dict[str, jax.Array]:
        """Return images on their canvases as a batch on the mesh."""
        batch = file_batches.stack(streams, self._batch_size(out_size))
        return parallel.place(batch, parallel.batch_sharding(self._mesh))

    def _dispatch(self, item: tuple[tuple[int, int], list]) -> tuple[jax.Array | scoring.Views | None, ...]:
        """Return labels, confidence, further maps and maybe the views of a group of `file_batches.groups`."""
        out_size, group = item
        batch = self._stack([on_canvas(seen, self._config, out_size, self._options) for _, _, seen in group], out_size)
        with self._lock:
            views = self._label.look(self._state, batch)
            found = self._label.choose(views, batch, out_size)
            if self._doubt is not None:
                found = *found, self._doubt(self._state, views, batch, out_size)
        small = sum(view.nbytes for view in views) <= KEPT_BYTES * len(batch["size"])
        return *found, views if self._keep and small else None


def _shrunk(image: np.ndarray) -> np.ndarray:
    """Return an image, scaled down if its bucket holds more pixels than the CRF takes."""
    height, width = image.shape[:2]
    most = scoring.CRF_PIXELS
    if math.prod(canvas.bucket(image.shape)) <= most:
        return image
    scale = (most / 2 / (height * width)) ** 0.5  # a bucket holds up to 1.6 times the pixels of its image
    longest = most // canvas.bucket((1, 1))[0]
    size = tuple(min(max(int(n * scale), 1), longest) for n in (height, width))
    return file_batches.resized(image, size, Image.Resampling.BILINEAR)


def on_canvas(image: np.ndarray, config: ConfigDict, out_size: tuple[int, int], options: Options) -> dict[str, Any]:
    """Return an image uint8 [h, w, 3] as the host delivers it; its label is never looked at.

    Args:
        image: the image.
        config: of the run.
        out_size: to which the image itself is padded, for the CRF.
        options: how it is labelled.
    """
    canvas_size = canvas.canvas_of(image.shape, config.canvas_size, resize=config.resize)
    empty = np.zeros(image.shape[:2], np.uint8)
    arrays = canvas.fit_to_canvas(image, empty, canvas_size, resize=config.resize, rng=None)
    arrays |= canvas.scaled_views(image, canvas_size, options.scales, resize=config.resize)
    if options.crf is not None:
        arrays["original"] = canvas.pad(image, out_size)
    return {**arrays, "size": np.array(image.shape[:2], np.int32), "valid": np.bool_(True), "id": np.int32(0)}

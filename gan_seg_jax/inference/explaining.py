"""Why an image was labelled so, and how sure that is: what `predict --explain` draws of it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from gan_seg_jax.augment import resample
from gan_seg_jax.data import canvas
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import attribution, file_batches
from gan_seg_jax.inference.doubt import doubt_on_canvas
from gan_seg_jax.inference.labelling import on_canvas
from gan_seg_jax.inference.load import Run
from gan_seg_jax.inference.options import PLAIN
from gan_seg_jax.inference.scoring import entropy_of, from_canvas, make_network, prepare, total_variation
from gan_seg_jax.pictures import explanation, panels
from gan_seg_jax.state import AdversarialState

CLASSES = 4  # that are explained of an image: those of the largest areas
SIDE = 640  # pixels of the longer side of an image that is explained, or the canvas's where that is larger
PIXELS = 2**20  # of an image that keeps its scale
METHODS = ("grad_cam", "integrated_gradients", "occlusion")
_TITLES = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients", "occlusion": "occlusion"}
_TITLES |= {"entropy": "entropy", "mirror": "differs when mirrored", "doubt": "the discriminator's doubt"}
_BRIGHTEST = 99.5  # percentile of a map that is drawn as 1, so that single pixels do not darken the rest


class Explanation(NamedTuple):
    """What is found of one image.

    Attributes:
        labels: class ids of one pass of the network, uint8 [h, w].
        classes: ids that are explained, of the largest areas, the largest first; of those that the network has found
            on its canvas, for the scores of others have no region there.
        maps: method of `METHODS` -> float32 [n, h, w], a map for each class: what speaks for it is positive.
        uncertainty: name -> float32 [h, w], 0 to 1: `entropy` of the probabilities as a share of log k, `mirror`, the
            total variation distance of the probabilities of the image and of its mirror image, and, where the run has a
            discriminator that scores places, `doubt`, 1 - its score.
    """

    labels: np.ndarray
    classes: list[int]
    maps: Mapping[str, np.ndarray]
    uncertainty: Mapping[str, np.ndarray]


class Explainer:
    """Explains images of any sizes with a run, one at a time; compiled once for each canvas and bucket of sizes."""

    def __init__(self, run: Run, classes: int = CLASSES):
        """Prepare to explain at most so many classes of an image."""
        self._run, self._most = run, classes
        self._look = jax.jit(self._uncertainty, static_argnums=2)
        self._explain = jax.jit(self._attributions, static_argnums=3)

    def __call__(self, image: np.ndarray) -> Explanation:
        """Return the explanation of an image uint8 [h, w, 3]."""
        config, out_size = self._run.config, canvas.bucket(image.shape)
        stream = jax.tree.map(lambda x: jnp.asarray(x)[None], on_canvas(image, config, out_size, PLAIN))
        window = (slice(0, image.shape[0]), slice(0, image.shape[1]))
        labels, seen, uncertainty = jax.device_get(self._look(self._run.state, stream, out_size))
        labels = labels[window]
        areas = seen * np.bincount(labels.ravel(), minlength=config.num_classes)
        classes = [int(c) for c in np.argsort(-areas, kind="stable")[: self._most] if areas[c]]
        padded = classes + [0] * (self._most - len(classes))  # one program for any number of classes
        maps = jax.device_get(self._explain(self._run.state, stream, jnp.array(padded, jnp.int32), out_size))
        return Explanation(
            labels=labels,
            classes=classes,
            maps={name: values[(slice(0, len(classes)), *window)] for name, values in maps.items()},
            uncertainty={name: values[window] for name, values in uncertainty.items()},
        )

    def _network(self, state: AdversarialState, stream: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
        """Return the network as a function of images on a canvas, and this image on its canvas."""
        config = self._run.config
        return make_network(self._run.method, config, PLAIN, state, stream), prepare(stream, config)["image"]

    def _own_size(self, maps: jax.Array, stream: dict[str, jax.Array], out_size: tuple[int, int]) -> jax.Array:
        """Return maps [h', w', n] on the canvas at the image's own size, [n, *out_size]."""
        found = from_canvas(maps[None], stream, self._run.config, 1.0, out_size)[0]
        return jnp.moveaxis(found, -1, 0)

    def _uncertainty(self, state: AdversarialState, stream: dict[str, jax.Array], out_size: tuple[int, int]) -> Any:
        """Return labels at `out_size`, bool [k] which are on the canvas, and the maps of `Explanation.uncertainty`."""
        run = self._run
        network, image = self._network(state, stream)
        logits = network(image)
        mirrored = network(image[:, :, ::-1])[:, :, ::-1]
        resized = from_canvas(logits, stream, run.config, 1.0, out_size)[0]
        distance = total_variation(jax.nn.softmax(logits), jax.nn.softmax(mirrored))
        found = {"entropy": entropy_of(resized), "mirror": self._own_size(distance[0, ..., None], stream, out_size)[0]}
        if run.method.score_map is not None:
            doubt = doubt_on_canvas(run.method, run.config, state, image, jax.nn.softmax(logits))[0]
            found["doubt"] = jnp.clip(self._own_size(doubt, stream, out_size)[0], 0, 1)
        seen = jnp.any(_regions(logits, stream, jnp.arange(run.config.num_classes)), axis=(1, 2))
        return jnp.argmax(resized, axis=-1).astype(jnp.uint8), seen, found

    def _attributions(
        self, state: AdversarialState, stream: dict[str, jax.Array], numbers: jax.Array, out_size: tuple[int, int]
    ) -> dict[str, jax.Array]:
        """Return the maps of `Explanation.maps` of some classes, int32 [n], at `out_size`."""
        network, image = self._network(state, stream)
        size, regions = image.shape[1:3], _regions(network(image), stream, numbers)
        each = lambda method: jax.lax.map(lambda one: method(network, image, *one), (regions, numbers))
        found = {"integrated_gradients": each(attribution.integrated_gradients)}
        cams = each(attribution.grad_cam)
        if cams is not None:
            ends = jnp.tile(jnp.array(cams.shape[1:3], jnp.int32), (len(cams), 1))
            whole = jnp.tile(jnp.array(size, jnp.int32), (len(cams), 1))
            found["grad_cam"] = resample.resize_bilinear(cams[..., None], ends, whole, out_size=size)[..., 0]
        found["occlusion"] = attribution.occlusion(network, image, regions, numbers)
        return {
            name: self._own_size(jnp.moveaxis(found[name], 0, -1), stream, out_size)
            for name in METHODS
            if name in found
        }


def _regions(logits: jax.Array, stream: dict[str, jax.Array], numbers: jax.Array) -> jax.Array:
    """Return where on the canvas each of some classes, int32 [n], was found in the image, bool [n, h', w']."""
    grid = jnp.meshgrid(*map(jnp.arange, logits.shape[1:3]), indexing="ij")
    inside = jnp.all(jnp.stack(grid, -1) < stream["content"][0], -1)
    return (jnp.argmax(logits[0], axis=-1) == numbers[:, None, None]) & inside


def sheets(run: Run, files: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield (output name, sheet uint8 [H, W, 3]) of each image; those that cannot be read are left out.

    Args:
        run: a run of segmentation.
        files: (file, output name).
    """
    explain, read = Explainer(run), lambda file: shown(file_batches.reader(run.config)(file), run.config, str(file))
    for _, group in file_batches.groups(list(files), read, lambda image: image, lambda out_size: 1):
        for name, image, _ in group:
            yield name, sheet(image, explain(image), run.config)


def shown(image: np.ndarray, config: Any, name: str) -> np.ndarray:
    """Return an image as it is explained: scaled down where the network sees it scaled down anyway.

    Raises:
        InputError: the network sees it at its own scale, at which so large an image would take too much memory.
    """
    height, width = image.shape[:2]
    if config.resize == "none":
        if height * width > PIXELS:
            raise InputError(f"{name} has {height}x{width} pixels; at its own scale at most {PIXELS} are explained.")
        return image
    scale = min(1.0, max(SIDE, *config.canvas_size) / max(height, width))
    return file_batches.resized(
        image, (max(1, round(height * scale)), max(1, round(width * scale))), Image.Resampling.BILINEAR
    )


def sheet(image: np.ndarray, found: Explanation, config: Any) -> np.ndarray:
    """Draw an explanation: what was found and how sure it is, then a row for each class.

    Args:
        image: uint8 [h, w, 3].
        found: what was found of it.
        config: of the run.
    """
    colors = config.class_colors
    first = {"image": image, "labels": panels.overlay(image, found.labels, colors)}
    first |= {_TITLES[name]: panels.map_colors(values) for name, values in found.uncertainty.items()}
    rows = [("What was found, and how unsure it is (yellow: most)", first)]
    for place, number in enumerate(found.classes):
        region = np.where(found.labels == number, found.labels, 255)
        maps = {_TITLES[name]: _drawn(values[place]) for name, values in found.maps.items()}
        share = np.mean(found.labels == number)
        title = f"{config.class_names[number]}, {100 * share:.1f}% of the image: what speaks for it (yellow: most)"
        rows.append((title, {"where": panels.overlay(image, region, colors), **maps}))
    return explanation.sheet(rows)


def _drawn(values: np.ndarray) -> np.ndarray:
    """Return what speaks for a class as colours; what speaks against it is drawn as nothing."""
    positive = np.maximum(values, 0)
    top = np.percentile(positive, _BRIGHTEST)
    return panels.map_colors(positive / top if top > 0 else positive)

"""Segmentation: scores of a split (`judging.counts`), the sample sheet, and what is written of images.

Every image counts once, at its label's own size: logits are resized to the label, never the label to the logits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from gan_seg_jax import metrics, parallel
from gan_seg_jax.data import canvas, pipeline
from gan_seg_jax.data.catalog import Dataset, Split
from gan_seg_jax.inference import file_batches
from gan_seg_jax.inference.labelling import MAPS, ImageLabeller
from gan_seg_jax.inference.load import Run
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.inference.scoring import Labeller, images_at_once, make_chooser, make_views, needed, prepare
from gan_seg_jax.judging.counts import Counts
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.parallel import local_rows
from gan_seg_jax.pictures import panels
from gan_seg_jax.postprocess import morphology
from gan_seg_jax.runs.tables import per_class_table, scores_table
from gan_seg_jax.state import AdversarialState, inference_view
from gan_seg_jax.tasks.task import OfSplit, Pictures, Task

SAMPLES = 4
FOLDERS = ("masks", "colors", "overlays", "confidence")  # of what `predict` writes


class Evaluator(OfSplit):
    """Scores a state on one split; compiled once for each size of canvas."""

    def __init__(self, method: Any, config: ConfigDict, split: Split, mesh: Mesh, *, options: Options = PLAIN):
        """Prepare to score `split` on all devices of the mesh, as many images at once as `images_at_once` says."""
        self._config, self._mesh, self._options = config, mesh, options
        self._read(split)
        self._label = Labeller(method, config, options, mesh, maps=())

    def _read(self, split: Split) -> None:
        self._split = split

    def __call__(
        self,
        state: AdversarialState,
        *,
        poll: Callable[[], None] = lambda: None,
        image_counts: dict[int, np.ndarray] | None = None,
        each: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    ) -> dict[str, Any]:
        """Return the scores of a state over the whole split.

        Args:
            state: the state; averaged weights are used where there are any.
            poll: called between batches; may raise to stop.
            image_counts: gets `metrics.class_counts` of each image that this process has scored, by its place in the
                split.
            each: called with the place, the label uint8 [h, w] and the predicted one of each of these images.
        """
        counts, clean_up = Counts(self._config.num_classes), self._options.clean_up
        for batch, prediction in self._predictions(state):
            poll()
            for row in np.flatnonzero(batch["valid"]):
                height, width = batch["size"][row]
                window = (row, slice(0, height), slice(0, width))
                label, labelled = batch["label"][window], prediction[window]
                if clean_up:
                    labelled = morphology.clean(labelled, **clean_up, num_classes=self._config.num_classes)
                confusion = counts.add(label, labelled)
                if image_counts is not None:
                    image_counts[int(batch["id"][row])] = metrics.class_counts(confusion)
                if each is not None:
                    each(int(batch["id"][row]), label, labelled)
        return counts.scores(self._config.class_names)

    def _predictions(self, state) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield host batches with what the devices made of them."""
        process, sharded = (jax.process_index(), jax.process_count()), parallel.batch_sharding(self._mesh)
        at_once = lambda size: images_at_once(self._config, self._options, size, self._mesh)
        more = {"scales": self._options.scales, "original": self._options.crf is not None, "at_once": at_once}

        def label(batch):
            seen = {name: value for name, value in batch.items() if name != "label"}
            return self._label(state, parallel.place(seen, sharded), batch["label"].shape[1:])[0]

        batches = pipeline.eval_batches(self._split, self._config, process=process, **more)
        for batch, prediction in parallel.one_behind(label, batches):
            yield batch, local_rows(prediction)


class SampleSheet(OfSplit):
    """Draws a few images of a split, spread over it, with truth, prediction and error; one image at a time.

    Where the method has a `score_map`, the discriminator's scores of the prediction are a column of it.
    """

    def __init__(self, method: Any, config: ConfigDict, split: Split):
        """Read the images."""
        self._config = config
        self._read(split)
        look = make_views(method, config)

        def look_and_judge(state, stream):
            views = look(state, stream)
            if method.score_map is None:
                return views, None
            image, mask = prepare(stream, config)["image"], jax.nn.softmax(views[0][0])
            scores = method.score_map(inference_view(state, jax.random.key(0)), image, mask, config)
            return views, jax.image.resize(scores[..., None], (*image.shape[:3], 1), "nearest")[..., 0]

        # Two programs, as of `Labeller`: images of many sizes share the network.
        self._look, self._choose = jax.jit(look_and_judge), jax.jit(make_chooser(config, maps=()), static_argnums=2)

    def _read(self, split: Split) -> None:
        rows = np.linspace(0, len(split) - 1, min(SAMPLES, len(split))).astype(int).tolist()
        self._box = tuple(split.sizes()[rows].max(axis=0).tolist())
        examples = [pipeline.eval_example(split, row, self._config) for row in rows]
        self._streams = [{name: value[None] for name, value in example.items()} for example in examples]
        self._images = [split[row]["image"] for row in rows]

    def __call__(self, state: AdversarialState) -> np.ndarray:
        """Return the picture, uint8 [H, W, 3]; images of different sizes are scaled to fit cells of one size."""
        local = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state)
        found = [jax.device_get(self._one(local, stream)) for stream in self._streams]
        labels, sizes, contents = (
            [stream[name][0] for stream in self._streams] for name in ("label", "size", "content")
        )
        nearest, bilinear = Image.Resampling.NEAREST, Image.Resampling.BILINEAR
        labels = self._cells(labels, sizes, nearest, IGNORE)
        predictions = self._cells([prediction[0] for prediction, _ in found], sizes, nearest, IGNORE)
        images, maps = self._cells(self._images, sizes, bilinear, 0), None
        if found[0][1] is not None:
            maps = self._cells([scores[0] for _, scores in found], contents, nearest, 0)
        return panels.sample_panel(
            images,
            labels,
            predictions,
            class_colors=self._config.class_colors,
            class_names=self._config.class_names,
            score_maps=maps,
        )

    def _one(self, state: AdversarialState, stream: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array | None]:
        """Return the labels of an image, and the discriminator's scores on its canvas."""
        views, scores = self._look(state, {name: value for name, value in stream.items() if name != "label"})
        out_size = stream["label"].shape[1:]
        (prediction,) = self._choose(views, {name: stream[name] for name in needed(PLAIN)}, out_size)
        return prediction, scores

    def _cells(self, arrays, sizes, resampling: Image.Resampling, padding: int) -> np.ndarray:
        """Return the first `sizes` pixels of each array, scaled until they just fit the box, stacked."""
        cells = []
        for array, (height, width) in zip(arrays, sizes, strict=True):
            scale = min(self._box[0] / height, self._box[1] / width)
            target = (min(round(height * scale), self._box[0]), min(round(width * scale), self._box[1]))
            cell = np.full((*self._box, *array.shape[2:]), padding, array.dtype)
            content = Image.fromarray(np.ascontiguousarray(array[:height, :width]))
            cell[: target[0], : target[1]] = np.asarray(content.resize(target[::-1], resampling))
            cells.append(cell)
        return np.stack(cells)


def pictures(image: np.ndarray, mask: np.ndarray, confidence: np.ndarray, colors: Sequence) -> dict[str, np.ndarray]:
    """Return folder -> picture of one image, of what `ImageLabeller` found and the colours of the classes."""
    confidence = np.round(255.0 * confidence).astype(np.uint8)
    found = (mask, panels.colorize(mask, colors), panels.overlay(image, mask, colors), confidence)
    return dict(zip(FOLDERS, found, strict=True))


def picture_maker(run: Run, options: Options, maps: Sequence[str] = ()) -> Callable:
    """Return a function that yields (name, folder -> picture) of images; `maps` are of `labelling.MAPS`.

    The function takes (what to read, name) of each, and what reads it: files, as in training, where it is not given.
    """
    label = ImageLabeller(run, options, mesh=parallel.make_mesh(), maps=maps)
    read_file = file_batches.reader(run.config)

    def make(items: Iterable, read: Callable = read_file) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
        for found in label(items, read):
            more = {name: np.round(255.0 * found.maps[name]).astype(np.uint8) for name in maps}
            yield found.name, pictures(found.image, found.labels, found.confidence, run.config.class_colors) | more

    return make


def check_canvas(method: Any, config: ConfigDict, dataset: Dataset, state: AdversarialState) -> None:
    """Trace what evaluation will do, so that a canvas that a network cannot take is named before training."""
    sizes = np.concatenate([dataset.splits[name].sizes() for name in ("val", "test") if name in dataset.splits])
    narrowest = sizes[sizes.min(axis=1).argmin()]
    size = canvas.canvas_of(narrowest, config.canvas_size, resize=config.resize)
    shape = lambda *inner, dtype=np.int32: jax.ShapeDtypeStruct((1, *inner), dtype)
    stream = {
        "image": shape(*size, 3, dtype=np.uint8),
        "content": shape(2),
        "id": shape(),
        "valid": shape(dtype=np.bool_),
    }
    jax.eval_shape(make_views(method, config), state, stream)


def table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return (name, scores) as text: a row for each, and below the IoU of each class."""
    return f"{scores_table(rows)}\n\n{per_class_table(list(rows[0][1]['iou_per_class']), rows)}"


def _evaluator(
    method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path, options: Options = PLAIN
) -> Evaluator:
    del workdir
    return Evaluator(method, config, split, mesh, options=options)


TASK = Task(
    "segmentation",
    selected_by="miou",
    lower_is_better=False,
    evaluator=_evaluator,
    sheet=SampleSheet,
    table=table,
    refusals={
        "sample": "makes no images; see predict",
        "memorization": "makes no images; name that of a generator",
    },
    check_canvas=check_canvas,
    pictures=Pictures(FOLDERS, "labelled", picture_maker, maps=MAPS, masks="masks"),
    has_options=True,
    has_image_counts=True,
    has_baselines=True,
)

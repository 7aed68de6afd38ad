"""Score and show images that a network makes of images: how near they are to their targets.

Of each image, on the canvas at the scale of training, as 8-bit colours, over the pixels that count (`method.known`):

    l1     mean |x - y| / 255
    psnr   10 log10(255^2 / mean (x - y)^2), decibels; the mean square is at least that of rounding, 1/12, so that a
           perfect image has 58.9
    ssim   structural similarity: Wang, Bovik, Sheikh, Simoncelli 2004, Image Quality Assessment: From Error Visibility
           to Structural Similarity; Gaussian windows of deviation 1.5 (11x11) that lie inside the image, the mean over
           the three channels

and of a split the mean over its images. `l1` chooses the best checkpoint. Distances to one target say little of how
real an image looks: several photographs fit the same labels.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image
from skimage.metrics import structural_similarity

from gan_seg_jax import parallel
from gan_seg_jax.augment import paired
from gan_seg_jax.data import canvas, pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.inference import file_batches
from gan_seg_jax.inference.load import Run
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.inference.scoring import images_at_once
from gan_seg_jax.pictures import panels
from gan_seg_jax.runs.tables import values_table
from gan_seg_jax.state import AdversarialState, inference_view
from gan_seg_jax.tasks.task import OfSplit, Pictures, Task

SCORES = ("l1", "psnr", "ssim")
SAMPLES = 8  # examples that the sample sheet shows
FOLDER = "images"  # of what `predict` writes
WINDOW = 11  # pixels, of the structural similarity
ROUNDING = 1.0 / 12.0  # mean square of the error of rounding to whole numbers
FIXED_POINT = 2**30  # sums are whole numbers, so that they do not depend on the number of processes


def make_translator(method: Any, config: ConfigDict) -> Callable:
    """Return a function that translates canvases.

    The function takes (state, stream), the stream as `pipeline.train_batches` describes it, and returns the input, the
    output, and the prepared stream: uint8 [b, H, W, 3] twice, and what methods see.
    """

    def translate(state: AdversarialState, stream: dict[str, jax.Array]):
        key = jax.random.key(0)  # nothing is drawn
        seen = paired.prepare(stream, key, crop_size=config.crop_size, options=config.augment, train=False)
        made = method.predict(inference_view(state, key), {"labelled": seen}, key, config)["image"]
        return paired.to_uint8(method.view(seen, config.input, config)), paired.to_uint8(made), seen

    return translate


def _compare(method: Any, config: ConfigDict) -> Callable:
    """Return a function from (state, stream) to the input, output and target view and the pixels that count."""
    translate = make_translator(method, config)

    def compare(state, stream):
        given, made, seen = translate(state, {**stream, "label": stream["canvas_label"]})
        return given, made, paired.to_uint8(method.view(seen, config.target, config)), method.known(seen, config)

    return compare


class Evaluator(OfSplit):
    """Scores a state on one split; compiled once for each size of canvas."""

    def __init__(self, method: Any, config: ConfigDict, split: Split, mesh: Mesh):
        """Prepare to translate `split` on all devices of the mesh, as many images at once as `images_at_once` says."""
        self._config, self._mesh = config, mesh
        self._read(split)
        compare = _compare(method, config)
        whole, rows = parallel.replicated(mesh), parallel.batch_sharding(mesh)
        self._step = jax.jit(lambda *args: compare(*args)[1:], in_shardings=(whole, rows), out_shardings=rows)

    def _read(self, split: Split) -> None:
        self._split = split

    def __call__(self, state: AdversarialState, *, poll: Callable[[], None] = lambda: None) -> dict[str, float | None]:
        """Return the scores (module docstring) of a state; None where no image has pixels that count.

        Args:
            state: the state; averaged weights are used where there are any.
            poll: called between batches; may raise to stop.
        """
        totals, counts = np.zeros(len(SCORES), np.int64), np.zeros(len(SCORES), np.int64)
        process = (jax.process_index(), jax.process_count())
        more = {"at_once": lambda size: images_at_once(self._config, PLAIN, size, self._mesh), "canvas_label": True}
        batches = pipeline.eval_batches(self._split, self._config, process=process, **more)
        sharded = parallel.batch_sharding(self._mesh)
        step = lambda batch: self._step(state, parallel.place(batch, sharded))
        for batch, found in parallel.one_behind(step, batches):
            poll()
            made, target, known = (parallel.local_rows(array) for array in found)
            for row in np.flatnonzero(batch["valid"]):
                height, width = batch["content"][row]
                window = (row, slice(0, height), slice(0, width))
                scores = image_scores(made[window], target[window], known[window])
                for index, name in enumerate(SCORES):
                    if scores[name] is not None:
                        totals[index] += round(FIXED_POINT * scores[name])
                        counts[index] += 1
        totals, counts = parallel.sum_over_processes((totals, counts))
        return {
            name: total / FIXED_POINT / count if count else None
            for name, total, count in zip(SCORES, totals.tolist(), counts.tolist(), strict=True)
        }


def image_scores(made: np.ndarray, target: np.ndarray, known: np.ndarray) -> dict[str, float | None]:
    """Return the scores (module docstring) of one image.

    Args:
        made: uint8 [h, w, 3].
        target: uint8 [h, w, 3].
        known: bool [h, w], the pixels that count; what is made elsewhere does not matter.

    Returns:
        Name -> score; None where no pixel counts, or no window of `ssim` around one lies inside the image.
    """
    made = np.where(known[..., None], made, target)
    difference = (made.astype(np.float64) - target.astype(np.float64))[known]
    if not difference.size:
        return dict.fromkeys(SCORES)
    square = max(float(np.mean(np.square(difference))), ROUNDING)
    ssim, border = None, WINDOW // 2
    inside = known[border:-border, border:-border]
    if np.any(inside):
        _, similarity = structural_similarity(
            made,
            target,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        ssim = float(np.mean(similarity[border:-border, border:-border][inside]))
    return {
        "l1": float(np.mean(np.abs(difference))) / 255.0,
        "psnr": float(10.0 * np.log10(255.0**2 / square)),
        "ssim": ssim,
    }


class SampleSheet(OfSplit):
    """Draws input, output and target of some images of a split, spread over it; compiled once."""

    def __init__(self, method: Any, config: ConfigDict, split: Split):
        """Read the images."""
        self._config = config
        self._read(split)
        self._step = jax.jit(_compare(method, config))

    def _read(self, split: Split) -> None:
        rows = np.linspace(0, len(split) - 1, min(SAMPLES, len(split))).astype(int).tolist()
        examples = [pipeline.eval_example(split, row, self._config, canvas_label=True) for row in rows]
        self._streams = [{name: value[None] for name, value in example.items()} for example in examples]

    def __call__(self, state: AdversarialState) -> np.ndarray:
        """Return the picture, uint8 [H, W, 3]."""
        local = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state)
        found = [jax.device_get(self._step(local, stream))[:3] for stream in self._streams]
        size = np.max([given.shape[1:3] for given, _, _ in found], axis=0)  # of canvases that may differ
        columns = (
            np.stack([canvas.pad(picture[0], tuple(size)) for picture in column]) for column in zip(*found, strict=True)
        )
        return panels.image_grid(dict(zip(("input", "output", "target"), columns, strict=True)))


def takes_masks(config: ConfigDict) -> bool:
    """Return whether a run is given masks of class ids in place of images."""
    return config.input == "labels"


def translate_images(run: Run, files: list[tuple[Path, Path]]) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield (output name, what is made of it, uint8 [h, w, 3] at the image's own size) of each image.

    Images of the same bucket of sizes share a batch; a file that cannot be read is reported on stderr and left out.
    """
    config, mesh = run.config, parallel.make_mesh()
    translate = make_translator(run.method, config)
    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    step = jax.jit(lambda *args: translate(*args)[1], in_shardings=(whole, sharded), out_shardings=sharded)
    state = parallel.place(run.state, whole)
    read = file_batches.reader(config, masks=takes_masks(config))
    batch_size = lambda out_size: images_at_once(config, PLAIN, out_size, mesh)

    def translated(item):
        out_size, group = item
        stream = file_batches.stack([_canvas(image, config) for _, image, _ in group], batch_size(out_size))
        return stream["content"], step(state, parallel.place(stream, sharded))

    groups = file_batches.groups(files, read, lambda image: image, batch_size)
    for (_, group), found in parallel.one_behind(translated, groups):
        content, made = jax.device_get(found)
        for row, (name, image, _) in enumerate(group):
            height, width = content[row]
            yield name, file_batches.resized(made[row, :height, :width], image.shape[:2], Image.Resampling.BICUBIC)


def _canvas(given: np.ndarray, config: ConfigDict) -> dict[str, np.ndarray]:
    """Return what a run is given, an image or class ids, as the host delivers it."""
    is_label = given.ndim == 2
    image = np.zeros((*given.shape[:2], 3), np.uint8) if is_label else given
    label = given if is_label else np.zeros(given.shape[:2], np.uint8)
    target = image if config.input == "target" else None
    canvas_size = canvas.canvas_of(given.shape, config.canvas_size, resize=config.resize)
    arrays = canvas.fit_to_canvas(image, label, canvas_size, resize=config.resize, rng=None, target=target)
    return {**arrays, "valid": np.bool_(True), "id": np.int32(0)}


def picture_maker(run: Run, options: Options, maps: Sequence[str] = ()) -> Callable:
    """Return a function from [(file, output name), ...] to (output name, folder -> picture) of what can be read."""
    del options, maps
    return lambda files: ((name, {FOLDER: image}) for name, image in translate_images(run, files))


def _evaluator(
    method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path, options: Options = PLAIN
) -> Evaluator:
    del workdir, options
    return Evaluator(method, config, split, mesh)


TASK = Task(
    "translation",
    selected_by="l1",
    lower_is_better=True,
    evaluator=_evaluator,
    sheet=SampleSheet,
    table=values_table,
    refusals={
        "sample": "makes no images but of those that it is given; see predict",
        "memorization": "makes no images but of those that it is given; name that of a generator",
        "judge": "labels no images: only segmentations are judged here; its scores are in summary.json",
        "crf_search": "labels no images: there is nothing that a CRF could refine",
    },
    pictures=Pictures((FOLDER,), "translated", picture_maker, takes_masks),
)

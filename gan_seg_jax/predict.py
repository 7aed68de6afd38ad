"""Label the images of a folder: masks, colours, overlays and confidence; or translate them.

    python -m gan_seg_jax.predict --workdir=DIR --input=FILE_OR_FOLDER --output=FOLDER [--checkpoint=best|latest|STEP]
        [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

For each image, sub-folders kept: `masks/` (uint8 class ids, size of the input), `colors/`, `overlays/`, `confidence/`
(uint8 = round(255 p) of the chosen class, before any clean-up). A damaged image is reported and skipped.

With a run of translation: `images/` (RGB, size of the input). Where such a run's input is labels, --input holds masks
of class ids.
"""

import collections
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import tqdm
from absl import flags
from PIL import Image

from gan_seg_jax import parallel
from gan_seg_jax.cli import commands
from gan_seg_jax.data import canvas, images
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run
from gan_seg_jax.inference.options import PLAIN, Options, define_flags, options_from_flags
from gan_seg_jax.inference.scoring import CRF_PIXELS, Labeller, images_at_once
from gan_seg_jax.pictures import panels
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.postprocess import morphology
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import track
from gan_seg_jax.tasks import translation

FOLDERS = ("masks", "colors", "overlays", "confidence")
TRANSLATIONS = "images"  # the folder of what a run of translation makes
_SHOWN = 5  # names in a message


def find_images(
    path: Path, output: Path, folders: Sequence[str] = FOLDERS, endings: Sequence[str] = images.ENDINGS
) -> list[tuple[Path, Path]]:
    """Return (file, relative name of its outputs) of every image below `path`, the `folders` of `output` left out.

    The ending becomes `.png`; where that makes two names equal (a.jpg, a.png) both keep their full name (`a.jpg.png`).
    Linked folders are followed. What is left out is counted and named on stderr, but for hidden files.

    Raises:
        InputError: nothing there is an image.
    """
    if path.is_file():
        return [(path, Path(path.stem + ".png"))]
    if not path.is_dir():
        raise InputError(f"--input is {path}, which does not exist; expected an image or a folder of images.")
    written = {os.path.realpath(output / folder) for folder in folders}
    names, others = _walk(path, written, tuple(endings))
    if others:
        shown = ", ".join(map(files.shown, others[:_SHOWN])) + (", ..." if len(others) > _SHOWN else "")
        print(f"left out, being no images by their ending: {len(others)} ({shown})", file=sys.stderr)
    if not names:
        raise InputError(f"--input {path} holds no images ({', '.join(endings)}).")
    whole: set[Path] = set()  # names that keep their ending
    while True:
        targets = [name.with_name(name.name + ".png") if name in whole else name.with_suffix(".png") for name in names]
        uses = collections.Counter(targets)
        clashing = {name for name, target in zip(names, targets, strict=True) if uses[target] > 1} - whole
        if not clashing:
            return [(path / name, target) for name, target in zip(names, targets, strict=True)]
        whole |= clashing


def _walk(root: Path, written: set[str], endings: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Return what is not hidden below `root`, relative to it, sorted: files with one of the endings, and others.

    A folder is entered once, whatever links lead to it, so that loops end; those of `written` are our own pictures.
    """
    names, others, entered = [], [], set(written)
    complain = lambda error: print(
        f"skipped: {files.shown(error.filename)} cannot be listed: {error.strerror}", file=sys.stderr
    )
    for folder, inner, found in os.walk(root, onerror=complain, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:
            inner.clear()
            continue
        entered.add(place)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in found:
            if not name.startswith("."):
                is_image = name.lower().endswith(endings)
                (names if is_image else others).append((Path(folder) / name).relative_to(root))
    return sorted(names), sorted(others)


def predict_images(
    run: Run, files: list[tuple[Path, Path]], options: Options = PLAIN
) -> Iterator[tuple[Path, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (output name, image uint8 [h, w, 3], class ids uint8 [h, w], confidence float32 [h, w]) of each image.

    Images of the same bucket of sizes share a batch; a file that cannot be read is reported on stderr and left out.
    With the CRF, images of more than a million pixels are labelled at about that size, and the labels enlarged.
    """
    mesh = parallel.make_mesh()
    label = Labeller(run.method, run.config, options, mesh)
    state, sharded = parallel.place(run.state, parallel.replicated(mesh)), parallel.batch_sharding(mesh)
    batch_size = lambda out_size: images_at_once(run.config, options, out_size, mesh)
    shown = _shrunk if options.crf is not None else lambda image: image

    for out_size, group in _groups(files, _reader(run), shown, batch_size):
        stream = _stack([_canvas(seen, run, out_size, options) for _, _, seen in group], batch_size(out_size))
        chosen, confidence = jax.device_get(label(state, parallel.place(stream, sharded), out_size))
        for row, (name, image, seen) in enumerate(group):
            window = (row, slice(0, seen.shape[0]), slice(0, seen.shape[1]))
            labels = _resized(chosen[window], image.shape[:2], Image.Resampling.NEAREST)
            if options.clean_up:
                labels = morphology.clean(labels, **options.clean_up, num_classes=run.config.num_classes)
            yield name, image, labels, _resized(confidence[window], image.shape[:2], Image.Resampling.BILINEAR)


def translate_images(run: Run, files: list[tuple[Path, Path]]) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield (output name, what is made of it, uint8 [h, w, 3] at the image's own size) of each image.

    Images of the same bucket of sizes share a batch; a file that cannot be read is reported on stderr and left out.
    """
    config, mesh = run.config, parallel.make_mesh()
    translate = translation.make_translator(run.method, config)
    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    step = jax.jit(lambda *args: translate(*args)[1], in_shardings=(whole, sharded), out_shardings=sharded)
    state = parallel.place(run.state, whole)
    read = _reader(run)
    batch_size = lambda out_size: images_at_once(config, PLAIN, out_size, mesh)

    for out_size, group in _groups(files, read, lambda image: image, batch_size):
        stream = _stack([_pair_canvas(image, run) for _, image, _ in group], batch_size(out_size))
        made = jax.device_get(step(state, parallel.place(stream, sharded)))
        for row, (name, image, _) in enumerate(group):
            height, width = stream["content"][row]
            yield name, _resized(made[row, :height, :width], image.shape[:2], Image.Resampling.BICUBIC)


def _reader(run: Run) -> Callable[[Path], np.ndarray]:
    """Return what reads a file as the run's training did."""
    limit = {"max_pixels": run.config.max_pixels}
    if run.method.TASK == "translation" and run.config.input == "labels":
        return functools.partial(images.read_mask, **limit)
    return functools.partial(images.read_image, bits=run.config.image_bits, **limit)


def _groups(
    files: list[tuple[Path, Path]], read: Callable, shown: Callable, batch_size: Callable
) -> Iterator[tuple[tuple[int, int], list[tuple[Path, np.ndarray, np.ndarray]]]]:
    """Yield (bucket of sizes, [(output name, what was read, what is shown of it), ...]), at most a batch of each."""
    waiting: dict[tuple[int, int], list] = collections.defaultdict(list)
    for path, name in files:
        try:
            image = read(path)
        except InputError as error:
            tqdm.tqdm.write(f"skipped: {error}", file=sys.stderr)  # a bar may stand there
            continue
        seen = shown(image)
        out_size = canvas.bucket(seen.shape)
        waiting[out_size].append((name, image, seen))
        if len(waiting[out_size]) == batch_size(out_size):
            yield out_size, waiting.pop(out_size)
    yield from waiting.items()


def _stack(rows: list[dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Return a batch of `count` rows, the last one repeated."""
    rows = rows + rows[-1:] * (count - len(rows))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _shrunk(image: np.ndarray) -> np.ndarray:
    """Return an image, scaled down if its bucket holds more pixels than the CRF takes."""
    height, width = image.shape[:2]
    if math.prod(canvas.bucket(image.shape)) <= CRF_PIXELS:
        return image
    scale = (CRF_PIXELS / 2 / (height * width)) ** 0.5  # a bucket holds up to 1.6 times the pixels of its image
    longest = CRF_PIXELS // canvas.bucket((1, 1))[0]
    size = tuple(min(max(int(n * scale), 1), longest) for n in (height, width))
    return _resized(image, size, Image.Resampling.BILINEAR)


def _resized(array: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize(size[::-1], resampling))


def _canvas(image: np.ndarray, run: Run, out_size: tuple[int, int], options: Options) -> dict[str, np.ndarray]:
    """Return an image as the host delivers it; its label is never looked at."""
    config, canvas_size = run.config, canvas.canvas_of(image.shape, run.config.canvas_size, resize=run.config.resize)
    empty = np.zeros(image.shape[:2], np.uint8)
    arrays = canvas.fit_to_canvas(image, empty, canvas_size, resize=config.resize, rng=None)
    arrays |= canvas.scaled_views(image, canvas_size, options.scales, resize=config.resize)
    if options.crf is not None:
        arrays["original"] = canvas.pad(image, out_size)
    return {**arrays, "size": np.array(image.shape[:2], np.int32), "valid": np.bool_(True), "id": np.int32(0)}


def _pair_canvas(given: np.ndarray, run: Run) -> dict[str, np.ndarray]:
    """Return what a run of translation is given, an image or class ids, as the host delivers it."""
    config, is_label = run.config, given.ndim == 2
    image = np.zeros((*given.shape[:2], 3), np.uint8) if is_label else given
    label = given if is_label else np.zeros(given.shape[:2], np.uint8)
    target = image if config.input == "target" else None
    canvas_size = canvas.canvas_of(given.shape, config.canvas_size, resize=config.resize)
    arrays = canvas.fit_to_canvas(image, label, canvas_size, resize=config.resize, rng=None, target=target)
    return {**arrays, "valid": np.bool_(True), "id": np.int32(0)}


def write(output: Path, name: Path, image: np.ndarray, mask: np.ndarray, confidence: np.ndarray, colors) -> None:
    """Write the four pictures of one image.

    Raises:
        InputError: a file cannot be written.
    """
    pictures = {
        "masks": mask,
        "colors": panels.colorize(mask, colors),
        "overlays": panels.overlay(image, mask, colors),
        "confidence": np.round(255.0 * confidence).astype(np.uint8),
    }
    for folder in FOLDERS:
        write_picture(output / folder / name, pictures[folder])


def main() -> None:
    """Run the command."""
    source, output = Path(commands.required("input")), Path(commands.required("output"))
    workdir = commands.required("workdir")
    options = options_from_flags(workdir)
    run = load_run(workdir, flags.FLAGS.checkpoint)
    if run.method.TASK == "translation":
        _translate(run, source, output, options)
        return
    if run.method.TASK != "segmentation":
        raise InputError(f"{workdir} is a run of {run.method.TASK}, which reads no images; see gan_seg_jax.sample.")
    files = find_images(source, output)
    written = 0
    labelled = predict_images(run, files, options)
    for name, image, mask, confidence in track(labelled, len(files)):
        write(output, name, image, mask, confidence, run.config.class_colors)
        written += 1
    if written == 0:
        raise InputError(f"None of the {len(files)} images of {source} could be read.")
    print(f"{written} of {len(files)} images labelled: {output}/{{{','.join(FOLDERS)}}}")


def _translate(run: Run, source: Path, output: Path, options: Options) -> None:
    """Write what a run of translation makes of the images of `source`."""
    if options != PLAIN:
        raise InputError(f"This is a run of {run.method.TASK}: only --checkpoint, --input and --output have a meaning.")
    folder = (output / TRANSLATIONS).resolve()
    if folder == source.resolve() or folder in source.resolve().parents:
        raise InputError(f"--output {output} would be written over --input {source}; give another folder.")
    endings = images.MASK_ENDINGS if run.config.input == "labels" else images.ENDINGS
    files = find_images(source, output, (TRANSLATIONS,), endings)
    written = 0
    for name, image in track(translate_images(run, files), len(files)):
        write_picture(output / TRANSLATIONS / name, image)
        written += 1
    if written == 0:
        raise InputError(f"None of the {len(files)} images of {source} could be read.")
    print(f"{written} of {len(files)} images translated: {output}/{TRANSLATIONS}")


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint")
    flags.DEFINE_string("input", None, "An image, or a folder of images (sub-folders too).")
    flags.DEFINE_string("output", None, "Folder for the pictures.")
    define_flags()
    commands.run(main, __doc__)

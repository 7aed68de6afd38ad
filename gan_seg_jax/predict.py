"""Label the images of a folder: masks, colours, overlays and confidence.

    python -m gan_seg_jax.predict --workdir=DIR --input=FILE_OR_FOLDER --output=FOLDER [--checkpoint=best|latest|STEP]
        [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

For each image, sub-folders kept: `masks/` (uint8 class ids, size of the input), `colors/`, `overlays/`, `confidence/`
(uint8 = round(255 p) of the chosen class, before any clean-up). A damaged image is reported and skipped.
"""

import collections
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from absl import flags
from PIL import Image

from gan_seg_jax import commands, panels, parallel
from gan_seg_jax.data import canvas, images
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import CRF_PIXELS, Run, images_at_once, load_run, make_predictor
from gan_seg_jax.inference_options import PLAIN, Options, define_flags, options_from_flags
from gan_seg_jax.postprocess import morphology

FOLDERS = ("masks", "colors", "overlays", "confidence")
SMALLEST_BUCKET = 64


def find_images(path: Path, output: Path) -> list[tuple[Path, Path]]:
    """Return (file, relative name of its outputs) of every image below `path`, the pictures in `output` left out.

    The ending becomes `.png`; where that makes two names equal (a.jpg, a.png) both keep their full name (`a.jpg.png`).

    Raises:
        InputError: nothing there is an image.
    """
    if path.is_file():
        return [(path, Path(path.stem + ".png"))]
    if not path.is_dir():
        raise InputError(f"--input is {path}, which does not exist; expected an image or a folder of images.")
    written = [(output / folder).resolve() for folder in FOLDERS]
    names = sorted(name.relative_to(path) for name in path.rglob("*") if _is_image(name, path, written))
    if not names:
        raise InputError(f"--input {path} holds no images ({', '.join(images.ENDINGS)}).")
    whole: set[Path] = set()  # names that keep their ending
    while True:
        targets = [name.with_name(name.name + ".png") if name in whole else name.with_suffix(".png") for name in names]
        uses = collections.Counter(targets)
        clashing = {name for name, target in zip(names, targets, strict=True) if uses[target] > 1} - whole
        if not clashing:
            return [(path / name, target) for name, target in zip(names, targets, strict=True)]
        whole |= clashing


def _is_image(name: Path, root: Path, written: list[Path]) -> bool:
    """Return whether a path below `root` is an image to label: not hidden, and not one of our own pictures."""
    hidden = any(part.startswith(".") for part in name.relative_to(root).parts)
    ours = any(folder in name.resolve().parents for folder in written)
    return name.suffix.lower() in images.ENDINGS and not hidden and not ours and name.is_file()


def bucket(length: int) -> int:
    """Return the smallest of 64, 91, 128, 181, 256, ... (steps of sqrt 2) that holds `length`: few compilations."""
    size = float(SMALLEST_BUCKET)
    while round(size) < length:
        size *= 2**0.5
    return round(size)


def predict_images(
    run: Run, files: list[tuple[Path, Path]], options: Options = PLAIN
) -> Iterator[tuple[Path, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (output name, image uint8 [h, w, 3], class ids uint8 [h, w], confidence float32 [h, w]) of each image.

    Images of the same bucket of sizes share a batch; a file that cannot be read is reported on stderr and left out.
    With the CRF, images of more than a million pixels are labelled at about that size, and the labels enlarged.
    """
    mesh = parallel.make_mesh()
    predict = make_predictor(run.method, run.config, options, mesh)
    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    compiled = {}
    state = parallel.place(run.state, whole)
    waiting: dict[tuple[int, int], list] = collections.defaultdict(list)

    def batch_size(out_size) -> int:
        return images_at_once(run.config, options, out_size, mesh)

    def label(out_size, group) -> Iterator:
        if out_size not in compiled:
            step = functools.partial(predict, out_size=out_size)
            compiled[out_size] = jax.jit(step, in_shardings=(whole, sharded), out_shardings=sharded)
        rows = [_canvas(seen, run, out_size, options) for _, _, seen in group]
        rows += rows[-1:] * (batch_size(out_size) - len(rows))
        stream = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        chosen, confidence = jax.device_get(compiled[out_size](state, parallel.place(stream, sharded)))
        for row, (name, image, seen) in enumerate(group):
            window = (row, slice(0, seen.shape[0]), slice(0, seen.shape[1]))
            labels = _resized(chosen[window], image.shape[:2], Image.Resampling.NEAREST)
            if options.clean_up:
                labels = morphology.clean(labels, **options.clean_up, num_classes=run.config.num_classes)
            yield name, image, labels, _resized(confidence[window], image.shape[:2], Image.Resampling.BILINEAR)

    for path, name in files:
        try:
            image = images.read_image(path)
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        seen = image if options.crf is None else _shrunk(image)
        out_size = (bucket(seen.shape[0]), bucket(seen.shape[1]))
        waiting[out_size].append((name, image, seen))
        if len(waiting[out_size]) == batch_size(out_size):
            yield from label(out_size, waiting.pop(out_size))
    for out_size, group in waiting.items():
        yield from label(out_size, group)


def _shrunk(image: np.ndarray) -> np.ndarray:
    """Return an image, scaled down if its bucket holds more pixels than the CRF takes."""
    height, width = image.shape[:2]
    if bucket(height) * bucket(width) <= CRF_PIXELS:
        return image
    scale = (CRF_PIXELS / 2 / (height * width)) ** 0.5  # a bucket holds up to twice the pixels of its image
    longest = CRF_PIXELS // SMALLEST_BUCKET
    size = tuple(min(max(int(n * scale), 1), longest) for n in (height, width))
    return _resized(image, size, Image.Resampling.BILINEAR)


def _resized(array: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize(size[::-1], resampling))


def _canvas(image: np.ndarray, run: Run, out_size: tuple[int, int], options: Options) -> dict[str, np.ndarray]:
    """Return an image as the host delivers it; its label is never looked at."""
    config = run.config
    canvas_size = config.canvas_size if config.resize == "fit" else canvas.multiples_of_32(out_size)
    empty = np.zeros(image.shape[:2], np.uint8)
    arrays = canvas.fit_to_canvas(image, empty, canvas_size, resize=config.resize, rng=None)
    arrays |= canvas.scaled_views(image, canvas_size, options.scales, resize=config.resize)
    if options.crf is not None:
        arrays["original"] = canvas.pad(image, out_size)
    return {**arrays, "size": np.array(image.shape[:2], np.int32), "valid": np.bool_(True), "id": np.int32(0)}


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
        path = output / folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[folder]).save(path)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def main() -> None:
    """Run the command."""
    source, output = Path(commands.required("input")), Path(commands.required("output"))
    workdir = commands.required("workdir")
    options = options_from_flags(workdir)
    run = load_run(workdir, flags.FLAGS.checkpoint)
    files = find_images(source, output)
    written = 0
    for name, image, mask, confidence in predict_images(run, files, options):
        write(output, name, image, mask, confidence, run.config.class_colors)
        written += 1
    if written == 0:
        raise InputError(f"None of the {len(files)} images of {source} could be read.")
    print(f"{written} of {len(files)} images labelled: {output}/{{{','.join(FOLDERS)}}}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of the run.")
    flags.DEFINE_string("input", None, "An image, or a folder of images (sub-folders too).")
    flags.DEFINE_string("output", None, "Folder for the pictures.")
    flags.DEFINE_string("checkpoint", "best", "Which checkpoint: best (by validation), latest, or a step.")
    define_flags()
    commands.run(main, __doc__)

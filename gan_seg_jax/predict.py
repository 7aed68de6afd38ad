"""Label the images of a folder: masks, colours, overlays and confidence; or translate them.

    python -m gan_seg_jax.predict --workdir=DIR --input=FILE_OR_FOLDER --output=FOLDER [--checkpoint=best|latest|STEP]
        [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

For each image, sub-folders kept: `masks/` (uint8 class ids, size of the input), `colors/`, `overlays/`, `confidence/`
(uint8 = round(255 p) of the chosen class, before any clean-up). A damaged image is reported and skipped.

With a run of translation: `images/` (RGB, size of the input). Where such a run's input is labels, --input holds masks
of class ids.
"""

import collections
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from gan_seg_jax import tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.data import images
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import load_run
from gan_seg_jax.inference.options import define_flags, options_from_flags
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import track

_SHOWN = 5  # names in a message


def find_images(
    path: Path, output: Path, folders: Sequence[str] = (), endings: Sequence[str] = images.ENDINGS
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


def write(output: Path, name: Path, pictures: dict[str, np.ndarray]) -> None:
    """Write the pictures of one image, each to its folder.

    Raises:
        InputError: a file cannot be written.
    """
    for folder, picture in pictures.items():
        write_picture(output / folder / name, picture)


def main() -> None:
    """Run the command."""
    source, output = Path(commands.required("input")), Path(commands.required("output"))
    workdir = commands.required("workdir")
    options = options_from_flags(workdir)
    run = load_run(workdir, flags.FLAGS.checkpoint)
    task = tasks.of(run.method)
    task.require("predict", workdir, run.config.method)
    task.check_options(options, workdir)
    pictures = task.pictures
    for folder in pictures.folders:
        target = (output / folder).resolve()
        if target == source.resolve() or target in source.resolve().parents:
            raise InputError(f"--output {output} would be written over --input {source}; give another folder.")
    endings = images.MASK_ENDINGS if pictures.takes_masks(run.config) else images.ENDINGS
    files = find_images(source, output, pictures.folders, endings)
    written = 0
    for name, made in track(pictures.make(run, files, options), len(files)):
        write(output, name, made)
        written += 1
    if written == 0:
        raise InputError(f"None of the {len(files)} images of {source} could be read.")
    where = f"{{{','.join(pictures.folders)}}}" if len(pictures.folders) > 1 else pictures.folders[0]
    print(f"{written} of {len(files)} images {pictures.done}: {output}/{where}")


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint")
    flags.DEFINE_string("input", None, "An image, or a folder of images (sub-folders too).")
    flags.DEFINE_string("output", None, "Folder for the pictures.")
    define_flags()
    commands.run(main, __doc__)

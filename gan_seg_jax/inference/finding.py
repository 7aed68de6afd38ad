"""Which images a command is given: a file, a folder, or a list of files; and what their outputs are called."""

import collections
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gan_seg_jax.data import images
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import nifti
from gan_seg_jax.system import files

LIST_ENDING = ".txt"
VOLUME_ENDINGS = nifti.ENDINGS
VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
MEDIA_ENDINGS = (*VOLUME_ENDINGS, *VIDEO_ENDINGS)
_SHOWN = 5  # names in a message


def find_images(
    path: Path, output: Path, folders: Sequence[str] = (), endings: Sequence[str] = images.ENDINGS
) -> list[tuple[Path, Path]]:
    """Return (file, relative name of its outputs) of every image that `path` stands for.

    Of a folder all below it, the `folders` of `output` left out; linked folders are followed, and what is left out is
    counted and named on stderr, but for hidden files. Of a list (`.txt`, UTF-8: a path a line, relative to the list's
    folder) the files, named from the folder that all of them are in. The ending becomes `.png`; where that makes two
    names equal (a.jpg, a.png) both keep their full name (`a.jpg.png`). Volumes and videos keep theirs as it is.

    Raises:
        InputError: nothing there is an image, or the list cannot be read.
    """
    if path.is_file():
        if path.suffix.lower() == LIST_ENDING:
            root, names = _read_list(path)
            return _with_targets(root, names)
        return [(path, _target(Path(path.name), whole=False))]
    if not path.is_dir():
        raise InputError(
            f"--input is {path}, which does not exist; expected an image, a folder of images, or a list of them "
            f"({LIST_ENDING})."
        )
    written = {os.path.realpath(output / folder) for folder in folders}
    names, others = _walk(path, written, tuple(endings))
    if others:
        shown = ", ".join(map(files.shown, others[:_SHOWN])) + (", ..." if len(others) > _SHOWN else "")
        print(f"left out, being no images by their ending: {len(others)} ({shown})", file=sys.stderr)
    if not names:
        raise InputError(f"--input {path} holds no images ({', '.join(endings)}).")
    return _with_targets(path, names)


def _read_list(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder that all files of a list are in, and their names below it, each once."""
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InputError(f"The list {path} cannot be read: {reason}.") from error
    lines = [line.strip() for line in text.splitlines()]
    if "\0" in text or not any(lines):
        raise InputError(f"The list {path} names no images; expected the path of one on each line.")
    whole = [os.path.normpath(os.path.join(os.path.abspath(path.parent), line)) for line in lines if line]
    root = os.path.commonpath([os.path.dirname(name) for name in whole])
    return Path(root), [Path(os.path.relpath(name, root)) for name in dict.fromkeys(whole)]


def _with_targets(root: Path, names: list[Path]) -> list[tuple[Path, Path]]:
    """Return (file, name of its outputs) of the images `names` below `root`."""
    whole: set[Path] = set()  # names that keep their ending
    while True:
        targets = [_target(name, whole=name in whole) for name in names]
        uses = collections.Counter(targets)
        clashing = {name for name, target in zip(names, targets, strict=True) if uses[target] > 1} - whole
        if not clashing:
            return [(root / name, target) for name, target in zip(names, targets, strict=True)]
        whole |= clashing


def _target(name: Path, *, whole: bool) -> Path:
    """Return the name of the outputs of a file; `whole`: of an image, too, with its ending."""
    if name.name.lower().endswith(MEDIA_ENDINGS):
        return name
    return name.with_name(name.name + ".png") if whole else name.with_suffix(".png")


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

"""Small sources in the layouts that people have, made by the tests, and the command in the process of the test."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from gan_seg_jax.preparing.run import prepare
from gan_seg_jax.preparing.source import Options

SHAPE = (6, 8)


def save(path: Path, pixels, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    Image.fromarray(pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint8)).save(path, **options)
    return path


def photo(seed: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def classes(path: Path, text="0 sky 10 20 30\n1 road 40 50 60\n2 car 200 0 0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(source: Path, **options) -> dict:
    """Prepare SOURCE into a folder beside it; return its record."""
    options.setdefault("output", str(source.parent / "out"))
    return prepare(Options(source=str(source), **options))


def read(out: Path, split: str, image_id: str, kind="masks") -> np.ndarray:
    (path,) = (out / split / kind).glob(f"{image_id}.*")
    return np.asarray(Image.open(path))


def names(out: Path, split: str, kind="images") -> list[str]:
    return sorted(path.stem for path in (out / split / kind).glob("*"))


def record(out: Path) -> dict:
    return json.loads((out / "PREPARED.json").read_text())

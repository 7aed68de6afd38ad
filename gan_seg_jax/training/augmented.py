"""The sheet of augmented training images that a run draws at its start, so that a person sees what it learns from."""

import functools
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.augment import mixing, paired
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.pictures import panels

IMAGES = 4
DRAWS = 3
LONGEST_SIDE = 320  # of a picture on the sheet, pixels


def is_due(config: ConfigDict) -> bool:
    """Return whether a run draws the sheet: where it draws samples and does more to images than crop and flip them."""
    options = config.augment
    changes = paired.moves(options) or any(options[name] for name in paired.OPERATIONS) or _mixes(options)
    return config.samples_every > 0 and changes


def sheet(config: ConfigDict, dataset: Dataset) -> np.ndarray:
    """Draw some training images, a row each: the image, what it is to become, and several draws of both.

    Args:
        config: of the run, with the classes of the data.
        dataset: whose split "train" is shown.

    Returns:
        uint8 [H, W, 3]. Beside each image stands its label in the colours of the classes, or its target.
    """
    split, canvas = dataset.splits["train"], tuple(config.canvas_size)
    rows = np.linspace(0, len(split) - 1, IMAGES).astype(int).tolist()
    examples = [pipeline.eval_example(split, row, config, canvas_label=True, canvas=canvas) for row in rows]
    stream = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    stream["label"] = stream.pop("canvas_label")
    columns = _pair(paired.prepare(stream, jax.random.key(0), **_how(config), train=False), config, "")
    draw = jax.jit(functools.partial(_draw, config=config))
    for number in range(1, DRAWS + 1):
        columns |= _pair(draw(stream, jax.random.fold_in(jax.random.key(config.seed), number)), config, f" {number}")
    return panels.image_grid(columns, width=1)


def _mixes(options: Any) -> bool:
    return options.cutmix > 0 or options.classmix > 0


def _how(config: ConfigDict) -> dict[str, Any]:
    return {"crop_size": tuple(config.crop_size), "options": config.augment}


def _draw(stream, key, *, config: ConfigDict):
    seen = paired.prepare(stream, key, **_how(config), train=True)
    if _mixes(config.augment):
        key = jax.random.fold_in(key, 0)
        seen = mixing.mix_pairs(seen, key, options=config.augment, num_classes=config.num_classes)
    return seen


def _pair(seen: dict[str, jax.Array], config: ConfigDict, number: str) -> dict[str, np.ndarray]:
    """Return header -> uint8 [n, h, w, 3], the images and what belongs to them, no larger than the sheet allows."""
    images = np.asarray(paired.to_uint8(seen["image"]))
    if "target" in seen:
        name, beside = "target", np.asarray(paired.to_uint8(seen["target"]))
    else:
        name, beside = "label", panels.colorize(np.asarray(seen["label"]), config.class_colors)
    every = -(-max(images.shape[1:3]) // LONGEST_SIDE)
    return {f"image{number}": images[:, ::every, ::every], f"{name}{number}": beside[:, ::every, ::every]}

"""Look for memorization: is what a generator makes nearer to its training images than new real images are?

    python -m gan_seg_jax.memorization --workdir=RUN --output=FOLDER [--count=200] [--seed=0]
        [--checkpoint=best|latest|STEP] [--data_dir=..]

For each generated image the nearest training image is searched in pixels (scaled down) and in the features of the run's
feature network, and the distance is compared with that of the validation images, which nothing was trained on: a
generated image is called a copy if it is as near as the nearest 1% of these (`judging.fidelity.copy_check`).
Label-to-image generators are given the label maps of the validation split, so that an image near a training image is
not near for its layout alone.
FOLDER gets memorization.json and closest.png, the pairs that are nearest in features. Look at them: blurred images are
near to many others, most of all in pixels, and are no copies; and images that are far from everything are no praise.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image

from gan_seg_jax import parallel, tasks
from gan_seg_jax.augment import paired
from gan_seg_jax.cli import commands
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run
from gan_seg_jax.judging import fidelity
from gan_seg_jax.pictures import panels
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.system.files import write_json
from gan_seg_jax.system.progress import track
from gan_seg_jax.tasks import generation
from gan_seg_jax.tasks.feature_network import open_feature_network

QUANTILE = 0.01  # of real images that are called copies, where there are enough of them
LONG_SIDE = 32  # pixels of an image in which pixels are compared
SHOWN = 24  # pairs in the picture


def real_images(run: Run, split: Split) -> np.ndarray:
    """Return the images of a split as training sees them, uint8 [n, h, w, 3]."""
    prepare, images = jax.jit(lambda stream: paired.to_uint8(generation.make_batch(stream, run.config)["image"])), []
    for stream, seen in parallel.one_behind(prepare, generation.streams(split, run.config)):
        images.append(np.asarray(seen)[stream["valid"]])
    return np.concatenate(images)[: generation.LIMIT]


def made_images(run: Run, split: Split, count: int, seed: int) -> np.ndarray:
    """Return `count` images that the run's generator makes, uint8 [count, h, w, 3], of the split's masks if of any."""
    batches = generation.batches(run.method, run.config, split, run.state, seed)
    images = itertools.islice((image for batch in batches for image in batch["image"]), count)
    return np.stack(list(track(images, count, active=parallel.is_first_process())))


def pixels(images: np.ndarray) -> np.ndarray:
    """Return images scaled down to `LONG_SIDE` as vectors, float32 [n, d] in 0..1.

    Args:
        images: uint8 [n, h, w, 3].
    """
    height, width = images.shape[1:3]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in images]
    return np.stack(small).reshape(len(images), -1).astype(np.float32) / 255.0


def network_features(features: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the feature network's features of images, float32 [n, d]."""
    features, found = jax.jit(features), []
    for first in range(0, len(images), batch_size):
        part = images[first : first + batch_size]
        filled = np.concatenate([part, np.repeat(part[-1:], batch_size - len(part), axis=0)])
        found.append(np.asarray(features(filled.astype(np.float32) / 127.5 - 1.0))[: len(part)])
    return np.concatenate(found)


def compare(train: np.ndarray, made: np.ndarray, held_out: np.ndarray) -> fidelity.Copies:
    """Return the copies among generated images in one feature space, with as small a quantile as the counts allow."""
    return fidelity.copy_check(train, made, held_out=held_out, quantile=max(QUANTILE, 1 / len(held_out)))


def summary(copies: fidelity.Copies, ids: list[str]) -> dict[str, Any]:
    """Return what memorization.json says of one feature space; `ids` names the training images."""
    order = np.argsort(copies.distance)[:SHOWN]
    return {
        "copied": copies.share,
        "p_value": copies.p_value,
        "threshold": copies.threshold,
        "median_distance": float(np.median(copies.distance)),
        "closest": [
            {"made": int(n), "train": ids[copies.nearest[n]], "distance": float(copies.distance[n])} for n in order
        ],
    }


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir, output = Path(commands.required("workdir")), Path(commands.required("output"))
    if values.count < 1:
        raise InputError(f"--count is {values.count}; expected 1 or more.")
    run = load_run(workdir, values.checkpoint, values.data_dir)
    tasks.of(run.method).require("memorization", workdir, run.config.method)
    dataset = pipeline.open_dataset(run.config)
    train_split, val = dataset.splits["train"], dataset.splits["val"]
    if len(val) < 2:
        raise InputError(f"{dataset.info.name} has {len(val)} validation images; the check needs 2, better 100.")
    train, held_out = real_images(run, train_split), real_images(run, val)
    made = made_images(run, val, values.count, values.seed)
    network = open_feature_network(run.config, workdir)
    spaces = {
        "pixels": pixels,
        "features": lambda images: network_features(network.features, images, run.config.batch_size),
    }
    found = {name: compare(*map(space, (train, made, held_out))) for name, space in spaces.items()}
    if not parallel.is_first_process():  # all of several find the same
        return
    ids = [train_split[row]["id"] for row in range(len(train))]
    report = {
        "made": len(made),
        "training_images": len(train),
        "held_out": len(held_out),
        "feature_network": network.name,
        "quantile": max(QUANTILE, 1 / len(held_out)),
        **{name: summary(each, ids) for name, each in found.items()},
    }
    order = np.argsort(found["features"].distance)[:SHOWN]
    pairs = {"made": made[order], "nearest in training": train[found["features"].nearest[order]]}
    write_picture(output / "closest.png", panels.image_grid(pairs))
    write_json(output / "memorization.json", report)
    for name in spaces:
        share, wanted = report[name]["copied"], report["quantile"]
        print(f"{name}: {share:.1%} of {len(made)} are copies ({wanted:.1%} of real images are), ", end="")
        print(f"p = {report[name]['p_value']:.2g} that they are no nearer than real images")
    print(f"Everything is in {output}.")


def run() -> None:
    """Declare the flags and run the command."""
    commands.define_run_flags("workdir", "checkpoint", "data_dir")
    flags.DEFINE_string("output", None, "Folder for memorization.json and closest.png.")
    flags.DEFINE_integer("count", 200, "How many images are made.")
    flags.DEFINE_integer("seed", 0, "Of the draws.")
    commands.run(main, __doc__)


if __name__ == "__main__":
    run()

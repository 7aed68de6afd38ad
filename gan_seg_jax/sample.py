"""Make images, or pairs of images and masks, with a trained generator.

    python -m gan_seg_jax.sample --workdir=DIR --output=FOLDER --count=N [--seed=0] [--checkpoint=best|latest|STEP]
        [--data_dir=..]

FOLDER gets train/images/ID.png, a sheet samples.png and, where the generator makes pairs, train/masks/ID.png and
classes.txt: a folder set, to train on by itself (--config.dataset=folder) or beside real pairs
(--config.synthetic.folder). provenance.json says which images the generator was trained on: a run that is scored by any
of them, put beside the generated ones as val or test, is refused. Label-to-image methods go through the label maps of
the data set's training split, again and again, with other draws each time; a generator that draws nothing (SPADE
without noise) has one image for each, and the command says so.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from gan_seg_jax import parallel, tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.data import pipeline, provenance
from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.pictures import panels
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import track

SHEET = 24  # images on the sheet


def make(run: Run, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield (image uint8 [h, w, 3], mask uint8 [h, w] of class ids or None), without end."""
    dataset = pipeline.open_dataset(run.config)
    pipeline.resolve_classes(run.config, dataset)
    make_batches = tasks.of(run.method).batches
    for batch in make_batches(run.method, run.config, dataset.splits["train"], run.state, seed):
        masks = batch["label"].astype(np.uint8) if "label" in batch else itertools.repeat(None)
        yield from zip(batch["image"], masks, strict=False)


def write(output: Path, number: int, image: np.ndarray, mask: np.ndarray | None) -> None:
    """Write an image and its mask as number `number` of a folder set.

    Raises:
        InputError: a file cannot be written.
    """
    for folder, array in (("images", image), ("masks", mask)):
        if array is not None:
            write_picture(output / "train" / folder / f"made-{number:06d}.png", array)


def classes_text(info: DatasetInfo) -> str:
    """Return the contents of classes.txt: id, name and colour of each class, and the ignore label."""
    rows = zip(range(info.num_classes), info.class_names, info.class_colors, strict=True)
    lines = [f"{number} {name} {red} {green} {blue}" for number, name, (red, green, blue) in rows]
    return "\n".join(["# id name R G B", *lines, f"{IGNORE} ignore 0 0 0"]) + "\n"


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir, output = Path(commands.required("workdir")), Path(commands.required("output"))
    if values.count < 1:
        raise InputError(f"--count is {values.count}; expected 1 or more.")
    writes = parallel.is_first_process()  # all of several make the same
    if writes and (output / "train").exists():
        raise InputError(f"{output} holds images already; name another --output.")
    run = load_run(workdir, values.checkpoint, values.data_dir)
    tasks.of(run.method).require("sample", workdir, run.config.method)
    shown: list[tuple[np.ndarray, np.ndarray | None]] = []
    different = set()
    made = itertools.islice(make(run, values.seed), values.count)
    for number, (image, mask) in enumerate(track(made, values.count, active=writes)):
        different.add(provenance.image_hash(image))
        if writes:
            write(output, number, image, mask)
        if len(shown) < SHEET:
            shown.append((image, mask))
    if not writes:
        return
    columns = {"image": np.stack([image for image, _ in shown])}
    if shown[0][1] is not None:
        columns["mask"] = panels.colorize(np.stack([mask for _, mask in shown]), run.config.class_colors)
        info = DatasetInfo(run.config.dataset, run.config.class_names, run.config.class_colors)
        files.write_bytes(output / "classes.txt", classes_text(info).encode())
    write_picture(output / "samples.png", panels.image_grid(columns))
    provenance.copy(workdir, output)
    print(f"{values.count} {'images' if shown[0][1] is None else 'pairs'} in {output}/train, some in samples.png")
    if len(different) < values.count:
        print(
            f"Only {len(different)} of them differ: this generator makes the same images again. Give a smaller "
            "--count, or train one that draws noise (config.noise.size)."
        )


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint", "data_dir")
    flags.DEFINE_string("output", None, "Folder for what is made; it must not hold any yet.")
    flags.DEFINE_integer("count", 16, "How many.")
    flags.DEFINE_integer("seed", 0, "Of the draws: the same seed makes the same images.")
    commands.run(main, __doc__)

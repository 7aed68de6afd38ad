"""Score a run over a whole split, on all devices.

    python -m gan_seg_jax.evaluate --workdir=DIR [--split=test] [--checkpoint=best|latest|STEP] [--data_dir=..]
        [--per_image]
        [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

Without the flags of the last line it writes DIR/evaluation-SPLIT.json, with them evaluation-SPLIT-TAG.json, where the
tag says what is on (`scales+flip`) and the file holds all values. --per_image adds Dice, HD95 and ASSD
(`judging/surfaces.py`): their means over images as "per_image", and those of each image, beside its IoU, in
DIR/per_image-SPLIT.csv (or per_image-SPLIT-TAG.csv). Distances are in millimetres where the data set has a spacing.csv,
else in pixels.
"""

import time
from pathlib import Path
from typing import Any

import jax
from absl import flags

from gan_seg_jax import parallel, tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.data import spacing
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run, open_split
from gan_seg_jax.inference.options import PLAIN, Options, define_flags, options_from_flags
from gan_seg_jax.judging import per_image
from gan_seg_jax.judging.per_image import ImageScores
from gan_seg_jax.system.files import csv_text, write_json, write_text
from gan_seg_jax.system.progress import Progress
from gan_seg_jax.training.report import gathered


def evaluate_run(
    run: Run, split_name: str, workdir: Path, options: Options = PLAIN, *, table: Path | None = None
) -> dict[str, Any]:
    """Return the scores of a run, whose folder is `workdir`, on a split of its data set.

    Args:
        run: the run.
        split_name: the split.
        workdir: folder of the run.
        options: how images are labelled.
        table: where to write the scores of each image, as CSV; their means are then among the scores, "per_image".

    Raises:
        InputError: the data set has no such split, or other classes than the run; or such runs have no options, or no
            scores of single images.
    """
    task = tasks.of(run.method)
    task.check_options(options, workdir)
    if table is not None and not task.has_image_counts:
        raise InputError(f"{workdir} is a run of {task.name}, which has no scores of classes; leave out --per_image.")
    split, mesh = open_split(run, split_name)
    measured = None if table is None else ImageScores(run.config.num_classes, spacing.of_split(split))
    state = parallel.place(run.state, parallel.replicated(mesh))
    evaluator = task.evaluator(run.method, run.config, split, mesh, workdir, options)
    if not task.has_image_counts:
        return evaluator(state)
    counted: dict[int, Any] = {}
    more = {} if measured is None else {"each": measured.add}
    with Progress(-(-len(split) // jax.process_count()), active=parallel.is_first_process()) as progress:
        scores = evaluator(state, poll=lambda: progress.show(len(counted)), image_counts=counted, **more)
        progress.show(len(counted))
    if measured is not None:
        counts = gathered(counted, len(split), run.config.num_classes)
        found, names = measured.scores(counts), run.config.class_names
        scores["per_image"] = per_image.means(found, counts, names, measured.unit)
        if parallel.is_first_process():
            write_text(table, csv_text(per_image.rows(found, counts, split.ids, names)))
    return scores


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir = Path(commands.required("workdir"))
    options = options_from_flags(workdir)
    run = load_run(workdir, values.checkpoint, values.data_dir)
    start = time.monotonic()
    name = f"step {run.step}, {values.split}"
    what = f"{values.split}-{options.tag}" if options.tag else values.split
    table = workdir / f"per_image-{what}.csv" if values.per_image else None
    scores = evaluate_run(run, values.split, workdir, options, table=table)
    about = {"step": run.step, "split": values.split, "seconds": time.monotonic() - start}
    if options.tag:
        name = f"{name}, {options.tag}"
        about["options"] = options.to_json()
    if parallel.is_first_process():
        write_json(workdir / f"evaluation-{what}.json", {**about, **scores})
        print(f"{name}\n\n{tasks.of(run.method).table([(run.config.method, scores)])}")
        if table is not None:
            print(f"\n{per_image.means_table(scores['per_image'])}\n\nOf each image: {table}")


if __name__ == "__main__":
    commands.define_run_flags("workdir", "split", "checkpoint", "data_dir")
    flags.DEFINE_bool("per_image", False, "Score each image, too, with Dice, HD95 and ASSD: per_image-SPLIT.csv.")
    define_flags()
    commands.run(main, __doc__)

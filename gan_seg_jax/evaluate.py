"""Score a run over a whole split, on all devices.

    python -m gan_seg_jax.evaluate --workdir=DIR [--split=test] [--checkpoint=best|latest|STEP] [--data_dir=..]
        [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

Without the flags of the second line it writes DIR/evaluation-SPLIT.json, with them evaluation-SPLIT-TAG.json, where the
tag says what is on (`scales+flip`) and the file holds all values.
"""

import time
from pathlib import Path
from typing import Any

import jax
from absl import flags

from gan_seg_jax import parallel
from gan_seg_jax.cli import commands
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run, open_split
from gan_seg_jax.inference.options import PLAIN, Options, define_flags, options_from_flags
from gan_seg_jax.runs.tables import per_class_table, scores_table, values_table
from gan_seg_jax.system.files import write_json
from gan_seg_jax.system.progress import Progress
from gan_seg_jax.tasks import TASKS
from gan_seg_jax.tasks.segmentation import Evaluator


def evaluate_run(run: Run, split_name: str, options: Options = PLAIN) -> dict[str, Any]:
    """Return the scores of a run on a split of its data set.

    Raises:
        InputError: the data set has no such split, or other classes than the run.
    """
    split, mesh = open_split(run, split_name)
    state = parallel.place(run.state, parallel.replicated(mesh))
    evaluator, counted = Evaluator(run.method, run.config, split, mesh, options=options), {}
    with Progress(-(-len(split) // jax.process_count()), active=parallel.is_first_process()) as progress:
        scores = evaluator(state, poll=lambda: progress.show(len(counted)), image_counts=counted)
        progress.show(len(counted))
    return scores


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir = Path(commands.required("workdir"))
    options = options_from_flags(workdir)
    run = load_run(workdir, values.checkpoint, values.data_dir)
    start = time.monotonic()
    name, about = f"step {run.step}, {values.split}", {"step": run.step, "split": values.split}
    file = f"evaluation-{values.split}.json"
    if run.method.TASK == "segmentation":
        scores = evaluate_run(run, values.split, options)
        shown = f"{scores_table([(name, scores)])}\n\n{per_class_table(run.config.class_names, [(name, scores)])}"
    else:
        if options != PLAIN:
            raise InputError(f"{workdir} is a run of {run.method.TASK}: only --split and --checkpoint have a meaning.")
        scores = _other_scores(run, values.split, workdir)
        shown = f"{name}\n\n{values_table(scores)}"
    if options.tag:
        name, file = f"{name}, {options.tag}", f"evaluation-{values.split}-{options.tag}.json"
        about |= {"options": options.to_json(), "seconds": time.monotonic() - start}
    if parallel.is_first_process():
        write_json(workdir / file, {**about, **scores})
        print(shown)


def _other_scores(run: Run, split_name: str, workdir: Path) -> dict[str, Any]:
    """Return the scores of a run that does not segment."""
    split, mesh = open_split(run, split_name)
    evaluator = TASKS[run.method.TASK].evaluator(run.method, run.config, split, mesh, workdir)
    return evaluator(parallel.place(run.state, parallel.replicated(mesh)))


if __name__ == "__main__":
    commands.define_run_flags("workdir", "split", "checkpoint", "data_dir")
    define_flags()
    commands.run(main, __doc__)

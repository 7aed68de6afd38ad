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

from gan_seg_jax import parallel, tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.inference.load import Run, load_run, open_split
from gan_seg_jax.inference.options import PLAIN, Options, define_flags, options_from_flags
from gan_seg_jax.system.files import write_json
from gan_seg_jax.system.progress import Progress


def evaluate_run(run: Run, split_name: str, workdir: Path, options: Options = PLAIN) -> dict[str, Any]:
    """Return the scores of a run, whose folder is `workdir`, on a split of its data set.

    Raises:
        InputError: the data set has no such split, or other classes than the run; or such runs have no options.
    """
    task = tasks.of(run.method)
    task.check_options(options, workdir)
    split, mesh = open_split(run, split_name)
    state = parallel.place(run.state, parallel.replicated(mesh))
    evaluator = task.evaluator(run.method, run.config, split, mesh, workdir, options)
    if not task.has_image_counts:
        return evaluator(state)
    counted: dict[int, Any] = {}
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
    scores = evaluate_run(run, values.split, workdir, options)
    if options.tag:
        name, file = f"{name}, {options.tag}", f"evaluation-{values.split}-{options.tag}.json"
        about |= {"options": options.to_json(), "seconds": time.monotonic() - start}
    if parallel.is_first_process():
        write_json(workdir / file, {**about, **scores})
        print(f"{name}\n\n{tasks.of(run.method).table([(run.config.method, scores)])}")


if __name__ == "__main__":
    commands.define_run_flags("workdir", "split", "checkpoint", "data_dir")
    define_flags()
    commands.run(main, __doc__)

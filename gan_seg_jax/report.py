"""Show a run as one page: curves, scores, best and worst images, calibration, config, what next.

    python -m gan_seg_jax.report --workdir=DIR [--output=report.html] [--split=test] [--checkpoint=best|latest|STEP]
        [--data_dir=..] [--count=4] [--explain] [--noimages]

Writes DIR/report.html, a page that needs no other file, no network and no script. Runs of every task are shown,
finished or not, with what there is of them. The confusion matrix, the best and the worst images by their mean IoU and
the reliability diagram are made by one pass of the network over a split: by default test, val where there is no test or
the run is not finished. With --noimages they are left out. --explain shows why the worst image was labelled so, as
`predict --explain` does. What `judge` has written into DIR is shown, too.
"""

from pathlib import Path

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.system import files


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir = Path(commands.required("workdir"))
    from gan_seg_jax import parallel  # after the flags: a mistake is answered at once

    parallel.initialize()
    from gan_seg_jax.cli import nearest
    from gan_seg_jax.config import to_json
    from gan_seg_jax.reporting import page, run_files

    run = run_files.read(workdir)
    output = commands.output_file(values.output or workdir / "report.html")
    look, why_not = _look(run) if values.images else (None, "--noimages left out what the network is needed for.")
    found = nearest.find(to_json(run.config))
    origin = page.Origin("", (), ()) if found is None else page.Origin(*found)
    files.write_text(output, page.page(run, origin, look, why_not))
    print(f"The report is {files.shown(output)}.", flush=True)


def _look(run):
    """Return what a pass of the network over the split finds, or None and why there is none.

    Raises:
        InputError: the data or the checkpoint cannot be read.
    """
    from gan_seg_jax.inference.load import load_run, open_split
    from gan_seg_jax.reporting import looks

    values = flags.FLAGS
    if run.task.name != "segmentation":
        return None, f"A run of {run.task.name} labels no images; its samples are below."
    if run.classical:
        return None, "The fitted model of a classical method is not kept; its samples are below."
    if run.step is None:
        return None, "There is no checkpoint yet."
    loaded = load_run(run.workdir, values.checkpoint, values.data_dir)
    with looks.data_needed():
        split, mesh = open_split(loaded, values.split or run.scored_split or "val")
    return looks.look(loaded, split, mesh, shown=values.count, explain=values.explain), ""


if __name__ == "__main__":
    commands.define_run_flags("workdir", "split", "checkpoint", "data_dir", split="")
    flags.DEFINE_string("output", "", "The page; default report.html in the folder of the run.")
    flags.DEFINE_integer(
        "count", 4, "How many of the best and of the worst images, at most.", lower_bound=1, upper_bound=50
    )
    flags.DEFINE_boolean("explain", False, "Whether to explain the worst image.")
    flags.DEFINE_boolean("images", True, "Whether to label a split for the best and worst images.")
    commands.run(main, __doc__, devices=False)

"""Show runs side by side: scores, differences to the first with their intervals, the same images, configs.

    python -m gan_seg_jax.compare RUN RUN ... [--split=test] [--output=compare.html] [--data_dir=..] [--count=4]
        [--noimages]

RUN is the folder of a run. Runs of one task on the same data with the same classes are compared, each by the best
checkpoint of its validation. The differences of segmentation runs have 95% intervals by the paired bootstrap over
images: how they would vary over other images of the kind, not over other trainings. They are made of what a run keeps
of its test images; for val, or for a run that is not finished, its network labels the split first. The page shows the
images on which the runs differ most; with --noimages no network is run.
"""

from pathlib import Path

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

SPLITS = ("test", "val")


def main(words: list[str]) -> None:
    """Run the command on the folders of the runs."""
    values = flags.FLAGS
    if len(words) < 2:
        raise InputError(f"Found {len(words)} runs; expected at least two: gan-seg compare RUN RUN ...")
    output = commands.output_file(values.output)
    from gan_seg_jax import parallel  # after the flags: a mistake is answered at once

    parallel.initialize()
    from gan_seg_jax.reporting import compare_page, comparison, run_files

    runs = comparison.named([run_files.read(Path(word)) for word in words])
    comparison.check(runs, values.split)
    options = comparison.Options(values.split, values.data_dir, values.count, values.images)
    found = comparison.compare(runs, options)
    files.write_text(output, compare_page.page(found))
    print(f"{comparison.table(found)}\n\nThe page is {files.shown(output)}.", flush=True)


if __name__ == "__main__":
    flags.DEFINE_enum("split", "test", SPLITS, "Which split of the data set.")
    flags.DEFINE_string("output", "compare.html", "The page.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set, where it is not the one of the training.")
    flags.DEFINE_integer("count", 4, "How many images are shown, at most.", lower_bound=1, upper_bound=50)
    flags.DEFINE_boolean("images", True, "Whether to label images with the runs.")
    commands.run(main, __doc__, devices=False, words=True)

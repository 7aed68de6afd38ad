"""Fetch a published network, from Hugging Face or a folder, into a folder that is used as a run's.

    python -m gan_seg_jax.pull --repository=hf:OWNER/NAME[@REVISION]|FOLDER --output=FOLDER

The files are those that `push` has written, and nothing in them is executed. They are checked: the weights by their
SHA-256, and against the network that the config describes. `gan_seg_jax.load(FOLDER)`, `predict --workdir=FOLDER` and
`evaluate --workdir=FOLDER --data_dir=...` take the folder for the run.
"""

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.system import files


def main() -> None:
    """Run the command."""
    repository, output = commands.required("repository"), commands.required("output")
    with files.new_folder(files.local(output)) as folder:
        from gan_seg_jax import parallel  # after the flags: a mistake is answered at once

        parallel.initialize()
        from gan_seg_jax.exporting import published

        run = published.fetch(repository, folder)
    classes = ", ".join(run.config.class_names)
    print(f"{files.shown(output)} labels {files.shown(classes)} ({run.config.method}, step {run.step}).", flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("repository", None, "hf:OWNER/NAME or hf:OWNER/NAME@REVISION of Hugging Face, or a folder.")
    flags.DEFINE_string("output", None, "The folder that is made.")
    commands.run(main, __doc__, devices=False)

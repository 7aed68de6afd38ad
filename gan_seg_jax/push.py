"""Publish a trained segmentation network with its model card: on Hugging Face, or in a folder.

    python -m gan_seg_jax.push --workdir=DIR --repository=hf:OWNER/NAME|FOLDER [--checkpoint=best|latest|STEP]
        [--licence=apache-2.0] [--noprivate]

What is published is what `export --format=safetensors` writes: `model.safetensors` (averaged weights where the run has
them), `config.json`, and a card, `README.md`, with classes, data, protocol, scores with their intervals and licences.
Folders of this machine, discriminators and optimizers stay behind. A repository that is not there yet is made, private
without --noprivate; one that is gets a new commit, and is refused without --noprivate where it is public. Log in first:
`hf auth login`. `pull` is the way back.
"""

import re
import tempfile
from pathlib import Path

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files, hub


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir, repository = commands.required("workdir"), commands.required("repository")
    if re.fullmatch(r"[a-z0-9.+-]{0,40}", values.licence) is None:
        raise InputError(f"--licence is {values.licence[:60]!r}; expected a short name such as apache-2.0.")
    if not repository.startswith(hub.PREFIX):
        with files.new_folder(files.local(repository)) as folder:
            _write(folder, workdir)
        print(f"The run is in {files.shown(repository)}.", flush=True)
        return
    hub.check_name(repository)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), workdir)
        address = hub.upload(Path(folder), repository, private=values.private)
    print(f"The run is at {address}.", flush=True)


def _write(folder: Path, workdir: str) -> None:
    """Write the files that are published into a new folder.

    Raises:
        InputError: the run cannot be loaded, or does not segment.
    """
    from gan_seg_jax import parallel  # after the flags: a mistake is answered at once

    parallel.initialize()
    from gan_seg_jax.exporting import published
    from gan_seg_jax.exporting.program import load_segmentation
    from gan_seg_jax.reporting import run_files
    from gan_seg_jax.runs import prepared, weights

    if weights.are_in(workdir):  # with the card that its owner has given it
        if flags.FLAGS.licence:
            raise InputError(f"{workdir} holds published weights, whose card says their licence; leave out --licence.")
        published.fetch(workdir, folder)
        return

    run, found = load_segmentation(workdir, flags.FLAGS.checkpoint), run_files.read(workdir)
    published.write(folder, run, prepared.read(workdir), found.summary, found.counts, flags.FLAGS.licence)


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint")
    flags.DEFINE_string("repository", None, "hf:OWNER/NAME of Hugging Face, or a folder that is made.")
    flags.DEFINE_string("licence", "", "Under which the weights are published, such as apache-2.0; it is in the card.")
    flags.DEFINE_boolean("private", True, "Make a private repository, and refuse one that is public.")
    commands.run(main, __doc__, devices=False)

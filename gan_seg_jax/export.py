"""Export a trained network: for JAX alone (StableHLO), as ONNX, or as weights with a model card (safetensors).

    python -m gan_seg_jax.export --workdir=DIR --format=stablehlo|safetensors|onnx --output=FOLDER
        [--checkpoint=best|latest|STEP] [--size=H,W]

stablehlo and onnx: `model.stablehlo` or `model.onnx`, one file that takes RGB images, uint8 [b, h, w, 3] at the scale
of the run's canvas, and returns the probability of each class at each pixel, float32 [b, h, w, k]. Batch, height and
width are free; `export.json` says what the sizes must be multiples of, and names the classes. A network that has to
know the size of its images is exported for one: --size.

safetensors: `model.safetensors` (the networks that label, averaged weights where the run has them), `config.json`, and
a model card, `README.md`; `gan_seg_jax.load(FOLDER)` and `predict --workdir=FOLDER` take the folder for the run.
"""

import hashlib
import re
from pathlib import Path

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files


def _size(text: str) -> tuple[int, int] | None:
    """Return the height and the width that --size names; None where it is empty.

    Raises:
        InputError: it names none.
    """
    if not text:
        return None
    found = re.fullmatch(r" *([1-9]\d{0,4}) *, *([1-9]\d{0,4}) *", text, re.ASCII)
    if found is None:
        raise InputError(f"--size is {text[:40]!r}; expected HEIGHT,WIDTH in pixels, such as 256,256.")
    return int(found[1]), int(found[2])


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir, form, output = commands.required("workdir"), commands.required("format"), commands.required("output")
    size = _size(values.size)
    if size is not None and form == "safetensors":
        raise InputError("--size is of stablehlo and onnx; weights alone are for images of any size. Leave it out.")
    with files.new_folder(files.local(output)) as folder:
        _write(folder, workdir, form, size)
    print(f"The export to {form} is in {files.shown(output)}.", flush=True)


def _write(folder: Path, workdir: str, form: str, size: tuple[int, int] | None) -> None:
    """Write the files of an export into a new folder.

    Raises:
        InputError: the run cannot be loaded, or not be exported to this format.
    """
    from gan_seg_jax import parallel  # after the flags: a mistake is answered at once

    parallel.initialize()
    from gan_seg_jax.exporting import onnx, published, stablehlo
    from gan_seg_jax.exporting.program import describe, load_segmentation, make_program, networks_of
    from gan_seg_jax.reporting import run_files
    from gan_seg_jax.runs import prepared
    from gan_seg_jax.runs.weights import FACTS

    run, cut = load_segmentation(workdir, flags.FLAGS.checkpoint), prepared.read(workdir)
    if form == "safetensors":
        found = run_files.read(workdir)
        published.write(folder, run, cut, found.summary, found.counts)
        return
    program = make_program(run, size)
    name = f"model.{form}"
    networks = " and ".join(networks_of(run).values())
    data = stablehlo.serialize(program) if form == "stablehlo" else onnx.serialize(program, networks)
    with files.written(folder / name):
        files.write_bytes(folder / name, data)
    digest = hashlib.sha256(data).hexdigest()
    files.write_json(folder / FACTS, {**describe(run, program), "prepared": cut, "file": name, "sha256": digest})


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint")
    flags.DEFINE_enum("format", None, ["stablehlo", "onnx", "safetensors"], "What the network is written as.")
    flags.DEFINE_string("output", None, "The folder that is made.")
    flags.DEFINE_string("size", "", "HEIGHT,WIDTH of the images, where they are to have one size (stablehlo, onnx).")
    commands.run(main, __doc__, devices=False)

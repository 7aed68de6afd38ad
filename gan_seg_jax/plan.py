"""Say ahead of time, without a TPU, what a training will take on a slice of Cloud TPUs.

    python -m gan_seg_jax.plan --config=configs/cgan_seg.py --slice=v5e-8 [--slice=v6e-8 ...] [--batch_per_chip=8]
        [--config.FIELD=VALUE ...] [--input_rate=IMAGES_PER_SECOND] [--json=plan.json]

The TPU's own compiler (pip install "jax[tpu]<0.12") compiles the training step for the slice, in a minute or a few:
memory, arithmetic, traffic and messages of a chip are what it says. The time of a step follows from these and the
chip's data sheet: it is a step at best. The rate of the input is measured on this machine where the data are at hand;
this is not the slice's host, so give --input_rate where you know that one. With --config.num_classes=N no data are
needed or read. What the figures mean is told in docs/accelerators.md.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from gan_seg_jax.cli import commands
from gan_seg_jax.config import check
from gan_seg_jax.errors import InputError
from gan_seg_jax.planning import slices
from gan_seg_jax.system import files


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    config = values.config
    if config is None:
        raise InputError("--config is missing; for instance --config=configs/cgan_seg.py.")
    if not values.slice:
        raise InputError(f"--slice is missing; name one of {', '.join(slices.SLICES)}.")
    wanted = [slices.named(name) for name in dict.fromkeys(values.slice)]
    output = commands.output_file(values.json) if values.json else None
    if not config.networks:
        raise InputError(f"{config.method} is a classical method, which has no training step to compile.")
    check(config)
    for where in wanted:
        if not values.batch_per_chip and config.batch_size * config.spatial_shards % where.chips:
            raise InputError(
                f"config.batch_size is {config.batch_size}, which the {where.chips} chips of {where.name} cannot share "
                "evenly; use a multiple, or give the images of each chip: --batch_per_chip=8."
            )
    slices.pretend()
    from gan_seg_jax.planning import figures, program, text  # now: it loads JAX

    config = config.copy_and_resolve_references().unlock()
    program.devices(wanted[0])  # before the data are read
    rate, measured = _input(config)
    named = next(word for word in reversed(sys.argv) if word.lstrip("-").startswith("config="))
    found = {
        "config": Path(named.partition("=")[2]).name,
        **figures.of_config(config.lock()),
        "versions": program.versions(),
        "slices": [],
    }
    print(text.heading(found), flush=True)
    for where in wanted:
        print(f"Compiling for {where.name} ...", flush=True)
        with config.unlocked():
            if values.batch_per_chip:
                config.batch_size = values.batch_per_chip * where.chips
        found["slices"].append(figures.on_slice_apart(config, where, rate, measured=measured))
        if output is not None:
            files.write_json(output, found)
        if len(wanted) == 1:
            print(f"\n{text.lines(found['slices'][0])}", flush=True)
    if len(wanted) > 1:
        print(f"\n{text.table(found['slices'])}", flush=True)
    if all("crashed" in each for each in found["slices"]):
        raise InputError(f"The TPU's compiler {text.crash(found['slices'])}.")


def _input(config: ConfigDict) -> tuple[float, bool]:
    """Fill in the classes; return the rate of one host's input, 0 if it is not known, and whether it was measured.

    Raises:
        InputError: The config names no number of classes, and its data are not here.
    """
    from gan_seg_jax.data import class_weights, pipeline
    from gan_seg_jax.methods import get_method
    from gan_seg_jax.planning import feeding, program

    rate = flags.FLAGS.input_rate
    if config.num_classes:
        program.use_classes(config, config.num_classes)
        return rate, False
    try:
        dataset = pipeline.open_dataset(config)
    except InputError as error:
        raise InputError(f"{error} Or plan without the data: --config.num_classes=NUMBER.") from error
    pipeline.resolve_classes(config, dataset)
    class_weights.resolve_class_weights(config, dataset, None)
    if rate:
        return rate, False
    return feeding.measured_rate(config, dataset, get_method(config).STREAMS), True


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Config file, with words for it behind a colon.", lock_config=True)
    flags.DEFINE_multi_string("slice", [], f"Cloud's name of a slice: {', '.join(slices.SLICES)}. May be given again.")
    flags.DEFINE_integer("batch_per_chip", 0, "Images of a chip; 0: config.batch_size, shared by all.", lower_bound=0)
    flags.DEFINE_float(
        "input_rate", 0.0, "Images a second that a host of the slice prepares; 0: as here.", lower_bound=0
    )
    flags.DEFINE_string("json", "", "JSON file to write.")
    commands.run(main, __doc__, devices=False)

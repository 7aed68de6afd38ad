"""Train, validate, test; or fit a classical baseline and score it in the same way.

    python -m gan_seg_jax.main --config=configs/cgan_seg.py[:WORDS] [--workdir=DIR] [--config.FIELD=VALUE ...]

The same command on the same workdir resumes; a finished run prints its scores again. With --show_config nothing is run:
the config, every override in place, is checked, but for the fields of networks and of single methods, and printed as
JSON. `tensorboard --logdir=runs` shows the curves of all runs; it comes with the extra `view` (pip install
"gan_seg_jax[view]", or tensorboard alone).
"""

import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from gan_seg_jax.cli import commands, config_files
from gan_seg_jax.config import check, digest, to_json
from gan_seg_jax.config_fields import RENAMED, present_names
from gan_seg_jax.errors import InputError


def main() -> None:
    """Run the command."""
    path = config_files.named(sys.argv)
    if path == Path():
        raise InputError("--config is missing; for instance --config=configs/cgan_seg.py.")
    config = flags.FLAGS.config
    if not isinstance(config, ConfigDict):
        raise InputError(f"get_config of {path} returns {config!r}; expected a ConfigDict, as of common.get_config().")
    if not config.networks and not _is_classical(config):
        known = config_files.known(path.parent)
        raise InputError(f"{path} is no config of its own, for it names no network to train; {known}.")
    if present_names(to_json(config)) != to_json(config):
        names = ", ".join(f"{old} is {new} now" for old, new in RENAMED.items())
        raise InputError(f"{path} sets a field by a name that it had before: {names}.")
    check(config)
    if flags.FLAGS.show_config:
        print(json.dumps(to_json(config), indent=1), flush=True)
        return
    from gan_seg_jax import models, parallel, train  # now: most mistakes are answered without loading JAX
    from gan_seg_jax.training import classical

    models.check(config)
    parallel.initialize()
    workdir = flags.FLAGS.workdir or Path("runs") / f"{path.stem}-{digest(config)[:8]}"
    run = classical.fit_and_evaluate if _is_classical(config) else train.train_and_evaluate
    run(config, Path(workdir))


def _is_classical(config: ConfigDict) -> bool:
    from gan_seg_jax.baselines import BASELINES

    return config.method in BASELINES


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Config file, with words for it behind a colon.", lock_config=True)
    flags.DEFINE_string("workdir", "", "Folder of the run; default runs/<config>-<hash of its fields>.")
    flags.DEFINE_boolean("show_config", False, "Print the config as JSON, every override in place, and run nothing.")
    commands.run(main, __doc__, devices=False)

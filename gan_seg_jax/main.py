"""Train, validate, test; or fit a classical baseline and score it in the same way.

    python -m gan_seg_jax.main --config=configs/cgan_seg.py[:WORDS] [--workdir=DIR] [--config.FIELD=VALUE ...]

The same command on the same workdir resumes; a finished run prints its scores again. With --show_config nothing is run:
the config, every override in place, is checked and printed as JSON.
"""

import json
import re
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from gan_seg_jax import commands
from gan_seg_jax.config import check, digest, to_json
from gan_seg_jax.errors import InputError

PARTS = ("__init__", "common", "networks")  # of configs


def main() -> None:
    """Run the command."""
    if flags.FLAGS["config"].value is None:
        raise InputError("--config is missing; for instance --config=configs/cgan_seg.py.")
    path = Path(re.sub(r":[^/]*$", "", config_flags.get_config_filename(flags.FLAGS["config"])))
    if not path.is_file():
        files = (file for file in path.parent.glob("*.py") if file.stem not in PARTS)
        known = ", ".join(sorted(map(str, files))) or "none"
        raise InputError(f"The config file {path} does not exist; in {path.parent}/ there are: {known}.")
    config = flags.FLAGS.config
    check(config)
    if flags.FLAGS.show_config:
        print(json.dumps(to_json(config), indent=1), flush=True)
        return
    from gan_seg_jax import classical, parallel, train  # now: a mistake is answered at once, without loading JAX
    from gan_seg_jax.baselines import BASELINES

    parallel.initialize()
    workdir = flags.FLAGS.workdir or Path("runs") / f"{path.stem}-{digest(config)[:8]}"
    run = classical.fit_and_evaluate if config.method in BASELINES else train.train_and_evaluate
    run(config, Path(workdir))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Config file, with words for it behind a colon.", lock_config=True)
    flags.DEFINE_string("workdir", "", "Folder of the run; default runs/<config>-<hash of its fields>.")
    flags.DEFINE_boolean("show_config", False, "Print the config as JSON, every override in place, and run nothing.")
    commands.run(main, __doc__, devices=False)

"""Supervised segmentation of a folder of images, with network, sizes, batch and steps chosen for the data.

Choose it for a first run on own images; `gan-seg inspect --data_dir=FOLDER` prints what is chosen, and why.
    L = cross-entropy, or any weighted sum of config.losses.weights
Papers: as of configs/supervised_seg.py.
Command: python -m gan_seg_jax.main --config=configs/auto.py --config.data_dir=FOLDER --workdir=runs/first
Words behind the colon: those of configs/supervised_seg.py; a network's name holds, and with smoke nothing is chosen.
On the command line the fields are set before those that are given, and config.json holds what was chosen. Without data,
as in get_config, this is configs/supervised_seg.py.
Cost: chosen for about 40 minutes where there are processor cores only; `gan-seg inspect --measure` measures it.
Scores: none of its own.
"""

from ml_collections import ConfigDict

from configs import supervised_seg


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: as of configs/supervised_seg.py.
    """
    return supervised_seg.get_config(arg)

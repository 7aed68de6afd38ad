"""Nuclei: from labelled fluorescence images to stained ones without labels (AdaptSegNet), beside the source alone.

    python experiments/split_dsb2018.py FOLDER/dsb2018 DOMAINS
    python experiments/dsb2018_domains.py --data_dir=DOMAINS

The domains are far apart: nuclei are bright on dark ground in one and dark on light ground in the other. `lambda0` is
the adaptation's path without its game, so what it gains comes of the target's own batch statistics.
"""

import sys

import comparison
import runner
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 128x128: from fluorescence to stained images"
TARGET = ("--config.dataset=folder", "--config.data_dir={data_dir}/stained")
SOURCE = ("--config.source.dataset=folder", "--config.source.data_dir={data_dir}/fluorescence")
SHARED = (
    *TARGET,
    "--config.canvas_size=(128, 128)",
    "--config.crop_size=(128, 128)",
    "--config.augment.flip_vertical=True",
    "--config.augment.transpose=True",
    "--config.augment.brightness=0.3",
    "--config.augment.contrast=0.3",
    "--config.ema_decay=0.99",
    "--config.baselines=()",
    "--config.steps=300",
    "--config.eval_every=100",
    "--config.checkpoint_every=100",
    "--config.samples_every=300",
)
GAME = (*comparison.GAME, "statistics")
MULTI = ("networks.ACTING.auxiliary", "losses.auxiliary_weight")
ARMS = (
    Arm("source-alone", "configs/supervised_seg.py", SHARED + SOURCE, reference=""),
    Arm("adaptation-lambda0", "configs/adapt_seg.py:lambda0", SHARED + SOURCE, reference="source-alone"),
    Arm("adaptation", "configs/adapt_seg.py", SHARED + SOURCE, reference="adaptation-lambda0"),
    Arm("adaptation-multi", "configs/adapt_seg.py:multi", SHARED + SOURCE, reference="adaptation", varies=MULTI),
    Arm("target-labels", "configs/supervised_seg.py", SHARED, reference="source-alone", varies=("source.*",)),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=GAME))

"""Nuclei in microscopy (2018 Data Science Bowl, official stage 1 test): SegAN and the other games beside cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/dsb2018_gans.py

FOLDER holds the data sets; this one lies in FOLDER/dsb2018. The data and the U-Net are those of `dsb2018_first.py`;
`segan` is the paper's (no loss but the critic's), `segan-legacy` that of its released code (with a Dice loss).
"""

import sys

import runner
from dsb2018_first import SHARED
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 128x128: SegAN and other games beside cross-entropy"
FIELDS = (
    *(flag for flag in SHARED if not flag.startswith(("--config.canvas", "--config.crop", "--config.steps"))),
    "--config.canvas_size=(128, 128)",
    "--config.crop_size=(128, 128)",
    "--config.steps=300",
    "--config.baselines=()",
)
FEW = "--config.labelled.fraction=0.05"
SEEDS = (0, 1, 2)
ARMS = (
    Arm("supervised", "configs/supervised_seg.py", FIELDS),
    Arm("adversarial", "configs/adversarial_seg.py", FIELDS),
    Arm("segan", "configs/segan.py", FIELDS),
    Arm("segan-legacy", "configs/segan.py:legacy", FIELDS),
    Arm("supervised-twentieth", "configs/supervised_seg.py", (*FIELDS, FEW), seeds=SEEDS),
    Arm("s4gan-twentieth", "configs/semi_seg.py:s4gan", (*FIELDS, FEW), seeds=SEEDS),
    Arm("mean-teacher-twentieth", "configs/semi_seg.py:mean_teacher", (*FIELDS, FEW), seeds=SEEDS),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

"""Nuclei in microscopy (2018 Data Science Bowl, official stage 1 test): SegAN beside cross-entropy on its own path.

    GAN_SEG_DATA=FOLDER python experiments/dsb2018_segan.py

FOLDER holds the data sets; this one lies in FOLDER/dsb2018. SegAN has the optimizer of its released code (Adam at a
constant 2e-4, beta1 0.5), which costs cross-entropy as well; so all arms have it, and `lambda0` is cross-entropy under
it. `segan` is the paper's (no loss but the critic's), `segan-legacy` that of its released code (with a Dice loss),
`segan-cross-entropy` the critic's distance beside cross-entropy.
"""

import sys

import runner
from dsb2018_gans import FIELDS, SEEDS
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 128x128: SegAN beside cross-entropy, both with SegAN's optimizer"
BESIDE = "--config.losses.weights.cross_entropy=1.0"
ARMS = (
    Arm("lambda0", "configs/segan.py:lambda0", FIELDS, SEEDS, reference=""),
    Arm("segan-cross-entropy", "configs/segan.py", (*FIELDS, BESIDE), SEEDS, reference="lambda0"),
    Arm(
        "segan",
        "configs/segan.py",
        FIELDS,
        SEEDS,
        reference="lambda0",
        varies=("losses.weights.cross_entropy",),
    ),
    Arm(
        "segan-legacy",
        "configs/segan.py:legacy",
        FIELDS,
        SEEDS,
        reference="lambda0",
        varies=("losses.weights.cross_entropy", "losses.weights.dice", "losses.legacy"),
    ),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=("losses.adversarial_weight",)))

"""CamVid with an eighth of its labels (45 images): what unlabelled images, or made ones, add to cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/camvid_eighth.py

As `camvid_gans.py`, whose data, augmentation, U-Net and number of steps these arms share. The mean teacher has no GAN:
the rival that one has to beat. `augmentation-spade` trains a generator on the 45 pairs first, judged by the supervised
run; `geometric` is the same path without made pairs and with wider zooms.
"""

import sys

import runner
from camvid_gans import STEPS, arm

TITLE = "CamVid at 144x192 with an eighth of its labels"
EIGHTH = "--config.labelled.fraction=0.125"
ARMS = (
    arm("supervised", "supervised_seg.py", EIGHTH),
    arm("advsemiseg", "semi_seg.py:advsemiseg", EIGHTH),
    arm("advsemiseg-lambda0", "semi_seg.py:advsemiseg,lambda0", EIGHTH),
    arm("s4gan", "semi_seg.py:s4gan", EIGHTH),
    arm("mean-teacher", "semi_seg.py:mean_teacher", EIGHTH),
    arm(
        "augmentation-spade", "augment_seg.py:spade", EIGHTH, f"--config.prior_runs.generator.steps={STEPS}",
        "--config.prior_runs.generator.judge={workdir}/supervised-seed0",
    ),
    # The zoom of the config's word, which the range that all arms share would undo.
    arm("augmentation-geometric", "augment_seg.py:geometric", EIGHTH, "--config.augment.scale=(0.5, 2.0)"),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

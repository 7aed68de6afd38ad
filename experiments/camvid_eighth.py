"""CamVid with an eighth of its labels (45 images): what unlabelled images, or generated ones, add to cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/camvid_eighth.py

As `camvid_gans.py`, whose data, augmentation, U-Net, optimizer and number of steps these arms share; every seed draws
its own eighth. The mean teacher has no GAN: the rival that one has to beat. `augmentation-spade` trains a generator on
the 45 pairs first, scored by the supervised run; `geometric` is the same path without generated pairs and wider zooms.
"""

import sys

import comparison
import runner
from camvid_gans import SEEDS, STEPS, arm

TITLE = "CamVid at 144x192 with an eighth of its labels"
EIGHTH = ("--config.labelled.fraction=0.125", "--config.labelled.seed={seed}")
SEMI = ("losses.semi", "losses.self_training*", "losses.unlabelled*")
TEACHER = ("losses.consistency*", "losses.confidence_threshold", "losses.mixing", "losses.cutmix_share")
MADE = ("prior_runs.*", "networks.generator.*", "noise.*", "sample_as_trained", "init.generator", "synthetic.share")
SUPERVISED = {"reference": "supervised"}
ARMS = (
    arm("supervised", "supervised_seg.py", *EIGHTH, reference="", seeds=SEEDS),
    arm("advsemiseg-lambda0", "semi_seg.py:advsemiseg,lambda0", *EIGHTH, seeds=SEEDS, varies=SEMI, **SUPERVISED),
    arm("advsemiseg", "semi_seg.py:advsemiseg", *EIGHTH, seeds=SEEDS, varies=SEMI, reference="advsemiseg-lambda0"),
    arm("s4gan", "semi_seg.py:s4gan", *EIGHTH, seeds=SEEDS, varies=SEMI, **SUPERVISED),
    arm("mean-teacher", "semi_seg.py:mean_teacher", *EIGHTH, seeds=SEEDS, varies=TEACHER, **SUPERVISED),
    arm(
        "augmentation-spade",
        "augment_seg.py:spade",
        *EIGHTH,
        f"--config.prior_runs.generator.steps={STEPS}",
        "--config.prior_runs.generator.feature_network={workdir}/supervised-seed{seed}",
        varies=MADE,
        **SUPERVISED,
    ),
    # The zoom of the config's word, which the range that all arms share would undo.
    arm(
        "augmentation-geometric",
        "augment_seg.py:geometric",
        *EIGHTH,
        "--config.augment.scale=(0.5, 2.0)",
        varies=("augment.scale",),
        **SUPERVISED,
    ),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=comparison.GAME))

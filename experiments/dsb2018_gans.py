"""Nuclei in microscopy (2018 Data Science Bowl, official stage 1 test): adversarial methods and few labels.

    GAN_SEG_DATA=FOLDER python experiments/dsb2018_gans.py

FOLDER holds the data sets; this one lies in FOLDER/dsb2018. Images of 161x519 to 1388x1040 pixels are scaled to fit
128x128 and scored at their own size; class 1 is the nucleus. The arms named `twentieth` have a twentieth of the labels,
drawn anew by every seed. SegAN, whose optimizer is another one, has a table of its own: `dsb2018_segan.py`.
"""

import sys

import comparison
import runner
from camvid_eighth import SEMI, TEACHER
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 128x128: adversarial methods beside cross-entropy, with all labels and with few"
SEEDS = (0, 1, 2)
FIELDS = (
    "--config.dataset=dsb2018",
    "--config.data_dir={data_dir}/dsb2018",
    "--config.augment.flip_vertical=True",
    "--config.augment.transpose=True",
    "--config.augment.scale=(0.8, 1.25)",
    "--config.augment.brightness=0.3",
    "--config.augment.contrast=0.3",
    "--config.ema_decay=0.99",
    "--config.eval_every=150",
    "--config.checkpoint_every=150",
    "--config.samples_every=300",
    "--config.canvas_size=(128, 128)",
    "--config.crop_size=(128, 128)",
    "--config.steps=300",
    "--config.baselines=()",
)
FEW = (*FIELDS, "--config.labelled.fraction=0.05", "--config.labelled.seed={seed}")


def arm(name: str, config: str, flags: tuple[str, ...], reference: str, *varies: str) -> Arm:
    """Return an arm with all seeds."""
    return Arm(name, f"configs/{config}", flags, SEEDS, reference=reference, varies=varies)


ARMS = (
    arm("supervised", "supervised_seg.py", FIELDS, ""),
    arm("adversarial-lambda0", "adversarial_seg.py:lambda0", FIELDS, "supervised"),
    arm("adversarial", "adversarial_seg.py", FIELDS, "adversarial-lambda0"),
    arm("supervised-twentieth", "supervised_seg.py", FEW, "supervised", "labelled.fraction", "labelled.seed"),
    arm("s4gan-twentieth", "semi_seg.py:s4gan", FEW, "supervised-twentieth", *SEMI),
    arm("mean-teacher-twentieth", "semi_seg.py:mean_teacher", FEW, "supervised-twentieth", *TEACHER),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=comparison.GAME))

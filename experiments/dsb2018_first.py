"""Nuclei in microscopy (2018 Data Science Bowl, official stage 1 test): a conditional GAN beside cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/dsb2018_first.py

FOLDER holds the data sets; this one lies in FOLDER/dsb2018. Images of 161x519 to 1388x1040 pixels are scaled to fit
160x160 and scored at their own size; class 1 is the nucleus.
"""

import sys

import runner
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 160x160: a conditional GAN beside cross-entropy"
SHARED = (
    "--config.dataset=dsb2018",
    "--config.data_dir={data_dir}/dsb2018",
    "--config.canvas_size=(160, 160)",
    "--config.crop_size=(160, 160)",
    "--config.augment.flip_vertical=True",
    "--config.augment.transpose=True",
    "--config.augment.scale=(0.8, 1.25)",
    "--config.augment.brightness=0.3",
    "--config.augment.contrast=0.3",
    "--config.ema_decay=0.99",
    "--config.steps=600",
    "--config.eval_every=150",
    "--config.checkpoint_every=150",
    "--config.samples_every=300",
)
ARMS = (
    Arm("supervised", "configs/supervised_seg.py", SHARED),
    Arm("cgan", "configs/cgan_seg.py", SHARED),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

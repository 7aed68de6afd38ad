"""The same three arms on CamVid: trained at 144x192, scored at the labels' own 360x480.

    GAN_SEG_DATA=FOLDER python experiments/camvid_first.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid.
"""

import sys

import runner
from runner import Arm

TITLE = "CamVid at 144x192: a conditional GAN beside cross-entropy"
SHARED = (
    "--config.dataset=camvid",
    "--config.data_dir={data_dir}/camvid",
    "--config.canvas_size=(144, 192)",
    "--config.crop_size=(144, 192)",
    "--config.eval_every=150",
    "--config.checkpoint_every=150",
    "--config.samples_every=150",
)
STEPS = ("--config.steps=450",)
ARMS = (
    Arm("supervised", "configs/supervised_seg.py", SHARED + STEPS),
    Arm("cgan", "configs/cgan_seg.py", SHARED + STEPS),
    Arm("cgan-paper", "configs/cgan_seg.py:paper", SHARED + STEPS),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

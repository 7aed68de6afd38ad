"""The first table: a conditional GAN, pix2pix as published and cross-entropy alone, on `scenes`.

    python experiments/first_table.py

The rows of k-means on colour and position and of the majority class come out of the same runs.
"""

import sys

import runner
from runner import Arm

TITLE = "First table: does a conditional GAN segment, and what does it add to cross-entropy?"
ARMS = (
    Arm("supervised", "configs/supervised_seg.py"),
    Arm("cgan", "configs/cgan_seg.py"),
    Arm("cgan-paper", "configs/cgan_seg.py:paper"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

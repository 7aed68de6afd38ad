"""DeepLab v3+ refined by a GAN on CamVid at 144x192, beside DeepLab v3+ alone for as many steps.

    GAN_SEG_DATA=FOLDER python experiments/camvid_deeplab.py

`refined` is trained in three stages (segmenter, GAN, both); `refined-lambda0` is the same path without the game, which
says what of the difference is the refiner's own.
"""

import sys

import runner
from camvid_gans import SHARED, STEPS, schedule
from runner import Arm

TITLE = "CamVid at 144x192: DeepLab v3+ refined by a GAN"
SEEDS = (0, 1, 2)
ARMS = tuple(
    Arm(name, f"configs/{config}", (*SHARED, *schedule(STEPS)), seeds=SEEDS)
    for name, config in (
        ("deeplab", "supervised_seg.py:deeplabv3plus"),
        ("refined", "refine_seg.py"),
        ("refined-lambda0", "refine_seg.py:lambda0"),
    )
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

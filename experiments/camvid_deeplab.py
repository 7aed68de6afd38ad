"""DeepLab v3+ refined by a GAN on CamVid at 144x192, beside DeepLab v3+ alone for as many steps.

    GAN_SEG_DATA=FOLDER python experiments/camvid_deeplab.py

`refined` is trained in three stages (segmenter, GAN, both); `refined-lambda0` is the same path without the game, which
says what of the difference is the refiner's own.
"""

import sys

import comparison
import runner
from camvid_gans import REFINER, SEEDS, SHARED, STEPS
from cells import steps
from runner import Arm

TITLE = "CamVid at 144x192: DeepLab v3+ refined by a GAN"
FLAGS = (*SHARED, *steps(STEPS))
ARMS = (
    Arm("deeplab", "configs/supervised_seg.py:deeplabv3plus", FLAGS, SEEDS, reference=""),
    Arm("refined-lambda0", "configs/refine_seg.py:lambda0", FLAGS, SEEDS, reference="deeplab", varies=REFINER),
    Arm("refined", "configs/refine_seg.py", FLAGS, SEEDS, reference="refined-lambda0"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=comparison.GAME))

"""DeepLab's parts, and what mends its masks: rates, ASPP, output stride, multi-grid; CRF, morphology, scales, a GAN.

    GAN_SEG_DATA=FOLDER python experiments/deeplab.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. Every arm is DeepLab v3+ (Chen et al. 2018,
https://arxiv.org/abs/1802.02611, and 2017, https://arxiv.org/abs/1706.05587 for rates, multi-grid and stride) over a
ResNet-18 of half its width from random weights, since multi-grid is of ResNet alone, and differs from the first in one
part. Its finished runs are scored with other inference, too: the mirror image, several scales, the CRF (its widths
found on val), morphology. `refined` has a U-Net behind it that is trained against a discriminator; `refined-lambda0`
is that without the game.
"""

import sys

import comparison
import runner
from camvid_gans import REFINER
from cells import steps
from question import DATA, SHARED, optimizer
from runner import Arm

TITLE = "CamVid at 144x192: the parts of DeepLab, and what mends its masks"
SEEDS = (0, 1, 2)
FLAGS = (
    *DATA["camvid"],
    *SHARED,
    *steps(600),
    *optimizer("segmenter"),
)
MENDED = (
    ("evaluate", "--flip"),
    ("evaluate", "--scales=0.75,1,1.25", "--flip"),
    ("crf_search",),
    ("evaluate", "--crf"),
    ("evaluate", "--opening=1", "--closing=1"),
    ("evaluate", "--min_region=50"),
)


def arm(name: str, *changes: str, reference: str = "deeplab", **more) -> Arm:
    """Return the arm of DeepLab with other parts; `changes` are FIELD=VALUE of the network."""
    flags = (*FLAGS, *(f"--config.networks.segmenter.{change}" for change in changes))
    return Arm(name, "configs/supervised_seg.py:deeplabv3plus", flags, SEEDS, reference=reference, **more)


def refined(name: str, words: str, **more) -> Arm:
    """Return the arm of DeepLab with a refiner behind it."""
    return Arm(name, f"configs/refine_seg.py:deeplabv3plus{words}", FLAGS, SEEDS, **more)


ARMS = (
    arm("deeplab", reference="", then=MENDED),
    arm("rates-1", "rates=(1, 1, 1)"),
    arm("rates-4-8-12", "rates=(4, 8, 12)"),
    arm("one-rate", "rates=(4,)"),
    arm("without-rates", "rates=()"),
    arm("stride-8", "output_stride=8"),
    arm("stride-32", "output_stride=32"),
    arm("multi-grid-1-2-4", "multi_grid=(1, 2, 4)"),
    refined("refined-lambda0", ",lambda0", reference="deeplab", varies=REFINER),
    refined("refined", "", reference="refined-lambda0"),
)
PARTS = ("networks.ACTING.rates", "networks.ACTING.output_stride", "networks.ACTING.multi_grid")

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=(*PARTS, *comparison.GAME)))

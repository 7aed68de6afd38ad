"""DeepLab's parts, and what mends its masks: rates, ASPP, output stride, multi-grid; CRF, morphology, scales, a GAN.

    GAN_SEG_DATA=FOLDER python experiments/deeplab.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. Every arm is DeepLab v3+ (Chen et al. 2018,
https://arxiv.org/abs/1802.02611, and 2017, https://arxiv.org/abs/1706.05587 for rates, multi-grid and stride) over a
ResNet-18 of half its width from random weights, since multi-grid is of ResNet alone, and differs from the first in one
part. Its finished runs are scored with other inference, too: the mirror image, several scales, the CRF (its widths
found on val), morphology. `refined` has a U-Net behind it that is trained against a discriminator; `refined-lambda0`
is that without the game.
With `--profile=full` v3+ at full width over ResNet-101 with its ImageNet weights, on Pascal VOC in FOLDER/voc2012 as
`gan-seg prepare --format=voc --trainaug` writes it, by the recipe of the paper.
"""

import sys
from collections.abc import Sequence

import comparison
import question
import runner
from camvid_gans import REFINER
from cells import steps
from question import DATA, SHARED, optimizer
from runner import Arm

TITLE = "The parts of DeepLab, and what mends its masks"
SEEDS = (0, 1, 2)
NETWORK = "deeplabv3plus"
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


VOC = (*question.VOC, *steps(30_000, 10))


def arms(flags: tuple[str, ...], words: str, rates: Sequence[tuple[int, ...]], grids: Sequence[tuple[int, ...]]):
    """Return the arms of a profile.

    Args:
        flags: of all.
        words: behind the name of the network.
        rates: other rates of the ASPP.
        grids: other multi-grids of the last block.
    """

    def arm(name: str, *changes: str, reference: str = "deeplab", **more) -> Arm:
        """Return the arm of DeepLab with other parts; `changes` are FIELD=VALUE of the network."""
        changed = (*flags, *(f"--config.networks.segmenter.{change}" for change in changes))
        return Arm(name, f"configs/supervised_seg.py:{NETWORK}{words}", changed, SEEDS, reference=reference, **more)

    def refined(name: str, form: str, **more) -> Arm:
        """Return the arm of DeepLab with a refiner behind it."""
        return Arm(name, f"configs/refine_seg.py:{NETWORK}{words}{form}", flags, SEEDS, **more)

    def dashed(numbers: tuple[int, ...]) -> str:
        return "-".join(map(str, numbers))

    return (
        arm("deeplab", reference="", then=MENDED),
        *(arm(f"rates-{dashed(found)}" if found else "without-rates", f"rates={found}") for found in rates),
        arm("stride-8", "output_stride=8"),
        arm("stride-32", "output_stride=32"),
        *(arm(f"multi-grid-{dashed(found)}", f"multi_grid={found}") for found in grids),
        refined("refined-lambda0", ",lambda0", reference="deeplab", varies=REFINER),
        refined("refined", "", reference="refined-lambda0"),
    )


ARMS = arms(FLAGS, "", ((1, 1, 1), (4, 8, 12), (4,), ()), ((1, 2, 4),))
FULL = arms(VOC, ",paper", ((1, 1, 1), (12, 24, 36), (6,), ()), ((1, 1, 1), (1, 2, 1)))
PARTS = ("networks.ACTING.rates", "networks.ACTING.output_stride", "networks.ACTING.multi_grid")

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=(*PARTS, *comparison.GAME)))

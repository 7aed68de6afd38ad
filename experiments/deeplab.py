"""DeepLab's parts, and what mends its masks: rates, ASPP, output stride, multi-grid; CRF, morphology, scales, a GAN.

    GAN_SEG_DATA=FOLDER python experiments/deeplab.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. Every arm is DeepLab v3+ (Chen et al. 2018,
https://arxiv.org/abs/1802.02611, and 2017, https://arxiv.org/abs/1706.05587 for rates, multi-grid and stride) over
EfficientNet-Lite0 with its ImageNet weights, and differs from the first in one part; multi-grid is of ResNet alone and
stands beside a ResNet-18 of half its width from random weights. The first one's finished runs are scored with other
inference, too: the mirror image, several scales, the CRF (its widths found on val), morphology. `refined` has a U-Net
behind it that is trained against a discriminator; `refined-lambda0` is that without the game.
With `--profile=full` v3+ at full width over ResNet-101 with its ImageNet weights, on Pascal VOC in FOLDER/voc2012 as
`gan-seg prepare --format=voc --trainaug` writes it, by the recipe of the paper, scored on val as in the paper: there
the step and the CRF's widths are chosen by the images that are scored.
"""

import sys
from collections.abc import Sequence

import comparison
import question
import runner
from cells import steps
from question import DATA, RECIPE, REFINER, SHARED, optimizer
from runner import Arm

TITLE = "The parts of DeepLab, and what mends its masks"
SEEDS = (0, 1, 2)
FLAGS = (*DATA["camvid"], *SHARED, *RECIPE, *steps(400), *optimizer("segmenter"))
VOC = (*question.VOC, *steps(30_000, 10))


def mended(split: str, images: int) -> tuple[tuple[str, ...], ...]:
    """Return the commands on a finished run: the widths are found on so many images, the scores are of the split."""
    ways = ((), ("--flip",), ("--scales=0.75,1,1.25", "--flip"))
    more = (("--crf",), ("--opening=1", "--closing=1"), ("--min_region=50",))
    score = lambda flags: ("evaluate", f"--split={split}", *flags)
    return (*map(score, ways), ("crf_search", f"--images={images}"), *map(score, more))


def arms(
    flags: tuple[str, ...],
    network: str,
    rates: Sequence[tuple[int, ...]],
    grids: Sequence[tuple[int, ...]],
    then: tuple[tuple[str, ...], ...],
    plain: str = "",
):
    """Return the arms of a profile.

    Args:
        flags: of all.
        network: words of the config that name it.
        rates: other rates of the ASPP.
        grids: other multi-grids of the last block.
        then: commands on the runs of the first.
        plain: words of the network with and without multi-grid, where that of the others has none.
    """

    def arm(name: str, *changes: str, reference: str = "deeplab", words: str = network, **more) -> Arm:
        """Return the arm of DeepLab with other parts; `changes` are FIELD=VALUE of the network."""
        changed = (*flags, *(f"--config.networks.segmenter.{change}" for change in changes))
        return Arm(name, f"configs/supervised_seg.py:{words}", changed, SEEDS, reference=reference, **more)

    def refined(name: str, form: str, **more) -> Arm:
        """Return the arm of DeepLab with a refiner behind it."""
        return Arm(name, f"configs/refine_seg.py:{network}{form}", flags, SEEDS, **more)

    def dashed(numbers: tuple[int, ...]) -> str:
        return "-".join(map(str, numbers))

    of_grids = "resnet" if plain else "deeplab"
    return (
        arm("deeplab", reference="", then=then),
        *(arm(f"rates-{dashed(found)}" if found else "without-rates", f"rates={found}") for found in rates),
        arm("stride-8", "output_stride=8"),
        arm("stride-32", "output_stride=32"),
        *([arm("resnet", reference="", words=plain)] if plain else []),
        *(
            arm(f"multi-grid-{dashed(found)}", f"multi_grid={found}", words=plain or network, reference=of_grids)
            for found in grids
        ),
        refined("refined-lambda0", ",lambda0", reference="deeplab", varies=REFINER),
        refined("refined", "", reference="refined-lambda0"),
    )


FEW_RATES, MANY_RATES = ((1, 1, 1), (4, 8, 12), (4,), ()), ((1, 1, 1), (12, 24, 36), (6,), ())
ARMS = arms(FLAGS, "deeplabv3plus_lite0", FEW_RATES, ((1, 2),), mended("test", 12), "deeplabv3plus")
FULL = arms(VOC, "deeplabv3plus,paper", MANY_RATES, ((1, 1, 1), (1, 2, 1)), mended("val", 32))
PARTS = ("networks.ACTING.rates", "networks.ACTING.output_stride", "networks.ACTING.multi_grid")

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=(*PARTS, *comparison.GAME)))

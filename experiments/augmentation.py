"""Pairs made by a GAN to train on: how many, by which generator, and are they worth more than plain augmentation?

    GAN_SEG_DATA=FOLDER python experiments/augmentation.py

FOLDER holds the data sets; nuclei (2018 Data Science Bowl) lie in FOLDER/dsb2018. A twentieth of the images has labels,
drawn anew by every seed. On these a generator is trained first: of pairs from noise (joint DCGAN), or of images of
their masks (pix2pix, SPADE). A U-Net over EfficientNet-Lite0 with its ImageNet weights then sees as many images as its
control, with 0.5, 1 or 2 made ones for each real one. Against them stand the same path with real images alone
(`repeat`), wider zooms (`geometric`) and the policy `strong`.
"""

import sys

import runner
from question import MADE, Setting
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 128x128 with a twentieth of the labels: pairs made by GANs"
SEEDS = (0, 1, 2)
SETTING = Setting("nuclei", "lite0", "twentieth")
SHARES = {"1": 1 / 2, "half": 1 / 3, "2": 2 / 3}  # of a batch, by made pairs for each real one; the first trains


def made(generator: str, ratio: str) -> Arm:
    """Return the arm with pairs of a generator; those of ratio 1 train it, the others take theirs."""
    flags = [f"--config.synthetic.share={SHARES[ratio]}"]
    if ratio != "1":
        flags.append(f"--config.init.generator={{workdir}}/{SETTING.name}-{generator}-1-seed{{seed}}/prior/generator")
    else:
        flags.append("--config.prior_runs.generator.steps=400")
        if generator != "joint":  # whose images are compared in the features of a run of its own
            network = f"{{workdir}}/{SETTING.name}-supervised-seed{{seed}}"
            flags.append(f"--config.prior_runs.generator.feature_network={network}")
    return SETTING.arm(
        f"{generator}-{ratio}",
        f"augment_seg.py:{generator},unet_lite0",
        *flags,
        against="repeat",
        seeds=SEEDS,
        varies=MADE,
    )


ARMS = (
    SETTING.arm("supervised", "supervised_seg.py:unet_lite0", seeds=SEEDS),
    SETTING.arm("repeat", "augment_seg.py:repeat,unet_lite0", against="supervised", seeds=SEEDS),
    SETTING.arm(
        "geometric",
        "augment_seg.py:geometric,unet_lite0",
        against="repeat",
        seeds=SEEDS,
        varies=("augment.scale",),
    ),
    SETTING.arm(
        "strong",
        "supervised_seg.py:unet_lite0",
        "--config.augment.policy=strong",
        against="supervised",
        seeds=SEEDS,
        varies=("augment.*",),
    ),
    *(made(generator, ratio) for generator in ("joint", "pix2pix", "spade") for ratio in SHARES),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=("method",)))

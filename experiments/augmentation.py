"""Pairs made by a GAN to train on: how many, by which generator, and are they worth more than plain augmentation?

    GAN_SEG_DATA=FOLDER python experiments/augmentation.py

FOLDER holds the data sets; nuclei (2018 Data Science Bowl) lie in FOLDER/dsb2018. A fiftieth of the images has labels,
drawn anew by every seed (with a twentieth the network scores as with all). On these a generator is trained first: of
pairs from noise (joint DCGAN), or of images of their masks (pix2pix, SPADE). A U-Net over EfficientNet-Lite0 with its
ImageNet weights then sees as many images as its control, with 0.5, 1 or 2 made ones for each real one: 2, 3 or 4 rows
of a batch of 6. Against them stand the same path with real images alone (`repeat`), wider zooms (`geometric`) and the
policy `strong`.
"""

import sys
from collections.abc import Callable

import question
import runner
from question import MADE, Setting
from runner import Arm

TITLE = "Nuclei (DSB 2018) with a fiftieth of the labels: pairs made by GANs"
SEEDS = (0, 1, 2)
SHARES = {"1": 1 / 2, "half": 1 / 3, "2": 2 / 3}  # of a batch, by made pairs for each real one; the first trains


def made(arm: Callable[..., Arm], setting: Setting, batch: int, generator: str, ratio: str) -> Arm:
    """Return the arm with pairs of a generator; those of ratio 1 train it, the others take theirs."""
    flags = [f"--config.synthetic.share={SHARES[ratio]}"]
    if ratio != "1":
        flags.append(f"--config.init.generator={{workdir}}/{setting.name}-{generator}-1-seed{{seed}}/prior/generator")
    else:
        flags.append(f"--config.prior_runs.generator.steps={2 * setting.steps}")
        if generator != "joint":  # whose images are compared in the features of a run of its own
            network = f"{{workdir}}/{setting.name}-supervised-seed{{seed}}"
            flags.append(f"--config.prior_runs.generator.feature_network={network}")
            flags.append(f"--config.prior_runs.generator.batch_size={batch}")
    return arm(f"{generator}-{ratio}", f"augment_seg.py:{generator},unet_lite0", *flags, against="repeat", varies=MADE)


def arms(profile: question.Profile) -> tuple[Arm, ...]:
    """Return the arms of a profile; they see as many images as those of `question.py`."""
    batch = 6 if profile is question.CPU else 12  # of which all shares are whole rows
    setting = Setting("nuclei", "lite0", "fiftieth", number=profile.steps["nuclei"] * 2 // 3, profile=profile)

    def arm(name: str, config: str, *overrides: str, **more) -> Arm:
        return setting.arm(name, config, f"--config.batch_size={batch}", *overrides, seeds=SEEDS, **more)

    return (
        arm("supervised", "supervised_seg.py:unet_lite0"),
        arm("repeat", "augment_seg.py:repeat,unet_lite0", against="supervised"),
        arm("geometric", "augment_seg.py:geometric,unet_lite0", against="repeat", varies=("augment.scale",)),
        arm(
            "strong",
            "supervised_seg.py:unet_lite0",
            "--config.augment.policy=strong",
            against="supervised",
            varies=("augment.*",),
        ),
        *(
            made(arm, setting, batch, generator, ratio)
            for generator in ("joint", "pix2pix", "spade")
            for ratio in SHARES
        ),
    )


ARMS, FULL = (arms(profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=("method",)))

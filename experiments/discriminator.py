"""Does a discriminator know where a segmentation is wrong, and better than the segmenter itself?

    GAN_SEG_DATA=FOLDER python experiments/discriminator.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. A U-Net over EfficientNet-Lite0 with its
ImageNet weights is trained by itself, and against each kind of discriminator that scores places. Of each
finished run the command `judge` says how well 1 - D finds the wrong pixels of the test images, beside what needs no
discriminator: 1 - max softmax, the entropy, the distance to the prediction of the mirror image.
"""

import sys

import comparison
import question
import runner
from runner import Arm

TITLE = "CamVid: does the discriminator find the wrong pixels?"
KINDS = ("patchgan", "luc_small", "luc_large", "fcn", "multiscale")
THEN = {"then": (("judge",),), "seeds": (0, 1, 2)}


def arms(profile: question.Profile) -> tuple[Arm, ...]:
    """Return the arms of a profile."""
    setting = question.Setting("camvid", "lite0", profile=profile)
    return (
        setting.arm("supervised", "supervised_seg.py:unet_lite0", **THEN),
        *(setting.arm(kind, f"adversarial_seg.py:unet_lite0,{kind}", against="supervised", **THEN) for kind in KINDS),
    )


ARMS, FULL = (arms(profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=comparison.GAME))

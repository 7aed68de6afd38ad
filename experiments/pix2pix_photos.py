"""Labels of facades to photographs by pix2pix: what do L1 and the game make, alone and together, and what others?

    GAN_SEG_DATA=FOLDER python experiments/pix2pix_photos.py

FOLDER holds the data sets; CMP Facades (pix2pix's split, 12 classes) lies in FOLDER/facades. The rows of table 1 of
Isola et al. (CVPR 2017, https://arxiv.org/abs/1611.07004) for a discriminator that sees the labels: L1, cGAN, L1+cGAN
(L_GAN + 100 L1); and SPADE (Park et al., CVPR 2019, https://arxiv.org/abs/1903.07291) and OASIS (Sushko et al., ICLR
2021, https://arxiv.org/abs/2012.04781), each of which comes whole. The paper's score is how well a segmenter of real
photographs finds the labels in the made ones; so is ours, beside the Frechet distance: its segmenter is the first arm.
Cut for two cores: 128x128, batches of 4, 600 steps. The other direction is `pix2pix_losses.py`.
"""

import sys

import runner
from cells import steps
from pix2pix_losses import CPU, DATA
from runner import Arm

TITLE = "Facades, labels to photographs: losses of pix2pix"
SEEDS = (0, 1, 2)
NETWORK = "--config.feature_network={workdir}/segmenter-seed0"
WHOLE = {"varies": ("networks.*", "optimizers.*", "losses.*", "noise.*", "ema_decay", "sample_as_trained")}


def arm(name: str, form: str, *changes: str, reference: str = "l1-cgan", **more) -> Arm:
    """Return the arm of a form of synthesis; `changes` are FIELD=VALUE of the losses."""
    flags = (*DATA, *CPU, NETWORK, *(f"--config.losses.{change}" for change in changes))
    return Arm(name, f"configs/synthesis.py:{form}", flags, SEEDS, reference=reference, acts="generator", **more)


SEGMENTER = (*DATA, *CPU, *steps(900), "--config.pretrained.segmenter=pip:efficientnet_lite0")
ARMS = (
    Arm("segmenter", "configs/supervised_seg.py:unet_lite0,recipe", SEGMENTER, (0,), reference=""),
    arm("l1", "pix2pix,lambda0", reference=""),
    arm("cgan", "pix2pix", "image_l1=0.0"),
    arm("l1-cgan", "pix2pix", reference="l1"),
    arm("spade", "spade", **WHOLE),
    arm("oasis", "oasis", **WHOLE),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=("losses.adversarial_weight", "losses.image_l1")))

"""Photographs of facades to labels by pix2pix: which loss, which patches, and what do the skips add?

    GAN_SEG_DATA=FOLDER python experiments/pix2pix_losses.py

FOLDER holds the data sets; CMP Facades (pix2pix's split, 12 classes) lies in FOLDER/facades. The rows of tables 1, 3
and 6 of Isola et al. (CVPR 2017, https://arxiv.org/abs/1611.07004), from photographs to labels: L1, GAN, cGAN, their
sums, and cross-entropy, which the paper has not; patches of 1, 16, 70 and 142 pixels; an encoder-decoder against a
U-Net. The paper's optimizer and weights (L_GAN + 100 L1), this project's networks. Cut for two cores: 128x128 for
256x256, batches of 4, 600 steps (6 passes; the paper has 200). The published figures are class IoU on Cityscapes:
another data set.
"""

import sys

import runner
from cells import steps
from runner import Arm

TITLE = "Facades at 128x128, photographs to labels: losses, patches and skips of pix2pix"
SEEDS = (0, 1, 2)
STEPS = 600
DATA = (
    "--config.dataset=facades",
    "--config.data_dir={data_dir}/facades",
    "--config.canvas_size=(128, 128)",
    "--config.crop_size=(128, 128)",
    "--config.batch_size=4",
    "--config.baselines=()",
)
CROSS_ENTROPY = ("--config.losses.weights.l1=0.0", "--config.losses.weights.cross_entropy=1.0")
SOURCE = "Isola et al. 2017, table 6: Cityscapes"
LOSSES = ("losses.weights.*", "losses.adversarial_weight", "losses.conditional")


def arm(name: str, words: str, *overrides: str, reference: str, published: float | None = None, **more) -> Arm:
    """Return the arm of a form of the conditional GAN."""
    figure = None if published is None else (published, SOURCE)
    flags = (*DATA, *steps(STEPS), *overrides)
    more = {"acts": "generator", "published": figure, **more}
    return Arm(name, f"configs/cgan_seg.py:{words}", flags, SEEDS, reference=reference, **more)


ARMS = (
    arm("l1", "l1", reference="", published=0.35),
    arm("gan", "gan", reference="l1"),
    arm("cgan", "cgan", reference="l1", published=0.22),
    arm("l1-gan", "l1,gan", reference="l1"),
    arm("l1-cgan", "l1,cgan", reference="l1", published=0.29),
    arm("cross-entropy", "l1", *CROSS_ENTROPY, reference="l1"),
    arm("cross-entropy-cgan", "cgan", *CROSS_ENTROPY, reference="cross-entropy"),
    *(
        arm(f"l1-cgan-{patch}", f"l1,cgan,{patch}", reference="l1-cgan", varies=("networks.discriminator.layers",))
        for patch in ("pixel", "patch16")
    ),
    arm(
        "l1-cgan-patch142",
        "l1,cgan",
        "--config.networks.discriminator.layers=4",
        reference="l1-cgan",
        varies=("networks.discriminator.layers",),
    ),
    arm("encoder-decoder-l1", "l1,encoder_decoder", reference="l1", varies=("networks.ACTING.skip",)),
    arm("encoder-decoder-l1-cgan", "l1,cgan,encoder_decoder", reference="l1-cgan", varies=("networks.ACTING.skip",)),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=LOSSES))

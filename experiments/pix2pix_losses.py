"""Photographs of facades to labels by pix2pix: which loss, which patches, and what do the skips add?

    GAN_SEG_DATA=FOLDER python experiments/pix2pix_losses.py

FOLDER holds the data sets; CMP Facades (pix2pix's split, 12 classes) lies in FOLDER/facades. The rows of the tables of
Isola et al. (CVPR 2017, https://arxiv.org/abs/1611.07004) on losses, generators and patches, from photographs to labels
as in its table 6: L1, GAN, cGAN, their sums, and cross-entropy, which the paper has not; patches of 1, 16, 70 and 142
pixels (`full`: 286); an encoder-decoder against a U-Net. The paper's optimizer and weights (L_GAN + 100 L1), this
project's networks; cross-entropy has a weight of 6, so that it begins at the size of 100 L1. Cut for two cores: 128x128
for 256x256, batches of 4, 600 steps (6 passes; the paper has 200). With `--profile=full` the paper's networks, sizes,
batch and steps. The published figures are class IoU on Cityscapes: another data set. The other direction is
`pix2pix_photos.py`.
"""

import sys

import runner
from cells import steps
from runner import Arm

TITLE = "Facades, photographs to labels: losses, patches and skips of pix2pix"
SEEDS = (0, 1, 2)
STEPS = 600
DATA = ("--config.dataset=facades", "--config.data_dir={data_dir}/facades", "--config.baselines=()")
CPU = (
    "--config.canvas_size=(128, 128)",
    "--config.crop_size=(128, 128)",
    "--config.batch_size=4",
    *steps(STEPS),
)
PAPER = (  # the word `paper` of configs/translation.py; BatchNorm of a single image is instance norm
    "--config.canvas_size=(286, 286)",
    "--config.crop_size=(256, 256)",
    "--config.batch_size=1",
    "--config.networks.generator.channels=(64, 128, 256, 512, 512, 512, 512, 512)",
    "--config.networks.generator.encoder_convs=(0, 0, 0, 0, 0, 0, 0, 0)",
    "--config.networks.generator.decoder_convs=(0, 0, 0, 0, 0, 0, 0)",
    "--config.networks.generator.norm=instance",
    "--config.networks.generator.dropout=0.5",
    "--config.networks.generator.kernel_init=0.02",
    "--config.networks.discriminator.channels=64",
    "--config.networks.discriminator.norm=instance",
    *steps(80_000, 20),
)
CROSS_ENTROPY = ("--config.losses.weights.l1=0.0", "--config.losses.weights.cross_entropy=6.0")
SOURCE = "Isola et al. 2017, table 6: Cityscapes"
LOSSES = ("losses.weights.*", "losses.adversarial_weight", "losses.conditional")


def arms(profile: tuple[str, ...], largest: tuple[int, int], skip: str = "") -> tuple[Arm, ...]:
    """Return the arms of a profile.

    Args:
        profile: flags of all.
        largest: layers of the discriminator with the largest patches, and their side.
        skip: how the U-Net joins the encoder's features, "" as the config does.
    """

    def arm(
        name: str, words: str, *overrides: str, reference: str = "", published: float | None = None, varies=()
    ) -> Arm:
        """Return the arm of a form of the conditional GAN."""
        joined = (f"--config.networks.generator.skip={skip}",) if skip and "encoder_decoder" not in words else ()
        figure = None if published is None else (published, SOURCE)
        return Arm(
            name,
            f"configs/cgan_seg.py:{words}",
            (*DATA, *profile, *joined, *overrides),
            SEEDS,
            reference=reference,
            acts="generator",
            varies=varies,
            published=figure,
        )

    patch = {"reference": "l1-cgan", "varies": ("networks.discriminator.layers",)}
    skips = ("networks.ACTING.skip",)
    return (
        arm("l1", "l1", published=0.35),
        arm("gan", "gan", reference="l1"),
        arm("cgan", "cgan", reference="l1", published=0.22),
        arm("l1-gan", "l1,gan", reference="l1"),
        arm("l1-cgan", "l1,cgan", reference="l1", published=0.29),
        arm("cross-entropy", "l1", *CROSS_ENTROPY, reference="l1"),
        arm("cross-entropy-cgan", "cgan", *CROSS_ENTROPY, reference="cross-entropy"),
        *(arm(f"l1-cgan-{name}", f"l1,cgan,{name}", **patch) for name in ("pixel", "patch16")),
        arm(f"l1-cgan-patch{largest[1]}", "l1,cgan", f"--config.networks.discriminator.layers={largest[0]}", **patch),
        arm("encoder-decoder-l1", "l1,encoder_decoder", reference="l1", varies=skips),
        arm("encoder-decoder-l1-cgan", "l1,cgan,encoder_decoder", reference="l1-cgan", varies=skips),
    )


ARMS, FULL = arms(CPU, (4, 142)), arms(PAPER, (5, 286), skip="concat")

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=LOSSES))

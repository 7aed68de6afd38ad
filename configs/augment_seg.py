"""A segmenter trained on real pairs and on pairs made by a GAN, and the controls of it.

Papers: Bowles et al., GAN Augmentation: Augmenting Training Data using Generative Adversarial Networks, 2018,
arXiv:1810.10863 (pairs of noise); the generators' papers are in configs/synthesis.py and configs/dcgan.py.
Command: python -m gan_seg_jax.main --config=configs/augment_seg.py:spade
Words behind the colon: which generator is trained first, on the same labelled images: pix2pix, spade (the default) or
oasis (new images of the training masks), or joint (image and mask of noise); or a control instead of it: repeat (the
real data alone, as many steps and images) or geometric (no GAN, but zooms by 0.5 to 2); one network (unet is the
default; names in configs/networks.py); smoke.
A finished run's generator: --config.init.generator=WORKDIR (one of pairs of noise needs that run's crop_size). Where
little is labelled, where it may help: --config.labelled.fraction=0.05. The share of made pairs in a batch:
--config.synthetic.share=0.5.
From a folder that the command `sample` wrote, with any config: --config.synthetic.folder=FOLDER
--config.synthetic.share=0.5.
The generator must have seen nothing but the labelled images that this run trains on; else the run is refused.
Cost, CamVid at 144x192 with an eighth of its labels, 500 steps for SPADE and 500 for a small U-Net: 12 minutes on 2
processor cores. Scores: experiments/results/camvid_eighth.
"""

from ml_collections import ConfigDict

from configs import common, dcgan, networks, synthesis
from gan_seg_jax.errors import InputError

GENERATORS = (*synthesis.FORMS, "joint")
ARMS = (*GENERATORS, "repeat", "geometric")


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or words that exclude each other.
    """
    chosen = common.words(arg, (*ARMS, *networks.NETWORKS, "smoke"))
    arms = sorted(chosen & set(ARMS)) or ["spade"]
    if len(arms) > 1:
        raise InputError(f"The config's words name {len(arms)} generators or controls ({', '.join(arms)}); give one.")
    config = common.get_config()
    config.method = "augmentation"
    networks.segmenter(config, chosen)
    if arms[0] == "geometric":
        config.augment.scale = (0.5, 2.0)
    if arms[0] in GENERATORS:
        _generator(config, arms[0], smoke="smoke" in chosen)
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config


def _generator(config: ConfigDict, name: str, *, smoke: bool) -> None:
    """Add the generator and the run that trains it."""
    module = dcgan if name == "joint" else synthesis
    prior = module.get_config(f"{name},smoke" if smoke else name)
    config.synthetic.share = 0.5
    config.prior_runs.generator = prior
    # The same objects, so that what is set for one is set for the other.
    config.networks.generator, config.noise = prior.networks.generator, prior.noise
    # Whether the generator is used in training mode: dropout, each image's own statistics.
    config.sample_as_trained = False if name == "joint" else prior.get_ref("sample_as_trained")
    config.init.generator = ""

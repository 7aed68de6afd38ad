"""Adversarial segmentation: trains a segmenter against a discriminator of its maps.

Choose it to ask what a discriminator adds to a segmenter with its own loss and network.
    L_S = cross-entropy + lambda L_GAN
Paper: Luc et al., Semantic Segmentation using Adversarial Networks, 2016, arXiv:1611.08408.
Command: python -m gan_seg_jax.main --config=configs/adversarial_seg.py
Cost, CamVid at 144x192, 500 steps, two CPU cores: 3 minutes.
Scores, as far as they are run: experiments/results/question_camvid and adversary.
Words behind the colon: one network (unet is the default; names in configs/networks.py); one discriminator (patchgan,
with spectral normalisation, is the default; luc_large and luc_small are the paper's; fcn, multiscale, image_level; see
configs/discriminators.py); paper (the segmenter's own, as of configs/supervised_seg.py); smoke; and the controls
lambda0 (the same path, the discriminator's opinion counts nothing) and random_discriminator (it stays as it was drawn).
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, two networks, or two discriminators.
    """
    known = (*networks.NETWORKS, *discriminators.DISCRIMINATORS, *common.CONTROLS, "paper", "smoke")
    chosen = common.words(arg, known)
    config = common.get_config()
    config.method = "adversarial"
    config.phases = ((1, (("discriminator",), ("segmenter",))),)
    networks.segmenter(config, chosen)
    discriminators.discriminator(config, chosen)
    common.game(config)
    config.losses.discriminator_input = "image_mask"  # mask | image_mask | product
    config.losses.truth_softness = 0.0  # below 1; 0.9 shows it a truth as soft as the prediction, 0 is off
    config.losses.image_level = False  # one score an image, the mean of its patches
    common.control(config, chosen)
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config

"""Adversarial refinement: trains a U-Net that refines the result of DeepLab, against a discriminator.

Choose it where a segmenter is there and its masks are to be refined.
    L_R = cross-entropy(S(x) + G(p, f, x, z)) + lambda L_GAN, p and f being the segmenter's probabilities and features
Paper: after Kassapis et al., Calibrated Adversarial Refinement for Stochastic Semantic Segmentation (CARSSS), ICCV
2021, arXiv:2006.13144; gan_seg_jax/methods/refinement.py says what differs.
Command: python -m gan_seg_jax.main --config=configs/refine_seg.py
Words behind the colon: how it is trained: in three stages (without a word: segmenter, then GAN, then both together),
frozen (over another run's segmenter: --config.init.segmenter=WORKDIR, or one that is trained first, whose steps, losses
and augmentation are --config.prior_runs.segmenter.FIELD) or joint (end to end from the start); one network
(deeplabv3plus is the default; names in configs/networks.py); one discriminator (patchgan is the default; names in
configs/discriminators.py); paper (the segmenter's own, as of configs/supervised_seg.py); smoke; and the controls
lambda0 (no adversarial term: the refiner is supervised alone) and random_discriminator (it stays as it was drawn).
What the refiner sees: --config.refiner_inputs="('probabilities', 'features', 'image', 'noise')", or some of them.
The metrics cross_entropy/segmenter and cross_entropy/refiner are the loss before and after refinement; the baseline is
the same network alone for as many steps: configs/supervised_seg.py:deeplabv3plus.
Cost, CamVid at 144x192, 500 steps, two CPU cores: 5 minutes over a small U-Net, 9 over DeepLab v3+ on cores that had
other work. Scores, as far as they are run: experiments/results/question_camvid and deeplab.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks, supervised_seg
from gan_seg_jax.errors import InputError

SEGMENTER, GAN = (("segmenter",),), (("discriminator",), ("refiner",))
BOTH = (("discriminator",), ("refiner", "segmenter"))
PHASES = {"stages": ((2, SEGMENTER), (1, GAN), (1, BOTH)), "frozen": ((1, GAN),), "joint": ((1, BOTH),)}


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or words that exclude each other.
    """
    known = (*networks.NETWORKS, *discriminators.DISCRIMINATORS, *common.CONTROLS, "paper", "smoke")
    chosen = common.words(arg, ("frozen", "joint", *known))
    forms = sorted(chosen & set(PHASES)) or ["stages"]
    if len(forms) > 1:
        raise InputError(f"The config's words name {len(forms)} ways of training ({', '.join(forms)}); give one.")
    if not chosen & set(networks.NETWORKS):
        chosen.add("deeplabv3plus")
    config = common.get_config()
    config.method = "refinement"
    config.phases = PHASES[forms[0]]
    networks.segmenter(config, chosen)
    config.networks.refiner = common.unet(
        channels=(16, 32, 64, 96),
        encoder_convs=(1, 1, 1, 1),
        decoder_convs=(1, 1, 1),
        logits_init="0.0",  # of the last layer, a standard deviation: the refiner begins as the segmenter
    )
    config.optimizers.refiner = common.adam(learning_rate=1e-3, schedule="poly", beta1=0.9)
    config.init.refiner = ""
    config.refiner_inputs = ("probabilities", "features", "image")  # some of them, and noise
    config.refiner_residual = True  # the refiner's output is added to the segmenter's logits, else it replaces them
    config.noise_channels = 8  # where noise is among the inputs
    discriminators.discriminator(config, chosen)
    common.game(config)
    config.losses.accuracy_bound = 0.85
    common.control(config, chosen)
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    if forms[0] == "frozen":
        network = (chosen & set(networks.NETWORKS)).pop()
        prior = supervised_seg.get_config(f"{network},smoke" if "smoke" in chosen else network)
        # The same objects, so that what is set for one is set for the other.
        prior.networks.segmenter, prior.pretrained = config.networks.segmenter, config.pretrained
        prior.optimizers.segmenter = config.optimizers.segmenter
        if "backbone" in config:
            prior.backbone = config.get_ref("backbone")
        config.prior_runs.segmenter = prior
    return config

"""Label-to-image synthesis: trains a generator of images from label maps by pix2pix, SPADE or OASIS.

Choose it where there are masks and images of them are wanted.
    L_G = L_GAN + 100 L1 (pix2pix), + 10 feature matching (spade), or the class of each pixel against "fake" (oasis)
Papers: pix2pix, Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
arXiv:1611.07004; spade, Park et al., Semantic Image Synthesis with Spatially-Adaptive Normalization, CVPR 2019,
arXiv:1903.07291; oasis, Sushko et al., You Only Need Adversarial Supervision for Semantic Image Synthesis, ICLR 2021,
arXiv:2012.04781.
Command: python -m gan_seg_jax.main --config=configs/synthesis.py:spade
Words behind the colon: pix2pix (the default), spade or oasis; paper (the papers' widths and recipe, for an accelerator
and for data of the user's: python -m gan_seg_jax.main --config=configs/synthesis.py:oasis,paper
--config.dataset=folder --config.data_dir=FOLDER); smoke; the controls lambda0 (what is left is L1 for pix2pix and the
distance of the discriminator's features for spade; oasis has no other loss) and random_discriminator.
Images are compared in the features of a small segmenter, which is trained first (or of
--config.feature_network=WORKDIR), and by how well that segmenter finds the mask in the generated image.
Cost, CamVid at 144x192, 500 steps, on 2 processor cores that had other work: pix2pix 6, spade 11, oasis 17 minutes.
Scores, once run: experiments/results/pix2pix_photos.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, supervised_seg
from gan_seg_jax.errors import InputError

FORMS = ("pix2pix", "spade", "oasis")


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or words that exclude each other.
    """
    chosen = common.words(arg, (*FORMS, *common.CONTROLS, "paper", "smoke"))
    forms = sorted(chosen & set(FORMS)) or ["pix2pix"]
    if len(forms) > 1:
        raise InputError(f"The config's words name {len(forms)} forms ({', '.join(forms)}); give one.")
    if forms[0] == "oasis" and "lambda0" in chosen:
        raise InputError("The generator of 'oasis' has no loss but the discriminator's; 'lambda0' leaves none.")
    config = common.get_config()
    config.method = "synthesis"
    config.phases = ((1, (("discriminator",), ("generator",))),)
    config.baselines = ()  # they segment
    config.ema_decay = 0.0 if "paper" in chosen else 0.99  # OASIS's own below
    config.noise = ConfigDict(
        {
            "distribution": "normal",  # normal | uniform (-1 to 1) | truncated_normal
            "size": 0,  # numbers an image is made of, beside its label map; 0 is none
            "truncation": 2.0,  # largest absolute value, of truncated_normal only
        }
    )
    config.sample_as_trained = False  # use the generator in training mode too: dropout, each image's own statistics
    config.init.generator = config.init.discriminator = ""
    {"pix2pix": _pix2pix, "spade": _spade, "oasis": _oasis}[forms[0]](config, paper="paper" in chosen)
    if "paper" in chosen:
        config.canvas_size, config.crop_size = (286, 286), (256, 256)
    common.control(config, chosen)
    config.prior_runs.feature_network = supervised_seg.get_config("smoke" if "smoke" in chosen else None)
    if "smoke" in chosen:
        common.shrink(config)
        _shrink(config)
    else:
        config.prior_runs.feature_network.steps = 500
    return config


def _pix2pix(config: ConfigDict, *, paper: bool) -> None:
    """Set pix2pix; the paper trains 200 epochs of batch 1 and falls linearly in the second half in its PyTorch form."""
    config.networks.generator = common.unet(dropout=0.5)
    config.networks.discriminator = common.patchgan(norm="spectral")
    config.optimizers.generator = common.adam(learning_rate=1e-3)
    config.optimizers.discriminator = common.adam()
    common.game(config, weight=1.0)
    config.losses.image_l1 = 100.0  # of the mean absolute difference of the image and its fake
    config.sample_as_trained = True  # dropout is the only noise
    if paper:
        config.networks.generator = common.unet(
            channels=(64, 128, 256, 512, 512, 512, 512, 512),
            encoder_convs=0,
            decoder_convs=0,
            skip="concat",
            dropout=0.5,
            kernel_init="0.02",
        )
        config.networks.discriminator = common.patchgan(channels=64, norm="batch")
        config.optimizers.generator = common.adam()
        config.batch_size = 1
        config.steps = 80_000  # 200 epochs of facades' 400 images


def _spade(config: ConfigDict, *, paper: bool) -> None:
    """Set SPADE without the VGG loss and the encoder."""
    config.networks.generator = ConfigDict(
        {
            "name": "spade_generator",
            "channels": 64 if paper else 8,  # unit of the widths
            "widths": (16, 16, 16, 8, 4, 2, 1),  # of each block, in units
            "doublings": (0, 1, 0, 1, 1, 1, 1),  # of each block: 1 doubles the size
            "hidden": 128 if paper else 16,  # channels between label map and scale and bias
            "norm": "batch",  # what scale and bias are applied to: batch | instance
            "kernel_init": "0.02",  # he | lecun | a standard deviation; so below
            "ema": True,
        }
    )
    config.networks.discriminator = discriminators.multiscale(channels=64 if paper else 16)
    # The paper's 1e-4 left the narrow generator far behind its discriminator after 300 steps (one seed).
    config.optimizers.generator = common.adam(learning_rate=1e-4 if paper else 1e-3, beta1=0.0, beta2=0.9)
    config.optimizers.discriminator = common.adam(learning_rate=4e-4, beta1=0.0, beta2=0.9)
    common.game(config, adversarial="hinge", weight=1.0)
    config.losses.feature_matching = 10.0
    config.losses.image_l1 = 0.0
    if paper:
        config.batch_size = 32
        config.steps = 18_600  # 200 epochs of Cityscapes' 2975 images


def _oasis(config: ConfigDict, *, paper: bool) -> None:
    """Set OASIS."""
    config.networks.generator = ConfigDict(
        {
            "name": "oasis_generator",
            "channels": 64 if paper else 8,
            "widths": (16, 16, 8, 4, 2, 1),
            "doublings": (0, 1, 1, 1, 1, 1),
            "hidden": 128 if paper else 16,
            "norm": "batch",
            "kernel_init": "0.02",
            "ema": True,
        }
    )
    config.networks.discriminator = ConfigDict(
        {
            "name": "unet_discriminator",
            # Of each block of the encoder, which halves the size.
            "channels": (128, 128, 256, 256, 512, 512) if paper else (16, 16, 32, 32, 64),
            "norm": "spectral",  # spectral | none
            "kernel_init": "0.02",
            "ema": False,
        }
    )
    config.noise.size = 64 if paper else 16
    config.ema_decay = 0.9999 if paper else 0.995
    config.optimizers.generator = common.adam(learning_rate=1e-4 if paper else 1e-3, beta1=0.0)  # see _spade
    config.optimizers.discriminator = common.adam(learning_rate=4e-4, beta1=0.0)
    config.losses.adversarial_weight = 1.0
    config.losses.label_mix = 10.0  # of the LabelMix consistency
    config.losses.balanced = True  # whether rare classes count more
    if paper:
        config.batch_size = 32
        config.steps = 126_000  # 200 epochs of ADE20K's 20210 images


def _shrink(config: ConfigDict) -> None:
    """Leave out most blocks: their compilation alone takes half a minute otherwise."""
    if "widths" in config.networks.generator:
        config.networks.generator.update(widths=(4, 2, 1), doublings=(1, 1, 1))
    if config.networks.discriminator.name == "unet_discriminator":
        config.networks.discriminator.channels = (16, 16, 32)

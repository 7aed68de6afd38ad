"""DCGAN: trains a generator of images from noise, or of images with their masks.

Choose it where images are wanted without giving anything, or with `joint` more pairs than there are.
    L_G = L_GAN, D telling images (joint: and masks) from generated ones
Papers: Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks,
ICLR 2016, arXiv:1511.06434; wgan: Gulrajani et al., Improved Training of Wasserstein GANs, NIPS 2017, arXiv:1704.00028;
stylegan2: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, arXiv:1912.04958, and with
joint Li et al., Semantic Segmentation with Generative Models, CVPR 2021, arXiv:2104.05833.
Command: python -m gan_seg_jax.main --config=configs/dcgan.py
Words behind the colon: joint (image and mask of one noise vector); stylegan2 (StyleGAN2's generator in small, against
the DCGAN's discriminator); dense (no convolutions, the first GANs' form); wgan (Wasserstein loss with gradient
penalty); paper (DCGAN's widths, noise, batch and statistics, for an accelerator and data of the user's:
python -m gan_seg_jax.main --config=configs/dcgan.py:paper --config.dataset=folder --config.data_dir=FOLDER); the
controls below; smoke. They combine, but for paper with dense or wgan, and for stylegan2 with any of these three.
Larger images: --config.crop_size="(128, 128)" --config.canvas_size="(144, 192)" and one more number in
--config.networks.generator.channels for each doubling, so that the first map stays 4x4.
Images are compared in the features of a small segmenter, which is trained first (or of
--config.feature_network=WORKDIR).
Images without masks, FOLDER/train/images alone, have no labels to train it with, so it must be named: a finished
segmentation run, also of other images, or Inception weights as FILE.safetensors:
python -m gan_seg_jax.main --config=configs/dcgan.py --config.dataset=pairs --config.data_dir=FOLDER
--config.feature_network=WORKDIR
Cost, 1000 steps on scenes: 2 minutes on 2 processor cores. Scores, once run: experiments/results/gan_quality.
Controls: lambda0 (no game but the MSE of some articles, without which nothing trains: it makes the mean image) and
random_discriminator (it stays as it was drawn).
"""

from ml_collections import ConfigDict

from configs import common, supervised_seg
from gan_seg_jax.errors import InputError


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or words that exclude each other.
    """
    chosen = common.words(arg, ("joint", "stylegan2", "dense", "wgan", "paper", *common.CONTROLS, "smoke"))
    if "paper" in chosen and chosen & {"dense", "wgan"}:
        raise InputError("The config's words 'dense' and 'wgan' change what 'paper' fixes; leave one of them out.")
    if "stylegan2" in chosen and (others := chosen & {"dense", "wgan", "paper"}):
        raise InputError(
            f"The config's words 'stylegan2' and {sorted(others)[0]!r} name two networks or recipes; leave one of them "
            "out."
        )
    config = common.get_config()
    config.method = "unconditional"
    config.phases = ((1, (("discriminator",), ("generator",))),)
    config.steps = 2000
    config.batch_size = 32
    config.canvas_size, config.crop_size = (72, 96), (64, 64)
    config.eval_every = config.checkpoint_every = config.samples_every = 500
    config.baselines = ()  # they segment
    config.ema_decay = 0.99
    config.noise = ConfigDict(
        {
            "distribution": "normal",  # normal | uniform (-1 to 1) | truncated_normal
            "size": 100,  # numbers an image is made of
            "truncation": 2.0,  # largest absolute value, of truncated_normal only
        }
    )
    _networks(config, chosen)
    config.init.generator = config.init.discriminator = ""
    common.game(config, weight=1.0)
    config.losses.mse_weight = 0.0  # of the mean squared difference of G(z) and the batch's images; see the method
    config.optimizers.generator = common.adam()
    config.optimizers.discriminator = common.adam()
    if chosen & {"joint", "stylegan2"}:
        _calm(config)
    if "stylegan2" in chosen:
        _stylegan2(config)
    if "wgan" in chosen:
        _wgan(config)
    if "paper" in chosen:
        _paper(config)
    common.control(config, chosen)
    if "lambda0" in chosen:
        config.losses.mse_weight = 1.0
    feature_network = supervised_seg.get_config("smoke" if "smoke" in chosen else None)
    feature_network.baselines = ()
    if "smoke" in chosen:
        common.shrink(config)
        if "stylegan2" in chosen:  # fewer sizes, for they take the compiler long
            config.networks.generator.update(channels=(16, 8, 8), mapping_layers=2, style_size=32)
    else:
        feature_network.steps = 500
    config.prior_runs.feature_network = feature_network
    return config


def _networks(config: ConfigDict, chosen: set[str]) -> None:
    """Set both networks; their sizes suit a few processor cores."""
    heads = "joint" if "joint" in chosen else "image"
    if "dense" in chosen:
        config.networks.generator = ConfigDict(
            {
                "name": "dense_generator",
                "hidden": (256, 512, 1024),  # widths
                "norm": "batch",  # batch | group | none
                "kernel_init": "he",  # he | lecun | a standard deviation; so below
                "heads": heads,  # image | joint
                "ema": True,
            }
        )
        config.networks.discriminator = ConfigDict(
            {"name": "dense_discriminator", "hidden": (512, 256), "norm": "none", "kernel_init": "he", "ema": False}
        )
        return
    config.networks.generator = ConfigDict(
        {
            "name": "dcgan_generator",
            "channels": (128, 64, 32, 16),  # of the projected map and of each block but the last; each doubles
            "upsample": "transposed",  # transposed | resize (nearest neighbour and a 3x3 convolution)
            "norm": "batch",  # batch | instance | layer | group | none
            "kernel_init": "0.02",
            "heads": heads,
            "ema": True,
        }
    )
    config.networks.discriminator = ConfigDict(
        {
            "name": "dcgan_discriminator",
            "channels": 16,  # of the first layer; doubled by each
            "layers": 4,  # of stride 2
            "norm": "batch",  # batch | instance | layer | group | spectral | none
            "kernel_init": "0.02",
            "ema": False,
        }
    )


def _stylegan2(config: ConfigDict) -> None:
    """Set StyleGAN2's generator and momentum; loss and R1 are its own, too, by `_calm`.

    Its discriminator is residual and sees the deviation over a few examples, by which R1 would depend on others;
    SemanticGAN has a second one for images alone. Here one plain DCGAN's discriminator judges all that there is.
    """
    config.networks.generator = ConfigDict(
        {
            "name": "stylegan2_generator",
            "channels": (128, 64, 32, 16, 8),  # of each size, the smallest first; each is twice the one before it
            "mapping_layers": 4,  # between noise and style
            "style_size": 128,
            "heads": config.networks.generator.heads,
            "ema": True,
        }
    )
    # Weights of variance 1 against smaller ones of the discriminator: a step is about the same share of both.
    config.optimizers.generator = common.adam(learning_rate=2e-3, beta1=0.0, beta2=0.99)
    config.optimizers.discriminator = common.adam(beta1=0.0, beta2=0.99)


def _calm(config: ConfigDict) -> None:
    """Set R1, against a discriminator that wins by the masks early: after 1000 steps 15 in `frechet` for 55 without."""
    config.losses.r1 = 1.0
    config.penalty_every = 4
    # A norm of the whole batch would tie examples together, whose slopes R1 takes one by one.
    config.networks.discriminator.norm = "none"
    config.networks.discriminator.kernel_init = "he"


def _wgan(config: ConfigDict) -> None:
    """Set the Wasserstein game: a critic that is kept near its best, without a norm that ties examples together."""
    config.losses.adversarial = "wasserstein"
    config.losses.r1 = 0.0
    config.losses.gradient_penalty = 5.0  # the paper's 10: halves are averaged here
    config.penalty_every = 1
    config.networks.discriminator.norm = "none"
    # The paper's 5 critic steps keep the estimate of the distance good; here 3, for time.
    config.rounds = 3
    config.steps = 2000
    for role in ("generator", "discriminator"):
        config.optimizers[role] = common.adam(learning_rate=1e-4, beta1=0.0, beta2=0.9)


def _paper(config: ConfigDict) -> None:
    """Set DCGAN's widths and recipe."""
    config.networks.generator.channels = (1024, 512, 256, 128)
    config.networks.discriminator.channels = 64
    config.noise.distribution = "uniform"
    config.batch_size = 128
    config.steps = 100_000
    config.eval_every = config.checkpoint_every = config.samples_every = 5000
    config.ema_decay = 0.0

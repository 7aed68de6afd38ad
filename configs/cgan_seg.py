"""A conditional GAN that segments: L_GAN + lambda_L1 L1 + lambda_CE cross-entropy.

Paper: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004.
Command: python -m gan_seg_jax.main --config=configs/cgan_seg.py
Words behind the colon: smoke; paper (L_GAN + 100 L1 at 2e-4 and nothing else, BatchNorm in the discriminator; photo ->
labels by L1 is known to be weak). The networks are the same in all forms, and smaller than the paper's.
Cost and score, `scenes`, two CPU cores: 2.5 minutes, 66 images/s; test mIoU 0.495, paper 0.357 (one seed, spread not
measured).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config."""
    chosen = common.words(arg, ("paper", "smoke"))
    config = common.get_config()
    config.method = "cgan"
    config.phases = ((1, (("discriminator",), ("generator",))),)
    config.networks.generator = common.unet()
    # Spectral: with BatchNorm the discriminator soon tells real from fake without fail, and teaches nothing.
    config.networks.discriminator = common.patchgan(norm="spectral")
    config.optimizers.generator = common.adam(learning_rate=2e-3, schedule="poly")
    config.optimizers.discriminator = common.adam()
    config.init.generator = config.init.discriminator = ""
    config.losses.adversarial = "non_saturating"  # a name in gan_seg_jax.losses.adversarial.ADVERSARIAL
    config.losses.adversarial_weight = 0.01
    config.losses.weights.l1 = 1.0
    if "paper" in chosen:
        config.losses.adversarial_weight = 1.0
        config.losses.weights.l1 = 100.0
        config.losses.weights.cross_entropy = 0.0
        config.optimizers.generator = common.adam()
        config.networks.discriminator.norm = "batch"
    if "smoke" in chosen:
        common.shrink(config)
    return config

"""Supervised segmentation by cross-entropy: the yardstick.

Paper: Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, arXiv:1505.04597.
Command: python -m gan_seg_jax.main --config=configs/supervised_seg.py
Words behind the colon: smoke.
Cost and score, `scenes`, two CPU cores: 2.5 minutes, 67 images/s; test mIoU 0.473 (one seed, spread not measured).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config."""
    chosen = common.words(arg, ("smoke",))
    config = common.get_config()
    config.method = "supervised"
    config.networks.segmenter = common.unet()
    config.optimizers.segmenter = common.adam(learning_rate=2e-3, schedule="poly", beta1=0.9)
    config.init.segmenter = ""
    if "smoke" in chosen:
        common.shrink(config)
    return config

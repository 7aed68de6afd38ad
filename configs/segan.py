"""SegAN: trains a segmenter against a critic's features at several scales, without any other loss.

Choose it for medical images of few classes, best of an object and background.
    min over S, max over C of mean_i |C_i(x * y) - C_i(x * p)|
Paper: Xue et al., SegAN: Adversarial Network with Multi-scale L1 Loss for Medical Image Segmentation, Neuroinformatics
2018, arXiv:1706.01805. It was made for medical images of few classes:
python -m gan_seg_jax.main --config=configs/segan.py --config.dataset=dsb2018 --config.data_dir=FOLDER
python -m gan_seg_jax.main --config=configs/segan.py --config.dataset=isbi_em --config.data_dir=FOLDER \
    --config.canvas_size="(256, 256)" --config.crop_size="(128, 128)"
Command: python -m gan_seg_jax.main --config=configs/segan.py
Words behind the colon: one network (unet is the default; names in configs/networks.py); legacy (what the released code
has beyond the paper: its weights of the scales and its Dice loss); lambda0, random_discriminator; smoke.
Rates and clamp are those of the released code, which also halves the rates every 25 epochs. At the supervised config's
rate the segmenter says background everywhere and stays there. In short runs this optimizer (2e-4, constant, beta1 0.5)
alone costs cross-entropy much, so compare SegAN with lambda0, which has the same one, not with supervised_seg.py.
Cost, nuclei (DSB 2018) at 128x128, 300 steps: 2 minutes on 2 processor cores. Scores, once run:
experiments/results/medical_nuclei and medical_em.
Controls: random_discriminator (the features of a critic that stays as it was drawn); lambda0 (the same path on
cross-entropy alone, since without any loss nothing trains). A supervised loss beside the critic's:
--config.losses.weights.cross_entropy=1.0.
"""

from ml_collections import ConfigDict

from configs import common, networks


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or two networks.
    """
    chosen = common.words(arg, (*networks.NETWORKS, "legacy", *common.CONTROLS, "smoke"))
    config = common.get_config()
    config.method = "segan"
    config.phases = ((1, (("discriminator",), ("segmenter",))),)
    networks.segmenter(config, chosen)
    config.networks.discriminator = ConfigDict(
        {
            "name": "segan_critic",
            "channels": 16,  # of the first layer, doubled by each; 64 in the paper
            "norm": "batch",  # batch | instance | layer | group | none
            "kernel_init": "he",  # he | lecun | a standard deviation
            "ema": False,
        }
    )
    config.optimizers.segmenter = common.adam()
    config.optimizers.discriminator = common.adam(clip_weights=0.05)
    config.init.discriminator = ""
    config.losses.adversarial_weight = 1.0  # of the critic's distance in the segmenter's loss
    config.losses.legacy = False  # the distance as the released code weighs it
    config.losses.weights.cross_entropy = 0.0
    if "legacy" in chosen:
        config.losses.legacy = True
        config.losses.weights.dice = 1.0
    common.control(config, chosen)
    if "lambda0" in chosen:
        config.losses.weights.update(cross_entropy=1.0, dice=0.0)
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config

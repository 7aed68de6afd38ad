"""AdaptSegNet: trains a segmenter with labels of one domain and images of another.

Choose it where the labels are of a source domain and the images to be segmented of a target domain without labels.
    L_S = supervised(source) + lambda L_adv, by a discriminator of predictions on the source from those on the target
Paper: Tsai et al., Learning to Adapt Structured Output Space for Semantic Segmentation (AdaptSegNet), CVPR 2018,
arXiv:1802.10349.
Command: python -m gan_seg_jax.main --config=configs/adapt_seg.py:night
Words behind the colon: multi (a second discriminator, on an auxiliary head); the target's domain, night (the default),
rain or camera, from labelled scenes by day; one network (unet is the default; multi needs unet, deeplabv2, which is the
paper's, or pspnet); smoke; and the controls lambda0 (the same path, and the target's statistics, without the game) and
random_discriminator (it stays as it was drawn).
The baselines: the source alone,
python -m gan_seg_jax.main --config=configs/supervised_seg.py --config.source.dataset=scenes --config.scenes.look=night
and the target's own labels, the same without --config.source.dataset.
Other domains of the same classes: --config.source.dataset=folder --config.source.data_dir=LABELLED
--config.dataset=folder --config.data_dir=TARGET (its training images need no masks, and those they have are withheld;
its val needs them, for the best step is chosen by it).
The paper's least squares: --config.losses.adversarial=least_squares --config.losses.adversarial_weight=0.02
Cost, scenes, 250 steps: 1 to 5 minutes on 2 processor cores that had other work. Scores, once run:
experiments/results/scenes_domains and dsb2018_domains.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks
from gan_seg_jax.data import fields
from gan_seg_jax.errors import InputError

DOMAINS = tuple(name for name in fields.DOMAINS if name != "day")  # the source is by day
MULTI = ("unet", "deeplabv2", "pspnet")  # networks with an auxiliary head


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or words that exclude each other.
    """
    chosen = common.words(arg, ("multi", *DOMAINS, *networks.NETWORKS, *common.CONTROLS, "smoke"))
    domains = sorted(chosen & set(DOMAINS)) or ["night"]
    if len(domains) > 1:
        raise InputError(f"The config's words name {len(domains)} domains ({', '.join(domains)}); give one.")
    config = common.get_config()
    config.method = "adaptation"
    config.scenes.look = domains[0]
    config.source.dataset = "scenes"
    networks.segmenter(config, chosen)
    roles = ("discriminator", "discriminator_aux") if "multi" in chosen else ("discriminator",)
    for role in roles:
        config.networks[role] = discriminators.fcn(channels=32, resize=False)
        config.optimizers[role] = common.adam(learning_rate=1e-4, beta1=0.9, beta2=0.99, schedule="poly")
        config.init[role] = ""
    config.phases = ((1, (("segmenter", *roles),)),)  # simultaneous, as in the paper's code: judged by the old other
    config.statistics = "target"  # whose images enter the running statistics of norms: target | both
    common.game(config, weight=0.001)
    config.losses.adversarial_weight_aux = 0.0002  # of the auxiliary head's adversarial term
    if "multi" in chosen:
        _two_levels(config)
    common.control(config, chosen)
    if "lambda0" in chosen:
        config.losses.adversarial_weight_aux = 0.0
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config


def _two_levels(config: ConfigDict) -> None:
    """Give the segmenter an auxiliary head, at the weight of the paper.

    Raises:
        InputError: the network has none.
    """
    name = config.networks.segmenter.name
    if name not in MULTI:
        raise InputError(f"{name} has no auxiliary head for a second level; choose one of {', '.join(MULTI)}.")
    config.networks.segmenter.auxiliary = True
    config.losses.auxiliary_weight = 0.1

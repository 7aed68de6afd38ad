"""Semi-supervised segmentation: trains a segmenter by AdvSemiSeg or S4GAN, or by a rival that has no GAN.

Choose it where few images have labels and many have none.
    L_S = supervised(labelled images) + a term of the unlabelled ones: gan_seg_jax/methods/FORM.py has it of each form
Papers: AdvSemiSeg, Hung et al., BMVC 2018, arXiv:1802.07934; S4GAN, Mittal et al., TPAMI 2021, arXiv:1908.05724. The
rivals: mean teacher with CutMix, French et al., BMVC 2020, arXiv:1906.01916; FixMatch, Sohn et al., NeurIPS 2020,
arXiv:2001.07685; UniMatch, Yang et al., CVPR 2023, arXiv:2208.09910; CPS, Chen et al., CVPR 2021, arXiv:2106.01226.
Command: python -m gan_seg_jax.main --config=configs/semi_seg.py:s4gan
Words behind the colon: one form of advsemiseg (the default), s4gan, mean_teacher, fixmatch, unimatch, cps; one network
(unet is the default; names in configs/networks.py); paper (network, optimizer and form of the data of that network's
own paper, as of configs/supervised_seg.py: with deeplabv2, AdvSemiSeg's); smoke; and the controls lambda0 (nothing but
the supervised loss counts, on the same path) and random_discriminator (it stays as it was drawn; of the GANs alone).
ClassMix instead of the rivals' CutMix: --config.losses.mixing=classmix
An eighth of the training images keeps its labels; --config.labelled.fraction=0.02 is another share, and
--config.labelled.index_file=FILE a published choice. The baseline is the same network on the same labels alone:
python -m gan_seg_jax.main --config=configs/supervised_seg.py --config.labelled.fraction=0.125
The mean teacher is scored by its average; --config.ema_decay=0.99 does the same for the others.
Cost, CamVid at 144x192 with an eighth of its labels, 500 steps, two CPU cores: 5 minutes. Scores, once run:
experiments/results/question_camvid, question_nuclei and semi_supervised.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks
from gan_seg_jax.errors import InputError

GANS = ("advsemiseg", "s4gan")


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, two forms or two networks, or a discriminator asked of a form without one.
    """
    chosen = common.words(arg, (*GANS, *RIVALS, *networks.NETWORKS, *common.CONTROLS, "paper", "smoke"))
    forms = sorted(chosen & {*GANS, *RIVALS}) or ["advsemiseg"]
    if len(forms) > 1:
        raise InputError(f"The config's words name {len(forms)} forms ({', '.join(forms)}); give one.")
    config = common.get_config()
    config.labelled.fraction = 0.125
    networks.segmenter(config, chosen)
    if forms[0] in RIVALS:
        _rival(config, forms[0], chosen)
    else:
        _gan(config, forms[0], chosen)
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config


def _gan(config: ConfigDict, form: str, chosen: set[str]) -> None:
    """Add a discriminator and the weights of the paper."""
    config.method = "semi_supervised"
    config.phases = ((1, (("segmenter", "discriminator"),)),)  # simultaneous: both are judged by the old other
    config.optimizers.discriminator = common.adam(learning_rate=1e-4, beta1=0.9, beta2=0.99, schedule="poly")
    config.init.discriminator = ""
    common.game(config, weight=0.01 if form == "advsemiseg" else 0.0)
    config.losses.semi = form
    if form == "advsemiseg":
        config.networks.discriminator = discriminators.fcn()
        config.losses.unlabelled_adversarial_weight = 0.001  # of the adversarial term on images without labels
        config.losses.unlabelled_fakes = False  # the discriminator learns from them, too: the released code
        training = {"weight": 0.1, "threshold": 0.2, "start": 0.25}
    else:
        config.networks.discriminator = discriminators.image_level()
        config.losses.feature_matching = 0.1
        # The paper begins at once, with a pre-trained segmenter; from scratch its first predictions teach nothing.
        training = {"weight": 1.0, "threshold": 0.6, "start": 0.25}
    # Self-training: its weight, the confidence of the discriminator from which on a pixel (advsemiseg) or an image
    # (s4gan) counts, and the share of the steps after which it begins.
    for name, value in training.items():
        config.losses[f"self_training_{name}"] = value
    common.control(config, chosen)
    if "lambda0" in chosen:
        config.losses.self_training_weight = config.losses.feature_matching = 0.0
        if form == "advsemiseg":
            config.losses.unlabelled_adversarial_weight = 0.0


def _rival(config: ConfigDict, form: str, chosen: set[str]) -> None:
    """Add what a method without a GAN reads."""
    if "random_discriminator" in chosen:
        raise InputError(f"The word random_discriminator has no meaning with {form}, which has no discriminator.")
    config.method = form
    config.losses.mixing = "cutmix"  # of images without labels: cutmix | classmix | none
    RIVALS[form](config)
    if "lambda0" in chosen:
        for name in ("consistency_weight", "strong_weight", "feature_weight", "cross_weight"):
            if name in config.losses:
                config.losses[name] = 0.0


def _mean_teacher(config: ConfigDict) -> None:
    """Add the teacher and the weights of the paper."""
    config.ema_decay = 0.99  # the teacher's
    config.losses.consistency = "squared"  # squared (the paper) | cross_entropy (pseudo-labels)
    config.losses.consistency_weight = 1.0
    config.losses.consistency_ramp = 0.0  # share of the steps over which the weight rises; 0 is off
    config.losses.confidence_threshold = 0.97  # the term is scaled by the share of pixels of which the teacher is surer
    config.losses.cutmix_share = 0.5  # area of the rectangle


def _mixed(config: ConfigDict, *, probability: float, area: tuple[float, float]) -> None:
    """Add how often images are mixed, and how much of them."""
    config.losses.mixing_probability = probability
    config.losses.cutmix_range = area  # bounds of the rectangle's area, drawn uniformly


def _fixmatch(config: ConfigDict) -> None:
    """Add the strong view, by the values of UniMatch's paper."""
    _mixed(config, probability=0.5, area=(0.02, 0.4))
    config.losses.confidence_threshold = 0.95  # pixels below it teach nothing; the paper's for Cityscapes is 0
    config.losses.strong_weight = 1.0


def _unimatch(config: ConfigDict) -> None:
    """Add the second view and the perturbed features."""
    _fixmatch(config)
    config.losses.strong_weight = 0.5  # of the mean of both views
    config.losses.feature_weight = 0.5
    config.losses.feature_dropout = 0.5  # share of the encoder's channels that is dropped


def _cps(config: ConfigDict) -> None:
    """Add the other network: what is set of one of the two is set of both."""
    for group in (config.networks, config.optimizers):
        group.segmenter_aux = group.segmenter
    config.init.segmenter_aux = ""
    if "segmenter" in config.pretrained:
        config.pretrained.segmenter_aux = config.pretrained.get_ref("segmenter")
    config.phases = ((1, (("segmenter", "segmenter_aux"),)),)
    _mixed(config, probability=1.0, area=(0.25, 0.5))
    config.losses.cross_weight = 1.5  # the paper's for PASCAL VOC; 6 for Cityscapes


RIVALS = {"mean_teacher": _mean_teacher, "fixmatch": _fixmatch, "unimatch": _unimatch, "cps": _cps}

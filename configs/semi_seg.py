"""Semi-supervised segmentation: trains a segmenter by AdvSemiSeg, S4GAN, or a mean teacher, which has no GAN.

Choose it where few images have labels and many have none.
    L_S = supervised(labelled images) + a term of the unlabelled ones: gan_seg_jax/methods/FORM.py has it of each form
Papers: AdvSemiSeg, Hung et al., BMVC 2018, arXiv:1802.07934; S4GAN, Mittal et al., TPAMI 2021, arXiv:1908.05724; mean
teacher with CutMix, French et al., BMVC 2020, arXiv:1906.01916.
Command: python -m gan_seg_jax.main --config=configs/semi_seg.py:s4gan
Words behind the colon: one form of advsemiseg (the default), s4gan, mean_teacher; one network (unet is the default;
names in configs/networks.py); smoke; and the controls lambda0 (nothing but the supervised loss counts, on the same
path) and random_discriminator (it stays as it was drawn; of the GANs alone).
An eighth of the training images keeps its labels; --config.labelled.fraction=0.02 is another share, and
--config.labelled.index_file=FILE a published choice. The baseline is the same network on the same labels alone:
python -m gan_seg_jax.main --config=configs/supervised_seg.py --config.labelled.fraction=0.125
The mean teacher is scored by its average; --config.ema_decay=0.99 does the same for the others.
Cost, CamVid at 144x192 with an eighth of its labels, 500 steps, two CPU cores: 5 minutes. Scores, once run:
experiments/results/camvid_eighth and dsb2018_gans.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks
from gan_seg_jax.errors import InputError

FORMS = ("advsemiseg", "s4gan", "mean_teacher")


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, two forms or two networks, or a discriminator asked of the form without one.
    """
    chosen = common.words(arg, (*FORMS, *networks.NETWORKS, *common.CONTROLS, "smoke"))
    forms = sorted(chosen & set(FORMS)) or ["advsemiseg"]
    if len(forms) > 1:
        raise InputError(f"The config's words name {len(forms)} forms ({', '.join(forms)}); give one.")
    config = common.get_config()
    config.labelled.fraction = 0.125
    networks.segmenter(config, chosen)
    if forms[0] == "mean_teacher":
        _mean_teacher(config, chosen)
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


def _mean_teacher(config: ConfigDict, chosen: set[str]) -> None:
    """Add the teacher and the weights of the paper."""
    if "random_discriminator" in chosen:
        raise InputError("The word random_discriminator has no meaning with mean_teacher, which has no discriminator.")
    config.method = "mean_teacher"
    config.ema_decay = 0.99  # the teacher's
    config.losses.consistency = "squared"  # squared (the paper) | cross_entropy (pseudo-labels)
    config.losses.consistency_weight = 0.0 if "lambda0" in chosen else 1.0
    config.losses.consistency_ramp = 0.0  # share of the steps over which the weight rises; 0 is off
    config.losses.confidence_threshold = 0.97  # the term is scaled by the share of pixels of which the teacher is surer
    config.losses.cutmix_share = 0.5  # area of the rectangle

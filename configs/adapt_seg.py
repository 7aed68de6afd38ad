"""Adaptation: trains a segmenter with labels of one domain and images of another, by AdaptSegNet or by ADVENT.

Choose it where the labels are of a source domain and the images to be segmented of a target domain without labels.
    L_S = supervised(source) + a term of the target: gan_seg_jax/methods/METHOD.py has it of each form
Papers: AdaptSegNet (method adaptation), Tsai et al., CVPR 2018, arXiv:1802.10349: a discriminator tells predictions on
the source from those on the target; ADVENT (method advent), Vu et al., CVPR 2019, arXiv:1811.12833: it tells their
entropies (AdvEnt), or the target's entropy is made small, without any GAN (MinEnt).
Command: python -m gan_seg_jax.main --config=configs/adapt_seg.py:advent,night
Words behind the colon: one form of adaptsegnet (the default), advent, minent; multi (a second level, on an auxiliary
head); the target's domain, night (the default), rain or camera, from labelled scenes by day; one network (unet is the
default; multi needs unet, deeplabv2, which is the papers', or pspnet); smoke; and the controls lambda0 (the same path,
and the target's statistics, but nothing of the target counts; the same run for all forms) and random_discriminator (it
stays as it was drawn; of the GANs alone).
The baselines: the source alone,
python -m gan_seg_jax.main --config=configs/supervised_seg.py --config.source.dataset=scenes --config.scenes.look=night
and the target's own labels, the same without --config.source.dataset.
Other domains of the same classes: --config.source.dataset=folder --config.source.data_dir=LABELLED
--config.dataset=folder --config.data_dir=TARGET (its training images need no masks, and those they have are withheld;
its val needs them, for the best step is chosen by it).
AdaptSegNet's least squares: --config.losses.adversarial=least_squares --config.losses.adversarial_weight=0.02
Cost, scenes, 250 steps: 1 to 5 minutes on 2 processor cores that had other work. Scores, once run:
experiments/results/scenes_domains and dsb2018_domains.
"""

from ml_collections import ConfigDict

from configs import common, discriminators, networks
from gan_seg_jax.data import fields
from gan_seg_jax.errors import InputError

FORMS = ("adaptsegnet", "advent", "minent")
DOMAINS = tuple(name for name in fields.DOMAINS if name != "day")  # the source is by day
MULTI = ("unet", "deeplabv2", "pspnet")  # networks with an auxiliary head


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, words that exclude each other, or a discriminator asked of a form without one.
    """
    chosen = common.words(arg, (*FORMS, "multi", *DOMAINS, *networks.NETWORKS, *common.CONTROLS, "smoke"))
    common.only_one(chosen, FORMS)
    (form,) = chosen & set(FORMS) or {"adaptsegnet"}
    domains = sorted(chosen & set(DOMAINS)) or ["night"]
    if len(domains) > 1:
        raise InputError(f"The config's words name {len(domains)} domains ({', '.join(domains)}); give one.")
    config = common.get_config()
    config.method = "adaptation" if form == "adaptsegnet" else "advent"
    config.scenes.look = domains[0]
    config.source.dataset = "scenes"
    networks.segmenter(config, chosen)
    config.statistics = "target"  # whose images enter the running statistics of norms: target | both
    if form != "minent":
        _game(config, chosen)
    if config.method == "advent":
        _entropy(config, form, chosen)
    if "multi" in chosen:
        _two_levels(config)
    if form != "minent":
        common.control(config, chosen)
    if "lambda0" in chosen:
        weights = ("adversarial_weight_aux", "entropy_weight", "entropy_weight_aux")
        config.losses.update({name: 0.0 for name in weights if name in config.losses})
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config


def _game(config: ConfigDict, chosen: set[str]) -> None:
    """Add a discriminator for each level, at the weights of the papers."""
    roles = ("discriminator", "discriminator_aux") if "multi" in chosen else ("discriminator",)
    for role in roles:
        config.networks[role] = discriminators.fcn(channels=32, resize=False)
        config.optimizers[role] = common.adam(learning_rate=1e-4, beta1=0.9, beta2=0.99, schedule="poly")
        config.init[role] = ""
    config.phases = ((1, (("segmenter", *roles),)),)  # simultaneous, as in the papers' code: judged by the old other
    common.game(config, weight=0.001)
    config.losses.adversarial_weight_aux = 0.0002  # of the auxiliary head's adversarial term


def _entropy(config: ConfigDict, form: str, chosen: set[str]) -> None:
    """Add the weights of the target's entropy: MinEnt alone has any.

    Raises:
        InputError: a discriminator is asked of the form without one.
    """
    alone = form == "minent"
    if alone and "random_discriminator" in chosen:
        raise InputError("The word random_discriminator has no meaning with minent, which has no discriminator.")
    config.losses.entropy_weight = 0.001 if alone else 0.0
    config.losses.entropy_weight_aux = 0.0002 if alone and "multi" in chosen else 0.0  # of the auxiliary head's


def _two_levels(config: ConfigDict) -> None:
    """Give the segmenter an auxiliary head, at the weight of the papers.

    Raises:
        InputError: the network has none.
    """
    name = config.networks.segmenter.name
    if name not in MULTI:
        raise InputError(f"{name} has no auxiliary head for a second level; choose one of {', '.join(MULTI)}.")
    config.networks.segmenter.auxiliary = True
    config.losses.auxiliary_weight = 0.1

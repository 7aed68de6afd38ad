"""Adaptation: trains a segmenter with labels of one domain and images of another, by games or by pseudo-labels.

Choose it where the labels are of a source domain and the images to be segmented of a target domain without labels.
    L_S = supervised(source) + a term of the target: gan_seg_jax/methods/METHOD.py has it of each form
Papers: AdaptSegNet (method adaptation), Tsai et al., CVPR 2018, arXiv:1802.10349: a discriminator tells predictions on
the source from those on the target; ADVENT (method advent), Vu et al., CVPR 2019, arXiv:1811.12833: it tells their
entropies (AdvEnt), or the target's entropy is made small, without any GAN (MinEnt); self-training in the manner of
DAFormer (method mixed_domains), Hoyer et al., CVPR 2022, arXiv:2111.14887: an average of the segmenter labels the
target, and classes of the source are pasted into it; no GAN.
Command: python -m gan_seg_jax.main --config=configs/adapt_seg.py:advent,night
Words behind the colon: one form of adaptsegnet (the default), advent, minent, self_training; multi (a second level, on
an auxiliary head; not of self_training); the target's domain, night (the default), rain or camera, from labelled scenes
by day; one network (unet is the default; multi needs unet, deeplabv2, which is that of the GANs' papers, pspnet or
upernet_convnext_tiny);
smoke; and the controls lambda0 (the same path and the target's statistics, but nothing else of the target counts) and
random_discriminator (it stays as it was drawn; of the GANs alone).
self_training draws images by their rare classes and is scored by its average; for the same of the other forms, whose
lambda0 is then the same segmenter: --config.rare_classes.temperature=0.01 --config.ema_decay=0.999
Its paper warms the learning rate up and gives the head ten times the encoder's:
--config.optimizers.segmenter.warmup_steps=1500 --config.optimizers.segmenter.head_factor=10
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

FORMS = {"adaptsegnet": "adaptation", "advent": "advent", "minent": "advent", "self_training": "mixed_domains"}
GAMES = ("adaptsegnet", "advent")
DOMAINS = tuple(name for name in fields.DOMAINS if name != "day")  # the source is by day
MULTI = ("unet", "deeplabv2", "pspnet", "upernet_convnext_tiny")  # words of networks with an auxiliary head


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, words that exclude each other, or a word without a meaning for the form.
    """
    chosen = common.words(arg, (*FORMS, "multi", *DOMAINS, *networks.NETWORKS, *common.CONTROLS, "smoke"))
    common.only_one(chosen, FORMS)
    (form,) = chosen & set(FORMS) or {"adaptsegnet"}
    for word, forms in (("random_discriminator", GAMES), ("multi", (*GAMES, "minent"))):
        if word in chosen and form not in forms:
            raise InputError(f"The word {word} has no meaning with {form}; it is for {', '.join(forms)}.")
    domains = sorted(chosen & set(DOMAINS)) or ["night"]
    if len(domains) > 1:
        raise InputError(f"The config's words name {len(domains)} domains ({', '.join(domains)}); give one.")
    config = common.get_config()
    config.method = FORMS[form]
    config.scenes.look = domains[0]
    config.source.dataset = "scenes"
    networks.segmenter(config, chosen)
    config.statistics = "target"  # whose images enter the running statistics of norms: target | both
    if form in GAMES:
        _game(config, chosen)
    if config.method == "advent":
        alone = form == "minent"
        config.losses.entropy_weight = 0.001 if alone else 0.0  # of the target's entropy
        config.losses.entropy_weight_aux = 0.0002 if alone and "multi" in chosen else 0.0  # of the auxiliary head's
    if form == "self_training":
        config.ema_decay = 0.999  # the teacher's
        config.rare_classes.temperature = 0.01
        config.losses.self_training_weight = 1.0
        config.losses.confidence_threshold = 0.968  # q is the share of an image's pixels of which the teacher is surer
    if "multi" in chosen:
        _two_levels(config)
    if form in GAMES:
        common.control(config, chosen)
    if "lambda0" in chosen:
        weights = ("adversarial_weight_aux", "entropy_weight", "entropy_weight_aux", "self_training_weight")
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


def _two_levels(config: ConfigDict) -> None:
    """Give the segmenter an auxiliary head, at the weight of the papers.

    Raises:
        InputError: the network has none.
    """
    name = config.networks.segmenter.name
    if name not in {networks.NETWORKS[word]().name for word in MULTI}:
        raise InputError(f"{name} has no auxiliary head for a second level; choose one of {', '.join(MULTI)}.")
    config.networks.segmenter.auxiliary = True
    config.losses.auxiliary_weight = 0.1

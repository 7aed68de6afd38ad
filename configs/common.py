"""Every shared field, with its default and its meaning. Configs start from `get_config()` and add what is theirs.

Any field can be set on the command line: `--config.batch_size=16`, `--config.networks.generator.dropout=0.0`,
`--config.canvas_size="(144, 192)"`. A group of fields may be set as a dict, which changes the fields it names and no
others: `--config.augment="{'scale': (0.5, 2.0), 'contrast': 0.2}"`. Of a field that is set twice, alone or in a group,
the last value counts. An unknown field is an error.
"""

from collections.abc import Iterable

from ml_collections import ConfigDict

from gan_seg_jax.augment.fields import POLICIES
from gan_seg_jax.errors import InputError, unknown


def get_config() -> ConfigDict:
    """Return the defaults: `scenes` at 96 x 128."""
    config = ConfigDict()

    # What is trained.
    config.method = "supervised"  # a name that gan_seg_jax.methods.get_method knows
    config.seed = 0  # the only source of randomness: initial weights, data order, augmentation, dropout
    config.steps = 1000  # training steps; one batch (or `rounds` batches) each
    # ((length, updates), ...): in each phase, which groups of roles move, in this order. Lengths are relative and are
    # scaled to add up to `steps`.
    config.phases = ((1, (("segmenter",),)),)
    # Steps beyond those that a run began with: "" refuses them where phases or learning rates follow from `steps`;
    # "constant" takes them in the last phase at the last rates. `planned_steps` remembers how many it began with (0 is
    # all); it is filled in.
    config.extend = ""
    config.planned_steps = 0
    config.rounds = 1  # batches a step; all but the last of two or more groups run once on each (critic steps)
    config.share_forward = False  # keep outputs of networks that have moved since, on purpose (stale, cheaper)
    config.penalty_every = 0  # gradient penalties are due every so many steps; 0 never, 1 always
    config.batch_size = 8  # images a batch, over all devices
    config.spatial_shards = 1  # devices that share each image in training, by its rows: for few images, or large ones
    config.rematerialize = False  # keep results of convolutions alone, make the rest again: less memory, more time
    config.dtype = "float32"  # of computation: float32 or bfloat16; weights, statistics and losses stay float32

    # Data.
    # scenes | folder | camvid | facades | dsb2018 | isbi_em | tfds:NAME, or pairs: a folder of images without classes,
    # and of targets where there are any (gan_seg_jax/data/pairs.py), for configs/translation.py and configs/dcgan.py.
    config.dataset = "scenes"
    config.data_dir = ""  # folder of the set; for scenes the cache ("" is the user's cache folder)
    config.scenes = ConfigDict(  # drawn once, then cached
        {
            "size": (96, 128),
            "counts": (1000, 100, 200),  # in train, val and test
            "seed": 0,
            "look": "day",  # day | night | rain | camera: the same streets as another domain
        }
    )
    # Which training images keep their labels: a fraction, drawn by a seed (larger fractions hold the smaller ones), or,
    # instead of it, the ids listed in a file. The others are the stream `unlabelled` of methods that read it.
    config.labelled = ConfigDict({"fraction": 1.0, "seed": 0, "index_file": ""})
    # Where labelled images come from if not from the data set itself ("": they do). Then the data set's own training
    # images, without labels, are the stream `target`; val and test are always its own. `look` and `seed`: of scenes.
    config.source = ConfigDict({"dataset": "", "data_dir": "", "look": "day", "seed": 1})
    # Generated pairs among the training pairs: their share of each batch, and the folder they are read from (of the
    # command `sample`; "" makes them on the device, where the method can).
    config.synthetic = ConfigDict({"share": 0.0, "folder": ""})
    # Labelled images drawn by a class that they show, rare classes more often (gan_seg_jax/data/rare_classes.py),
    # instead of one after the other: by what temperature (0 is off, 0.01 is DAFormer's), and which share of an image
    # the class must have.
    config.rare_classes = ConfigDict({"temperature": 0.0, "area": 0.003})
    # The same image in two splits ends a start, since scores would be of images that are trained on; True allows it.
    config.allow_duplicates = False
    # A regular expression with one group, searched in each id: what is equal in the ids of one patient or video, such
    # as "^(p\\d+)_". No group may be in two splits, and none is torn apart where val is taken from train; "" is none.
    config.group_pattern = ""
    config.max_pixels = 89_478_485  # of an image: larger ones are refused before they take memory (3 bytes a pixel)
    # Bits that images of 16 bits a sample use (12 for most cameras of microscopes): 0: 8, 10, 12, 14 or 16, whichever
    # holds the largest value of the whole set.
    config.image_bits = 0
    config.num_classes = 0  # 0: from the data set
    config.class_names = ()  # (): from the data set
    config.class_colors = ()  # (): from the data set; RGB, for pictures
    # How an image gets onto the canvas: "fit" scales it down or up until it just fits (aspect kept, rest is padding);
    # "none" keeps its scale and cuts out or pads (in evaluation the canvas then holds the whole image).
    config.resize = "fit"
    config.canvas_size = (96, 128)  # height and width of what the host sends to the devices
    config.crop_size = (96, 128)  # height and width of what the networks train on, cut out on the device
    config.num_workers = 0  # processes that decode images; 0 uses threads of this one
    config.prefetch = 4  # batches read ahead, for each worker process
    config.augment = ConfigDict(
        {
            # light | strong | medical: several of the following at once (gan_seg_jax/augment/fields.py has the values);
            # single fields on the command line beside it hold. "" is the fields alone.
            "policy": "",
            "flip_horizontal": True,
            "flip_vertical": False,
            "transpose": False,  # with both flips: the eight symmetries of the square; needs a square crop
            "scale": (1.0, 1.0),  # zoom range, drawn log-uniformly
            "aspect": 0.0,  # strength of another zoom of height than of width; 0.5 draws ratios from 2/3 to 3/2
            "translation": 0.0,  # largest shift, a share of the crop
            "rotation": 0.0,  # largest angles, degrees
            "shear": 0.0,
            "elastic": 0.0,  # largest standard deviation of a smooth deformation, pixels, at most half its ...
            "elastic_sigma": 10.0,  # ... smoothness, pixels
            "brightness": 0.0,  # strengths of colour jitter; 0 is off
            "contrast": 0.0,
            "saturation": 0.0,
            "hue": 0.0,  # in turns, at most 0.5
            "jitter": 1.0,  # probability of these four, all or none
            "gamma": 0.0,  # strength; 1 draws exponents from 1/2 to 2
            "greyscale": 0.0,  # probability of losing the colours
            "blur": 0.0,  # probability of a Gaussian blur
            "blur_sigma": (0.1, 2.0),  # its standard deviation, pixels, is drawn from
            "noise": 0.0,  # largest standard deviation, a share of the range of values
            "cutout": 0.0,  # side of a hole in image and label, a share of height and width
            "operations": 0,  # how many of `aspect` to `cutout` that are on an image gets (RandAugment); 0 is all
            "cutmix": 0.0,  # probabilities that a labelled image gets a rectangle, half the area, of the next one ...
            "classmix": 0.0,  # ... or half of the classes in that one, with their labels
            "class_balance": 0.0,  # share of crops placed around a pixel of a class drawn evenly from the image's
        }
    )

    # Networks and optimizers by role; filled by each config. `init.ROLE` starts a role from the best checkpoint of
    # another run (a role that moves in no phase is frozen and needs one; "random" says that random weights are meant).
    config.networks = ConfigDict()
    config.optimizers = ConfigDict()
    config.init = ConfigDict()
    # `pretrained.ROLE`: weights of that network's backbone, read once, at the start of a run: a .safetensors file in
    # the layout of torchvision, timm or transformers, "hf:OWNER/NAME[@REVISION]" of Hugging Face, or "pip:BACKBONE" of
    # an installed package (gan_seg_jax/models/pip_weights.py); "" is none.
    config.pretrained = ConfigDict()
    # `prior_runs.NAME`: the config of a run that is trained first, in WORKDIR/prior/NAME and on the same data, where
    # `init.NAME` is ""; its best network of that name is taken. The name "feature_network" stands for the field below.
    config.prior_runs = ConfigDict()
    # In whose features generated images are compared with real ones: a finished segmentation run, or Inception weights
    # as FILE.safetensors (those of pytorch-fid).
    config.feature_network = ""
    config.ema_decay = 0.0  # of the running average of weights used for evaluation (networks with `ema`); 0 is off
    config.losses = ConfigDict(
        {
            # The supervised loss is a weighted sum; a term of weight 0 is not computed.
            "weights": {
                "cross_entropy": 1.0,
                "focal": 0.0,
                "dice": 0.0,
                "tversky": 0.0,
                "lovasz": 0.0,  # Lovasz-softmax
                "boundary": 0.0,  # cross-entropy that counts more near class boundaries
                "hard_pixel": 0.0,  # cross-entropy of the hardest pixels of each image
                "l1": 0.0,  # between class probabilities and the one-hot label
                "mse": 0.0,
            },
            "auxiliary_weight": 0.4,  # of the same sum on auxiliary heads, where a network has them
            "label_smoothing": 0.0,  # of cross_entropy, boundary and hard_pixel
            "class_weights": (),  # of cross_entropy, focal, boundary and hard_pixel, one for each class; () is none
            # Or computed from the training masks at the start of a run, and kept in its config.json as class_weights:
            # inverse | median_frequency | root_median_frequency | fourth_root_median_frequency | effective_number
            "class_weighting": "",
            "focal_gamma": 2.0,
            "tversky_alpha": 0.3,  # weight of false positives
            "tversky_beta": 0.7,  # weight of false negatives
            "boundary_strength": 10.0,  # how much more a pixel on a boundary counts
            "boundary_sigma": 5.0,  # how far that reaches, pixels
            "hard_pixel_fraction": 0.25,  # share of the known pixels that counts as hard
        }
    )

    _intervals(config)
    return config


def _intervals(config: ConfigDict) -> None:
    """Set when a run is scored, saved and shown, and when it ends."""
    config.eval_every = 250  # steps between validations; the best checkpoint is chosen by them
    # Early stopping: training ends after so many validations in a row, in the last phase, without a better score than
    # the best one; 0 is off, and all steps are taken.
    config.patience = 0
    config.checkpoint_every = 250  # steps between checkpoints (validations make one too)
    config.keep_checkpoints = 2  # of the newest checkpoints, besides the best
    config.log_every = 50  # steps between lines of metrics.jsonl
    config.samples_every = 500  # steps between sample panels of val; 0 is none
    config.max_bad_steps = 20  # steps in a row without finite losses and gradients that end training (exit code 3)
    config.tensorboard = True  # write TensorBoard events
    config.baselines = ("kmeans", "majority")  # scored beside the run at its end; () is none


def augment(config: ConfigDict, policy: str) -> None:
    """Set the fields of a policy of augmentation; what is assigned afterwards holds.

    Raises:
        InputError: the policy is unknown.
    """
    if policy not in POLICIES:
        raise unknown("augment.policy", policy, POLICIES)
    config.augment.update(POLICIES[policy], policy=policy)


def adam(**overrides) -> ConfigDict:
    """Return the fields of an optimizer: Adam with beta1 0.5, the habit of GANs."""
    fields = {
        "name": "adam",  # adam | adamw | sgd
        "learning_rate": 2e-4,
        "schedule": "constant",  # constant | poly | cosine | linear | step
        "poly_power": 0.9,
        "decay_at": (0.5, 0.75),  # of schedule step: shares of the run at which the rate is multiplied ...
        "decay_factor": 0.1,  # ... by this
        "warmup_steps": 0,
        "head_factor": 1.0,  # of the rate, for all that is not the pre-trained backbone
        "backbone_factor": 1.0,  # of the rate, for the backbone
        "layer_decay": 1.0,  # of the backbone's rate, once more for each layer from the head down (ViT: 0.65 to 0.9)
        "backbone_frozen_steps": 0,  # steps, from the first one of this role, in which the backbone stays as it is
        "beta1": 0.5,  # momentum for sgd
        "beta2": 0.999,
        "l1": 0.0,  # regularisation: l1 |w| + l2 / 2 w^2 added to the loss; not on biases and norms
        "l2": 0.0,
        "weight_decay": 0.0,  # decoupled from the gradient's scale; not on biases and norms
        "clip_norm": 0.0,  # of the role's whole gradient; 0 is off
        "clip_weights": 0.0,  # bound on every weight after the update (critics: WGAN 0.01, SegAN 0.05); 0 is off
    }
    return ConfigDict({**fields, **overrides})


def recipe(config: ConfigDict, role: str) -> None:
    """Set what this project trains a network of that role best with: the word `recipe`.

    AdamW at 2e-3 that falls to 0, at 5e-3 over a backbone, cross-entropy mildly weighted by the classes' frequency,
    Lovasz-softmax beside it, an average of the weights. Mirror images alone: where each image is seen some ten times,
    zoom and colour cost more than they bring; a run that sees them a hundred times takes `augment.policy`.
    """
    config.optimizers[role] = adam(name="adamw", learning_rate=2e-3, schedule="poly", beta1=0.9, weight_decay=0.01)
    if "backbone" in config.networks[role]:
        config.optimizers[role].head_factor = 2.5
    config.ema_decay = 0.99
    config.losses.class_weighting = "fourth_root_median_frequency"
    config.losses.weights.lovasz = 1.0


def unet(**overrides) -> ConfigDict:
    """Return the fields of a U-Net that suits a few processor cores as well as an accelerator."""
    fields = {
        "name": "unet",
        "channels": (24, 48, 96, 192, 256),  # of each level, from half the size of the image down
        "encoder_convs": (0, 1, 1, 2, 2),  # residual 3x3 convolutions at each level
        "decoder_convs": (1, 1, 1, 1),  # the same in the decoder, at each level but the innermost
        "norm": "batch",  # batch | instance | layer | group | none
        "skip": "add",  # how encoder features come in: add | concat | none
        "dropout": 0.0,  # in the three innermost levels of the decoder
        "kernel_init": "he",  # he | lecun | a standard deviation
        "ema": True,  # keep a running average of the weights where ema_decay is not 0
    }
    return ConfigDict({**fields, **overrides})


def patchgan(**overrides) -> ConfigDict:
    """Return the fields of a PatchGAN discriminator."""
    fields = {
        "name": "patchgan",
        "channels": 16,  # of the first layer; doubled by each
        "layers": 3,  # of stride 2: 0 sees 1 pixel, 1 sees 16, 2 sees 34, 3 sees 70
        "norm": "batch",  # batch | instance | layer | group | spectral | none
        "kernel_init": "0.02",
        "features": False,  # show its features, too, for losses.feature_matching
        "ema": False,
    }
    return ConfigDict({**fields, **overrides})


CONTROLS = ("lambda0", "random_discriminator")
"""Words for controls of every adversarial config: see `control`."""


def game(config: ConfigDict, adversarial: str = "non_saturating", weight: float = 0.01) -> None:
    """Add what a method with a discriminator reads (`gan_seg_jax.methods.game`) to `config.losses`."""
    fields = {
        "adversarial": adversarial,  # a name in gan_seg_jax.losses.adversarial.ADVERSARIAL
        "adversarial_weight": weight,  # of the adversarial term in the other player's loss
        "adversarial_smoothing": 0.0,  # one-sided: the target of real examples is 1 - this
        "r1": 0.0,  # penalty on the slope at real examples, due every `penalty_every` steps; 5 is the paper's gamma 10
        "gradient_penalty": 0.0,  # WGAN-GP, due every `penalty_every` steps; halves are averaged here: 5 is its 10
        "diff_augment": (),  # of what the discriminator sees: brightness saturation contrast translation cutout
        "instance_noise": 0.0,  # standard deviation, added to all that the discriminator sees
        "instance_noise_steps": 0,  # falls linearly to 0 over so many steps; 0 is constant
        "accuracy_bound": 1.0,  # the discriminator does not learn from a batch on which it is more accurate; 1 is off
        "feature_matching": 0.0,  # weight of the distance of its features of real and fake, where a method has it
    }
    config.losses.update(ConfigDict(fields))


def control(config: ConfigDict, chosen: set[str]) -> None:
    """Turn a config into a control of itself: what of its gain comes of the game?

    lambda0: the same path and the same discriminator, whose opinion counts nothing.
    random_discriminator: a discriminator that stays as it was drawn; without its groups nothing may be left to repeat.
    """
    if "lambda0" in chosen:
        config.losses.adversarial_weight = 0.0
    if "random_discriminator" in chosen:
        judges = [role for role in config.networks if role.startswith("discriminator")]
        phases = []
        for length, updates in config.phases:
            groups = (tuple(role for role in group if role not in judges) for group in updates)
            phases.append((length, tuple(group for group in groups if group)))
        config.phases = tuple((length, groups) for length, groups in phases if groups)
        if any(len(groups) == 1 for _, groups in config.phases):
            config.rounds = 1
        for role in judges:
            config.init[role] = "random"


def words(arg: str | None, known: tuple[str, ...]) -> set[str]:
    """Return the comma-separated words behind the colon of `--config=FILE:WORD,WORD`.

    Raises:
        InputError: a word is not known; the nearest one is given.
    """
    found = {word for word in (arg or "").split(",") if word}
    for word in sorted(found - set(known)):
        raise unknown("word behind the config's colon:", word, known)
    return found


def only_one(chosen: set[str], group: Iterable[str]) -> None:
    """Raise InputError if more than one word of a group is chosen."""
    found = sorted(chosen & set(group))
    if len(found) > 1:
        raise InputError(f"{' and '.join(found)} stand behind the config's colon; choose one of {', '.join(group)}.")


def shrink(config: ConfigDict) -> None:
    """Make any config end within a minute on two cores: the `smoke` form."""
    config.steps = 24
    config.eval_every = config.checkpoint_every = config.samples_every = 12
    config.log_every = 4
    config.batch_size = 4
    config.scenes.size, config.scenes.counts = (48, 64), (24, 8, 8)
    config.canvas_size = config.crop_size = (48, 64)

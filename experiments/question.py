"""When does a GAN improve a segmentation? The arms of `question_camvid.py` and `question_nuclei.py`.

Eight settings: CamVid at 144x192 and nuclei at 128x128, with all labels and with few (an eighth; a twentieth), from
scratch and over EfficientNet-Lite0's ImageNet weights. In each a U-Net over Lite0 is trained without a game, by this
project's recipe (the word `recipe`): cross-entropy, mildly weighted by the classes' frequency, and Lovasz-softmax,
AdamW, an average of the weights. Every other arm has its network, start, losses, optimizer, data, batches and number of
steps: `longer` alone has two, with few labels four times the steps, about what the dearest of the others computes.
Games stand beside their own path without the game (`lambda0`) where this has more losses.
With all labels: the conditional GAN, a discriminator of masks, and over the weights refinement by a GAN; the game has
a weight of 0.01. With few: AdvSemiSeg, S4GAN, pairs made by SPADE, and the rivals that have no GAN: mean teacher,
FixMatch, UniMatch.
Every arm ends when two validations in a row were no better (`full`: five), at the latest after the profile's steps,
twice as many from scratch with all labels; the rate falls to 0 by then, so that this is rare. Cut for two cores: half
of the decoder's channels, batches of 4.
"""

from collections.abc import Mapping
from typing import NamedTuple

import comparison
from cells import INTERVALS, steps
from runner import Arm

SEEDS = (0, 1, 2, 3, 4)
DATA = {
    "camvid": (
        "--config.dataset=camvid",
        "--config.data_dir={data_dir}/camvid",
        "--config.canvas_size=(144, 192)",
        "--config.crop_size=(144, 192)",
    ),
    "nuclei": (
        "--config.dataset=dsb2018",
        "--config.data_dir={data_dir}/dsb2018",
        "--config.canvas_size=(128, 128)",
        "--config.crop_size=(128, 128)",
        "--config.augment.flip_vertical=True",
        "--config.augment.transpose=True",
    ),
    "membranes": (
        "--config.dataset=isbi_em",
        "--config.data_dir={data_dir}/isbi_em",
        "--config.canvas_size=(512, 512)",
        "--config.crop_size=(128, 128)",
        "--config.augment.flip_vertical=True",
        "--config.augment.transpose=True",
    ),
    "lesions": (
        "--config.dataset=folder",
        "--config.data_dir={data_dir}/isic2017",
        "--config.augment.flip_vertical=True",
        "--config.augment.transpose=True",
    ),
}
VOC = (  # of tables at the size of the papers on it
    "--config.dataset=folder",
    "--config.data_dir={data_dir}/voc2012",
    "--config.baselines=()",
    "--config.dtype=bfloat16",
)
LABELS = {"all": 1.0, "half": 0.5, "quarter": 0.25, "eighth": 0.125, "sixteenth": 0.0625, "twentieth": 0.05}
LABELS |= {"fiftieth": 0.02}
FEW = {"camvid": "eighth", "nuclei": "twentieth", "membranes": "quarter", "lesions": "twentieth"}
STARTS = {"scratch": "", "lite0": "pip:efficientnet_lite0"}
SHARED = ("--config.batch_size=4", "--config.ema_decay=0.99", "--config.baselines=()", "--config.patience=2")
RECIPE = ("--config.losses.weights.lovasz=1.0", "--config.losses.class_weighting=fourth_root_median_frequency")
OPTIMIZER = {"name": "adamw", "learning_rate": 0.002, "head_factor": 2.5, "schedule": "poly", "beta1": 0.9}
OPTIMIZER |= {"weight_decay": 0.01}
# Fields of what learns without labels, of the mean teacher, of all rivals without a GAN, and of pairs that a GAN makes.
SEMI = ("losses.semi", "losses.self_training*", "losses.unlabelled*")
TEACHER = ("losses.consistency*", "losses.confidence_threshold", "losses.mixing", "losses.cutmix_share")
VIEWS = (*TEACHER, "losses.mixing*", "losses.cutmix_range", "losses.strong*", "losses.feature_*")
REFINER = (  # with three stages, in one of which the segmenter rests
    "networks.refiner.*",
    "optimizers.refiner.*",
    "init.refiner",
    "refiner_*",
    "noise_channels",
    comparison.UPDATES,
)
MADE = ("prior_runs.*", "networks.generator.*", "noise.*", "sample_as_trained", "init.generator", "synthetic.share")
TIMES = {"all": 2, "few": 4}  # steps of `longer`, as a multiple


class Profile(NamedTuple):
    """What the machine decides, for all arms alike.

    Attributes:
        steps: key of DATA -> steps at most.
        validations: in a run of that many.
        channels: of the decoder.
        shared: flags of all arms.
        data: key of DATA -> flags of that data set; they come after those of DATA.
    """

    steps: Mapping[str, int]
    validations: int
    channels: tuple[int, ...]
    shared: tuple[str, ...]
    data: Mapping[str, tuple[str, ...]]


def _size(height: int, width: int) -> tuple[str, ...]:
    return tuple(f"--config.{field}_size=({height}, {width})" for field in ("canvas", "crop"))


CPU = Profile({"camvid": 300, "nuclei": 200, "membranes": 200}, 3, (128, 64, 32, 16), (), {})
FULL = Profile(
    {"camvid": 20_000, "nuclei": 10_000, "membranes": 10_000, "lesions": 20_000},
    40,
    (256, 128, 64, 32),
    ("--config.batch_size=8", "--config.ema_decay=0.999", "--config.patience=5", "--config.dtype=bfloat16"),
    {
        "camvid": _size(360, 480),
        "nuclei": _size(256, 256),
        "membranes": ("--config.crop_size=(256, 256)",),
        "lesions": _size(256, 256),
    },
)


def optimizer(role: str) -> tuple[str, ...]:
    """Return the flags of the optimizer of a role."""
    return tuple(f"--config.optimizers.{role}.{field}={value}" for field, value in OPTIMIZER.items())


class Setting:
    """Data, labels and start: what the arms of a setting share.

    Args:
        data: key of DATA.
        start: key of STARTS.
        labels: key of LABELS: the share of the training images that keep theirs.
        number: of steps; that of the profile without it.
        profile: CPU or FULL.
    """

    def __init__(
        self, data: str, start: str, labels: str = "all", *, number: int | None = None, profile: Profile = CPU
    ):
        self.name, self.start, self.few, self.profile = f"{labels}-{start}", start, labels != "all", profile
        drawn = (f"--config.labelled.fraction={LABELS[labels]}", "--config.labelled.seed={seed}") if self.few else ()
        self._flags = (*DATA[data], *drawn, *SHARED, *RECIPE, *profile.data.get(data, ()), *profile.shared)
        self.steps = number or profile.steps[data] * (2 if start == "scratch" and not self.few else 1)

    def arm(self, method: str, config: str, *overrides: str, against: str = "", role: str = "segmenter", **more) -> Arm:
        """Return the arm of a method, compared with the one `against` of the same setting; "" is the control."""
        times, seeds = more.pop("times", 1), more.pop("seeds", SEEDS)
        flags = (
            *self._flags,
            *steps(times * self.steps, self.profile.validations),
            *optimizer(role),
            f"--config.networks.{role}.channels={self.profile.channels}",
            f"--config.pretrained.{role}={STARTS[self.start]}",
            *overrides,
        )
        reference = f"{self.name}-{against}" if against else ""
        return Arm(f"{self.name}-{method}", f"configs/{config}", flags, seeds, reference=reference, acts=role, **more)

    def arms(self) -> tuple[Arm, ...]:
        """Return the arms of this setting."""
        control = self.arm("supervised", "supervised_seg.py:unet_lite0")
        longer = self.arm(
            "longer",
            "supervised_seg.py:unet_lite0",
            against="supervised",
            times=TIMES["few" if self.few else "all"],
            varies=("steps", *INTERVALS),
        )
        return (control, longer, *(self._few_labels() if self.few else self._all_labels()))

    def _all_labels(self) -> tuple[Arm, ...]:
        cgan, l1 = {"role": "generator"}, ("losses.weights.l1",)
        games = (
            self.arm("cgan-lambda0", "cgan_seg.py:lite0,lambda0", against="supervised", varies=l1, **cgan),
            self.arm("cgan", "cgan_seg.py:lite0", against="cgan-lambda0", **cgan),
            self.arm("luc", "adversarial_seg.py:unet_lite0", against="supervised"),
        )
        refined = (
            self.arm("refinement-lambda0", "refine_seg.py:unet_lite0,lambda0", against="supervised", varies=REFINER),
            self.arm("refinement", "refine_seg.py:unet_lite0", against="refinement-lambda0"),
        )
        return games if self.start == "scratch" else (*games, *refined)

    def _few_labels(self) -> tuple[Arm, ...]:
        forms = {"advsemiseg": SEMI, "s4gan": SEMI, "mean_teacher": VIEWS, "fixmatch": VIEWS, "unimatch": VIEWS}
        return (
            *(
                self.arm(form, f"semi_seg.py:{form},unet_lite0", against="supervised", varies=varies)
                for form, varies in forms.items()
            ),
            self.arm(
                "spade",
                "augment_seg.py:spade,unet_lite0",
                f"--config.prior_runs.generator.steps={self.steps}",
                f"--config.prior_runs.generator.batch_size={4 if self.profile is CPU else 8}",
                f"--config.prior_runs.generator.feature_network={{workdir}}/{self.name}-supervised-seed{{seed}}",
                against="supervised",
                varies=MADE,
            ),
        )


def arms(data: str, profile: Profile = CPU) -> tuple[Arm, ...]:
    """Return the arms of all settings of one data set, a key of DATA."""
    settings = (Setting(data, start, labels, profile=profile) for labels in ("all", FEW[data]) for start in STARTS)
    return tuple(arm for setting in settings for arm in setting.arms())

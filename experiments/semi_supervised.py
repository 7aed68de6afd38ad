"""From a sixteenth of CamVid's labels to all of them: what do the adversaries of semi-supervised segmentation add?

    GAN_SEG_DATA=FOLDER python experiments/semi_supervised.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. The rows of table 1 of Hung et al. (BMVC
2018, https://arxiv.org/abs/1802.07934), with S4GAN (Mittal et al., TPAMI 2021, https://arxiv.org/abs/1908.05724) beside
AdvSemiSeg: a U-Net over EfficientNet-Lite0 with its ImageNet weights by cross-entropy on the labelled images, and the
same against a discriminator that sees the others, too. Where all have labels, the adversary alone, as in that table.
Every seed draws its own labelled images. The published figures are of Pascal VOC, over a DeepLab that was trained on
COCO before: another data set and network. All discriminators have AdvSemiSeg's optimizer. Cut as in `question.py`.
With `--profile=full` the paper's own setting, but for the weights of COCO: DeepLab v2 over ResNet-101 on Pascal VOC in
FOLDER/voc2012, as `gan-seg prepare --format=voc --trainaug` writes it, and UniMatch, which has no GAN.
"""

import sys

import comparison
import question
import runner
from cells import steps
from question import LABELS, SEMI, VIEWS, Setting
from runner import Arm

TITLE = "From few labels to all: semi-supervised segmentation by adversaries"
SEEDS = (0, 1, 2)
SOURCE = "Hung et al. 2018, table 1: Pascal VOC"
SUPERVISED = {"eighth": 0.66, "quarter": 0.683, "half": 0.698, "all": 0.736}
DISCRIMINATOR = tuple(
    f"--config.optimizers.discriminator.{field}"
    for field in ("learning_rate=0.0001", "beta1=0.9", "beta2=0.99", "schedule=poly")
)
ADVSEMISEG = {"eighth": 0.695, "quarter": 0.721, "half": 0.738}


def published(figures: dict[str, float], labels: str) -> tuple[float, str] | None:
    """Return the figure of that share of the labels, and where it is printed."""
    return (figures[labels], SOURCE) if labels in figures else None


def rows(labels: str) -> tuple[Arm, ...]:
    """Return the arms with that share of the labels, a key of `question.LABELS`."""
    setting = Setting("camvid", "lite0", labels)
    control = setting.arm(
        "supervised", "supervised_seg.py:unet_lite0", seeds=SEEDS, published=published(SUPERVISED, labels)
    )
    if labels == "all":
        game, mask = "adversarial_seg.py:unet_lite0,fcn", "--config.losses.discriminator_input=mask"
        figure = (0.749, SOURCE)
        more = {"against": "supervised", "seeds": SEEDS, "published": figure}
        return control, setting.arm("adversary", game, mask, *DISCRIMINATOR, **more)
    more = {"against": "supervised", "seeds": SEEDS, "varies": SEMI}
    figure = published(ADVSEMISEG, labels)
    return (
        control,
        setting.arm("advsemiseg", "semi_seg.py:advsemiseg,unet_lite0", published=figure, **more),
        setting.arm("s4gan", "semi_seg.py:s4gan,unet_lite0", **more),
    )


VOC = (*question.VOC, *steps(20_000, 10))


def voc(labels: str) -> tuple[Arm, ...]:
    """Return the arms of the paper's setting with that share of the labels."""
    drawn = () if labels == "all" else (f"--config.labelled.fraction={LABELS[labels]}", "--config.labelled.seed={seed}")

    def arm(name: str, config: str, *overrides: str, figures: dict[str, float] | None = None, **more) -> Arm:
        flags = (*VOC, *drawn, *overrides)
        figure = published(figures or {}, labels)
        return Arm(f"{labels}-{name}", f"configs/{config},paper", flags, SEEDS, published=figure, **more)

    control = arm("supervised", "supervised_seg.py:deeplabv2", reference="", figures=SUPERVISED)
    more = {"reference": control.name}
    if labels == "all":
        mask = "--config.losses.discriminator_input=mask"
        flags = (mask, *DISCRIMINATOR)
        return control, arm("adversary", "adversarial_seg.py:deeplabv2,fcn", *flags, figures={"all": 0.749}, **more)
    return (
        control,
        arm("advsemiseg", "semi_seg.py:advsemiseg,deeplabv2", figures=ADVSEMISEG, varies=SEMI, **more),
        arm("s4gan", "semi_seg.py:s4gan,deeplabv2", varies=SEMI, **more),
        arm("unimatch", "semi_seg.py:unimatch,deeplabv2", varies=VIEWS, **more),
    )


FULL = tuple(arm for labels in ("eighth", "quarter", "half", "all") for arm in voc(labels))
ARMS = tuple(arm for labels in ("sixteenth", "eighth", "quarter", "half", "all") for arm in rows(labels))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=comparison.GAME))

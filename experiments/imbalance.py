"""Rare classes: which weights, losses, crops and regularisation help them, and what do they cost the common ones?

    GAN_SEG_DATA=FOLDER python experiments/imbalance.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid: a pole, a sign and a cyclist are a hundredth
of the pixels each, the road a quarter. DeepLab v3+ over EfficientNet-Lite0 with its ImageNet weights is trained by
plain cross-entropy, and every other arm changes one thing: the weights of the classes (median frequency, Eigen and
Fergus, ICCV 2015, https://arxiv.org/abs/1411.4734, and its roots; the effective number, Cui et al., CVPR 2019,
https://arxiv.org/abs/1901.05555), the loss (focal, Dice, Lovasz-softmax, Tversky, hardest pixels), which crops and
images are drawn, or the regularisation. Arms are compared by the mean IoU of the classes that have less than 2% of the
pixels; that of each class stands below. Crops of 96x128 of images at 144x192.
With `--profile=full` v3+ over ResNet-101 with its ImageNet weights, by the schedule of its paper, on Cityscapes in
FOLDER/cityscapes as `gan-seg prepare --format=cityscapes` writes it; by AdamW, since arms are about regularisation.
"""

import sys

import runner
from cells import steps
from question import DATA, SHARED, optimizer
from runner import Arm

TITLE = "Class imbalance and regularisation"
SEEDS = (0, 1, 2)
FLAGS = (
    *DATA["camvid"],
    *SHARED,
    "--config.crop_size=(96, 128)",
    *optimizer("segmenter"),
    *steps(400),
)
CITYSCAPES = (
    "--config.dataset=folder",
    "--config.data_dir={data_dir}/cityscapes",
    "--config.canvas_size=(1024, 2048)",
    "--config.crop_size=(768, 768)",
    "--config.baselines=()",
    "--config.dtype=bfloat16",
    "--config.optimizers.segmenter.name=adamw",  # as the arms about the regularisation need it
    "--config.optimizers.segmenter.learning_rate=0.0001",
    "--config.optimizers.segmenter.weight_decay=0.01",
    "--config.optimizers.segmenter.l2=0.0",
    *steps(40_000, 10),
)
WEIGHTINGS = ("median_frequency", "root_median_frequency", "fourth_root_median_frequency", "effective_number")


def arms(config: str, flags: tuple[str, ...]) -> tuple[Arm, ...]:
    """Return the arms of a profile: all have that config and these flags."""

    def arm(name: str, *changes: str, reference: str = "cross-entropy") -> Arm:
        """Return an arm; `changes` are FIELD=VALUE."""
        changed = (*flags, *(f"--config.{change}" for change in changes))
        return Arm(name, f"configs/supervised_seg.py:{config}", changed, SEEDS, reference=reference)

    def beside(loss: str) -> Arm:
        """Return the arm of a loss beside cross-entropy, both with weight 1."""
        return arm(loss, f"losses.weights.{loss}=1.0")

    def instead(loss: str) -> Arm:
        """Return the arm of a loss instead of cross-entropy."""
        return arm(loss, f"losses.weights.{loss}=1.0", "losses.weights.cross_entropy=0.0")

    return (
        arm("cross-entropy", reference=""),
        *(arm(weighting.replace("_", "-"), f"losses.class_weighting={weighting}") for weighting in WEIGHTINGS),
        *map(instead, ("focal", "hard_pixel")),
        *map(beside, ("dice", "lovasz", "tversky")),
        arm("balanced-crops", "augment.class_balance=0.5"),
        arm("rare-class-images", "rare_classes.temperature=0.01"),
        arm("without-weight-decay", "optimizers.segmenter.weight_decay=0.0"),
        arm("l2", "optimizers.segmenter.weight_decay=0.0", "optimizers.segmenter.l2=0.0001"),
        arm("l1", "optimizers.segmenter.weight_decay=0.0", "optimizers.segmenter.l1=0.000001"),
        *(arm(f"dropout-{rate}", f"networks.segmenter.dropout={rate}") for rate in (0.0, 0.5)),
    )


ARMS, FULL = arms("deeplabv3plus_lite0", FLAGS), arms("deeplabv3plus,paper", CITYSCAPES)
VARIES = (
    "losses.class_weighting",
    "losses.weights.*",
    "augment.class_balance",
    "rare_classes.temperature",
    "optimizers.ACTING.weight_decay",
    "optimizers.ACTING.l1",
    "optimizers.ACTING.l2",
    "networks.ACTING.dropout",
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=VARIES, rare=True))

"""Against which discriminator does a segmenter learn best: its kind, its input, its loss, its weight, its stabilisers?

    GAN_SEG_DATA=FOLDER python experiments/adversary.py

FOLDER holds the data sets; nuclei (2018 Data Science Bowl) lie in FOLDER/dsb2018. A U-Net over EfficientNet-Lite0 with
its ImageNet weights is trained by its own losses and 0.1 times the opinion of a PatchGAN with spectral normalisation
that sees image and mask. Every other arm changes one thing (`r1` of `without-norm`): the discriminator (those of Luc
et al. 2016, https://arxiv.org/abs/1611.08408, among them), what it sees (their masks alone, product, softened truth),
the loss, the weight, or what is to keep the game healthy. The command `judge` says of each finished run whether it was:
at an area under the ROC of 0.5 the discriminator knows nothing of truth and prediction, at 1 it tells them apart
without fail, and teaches little.
"""

import sys

import comparison
import question
import runner
from runner import Arm

TITLE = "Nuclei (DSB 2018): discriminators of masks, their input, loss, weight and stabilisers"
SEEDS = (0, 1, 2)
CONFIG = "adversarial_seg.py:unet_lite0"
WEIGHT = "losses.adversarial_weight=0.1"  # at the question's 0.01 one discriminator is much like another


def arms(profile: question.Profile) -> tuple[Arm, ...]:
    """Return the arms of a profile."""
    setting = question.Setting("nuclei", "lite0", profile=profile)

    def arm(name: str, *changes: str, words: str = "", against: str = "patchgan") -> Arm:
        """Return an arm; `changes` are FIELD=VALUE, `words` stand behind the colon of the config."""
        flags = (f"--config.{change}" for change in (WEIGHT, *changes))
        return setting.arm(name, f"{CONFIG}{words}", *flags, against=against, seeds=SEEDS, then=(("judge",),))

    def kind(name: str) -> Arm:
        """Return the arm of a discriminator of `configs/discriminators.py`."""
        return arm(name.replace("_", "-"), words=f",{name}")

    return (
        setting.arm("supervised", "supervised_seg.py:unet_lite0", seeds=SEEDS),
        arm("patchgan", against="supervised"),
        arm("random-discriminator", words=",random_discriminator"),
        *map(kind, ("luc_small", "luc_large", "fcn", "multiscale", "image_level")),
        *(arm(f"sees-{what.replace('_', '-')}", f"losses.discriminator_input={what}") for what in ("mask", "product")),
        arm("softened-truth", "losses.truth_softness=0.9"),
        *(arm(name.replace("_", "-"), f"losses.adversarial={name}") for name in ("least_squares", "hinge")),
        *(arm(f"weight-{weight}", f"losses.adversarial_weight={weight}") for weight in (0.01, 1.0)),
        arm("batch-norm", "networks.discriminator.norm=batch"),
        arm("without-norm", "networks.discriminator.norm=none"),
        arm("r1", "networks.discriminator.norm=none", "losses.r1=1.0", "penalty_every=4", against="without-norm"),
        arm("instance-noise", "losses.instance_noise=0.2"),
        arm("smoothed-labels", "losses.adversarial_smoothing=0.1"),
        arm("differentiable-augmentation", "losses.diff_augment=('translation', 'cutout')"),
        arm("accuracy-bound", "losses.accuracy_bound=0.8"),
        arm("faster-discriminator", "optimizers.discriminator.learning_rate=0.001"),
    )


ARMS, FULL = (arms(profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=(*comparison.GAME, "penalty_every")))

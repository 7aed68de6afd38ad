"""Adversarial methods on medical images, beside cross-entropy. The arms of `medical_nuclei.py`, `medical_em.py` and
`medical_isic.py`.

A U-Net over EfficientNet-Lite0 with its ImageNet weights is trained by itself (cross-entropy and Lovasz-softmax, as in
`question.py`), against a discriminator, as a conditional GAN, by SegAN, and where few images have labels by FixMatch.
SegAN, which has no loss but its critic's, has the optimizer of its released code (Adam at a constant 2e-4, beta1 0.5),
and so has the network by itself on its path, `segan-optimizer`, with which it is compared; all others have the same
AdamW. Of each finished run `evaluate` says Dice, the distances of surfaces and how probabilities are calibrated, and
`judge` whether the discriminator finds the errors.
"""

from question import CPU, FEW, VIEWS, Profile, Setting
from runner import Arm

SEEDS = (0, 1, 2)
SEGAN = ("name=adam", "learning_rate=0.0002", "head_factor=1.0", "schedule=constant", "beta1=0.5", "weight_decay=0.0")
THEN = (("evaluate", "--per_image"), ("judge",))


def arms(data: str, profile: Profile = CPU) -> tuple[Arm, ...]:
    """Return the arms on one data set, a key of `question.DATA`."""
    every, few = (Setting(data, "lite0", labels, profile=profile) for labels in ("all", FEW[data]))
    more = {"seeds": SEEDS, "then": THEN}
    cgan = {**more, "role": "generator"}
    optimizer = tuple(f"--config.optimizers.segmenter.{field}" for field in SEGAN)
    return (
        every.arm("supervised", "supervised_seg.py:unet_lite0", **more),
        every.arm("adversarial", "adversarial_seg.py:unet_lite0", against="supervised", **more),
        every.arm(
            "cgan-lambda0", "cgan_seg.py:lite0,lambda0", against="supervised", varies=("losses.weights.l1",), **cgan
        ),
        every.arm("cgan", "cgan_seg.py:lite0", against="cgan-lambda0", **cgan),
        every.arm("segan-optimizer", "segan.py:unet_lite0,lambda0", *optimizer, **more),
        every.arm(
            "segan",
            "segan.py:unet_lite0",
            "--config.losses.weights.lovasz=0.0",  # it has no loss but the critic's
            "--config.losses.class_weighting=",
            *optimizer,
            against="segan-optimizer",
            varies=("losses.weights.*", "losses.class_weighting"),
            **more,
        ),
        few.arm("supervised", "supervised_seg.py:unet_lite0", **more),
        few.arm("fixmatch", "semi_seg.py:fixmatch,unet_lite0", against="supervised", varies=VIEWS, **more),
    )

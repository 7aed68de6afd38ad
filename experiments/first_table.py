"""The first table: what does the game of a conditional GAN add to cross-entropy, on `scenes`?

    python experiments/first_table.py

Every step from one arm to the next changes one thing: `cgan-lambda0` adds an L1 term to cross-entropy (on the path of
the GAN, whose discriminator's opinion counts nothing), `cgan` adds the game, and `pix2pix-losses` weighs the terms as
pix2pix does (no cross-entropy). All have the same optimizer. Every seed draws its own scenes. The rows of k-means on
colour and position and of the majority class come out of the same runs.
"""

import sys

import comparison
import runner
from runner import Arm

TITLE = "First table: what does a conditional GAN add to cross-entropy?"
SEEDS = (0, 1, 2)
SHARED = ("--config.scenes.seed={seed}",)


def cgan(name: str, words: str, *overrides: str, reference: str, varies: tuple[str, ...] = ()) -> Arm:
    """Return an arm of the conditional GAN with the optimizer of the supervised config."""
    optimizer = ("learning_rate=0.002", "schedule=poly", "beta1=0.9")
    flags = (*SHARED, *(f"--config.optimizers.generator.{field}" for field in optimizer), *overrides)
    config = f"configs/cgan_seg.py{words}"
    return Arm(name, config, flags, SEEDS, reference=reference, acts="generator", varies=varies)


ARMS = (
    Arm("supervised", "configs/supervised_seg.py", SHARED, SEEDS, reference=""),
    cgan("cgan-lambda0", ":lambda0", reference="supervised", varies=("losses.weights.l1",)),
    cgan("cgan", "", reference="cgan-lambda0"),
    cgan(
        "pix2pix-losses",
        ":paper",
        reference="cgan",
        varies=("losses.weights.l1", "losses.weights.cross_entropy"),
    ),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=comparison.GAME))

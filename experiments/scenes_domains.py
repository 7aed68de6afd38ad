"""Scenes: from labelled streets by day to the same streets by night without labels (AdaptSegNet).

    python experiments/scenes_domains.py

No data are needed; every seed draws its own streets. `source-alone` is trained by day and scored by night;
`adaptation-lambda0` is the adaptation's path without its game, so what it gains comes of the target's own batch
statistics; `target-labels` is the upper bound.
"""

import sys

import runner
from dsb2018_domains import GAME, MULTI
from runner import Arm

TITLE = "Scenes: from day to night"
SEEDS = (0, 1, 2)
SHARED = (
    "--config.scenes.look=night",
    "--config.scenes.seed={seed}",
    "--config.ema_decay=0.99",
    "--config.steps=250",
    "--config.eval_every=125",
    "--config.checkpoint_every=125",
    "--config.samples_every=250",
    "--config.baselines=()",
)
DAY = ("--config.source.dataset=scenes", "--config.source.seed=1000{seed}")  # other streets than the target's
ARMS = (
    Arm("source-alone", "configs/supervised_seg.py", (*SHARED, *DAY), SEEDS, reference=""),
    Arm("adaptation-lambda0", "configs/adapt_seg.py:lambda0", (*SHARED, *DAY), SEEDS, reference="source-alone"),
    Arm("adaptation", "configs/adapt_seg.py", (*SHARED, *DAY), SEEDS, reference="adaptation-lambda0"),
    Arm("adaptation-multi", "configs/adapt_seg.py:multi", (*SHARED, *DAY), SEEDS, reference="adaptation", varies=MULTI),
    Arm("target-labels", "configs/supervised_seg.py", SHARED, SEEDS, reference="source-alone", varies=("source.*",)),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, varies=GAME))

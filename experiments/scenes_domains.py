"""Scenes: from labelled streets by day to the same streets by night without labels (AdaptSegNet).

    python experiments/scenes_domains.py

No data are needed. `source-alone` is trained by day and scored by night; `adaptation-lambda0` is the adaptation's path
without its game, so what it gains comes of the target's own batch statistics; `target-labels` is the upper bound.
"""

import sys

import runner
from runner import Arm

TITLE = "Scenes: from day to night"
SEEDS = (0, 1, 2)
SHARED = (
    "--config.scenes.look=night",
    "--config.ema_decay=0.99",
    "--config.steps=250",
    "--config.eval_every=125",
    "--config.checkpoint_every=125",
    "--config.samples_every=250",
    "--config.baselines=()",
)
DAY = "--config.source.dataset=scenes"
ARMS = (
    Arm("source-alone", "configs/supervised_seg.py", (*SHARED, DAY), seeds=SEEDS),
    Arm("adaptation", "configs/adapt_seg.py", (*SHARED, DAY), seeds=SEEDS),
    Arm("adaptation-multi", "configs/adapt_seg.py:multi", (*SHARED, DAY), seeds=SEEDS),
    Arm("adaptation-lambda0", "configs/adapt_seg.py:lambda0", (*SHARED, DAY), seeds=SEEDS),
    Arm("target-labels", "configs/supervised_seg.py", SHARED, seeds=SEEDS),
)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS))

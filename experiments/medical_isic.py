"""Lesions of the skin (ISIC 2017): adversarial methods beside cross-entropy, at the size for an accelerator alone.

    GAN_SEG_DATA=FOLDER python experiments/medical_isic.py --profile=full

FOLDER holds the data sets; this one lies in FOLDER/isic2017 as `gan-seg prepare --format=isic` writes it. The arms are
told in `medical.py`; images are scaled to 256x256.
"""

import sys

import comparison
import medical
import question
import runner

TITLE = "Lesions (ISIC 2017): adversarial methods beside cross-entropy"
FULL = medical.arms("lesions", question.FULL)

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, (), full=FULL, varies=comparison.GAME))

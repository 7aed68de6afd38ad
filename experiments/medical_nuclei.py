"""Nuclei in microscopy (2018 Data Science Bowl) at 128x128: adversarial methods beside cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/medical_nuclei.py

FOLDER holds the data sets; this one lies in FOLDER/dsb2018. The arms are told in `medical.py`.
"""

import sys

import comparison
import medical
import question
import runner

TITLE = "Nuclei (DSB 2018): adversarial methods beside cross-entropy"
ARMS, FULL = (medical.arms("nuclei", profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=comparison.GAME))

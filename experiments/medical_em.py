"""Membranes in electron microscopy (ISBI 2012), 20 sections of 512x512: adversarial methods beside cross-entropy.

    GAN_SEG_DATA=FOLDER python experiments/medical_em.py

FOLDER holds the data sets; this one lies in FOLDER/isbi_em. The arms are told in `medical.py`.
"""

import sys

import comparison
import medical
import question
import runner

TITLE = "Membranes (ISBI 2012 EM): adversarial methods beside cross-entropy"
ARMS, FULL = (medical.arms("membranes", profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=comparison.GAME))

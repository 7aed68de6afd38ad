"""When does a GAN improve a segmentation of nuclei in microscopy: 2018 Data Science Bowl at 128x128?

    GAN_SEG_DATA=FOLDER python experiments/question_nuclei.py

FOLDER holds the data sets; the set lies in FOLDER/dsb2018. The arms, and what they share, are told in `question.py`.
"""

import sys

import comparison
import question
import runner

TITLE = "When does a GAN improve a segmentation? Nuclei, all labels and few, from scratch and pretrained"
ARMS, FULL = (question.arms("nuclei", profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=comparison.GAME))

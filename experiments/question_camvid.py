"""When does a GAN improve a segmentation of street scenes: CamVid at 144x192 (`full`: 360x480), scored at 360x480?

    GAN_SEG_DATA=FOLDER python experiments/question_camvid.py

FOLDER holds the data sets; CamVid (SegNet's split) lies in FOLDER/camvid. The arms, and what they share, are told in
`question.py`.
"""

import sys

import comparison
import question
import runner

TITLE = "When does a GAN improve a segmentation? CamVid, all labels and few, from scratch and pretrained"
ARMS, FULL = (question.arms("camvid", profile) for profile in (question.CPU, question.FULL))

if __name__ == "__main__":
    sys.exit(runner.main(__file__, TITLE, ARMS, full=FULL, varies=comparison.GAME))

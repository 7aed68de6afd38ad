"""Judging what was trained, on the host: pictures against pictures, probabilities and discriminators against the truth.

`fidelity` compares two sets of features (generated and real), `calibration` asks whether probabilities of pixels mean
what they say, `detection` how well a score tells real from fake or wrong pixels from right ones.
"""

FAKES = {"soft": "prediction", "crisp": "arg max"}  # the discriminator's inputs of a prediction
DETECTORS = {  # of wrong pixels
    "discriminator": "1 - D",
    "max_softmax": "1 - max softmax",
    "entropy": "entropy",
    "mirror": "distance to the mirror image",
}

"""Losses: pure functions of arrays; no networks.

`weighted` sums the losses of a segmentation against its label, which are in `segmentation` (pixel by pixel), `region`
(Dice, Tversky), `lovasz`, `boundary` and `hard_pixels`. `adversarial` scores the game between generator and
discriminator, `feature_matching` compares what it sees of both, `segmentation_gan` holds losses of discriminators that
judge pixel by pixel, `regularization` keeps a discriminator smooth.
"""

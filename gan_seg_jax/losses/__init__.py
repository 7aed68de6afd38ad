"""Losses: pure functions of arrays; no config, no networks.

`adversarial` scores the game between generator and discriminator, `segmentation` compares logits with labels,
`regularization` keeps a discriminator smooth.
"""

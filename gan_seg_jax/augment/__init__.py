"""Augmentation on the devices: of images with their labels (`paired`), of what a discriminator sees (`differentiable`).

`photometric` changes colours, `mixing` mixes batches, `noise` draws what generators start from, `resample` scales.
"""

"""Augmentation on the devices: of images with their labels (`paired`), of what a discriminator sees (`differentiable`).

Of pairs, `window` draws which part of the canvas is seen, `warp` turns and deforms it, `photometric` changes colours.
`mixing` mixes batches, `noise` draws what generators start from, `resample` scales.
"""

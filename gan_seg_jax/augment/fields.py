"""The fields of a config that say how images and labels are augmented."""

import math

from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, expect

# What `augment.policy` sets: fields beside which the others stay as they are. Values of "medical" are near nnU-Net's
# (Isensee et al., Nature Methods 2021, arXiv:1904.08128), with the deformation of U-Net (arXiv:1505.04597); "strong" is
# in the manner of RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few operations of many for each image, at random
# strengths up to the largest here, without those that only photographs of single objects bear (equalise, solarise,
# posterise).
POLICIES = {
    "light": {
        "scale": (0.8, 1.25),
        "rotation": 5.0,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "hue": 0.02,
    },
    "strong": {
        "scale": (0.5, 2.0),
        "aspect": 0.5,
        "translation": 0.1,
        "rotation": 20.0,
        "shear": 10.0,
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
        "hue": 0.1,
        "gamma": 0.7,
        "greyscale": 0.5,
        "blur": 1.0,
        "noise": 0.1,
        "cutout": 0.25,
        "operations": 3,
    },
    "medical": {
        "flip_vertical": True,
        "scale": (0.7, 1.4),
        "rotation": 45.0,
        "elastic": 4.0,
        "elastic_sigma": 10.0,
        "brightness": 0.25,
        "contrast": 0.25,
        "gamma": 0.5,
        "blur": 0.2,
        "blur_sigma": (0.5, 1.0),
        "noise": 0.05,
    },
}
LARGEST_SIGMA = 32.0  # of blurs, pixels: the work grows with it

KINDS = {  # as of `config_fields`
    "augment": {
        "policy": str,
        "flip_horizontal": bool,
        "flip_vertical": bool,
        "transpose": bool,
        "scale": [float],
        "aspect": float,
        "translation": float,
        "rotation": float,
        "shear": float,
        "elastic": float,
        "elastic_sigma": float,
        "brightness": float,
        "contrast": float,
        "saturation": float,
        "hue": float,
        "jitter": float,
        "gamma": float,
        "greyscale": float,
        "blur": float,
        "blur_sigma": [float],
        "noise": float,
        "cutout": float,
        "operations": int,
        "cutmix": float,
        "classmix": float,
        "class_balance": float,
    }
}


def check(config: ConfigDict) -> None:
    """Check `config.augment`, and that a crop can be transposed where it is.

    Raises:
        InputError: a value is out of its range.
    """
    options = config.augment
    _check_policy(options)
    _check_range(options, "scale", math.inf, "(1.0, 1.0) is off")
    _check_range(options, "blur_sigma", LARGEST_SIGMA, "standard deviations in pixels")
    for name in ("brightness", "contrast", "saturation", "gamma", "noise", "aspect"):
        expect(options[name] >= 0, f"augment.{name}", options[name], "0 (off) or a positive strength")
    expect(0 <= options.hue <= 0.5, "augment.hue", options.hue, "turns, 0 (off) to 0.5 (any hue)")
    for name in ("jitter", "greyscale", "blur"):
        expect(0 <= options[name] <= 1, f"augment.{name}", options[name], "a probability, 0 to 1")
    for name in ("class_balance", "translation"):
        expect(0 <= options[name] <= 1, f"augment.{name}", options[name], "a share, 0 (off) to 1")
    expect(0 <= options.cutout < 1, "augment.cutout", options.cutout, "a share, 0 (off) to below 1")
    expect(0 <= options.rotation <= 180, "augment.rotation", options.rotation, "degrees, 0 (off) to 180")
    expect(0 <= options.shear <= 45, "augment.shear", options.shear, "degrees, 0 (off) to 45")
    sigma, elastic = options.elastic_sigma, options.elastic
    expect(1 <= sigma < math.inf, "augment.elastic_sigma", sigma, "pixels, at least 1")
    within = f"pixels, 0 (off) to half of augment.elastic_sigma, {sigma / 2:g}, beyond which pictures fold"
    expect(0 <= elastic <= sigma / 2, "augment.elastic", elastic, within)
    expect(options.operations >= 0, "augment.operations", options.operations, "a number of operations; 0 is all")
    for name in ("cutmix", "classmix"):
        expect(0 <= options[name] <= 1, f"augment.{name}", options[name], "a probability, 0 to 1")
    mixed = options.cutmix + options.classmix
    expect(mixed <= 1, "augment.cutmix + config.augment.classmix", mixed, "at most 1: an image is mixed once")
    if mixed:
        expect(config.batch_size > 1, "batch_size", config.batch_size, "at least 2, to mix each image with the next")
    if options.transpose:
        height, width = config.crop_size
        expect(height == width, "crop_size", config.crop_size, "square with augment.transpose")


def _check_policy(options: ConfigDict) -> None:
    """Check that the policy is known, and that what it sets has been set: its name alone does nothing."""
    name = options.policy
    expect(name in ("", *POLICIES), "augment.policy", name, f"one of {', '.join(POLICIES)}, or '' for none")
    if name and all(options[field] != value for field, value in POLICIES[name].items()):
        raise InputError(
            f"config.augment.policy is {name!r}, but none of what it stands for is set. Give it on the command line, "
            f"--config.augment.policy={name}; in a config file call common.augment(config, {name!r})."
        )


def _check_range(options: ConfigDict, name: str, most: float, meaning: str) -> None:
    """Check that a field is a pair of positive numbers below `most`, in order."""
    found = options[name]
    ok = len(found) == 2 and all(isinstance(x, (int, float)) for x in found) and 0 < found[0] <= found[1] < most
    bound = f" < {most:g}" if most < math.inf else ""
    expect(ok, f"augment.{name}", found, f"(low, high) with 0 < low <= high{bound}; {meaning}")

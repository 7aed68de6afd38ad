"""The fields of a config that weigh the losses of a segmentation; those of a game are `methods.game`'s."""

import math

from ml_collections import ConfigDict

from gan_seg_jax.errors import expect

KINDS = {  # as of `config_fields`
    "losses": {
        "weights": dict.fromkeys(
            ("cross_entropy", "focal", "dice", "tversky", "lovasz", "boundary", "hard_pixel", "l1", "mse"), float
        ),
        "auxiliary_weight": float,
        "label_smoothing": float,
        "class_weights": [float],
        "class_weighting": str,
        "focal_gamma": float,
        "tversky_alpha": float,
        "tversky_beta": float,
        "boundary_strength": float,
        "boundary_sigma": float,
        "hard_pixel_fraction": float,
    }
}


def check(config: ConfigDict) -> None:
    """Check the weights of the losses, a method's own among them, and their options.

    Raises:
        InputError: a value is out of its range.
    """
    options = config.losses
    weights = {f"weights.{name}": value for name, value in options.weights.items()}
    for name, value in {**dict(options.items()), **weights}.items():
        if isinstance(value, (int, float)):
            expect(0 <= value < math.inf, f"losses.{name}", value, "0 or a positive number")
    smoothing, fraction, sigma = options.label_smoothing, options.hard_pixel_fraction, options.boundary_sigma
    expect(smoothing < 1, "losses.label_smoothing", smoothing, "at least 0 and less than 1")
    expect(0 < fraction <= 1, "losses.hard_pixel_fraction", fraction, "more than 0 and at most 1")
    expect(sigma > 0, "losses.boundary_sigma", sigma, "pixels, more than 0")


def check_classes(config: ConfigDict) -> None:
    """Check what depends on the number of classes, once the data set has filled it in.

    Raises:
        InputError: the class weights are not one for each class.
    """
    weights = config.losses.class_weights
    ok = len(weights) in (0, config.num_classes) and all(0 <= weight < math.inf for weight in weights)
    ok = ok and (len(weights) == 0 or max(weights) > 0)
    expect(ok, "losses.class_weights", weights, f"(), or {config.num_classes} numbers, none negative, not all 0")

"""The fields of a config that say how images and labels are augmented."""

import math

from ml_collections import ConfigDict

from gan_seg_jax.errors import expect

KINDS = {  # as of `config_fields`
    "augment": {
        "flip_horizontal": bool,
        "flip_vertical": bool,
        "transpose": bool,
        "scale": [float],
        "brightness": float,
        "contrast": float,
        "saturation": float,
        "class_balance": float,
    }
}


def check(config: ConfigDict) -> None:
    """Check `config.augment`, and that a crop can be transposed where it is.

    Raises:
        InputError: a value is out of its range.
    """
    options, scale = config.augment, config.augment.scale
    ok = len(scale) == 2 and all(isinstance(x, (int, float)) for x in scale) and 0 < scale[0] <= scale[1] < math.inf
    expect(ok, "augment.scale", scale, "(low, high) with 0 < low <= high; (1.0, 1.0) is off")
    for name in ("brightness", "contrast", "saturation"):
        expect(options[name] >= 0, f"augment.{name}", options[name], "0 (off) or a positive strength")
    balance = options.class_balance
    expect(0 <= balance <= 1, "augment.class_balance", balance, "a share, 0 (off) to 1")
    if options.transpose:
        height, width = config.crop_size
        expect(height == width, "crop_size", config.crop_size, "square with augment.transpose")

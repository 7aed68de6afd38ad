"""Make grey pictures of 8 bits of measured values: a window and its level, or percentiles of each volume."""

import numpy as np

from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing.source import LeftOut, Options
from gan_seg_jax.preparing.words import numbers

FLAGS = frozenset({"window", "level", "percentiles"})
FLAT = "slices of a single value"


def check_flags(options: Options, *, measured: bool = False, window: str = "window") -> None:
    """Refuse flags that do not say which values are black and white.

    Args:
        options: The flags.
        measured: Whether values are calibrated, so that only a window will do.
        window: What the flag `window` is called.

    Raises:
        InputError: None or both are given, or they are wrong.
    """
    if (options.window > 0) == bool(options.percentiles) or options.window < 0:
        raise InputError(
            f"Nothing says which values are black and white: --{window}=WIDTH --level=CENTRE (of CT, in Hounsfield "
            "units: 400 and 40 for soft tissue)"
            + ("." if measured else ", or --percentiles=1,99 of each volume (MR); give one of them.")
        )
    if options.percentiles:
        low, high = numbers("percentiles", options.percentiles, count=2, high=100)
        if low >= high:
            raise InputError(f"--percentiles is {options.percentiles!r}; expected the lower one first.")


def limits(values: np.ndarray, options: Options) -> tuple[float, float]:
    """Return the values that are black and white, of the finite values of a volume of any shape."""
    if options.window > 0:
        return options.level - options.window / 2, options.level + options.window / 2
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, numbers("percentiles", options.percentiles)) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def to_grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values [h, w] as uint8 [h, w]: 0 at `low` and below, and where they are no number; 255 from `high` on."""
    scaled = (np.nan_to_num(values.astype(np.float32), nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def expect_contrast(grey: np.ndarray) -> np.ndarray:
    """Return a grey picture; raises `LeftOut` where all of its pixels are the same."""
    if grey.min() == grey.max():
        raise LeftOut(FLAT)
    return grey


def describe(options: Options) -> dict[str, str]:
    """Return what became of values, in words, for PREPARED.json."""
    if options.window > 0:
        low, high = limits(np.zeros(0), options)
        return {"black and white": f"{low:g} and {high:g}"}
    return {"black and white": f"percentiles {options.percentiles} of each volume"}

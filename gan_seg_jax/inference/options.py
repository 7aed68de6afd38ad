"""How a trained run labels images beyond one pass of the network: the options, their checks and their flags."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from absl import flags

from gan_seg_jax.errors import InputError
from gan_seg_jax.postprocess.crf import CRFParameters, check
from gan_seg_jax.system import files

CRF_FILE = "crf.json"  # in the run's folder; written by `crf_search`
CLEAN_UP = ("opening", "closing", "min_region", "max_hole")  # in the order in which they are done


@dataclasses.dataclass(frozen=True)
class Options:
    """What is done besides one pass of the network; the defaults do nothing.

    Attributes:
        scales: factors by which images are resized; the probabilities of all are averaged.
        flip: average with the mirror image too.
        window: (height, width) of sliding windows, in pixels of the (scaled) canvas; (0, 0) is the whole at once.
        overlap: share of a window that its successor covers again, 0 to less than 1.
        crf: parameters of the fully connected CRF, or None.
        min_region: regions of fewer pixels take the label around them; 0 is off, as for the following.
        max_hole: holes of up to so many pixels are filled.
        opening: radius in pixels of a morphological opening of each class.
        closing: radius in pixels of a morphological closing of each class.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] = (0, 0)
    overlap: float = 0.5
    crf: CRFParameters | None = None
    min_region: int = 0
    max_hole: int = 0
    opening: int = 0
    closing: int = 0

    def __post_init__(self):
        """Raise InputError if a value is out of its range."""
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        ok = self.scales and all(1 / 16 <= scale <= 16 for scale in self.scales)
        _expect(ok, "scales", self.scales, "numbers of 1/16 to 16, such as 0.75,1,1.25")
        _expect(len(set(self.scales)) == len(self.scales), "scales", self.scales, "each scale once")
        ok = len(self.window) == 2 and (tuple(self.window) == (0, 0) or min(self.window) > 0)
        _expect(ok, "window", self.window, "HEIGHT,WIDTH in pixels, both positive")
        _expect(0 <= self.overlap < 1, "overlap", self.overlap, "a share of the window, at least 0 and less than 1")
        for name in CLEAN_UP:
            _expect(getattr(self, name) >= 0, name, getattr(self, name), "0 (off) or a positive whole number")
        if self.crf is not None:
            check(self.crf)

    @property
    def views(self) -> int:
        """How many versions of an image are averaged."""
        return len(self.scales) * (1 + self.flip)

    @property
    def clean_up(self) -> dict[str, int]:
        """The arguments of `morphology.clean`; empty where it has nothing to do."""
        found = {name: getattr(self, name) for name in CLEAN_UP}
        return found if any(found.values()) else {}

    @property
    def tag(self) -> str:
        """What is on, for the name of a file, such as "scales0.75-1-1.25+flip"; empty for one plain pass."""
        parts = {
            "scales" + "-".join(f"{scale:g}" for scale in self.scales): self.scales != (1.0,),
            "flip": self.flip,
            f"window{self.window[0]}x{self.window[1]}-{self.overlap:g}": tuple(self.window) != (0, 0),
            "crf": self.crf is not None,
            **{f"{name}{getattr(self, name)}": getattr(self, name) > 0 for name in CLEAN_UP},
        }
        return "+".join(name for name, on in parts.items() if on)

    def to_json(self) -> dict[str, Any]:
        """Return all values, the CRF's by name, for JSON."""
        return {**dataclasses.asdict(self), "crf": None if self.crf is None else self.crf._asdict()}


def _expect(ok: bool, name: str, found: Any, expected: str) -> None:
    if not ok:
        shown = ",".join(map(str, found)) if isinstance(found, tuple) else found
        raise InputError(f"--{name} is {shown}; expected {expected}.")


PLAIN = Options()  # one pass of the network


def define_flags() -> None:
    """Define the flags of the options."""
    flags.DEFINE_string("scales", "1", "Average over the image at these scales, such as 0.75,1,1.25.")
    flags.DEFINE_bool("flip", False, "Average with the mirror image.")
    flags.DEFINE_string("window", "", "HEIGHT,WIDTH: label by sliding windows of this size, blended.")
    flags.DEFINE_float("overlap", 0.5, "Share of a window that the next one covers again.")
    flags.DEFINE_bool("crf", False, f"Fully connected CRF: settings of WORKDIR/{CRF_FILE} (crf_search), or DeepLab's.")
    flags.DEFINE_integer("min_region", 0, "Regions of fewer pixels take the label around them.")
    flags.DEFINE_integer("max_hole", 0, "Fill holes of up to this many pixels.")
    flags.DEFINE_integer("opening", 0, "Radius in pixels of a morphological opening.")
    flags.DEFINE_integer("closing", 0, "Radius in pixels of a morphological closing.")


def options_from_flags(workdir: str | Path) -> Options:
    """Return the options that the flags ask for.

    Args:
        workdir: folder of the run, for its `crf.json`.

    Raises:
        InputError: a value is out of its range, or `crf.json` cannot be used.
    """
    values = flags.FLAGS
    same = ("flip", "overlap", *CLEAN_UP)
    return Options(
        scales=_numbers("scales", values.scales, float),
        window=_numbers("window", values.window, int) if values.window else (0, 0),
        crf=read_crf(workdir) if values.crf else None,
        **{name: getattr(values, name) for name in same},
    )


def _numbers(name: str, text: str, kind: type) -> tuple:
    """Return the comma-separated numbers of a flag."""
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"--{name} is {text!r}; expected {what} with commas between them.") from None


def read_crf(workdir: str | Path) -> CRFParameters:
    """Return the CRF's parameters that `crf_search` found for a run, or DeepLab's where it has not been run.

    Raises:
        InputError: the file is damaged or holds other values.
    """
    path = Path(workdir) / CRF_FILE
    if not os.path.lexists(path):
        return CRFParameters()
    try:
        found = files.read_json(path)["parameters"]
        parameters = CRFParameters(*(float(found[name]) for name in CRFParameters._fields))
        check(parameters)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise InputError(
            f"{path} cannot be used ({reason}); remove it for DeepLab's settings, or search again (crf_search)."
        ) from error
    return parameters

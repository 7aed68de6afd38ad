"""What a network says of itself beside its attributes: to those that choose one, check a config or load weights."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, ClassVar, get_args, get_origin

import flax.linen as nn

SEGMENTATION = "segmentation"  # class logits of an image's pixels
LABEL_TO_IMAGE = "label_to_image"  # an image of a label map
UNCONDITIONAL = "unconditional"  # an image, with or without a label map, of noise
SCORES = "scores"  # how real examples are
CLASS_SCORES = "class_scores"  # class logits of an image's pixels, one more for those that are fake
FEATURES = "features"  # what a critic compares of two examples

BACKBONE = "backbone"  # the name under which every network with a backbone holds it

MOST_CHANNELS, MOST_LAYERS, MOST_LEVELS = 2**16, 2**8, 2**6  # no more than any machine could hold


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What the number of a field may be; each of them, where it has several.

    Attributes:
        least: the smallest.
        most: the largest.
        below: whether `most` itself is too much.
        distinct: whether each may be there once only.
        empty: whether there may be none.
    """

    least: float = 1
    most: float = MOST_CHANNELS
    below: bool = False
    distinct: bool = False
    empty: bool = False

    @property
    def expected(self) -> str:
        """What to give, for a message."""
        bounds = f"at least {self.least} and {'less than' if self.below else 'at most'} {self.most}"
        return f"{bounds}, at most {MOST_LEVELS} numbers{', each once' if self.distinct else ''}"

    def allow(self, value: float | tuple[float, ...]) -> bool:
        """Tell whether a number, or a tuple of them, is within these bounds."""
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > MOST_LEVELS or not (numbers or self.empty):
            return False
        if self.distinct and len(set(numbers)) < len(numbers):
            return False
        return all(
            math.isfinite(n) and self.least <= n <= self.most and not (self.below and n == self.most) for n in numbers
        )


COUNT = Numbers()
LAYERS = Numbers(least=0, most=MOST_LAYERS, empty=True)
FACTOR = Numbers(least=0, empty=True)
SHARE = Numbers(least=0, most=1, below=True)


class Network(nn.Module):
    """A network of `models.MODELS`.

    Class attributes:
        MAKES: what it returns, by the names above; a network of logits is one of images, too, where tanh of three
            channels is.
        SIZED: whether it has a weight for each place of what it makes or sees, so that its weights depend on the crop.
        NUMBERS: attribute -> what its numbers may be, where not a `COUNT` of whole ones, a `FACTOR` of others.
    """

    MAKES: ClassVar[tuple[str, ...]] = ()
    SIZED: ClassVar[bool] = False
    NUMBERS: ClassVar[Mapping[str, Numbers]] = {}

    @classmethod
    def fields(cls) -> dict[str, Any]:
        """Return name -> type of the attributes that a config gives; the others follow from what else it says."""
        derived = {"num_classes", "size", "dtype", "parent", "name"}
        return {field.name: field.type for field in dataclasses.fields(cls) if field.name not in derived}

    @classmethod
    def expected(cls, name: str, value: Any) -> str:
        """Return what a field may be where `value` is not allowed, "" where it is."""
        kind = cls.fields()[name]
        if kind in _WORDS:
            return "" if type(value) is kind else _WORDS[kind]
        whole = not _is_of_kind(0.5, kind) and not _is_of_kind((0.5,), kind)
        usual = SHARE if name == "dropout" else COUNT if whole else FACTOR
        bounds = cls.NUMBERS[name] if name in cls.NUMBERS else usual
        fits = _is_of_kind(value, kind) and (value is None or isinstance(value, str) or bounds.allow(value))
        return "" if fits else f"{'whole ' if whole else ''}numbers, {bounds.expected}"


class Discriminator(Network):
    """A network that scores examples; its `norm` may be "spectral", spectral normalisation of every kernel."""

    MAKES: ClassVar[tuple[str, ...]] = (SCORES,)

    @property
    def mixes_examples(self) -> bool:
        """Whether the score of an example depends on the others of its batch."""
        return self.norm == "batch"

    @property
    def bounded(self) -> bool:
        """Whether every kernel is spectrally normalised, which bounds the slope of the scores."""
        return self.norm == "spectral"


_WORDS = {bool: "true or false", str: "text"}


def _is_of_kind(value: Any, kind: Any) -> bool:
    """Tell whether a value is of an attribute's type: a float may be whole, a whole number is no bool."""
    if isinstance(kind, types.UnionType):
        return any(_is_of_kind(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of_kind(inner, get_args(kind)[0]) for inner in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)

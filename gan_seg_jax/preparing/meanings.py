"""What the values of masks mean: ids, 0/255, colours, or one number for each object; as the flags say."""

import dataclasses
from collections.abc import Mapping

from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing.source import Options
from gan_seg_jax.preparing.words import numbers, one_of

MEANINGS = ("ids", "binary", "colors", "instances")
FLAGS = frozenset({"mask_values", "void", "reduce_zero_label", "unknown", "max_ambiguous", "objects", "boundary_width"})
Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What the values of masks mean.

    Attributes:
        name: One of `MEANINGS`.
        num_classes: How many classes there are.
        void: Of ids and instances, the numbers that are void.
        table: Number -> class id or 255, of ids that are not the classes'; {} takes numbers as they are.
        colors: Of binary and colour-coded masks the colours, uint8 [n, 3].
        ids: The class id, or 255, of each of `colors`.
        unknown: What becomes of other colours: "", "void" or "nearest".
        max_ambiguous: Share of the pixels of a mask that may be ambiguous.
        boundary_width: Of instances how many pixels the boundary class is wide; 0 for none.
    """

    name: str
    num_classes: int
    void: tuple[int, ...] = (IGNORE,)
    table: Mapping[int, int] = dataclasses.field(default_factory=dict)
    colors: tuple[Color, ...] = ()
    ids: tuple[int, ...] = ()
    unknown: str = ""
    max_ambiguous: float = 0.1
    boundary_width: int = 0


def meaning_of(options: Options, info: DatasetInfo, void_color: Color | None) -> Meaning:
    """Return the meaning that the flags give to masks.

    Args:
        options: The flags.
        info: The classes.
        void_color: The colour of void, of colour-coded masks; None without one.

    Raises:
        InputError: A flag is wrong, is missing, or means nothing beside the others.
    """
    name = one_of("mask_values", options.mask_values, MEANINGS)
    meant = {
        "void": ("ids", "instances"),
        "reduce_zero_label": ("ids",),
        "unknown": ("binary", "colors"),
        "objects": ("instances",),
    }
    for flag, meanings in meant.items():
        if getattr(options, flag) and name not in meanings:
            raise InputError(f"--{flag} has no meaning with --mask_values={name}; it is for {' and '.join(meanings)}.")
    one_of("unknown", options.unknown, ("", "void", "nearest"))
    if not 0 <= options.max_ambiguous <= 1:
        raise InputError(f"--max_ambiguous is {options.max_ambiguous}; expected a share from 0 to 1.")
    if options.boundary_width < 1:
        raise InputError(f"--boundary_width is {options.boundary_width}; expected at least 1 pixel.")
    given = tuple(int(number) for number in numbers("void", options.void))
    lenient = {"unknown": options.unknown, "max_ambiguous": options.max_ambiguous}
    if name == "instances":
        width = options.boundary_width if options.objects == "boundary" else 0
        if info.num_classes != 2 + bool(width):
            raise InputError(
                f"--objects={options.objects} makes {2 + bool(width)} classes, but there are {info.num_classes}: "
                f"{', '.join(info.class_names)}; name as many."
            )
        return Meaning(name, info.num_classes, void=given, boundary_width=width)
    if name == "ids":
        void = given or (IGNORE,)
        if not options.reduce_zero_label:
            return Meaning(name, info.num_classes, void=void)
        return Meaning(name, info.num_classes, void=(0, *void), table={n + 1: n for n in range(info.num_classes)})
    if name == "binary":
        if info.num_classes != 2:
            raise InputError(f"--mask_values=binary is for two classes, but there are {info.num_classes}.")
        return Meaning(name, 2, colors=((0, 0, 0), (255, 255, 255)), ids=(0, 1), **lenient)
    return of_colors(info, void_color, **lenient)


def of_colors(info: DatasetInfo, void_color: Color | None, **lenient) -> Meaning:
    """Return the meaning of colour-coded masks.

    Raises:
        InputError: Two classes have the same colour.
    """
    colors, ids = info.class_colors, tuple(range(info.num_classes))
    if void_color is not None:
        colors, ids = (*colors, void_color), (*ids, IGNORE)
    if len(set(colors)) < len(colors):
        twice = next(color for color in colors if colors.count(color) > 1)
        raise InputError(f"Two classes have the colour {twice}, so that masks cannot be told apart; correct --classes.")
    return Meaning("colors", info.num_classes, colors=colors, ids=ids, **lenient)


def describe(meaning: Meaning, info: DatasetInfo) -> dict[str, str]:
    """Return what becomes of values, in words, for PREPARED.json."""
    void = ", ".join(map(str, meaning.void)) or "none"
    if meaning.name == "instances":
        return {"0": info.class_names[0], "every other number": " or ".join(info.class_names[1:]), "void": void}
    if meaning.name == "ids":
        table = meaning.table or {n: n for n in range(info.num_classes)}
        return {str(value): info.class_names[class_id] for value, class_id in table.items()} | {"void": void}
    rows = zip(meaning.colors, meaning.ids, strict=True)
    named = {" ".join(map(str, color)): "void" if n == IGNORE else info.class_names[n] for color, n in rows}
    return named | {"other colours": meaning.unknown or "refused"}

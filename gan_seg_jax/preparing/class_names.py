"""Find the classes of a source: a classes.txt, names on the command line, or what the format says."""

import os

from gan_seg_jax.data import classes
from gan_seg_jax.data.catalog import DatasetInfo, palette
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing.source import Options
from gan_seg_jax.system import files

FLAGS = frozenset({"classes", "class_names"})
Color = tuple[int, int, int]


def find(options: Options, default: tuple[str, ...] = ()) -> tuple[DatasetInfo, Color | None]:
    """Return the classes, and the colour of void where a line for id 255 names one.

    Args:
        options: The flags `classes` and `class_names`.
        default: Names to take where there are neither these nor a classes.txt in the source; () for none.

    Raises:
        InputError: There are none, or both flags are given, or the file or the names are wrong.
    """
    if options.classes and options.class_names:
        raise InputError("--classes and --class_names are given; expected one of them.")
    path = os.path.expanduser(options.classes) or os.path.join(options.source, "classes.txt")
    if options.class_names:
        return named(tuple(name.strip() for name in options.class_names.split(","))), None
    if options.classes or os.path.lexists(path):
        return classes.read_classes(path)
    if default:
        return named(default), None
    raise InputError(
        f"Nothing says what the classes are: --classes=FILE with lines `id name R G B`, or "
        f"--class_names=background,NAME,... in the order of their ids (there is no classes.txt in "
        f"{files.shown(options.source)})."
    )


def named(names: tuple[str, ...]) -> DatasetInfo:
    """Return classes of these names, in the colours of VOC.

    Raises:
        InputError: A name is empty, is there twice, or could not be read from classes.txt again.
    """
    names = tuple(" ".join(files.shown(name).split()) for name in names)
    for name in names:
        if not name or "#" in name or names.count(name) > 1 or len(name) > 100:
            raise InputError(
                f"{name!r} cannot be the name of a class: expected different names of 1 to 100 letters, no #."
            )
    if not 2 <= len(names) <= 255:
        raise InputError(f"There are {len(names)} classes; expected 2 to 255 (background counts as one).")
    return DatasetInfo("folder", names, palette(len(names)))

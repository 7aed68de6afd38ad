"""List the files of a source by id; nothing is left out without a word."""

import collections
import os
import unicodedata
from collections.abc import Collection, Iterator

from gan_seg_jax.data.images import ENDINGS
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing.source import Options
from gan_seg_jax.preparing.words import by_split, folder
from gan_seg_jax.system import files

SPLIT = "{split}"
BETWEEN = "__"  # stands for the slash where a sub-folder becomes part of an id


class Listing:
    """Lists files below a source.

    Attributes:
        root: Absolute path of the source.
        left_out: Why -> paths below the root.
    """

    def __init__(self, root: str):
        self.root = root
        self.left_out: dict[str, list[str]] = collections.defaultdict(list)

    def scan(
        self,
        name: str,
        *,
        suffix: str = "",
        endings: tuple[str, ...] = ENDINGS,
        taken: Collection[str] = (),
        without: str = "",
        whole_path: bool = True,
    ) -> dict[str, str]:
        """Return the files of a folder and of those in it by id, sorted.

        Ids are in Unicode's composed form: names from a Mac have the other one, and look the same.

        Args:
            name: The folder, below the root.
            suffix: What ends the name of each file before its ending, or with a dot in it the whole name; no part of
                the id.
            endings: Endings of the files that are taken.
            taken: Whole paths of files that are read as something else.
            without: A folder below the root that is read as something else.
            whole_path: Whether sub-folders are part of an id.

        Returns:
            Id -> whole path.

        Raises:
            InputError: The folder cannot be listed, or two files have the same id.
        """
        folder(self.root, name, "which a flag names")
        found: dict[str, str] = {}
        for path in self._walk(name, without):
            if os.path.join(self.root, path) in taken:
                continue
            stem = without_suffix(os.path.basename(path), suffix, endings)
            if not stem:
                wanted = f"*{suffix}{'' if '.' in suffix else '.*'} of {' '.join(endings)}"
                self.left_out[f"files other than {wanted}"].append(path)
                continue
            below = os.path.relpath(os.path.dirname(path) or os.curdir, name) if whole_path else os.curdir
            parts = [] if below == os.curdir else below.split(os.sep)
            image_id = unicodedata.normalize("NFC", BETWEEN.join([*parts, stem]))
            if image_id in found:
                other = os.path.relpath(found[image_id], self.root)
                raise InputError(
                    f"{files.shown(self.root)}: {files.shown(other)} and {files.shown(path)} have the same id; "
                    "expected one file for each id: rename or remove one, or tell them apart by a suffix."
                )
            found[image_id] = os.path.join(self.root, path)
        return dict(sorted(found.items()))

    def _walk(self, name: str, without: str) -> Iterator[str]:
        """Yield the paths below the root of the files in a folder, hidden ones, links and one folder aside."""

        def refuse(error: OSError):
            raise InputError(f"{files.shown(error.filename or name)} cannot be listed ({error.strerror}).") from None

        top = os.path.normpath(os.path.join(self.root, name))
        for where, folders, names in os.walk(top, onerror=refuse):
            linked = [each for each in folders if os.path.islink(os.path.join(where, each))]
            self.left_out["links to folders"] += [self._below(where, each) for each in linked]
            other = [each for each in folders if without and self._below(where, each) == os.path.normpath(without)]
            folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in (*linked, *other))
            for each in sorted(names):
                if not each.startswith("."):
                    yield self._below(where, each)

    def _below(self, where: str, name: str) -> str:
        return os.path.relpath(os.path.join(where, name), self.root)


def without_suffix(name: str, suffix: str, endings: tuple[str, ...]) -> str:
    """Return the name of a file without suffix and ending; "" where it has not both."""
    if "." in suffix:
        return name.removesuffix(suffix) if name.endswith(suffix) else ""
    ending = next((each for each in sorted(endings, key=len, reverse=True) if name.lower().endswith(each)), None)
    if ending is None:
        return ""
    stem = name[: len(name) - len(ending)]
    return stem.removesuffix(suffix) if stem.endswith(suffix) else ""


def by_template(options: Options, flag: str) -> dict[str, str]:
    """Return split -> name of a flag in which `{split}` may stand for the split; "" -> name without it.

    Raises:
        InputError: The flag is empty, or --splits is needed and missing, or given and not needed.
    """
    template, splits = getattr(options, flag), by_split("splits", options.splits)
    if not template:
        raise InputError(f"--{flag} is missing. See --help.")
    if SPLIT not in template:
        if options.splits:
            raise InputError(
                f"--splits says what {SPLIT} stands for, but --{flag}={template} has none; write it there."
            )
        return {"": template}
    splits = splits or {"train": "train", "val": "val", "test": "test"}
    if options.splits:
        return {split: template.replace(SPLIT, name) for split, name in splits.items()}
    found = {split: template.replace(SPLIT, name) for split, name in splits.items()}
    there = {split: name for split, name in found.items() if os.path.lexists(os.path.join(options.source, name))}
    if "train" not in there:
        folder(options.source, found["train"], f"which --{flag} names (--splits says what its splits are called)")
    return there

"""List the files of a folder set, pair them by name, and say what is left out: nothing is skipped without a word."""

import collections
import dataclasses
import os
import sys
import unicodedata

from gan_seg_jax.data import checks, images
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

_NOTES = ("", ".txt", ".md", ".rst", ".json", ".csv", ".yaml", ".yml", ".html", ".pdf", ".log", ".sha256")
"""Endings of files beside the folders that nobody takes for data."""
_SHOWN = 5  # names in a message
PREPARED = "PREPARED.json"
"""What `prepare` says of a set that it has made."""
LONELY_MASKS = "masks without an image"
"""Why masks are left out that have no image."""


@dataclasses.dataclass(frozen=True)
class Files:
    """The images of one split by id, and their partners: masks, or the target images of pairs."""

    images: dict[str, checks.File]
    partners: dict[str, checks.File]


def require_layout(root: str, layout: str, *, splits: tuple[str, ...] = ("train",)) -> None:
    """Refuse a folder that is missing, no folder, empty, half prepared, or without the images of any of `splits`.

    `layout` says what it should hold.
    """
    if not os.path.lexists(root):
        raise InputError(
            f"The data folder {files.shown(root)} does not exist; {layout} in it. Check --config.data_dir, or "
            "--data_dir."
        )
    if not os.path.isdir(root):
        raise InputError(f"{files.shown(root)} is not a folder; give the folder of the set: {layout} in it.")
    try:
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{files.shown(root)} cannot be listed ({error.strerror}); change its permissions.") from None
    if not names:
        raise InputError(f"The data folder {files.shown(root)} is empty; {layout} in it.")
    if PREPARED in names and _is_unfinished(os.path.join(root, PREPARED)):
        raise InputError(
            f"{files.shown(root)} is not finished: gan-seg prepare was stopped, or has refused something. Start it "
            "again with the same flags; it goes on."
        )
    if not any(os.path.isdir(os.path.join(root, split, "images")) for split in splits):
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        missing = " or ".join(f"{split}/images" for split in splits)
        raise InputError(f"{files.shown(root)} has no folder {missing} (it has {files.shown(found)}); {layout}.")


def _is_unfinished(path: str) -> bool:
    """Tell whether a record of `prepare` says so; a file of that name may be anybody's."""
    try:
        record = files.read_json(path)
    except (InputError, OSError):
        return False
    return isinstance(record, dict) and record.get("complete") is False


class Listing:
    """The listing of one set; what it leaves out is counted.

    Args:
        root: Absolute path of the set.
    """

    def __init__(self, root: str):
        self.root = root
        self.problems: list[checks.Problem] = []  # images without partners
        self.left_out: dict[str, list[str]] = collections.defaultdict(list)  # why -> paths

    def scan(self, folder: str, partner: str | None) -> Files:
        """List the files of a split and note images without partners.

        Args:
            folder: Of the split, below the root.
            partner: "masks", "targets", or None for images alone.

        Raises:
            InputError: The folders cannot be listed, hold no image, or two files of one id.
        """
        found = self._list(f"{folder}/images", images.ENDINGS)
        if not found:
            raise InputError(
                f"{files.shown(self.root)}/{folder}/images holds no image ({', '.join(images.ENDINGS)}"
                f"{self._instead(f'{folder}/images')}); put images there"
                + ("." if folder == "train" else f" or remove the folder {folder}.")
            )
        self.look_beside(folder, {"images", partner})
        if partner is None:
            return Files(found, {})
        partners = self._list(f"{folder}/{partner}", images.ENDINGS if partner == "targets" else images.MASK_ENDINGS)
        self._note_missing(found, partners, partner.removesuffix("s"))
        self.left_out[f"{partner} without an image"] += [
            file.path for image_id, file in partners.items() if image_id not in found
        ]
        return Files(found, {image_id: partners[image_id] for image_id in found if image_id in partners})

    def report(self, known: set[str]) -> None:
        """Say on stderr what was left out; `known` are the names in the root that are read or have a meaning."""
        self.look_beside("", known)
        groups = {why: sorted(paths) for why, paths in self.left_out.items() if paths}
        if not groups:
            return
        parts = []
        for why, paths in groups.items():
            more = ", ..." if len(paths) > _SHOWN else ""
            parts.append(f"{why}: {len(paths)} ({', '.join(map(files.shown, paths[:_SHOWN]))}{more})")
        print(f"left out in {files.shown(self.root)}: {'; '.join(parts)}", file=sys.stderr)

    def _note_missing(self, found: dict[str, checks.File], partners: dict[str, checks.File], partner: str) -> None:
        by_letters = {image_id.casefold(): file for image_id, file in partners.items() if image_id not in found}
        for image_id, file in found.items():
            if image_id in partners:
                continue
            near = by_letters.get(image_id.casefold())
            if near is not None:
                reason = f"image and {partner} differ in letter case; give both the same name."
                self.problems.append(checks.Problem(file.path, reason, near.path))
                continue
            reason = f"image without a {partner}; add {partner}s/ID.png of the same name, or "
            reason += "move images without labels to unlabeled/images." if partner == "mask" else "remove the image."
            self.problems.append(checks.Problem(file.path, reason))

    def _list(self, folder: str, endings: tuple[str, ...]) -> dict[str, checks.File]:
        """Return the files in a folder that have one of the endings, by id, sorted; two for one id are refused.

        Ids are in Unicode's composed form: names from a Mac have the other one, and look the same.
        """
        found: dict[str, checks.File] = {}
        clashes = []
        for entry in self._entries(folder):
            path = f"{folder}/{entry.name}"
            stem, ending = os.path.splitext(entry.name)
            image_id = unicodedata.normalize("NFC", stem)
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    self.left_out["folders inside of a folder of files"].append(path)
                    continue
                if ending.lower() not in endings:
                    self.left_out[f"files that do not end in {' '.join(endings)}"].append(path)
                    continue
                state = entry.stat()
                file = checks.File(path, state.st_size, state.st_mtime_ns)
            except OSError:  # a link to nothing or to itself: reading it will say so
                file = checks.File(path, -1, -1)
            if image_id in found:
                clashes.append(f"{os.path.basename(found[image_id].path)} and {entry.name}")
            found.setdefault(image_id, file)
        if clashes:
            more = f" (and {len(clashes) - 1} more pairs)" if len(clashes) > 1 else ""
            raise InputError(
                f"{files.shown(self.root)}/{folder} holds {files.shown(clashes[0])}{more}, which have the same id; "
                "expected one file for each id: rename or remove one."
            )
        return dict(sorted(found.items()))

    def _entries(self, folder: str) -> list[os.DirEntry]:
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"{files.shown(self.root)}/{folder} cannot be listed ({error.strerror}); expected this folder in every "
                "split."
            ) from None

    def look_beside(self, folder: str, known: set[str | None]) -> None:
        """Count what lies beside the folders that are read (`known`, with what has a meaning), but for notes."""
        for entry in self._entries(folder):
            note = os.path.splitext(entry.name)[1].lower() in _NOTES and not entry.is_dir()
            if not (entry.name.startswith(".") or entry.name in known or note):
                self.left_out["beside the folders that are read"].append(os.path.join(folder, entry.name))

    def _instead(self, folder: str) -> str:
        """Return what a folder without images holds."""
        names = [path.removeprefix(f"{folder}/") for paths in self.left_out.values() for path in paths]
        return f"; it has {files.shown(', '.join(names[:_SHOWN]))}" if names else ""

"""The folder that is published of a run: its weights, its config, and a model card."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan_seg_jax.errors import InputError
from gan_seg_jax.exporting import card, weights
from gan_seg_jax.exporting.program import describe
from gan_seg_jax.inference.load import Run, load_run
from gan_seg_jax.runs import prepared
from gan_seg_jax.runs.weights import FACTS, MODEL
from gan_seg_jax.system import files, hub

CONFIG, CARD = "config.json", "README.md"
_MOST = {CONFIG: 2**22, FACTS: 2**22, CARD: 2**22, MODEL: 2**34}  # bytes that each file may have


def write(
    folder: Path,
    run: Run,
    cut: Mapping[str, Any],
    summary: Mapping[str, Any] | None,
    image_counts: np.ndarray | None,
    licence: str = "",
) -> None:
    """Write the files of a run into a new folder.

    Args:
        folder: the new one.
        run: the run.
        cut: how its data were cut out of volumes, as `prepared.read` knows it.
        summary: and those behind it: see `card.card`.
        image_counts: see there.
        licence: see there.
    """
    data = weights.serialize(run)
    files.write_json(folder / CONFIG, weights.published_config(run))
    files.write_text(folder / CARD, card.card(run, summary, image_counts, licence))
    with files.written(folder / MODEL):
        files.write_bytes(folder / MODEL, data)
    facts = {**describe(run), "prepared": cut, "file": MODEL, "sha256": hashlib.sha256(data).hexdigest()}
    files.write_json(folder / FACTS, facts)


def fetch(source: str, folder: Path) -> Run:
    """Copy what was published of a run into a new folder; return the run, which was loaded to check it.

    Args:
        source: "hf:OWNER/NAME[@REVISION]", or a folder.
        folder: the new one.

    Raises:
        InputError: a file is missing, or they are not those of a run.
    """
    for name, most in _MOST.items():
        path = _place(source, name)
        try:
            if path.stat().st_size > most:
                raise InputError(f"{name} of {files.shown(source)} has more than {most} bytes; it is none of ours.")
            with open(path, "rb") as given, files.written(folder / name), open(folder / name, "xb") as taken:
                shutil.copyfileobj(given, taken)
        except OSError as error:
            raise InputError(f"{name} of {files.shown(source)} cannot be read: {error.strerror}.") from error
    try:
        run = load_run(folder)
        prepared.read(folder)
        return run
    except InputError as error:  # by the name that the user knows
        raise InputError(str(error).replace(str(folder), files.shown(source))) from error


def _place(source: str, name: str) -> Path:
    """Return where a published file lies on this machine.

    Raises:
        InputError: it is missing, or a link, which may lead anywhere.
    """
    lacks = "; expected what `gan-seg push` has written."
    if source.startswith(hub.PREFIX):
        return hub.file(source, name, missing=lacks)
    path = files.local(source) / name
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{files.shown(source)} has no {name}{lacks}")
    return path

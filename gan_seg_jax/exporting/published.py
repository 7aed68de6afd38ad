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
from gan_seg_jax.runs.weights import FACTS, MODEL
from gan_seg_jax.system import files, hub

CONFIG, CARD = "config.json", "README.md"


def write(
    folder: Path, run: Run, summary: Mapping[str, Any] | None, image_counts: np.ndarray | None, licence: str = ""
) -> None:
    """Write the files of a run into a new folder; the arguments behind it are those of `card.card`."""
    data = weights.serialize(run)
    files.write_json(folder / CONFIG, weights.published_config(run))
    files.write_text(folder / CARD, card.card(run, summary, image_counts, licence))
    with files.written(folder / MODEL):
        files.write_bytes(folder / MODEL, data)
    facts = {**describe(run, None), "file": MODEL, "sha256": hashlib.sha256(data).hexdigest()}
    files.write_json(folder / FACTS, facts)


def fetch(source: str, folder: Path) -> Run:
    """Copy what was published of a run into a new folder; return the run, which was loaded to check it.

    Args:
        source: "hf:OWNER/NAME[@REVISION]", or a folder.
        folder: the new one.

    Raises:
        InputError: a file is missing, or they are not those of a run.
    """
    for name in (CONFIG, FACTS, MODEL, CARD):
        if source.startswith(hub.PREFIX):
            path = hub.file(source, name, missing="; expected what `gan-seg push` has written.")
        else:
            path = files.local(source) / name
            if not path.is_file():
                raise InputError(f"{files.shown(source)} has no {name}; expected what `gan-seg push` has written.")
        with files.written(folder / name):
            shutil.copyfile(path, folder / name)
    return load_run(folder)

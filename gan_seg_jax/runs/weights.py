"""The weights of a run in one file, without checkpoints: the folder that `export --format=safetensors` writes.

FOLDER/model.safetensors    ROLE/params/..., ROLE/batch_stats/... of the roles that label, averages where there are
FOLDER/config.json          the run's config
FOLDER/export.json          what users have to know, the step and the SHA-256 of the weights among it
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

MODEL, FACTS = "model.safetensors", "export.json"


def are_in(folder: str | Path) -> bool:
    """Tell whether a folder holds exported weights, and is not that of a run itself."""
    folder = files.local(folder)
    return os.path.lexists(folder / MODEL) and not os.path.lexists(folder / "checkpoints")


def read(folder: str | Path, limit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return path -> array and the facts of exported weights.

    Args:
        folder: the folder.
        limit: bytes that the file may have.

    Raises:
        InputError: a file is missing, damaged or too large.
    """
    path = files.local(folder) / MODEL
    mend = "export the run again"
    try:
        facts, data = files.read_json(path.with_name(FACTS)), files.read_bytes(path, limit=limit)
        if facts["sha256"] != hashlib.sha256(data).hexdigest():
            raise InputError(f"{files.shown(path)} differs from what was exported; {mend}.")
        if type(facts["step"]) is not int or not 0 <= facts["step"] < 2**31:
            raise TypeError("no step")
        return safetensors.numpy.load(data), facts
    except OSError as error:
        raise InputError(f"{files.shown(error.filename or path)} cannot be read: {error.strerror}; {mend}.") from error
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"The export in {files.shown(folder)} is damaged ({reason}); {mend}.") from error

"""What the check of a set has found, remembered in the user's cache, so that the next start reads no pixels."""

import contextlib
import hashlib
import json
import os
import pathlib
from typing import Any

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

SCHEMA = 4
"""To be raised when the facts or the meaning of the reading of files change."""

_LIMIT = 1 << 30  # bytes; a million files take a fifth of it


def load(root: str) -> dict[str, Any]:
    """Return what is remembered of a set by the path of its folder; nothing where there is no usable cache."""
    try:
        content = files.read_json(_file(root), limit=_LIMIT)
        if content["schema"] != SCHEMA or content["root"] != root or not isinstance(content["files"], dict):
            return {}
        return content["files"]
    except (InputError, OSError, RuntimeError, ValueError, TypeError, KeyError):
        return {}


def save(root: str, entries: dict[str, Any]) -> None:
    """Remember `entries`; a cache that cannot be written is no reason to stop."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _file(root)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Whole or not at all, also with two processes at once.
        files.write_bytes(path, json.dumps({"schema": SCHEMA, "root": root, "files": entries}).encode())


def _file(root: str) -> pathlib.Path:
    return files.cache_folder() / "checks" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"

"""What a checkpoint proves of itself: digests of every array and of its meta, and how much memory it asks for.

Orbax restores a flipped bit without an error, and whatever shape a file names.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

SEAL = "sha256"  # key of a meta's own digest
LARGEST = 2**34  # bytes of all networks, averages and moments left aside
ROOM = 2**26  # bytes that stored arrays may have beyond what the network explains


class Damaged(InputError):
    """A checkpoint is not what was saved."""


def flatten(tree: Any) -> dict[str, Any]:
    """Return path -> leaf, with paths such as `networks/generator/params/head/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def array_digest(array: np.ndarray) -> str:
    """Return the SHA-256 over dtype, shape and bytes of an array, in hexadecimal."""
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # no copy of the bytes
    return digest.hexdigest()


def state_digest(state: Any) -> str:
    """Return one SHA-256 over all paths and arrays of a state: equal exactly when every bit is."""
    return json_digest({path: array_digest(np.asarray(leaf)) for path, leaf in flatten(state).items()})


def json_digest(values: Any) -> str:
    """Return the SHA-256 over a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def seal(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a meta, as JSON gives it back, with its own digest."""
    values = json.loads(json.dumps(meta))
    return {**values, SEAL: json_digest(values)}


def open_meta(folder: Path) -> dict[str, Any]:
    """Return the meta of the checkpoint in a folder that is named after its step; no array is read.

    Raises:
        Damaged: it is not what was saved.
        InputError: it has no digest.
        OSError: it cannot be read.
    """
    _expect_regular(folder)
    try:
        meta = json.loads(files.read_bytes(folder / "meta" / "metadata"))
    except (ValueError, RecursionError, InputError) as error:
        raise Damaged(f"The checkpoint {folder} cannot be read: {error}") from error
    if isinstance(meta, dict) and SEAL not in meta:
        raise InputError(
            f"The checkpoint {folder} has no digest of its meta: an earlier version of gan_seg_jax saved it. Use that "
            "version, or train again in another folder."
        )
    if not isinstance(meta, dict) or json_digest({k: v for k, v in meta.items() if k != SEAL}) != meta[SEAL]:
        raise Damaged(f"The checkpoint {folder} is damaged: its meta differs from what was saved.")
    known = isinstance(meta.get("digests"), dict) and {"step", "best_step", "data"} <= meta.keys()
    if not known or not isinstance(meta["best_step"], (int, type(None))):
        raise InputError(f"The checkpoint {folder} has another meta than this version of gan_seg_jax writes.")
    if meta["step"] != int(folder.name):
        raise Damaged(f"The checkpoint {folder} is damaged: it was saved at step {meta['step']}.")
    return meta


def _expect_regular(folder: Path) -> None:
    """Raise Damaged where a link, a pipe or a device is among a checkpoint's files."""
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = Path(parent, name)
            if not (stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)):
                raise Damaged(f"The checkpoint {folder} is damaged: {path} is no regular file.")


def check_size(folder: Path, paths: Iterable[str], meta: Mapping[str, Any], limit: int | None) -> None:
    """Check what a checkpoint asks for before any of it is allocated.

    Args:
        folder: the checkpoint's.
        paths: of the arrays that are wanted.
        meta: the checkpoint's meta, with the digests.
        limit: bytes that they may have together; None is any number.

    Raises:
        Damaged: there are other arrays than were saved.
        InputError: they are larger than `limit`.
        Exception: whatever Orbax raises for damaged files.
    """
    handler = ocp.PyTreeCheckpointHandler()
    stored = handler.metadata(folder / "state").tree
    handler.close()
    if set(stored) != set(meta["digests"]):
        raise Damaged(f"The checkpoint {folder} is damaged: it has other arrays than were saved.")
    size = sum(_size(stored[path]) for path in paths)
    if limit is not None and size > limit:
        raise InputError(
            f"The checkpoint {folder} is of another architecture: its arrays take {size / 1e6:.0f} MB, and the "
            f"networks of the config explain at most {limit / 1e6:.0f} MB."
        )


def check_arrays(folder: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Raise Damaged unless every array is what was saved."""
    wrong = sorted(path for path, array in arrays.items() if array_digest(array) != meta["digests"][path])
    if wrong:
        raise Damaged(f"The checkpoint {folder} is damaged: {wrong[0]} differs from what was saved.")


def _size(array: Any) -> int:
    """Return how many bytes are allocated for an array as Orbax describes it: itself, or a chunk if that is more."""
    count = lambda shape: int(np.prod([int(n) for n in shape], dtype=object))
    chunk = count(array.storage.chunk_shape) if array.storage and array.storage.chunk_shape else 0
    return max(count(array.shape), chunk) * np.dtype(array.dtype).itemsize


def room(template: Any) -> int:
    """Return how many bytes the stored form of a tree of arrays may have: its averages and moments, and some more.

    Raises:
        InputError: it is larger than any network of ours.
    """
    size = sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(template))
    if size > LARGEST:
        gigabytes = f"{size / 1e9:.0f} GB; expected at most {LARGEST / 1e9:.0f} GB"
        raise InputError(f"The config asks for networks of {gigabytes}.")
    return 8 * size + ROOM

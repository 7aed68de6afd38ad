"""What others read of a run's folder: its config, and the checkpoint that is wanted, each held against the other."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax import models, parallel
from gan_seg_jax.config import check, differences, from_json, to_json
from gan_seg_jax.config_fields import check_fields, present_fields
from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import fields_of
from gan_seg_jax.runs.checkpoint_store import Checkpoints
from gan_seg_jax.runs.integrity import Damaged, flatten
from gan_seg_jax.system import files


def fill(template: Any, arrays: dict[str, np.ndarray], *, origin: str) -> Any:
    """Return `template` with every leaf replaced by the array of its path.

    Raises:
        InputError: paths or shapes differ: the checkpoint is of another architecture.
    """
    wanted = flatten(template)
    missing, extra = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    if missing or extra:
        lists = [
            f"{word} {paths[0]} ({len(paths)} in all)" for word, paths in (("lacks", missing), ("has", extra)) if paths
        ]
        raise InputError(f"{origin} is of another architecture: it {' and '.join(lists)}.")
    for path, leaf in wanted.items():
        if tuple(arrays[path].shape) != tuple(leaf.shape):
            raise InputError(
                f"{origin} is of another architecture: {path} is {tuple(arrays[path].shape)}, "
                f"expected {tuple(leaf.shape)}."
            )
    _, structure = jax.tree.flatten(template)
    return jax.tree.unflatten(structure, [arrays[path] for path in wanted])


def read_config(workdir: str | Path):
    """Return the config of a finished or running run, checked as one of the command line is.

    Raises:
        InputError: the folder holds no run, or its config.json is none of ours.
    """
    path = files.local(workdir) / "config.json"
    try:
        values = present_fields(files.read_json(path))
    except FileNotFoundError as error:
        raise InputError(f"{workdir} is not the folder of a run: {path} is missing.") from error
    try:
        return checked(values)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error


def checked(values: Any) -> ConfigDict:
    """Return the config that JSON values are: somebody else may have written them.

    Raises:
        InputError: they are none.
    """
    check_fields(values, fields_of())
    config = from_json(values)
    check(config)
    models.check(config)
    return config


def load_checkpoint(
    workdir: str | Path, which: str = "best", *, training: bool = True, limit: int | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and meta of a run's checkpoint; where an older one takes a damaged one's place, stderr says so.

    Args:
        workdir: the run's folder.
        which: "best" (by validation), "latest", or a step.
        training: also the state of the optimizers.
        limit: bytes that the arrays may take (`integrity.room`); None is any number.

    Raises:
        InputError: no such checkpoint, or it is damaged.
    """
    checkpoints, meta = _find(workdir, which)
    options = {"training": training, "limit": limit}
    if which != "latest":
        try:
            return checkpoints.load(meta["step"], **options)
        except Damaged as error:
            raise InputError(f"{error} Another one can be named: --checkpoint=latest.") from error
    problem = ""
    for step in reversed([step for step in checkpoints.steps() if step <= meta["step"]]):
        try:
            found = checkpoints.load(step, **options)
        except Damaged as error:
            problem = problem or str(error)
            continue
        if problem:
            _say_older(problem, step)
        return found
    raise InputError(f"No checkpoint in {checkpoints.directory} can be used. {problem}")


def load_meta(workdir: str | Path, which: str = "best") -> dict[str, Any]:
    """Return the meta of a run's checkpoint, as `load_checkpoint` chooses it; no array is read.

    Raises:
        InputError: no such checkpoint, or it is damaged.
    """
    return _find(workdir, which)[1]


def newest_meta(workdir: str | Path) -> dict[str, Any] | None:
    """Return the meta of the newest checkpoint whose meta verifies, None if there is none.

    Raises:
        InputError: it is of an earlier version.
    """
    checkpoints = Checkpoints(workdir, read_only=True)
    for step in reversed(checkpoints.steps()):
        with contextlib.suppress(Damaged):
            return checkpoints.load_meta(step)
    return None


def _find(workdir: str | Path, which: str) -> tuple[Checkpoints, dict[str, Any]]:
    """Return a run's checkpoints and the meta of the one that is wanted; the newest whose meta verifies is the latest.

    Raises:
        InputError: there is none.
    """
    folder = files.local(workdir) / "checkpoints"
    checkpoints = Checkpoints(workdir, read_only=True) if folder.is_dir() else None
    steps = [] if checkpoints is None else checkpoints.steps()
    if not steps:
        raise InputError(f"{workdir} holds no checkpoints yet; train first.")
    if which.isdecimal() and len(which) < 19:
        return checkpoints, checkpoints.load_meta(int(which))
    if which not in ("best", "latest"):
        raise InputError(f"--checkpoint is {which!r}; expected best, latest or a step ({', '.join(map(str, steps))}).")
    problem = ""
    for step in reversed(steps):
        try:
            meta = checkpoints.load_meta(step)
        except Damaged as error:
            problem = problem or str(error)
            continue
        if problem or (problem := _gone(workdir, step)):
            _say_older(problem, step)
        best = meta["best_step"]
        return checkpoints, meta if which == "latest" or best in (None, step) else checkpoints.load_meta(best)
    raise InputError(f"No checkpoint in {checkpoints.directory} can be used. {problem}")


def _gone(workdir: str | Path, newest: int) -> str:
    """Return the sentence for a finished run whose last checkpoint is not there any more, "" where it is."""
    try:
        last = files.read_json(Path(workdir) / "summary.json")["steps"]
    except (FileNotFoundError, InputError, TypeError, KeyError):
        return ""
    if not isinstance(last, int) or last <= newest:
        return ""
    return f"The run in {workdir} ended at step {last}, whose checkpoint is gone."


def _say_older(problem: str, step: int) -> None:
    """Say that an older checkpoint is used, or asked which step is the best one."""
    if parallel.is_first_process():
        print(f"{problem} The one of step {step} takes its place.", file=sys.stderr, flush=True)


def check_config(workdir: str | Path, config: ConfigDict, meta: dict[str, Any]) -> None:
    """Check that a run's config.json is the one that its checkpoints were saved with.

    Raises:
        InputError: it has been changed; field, old and new value are named.
    """
    try:
        checked(meta.get("config"))
    except InputError as error:
        raise InputError(
            f"The checkpoint of step {meta['step']} in {workdir} holds another config than this version of gan_seg_jax "
            f"knows: {error}"
        ) from error
    found = differences(meta["config"], to_json(config))
    if found:
        field, old, new = found[0]
        raise InputError(
            f"{Path(workdir) / 'config.json'} has been changed: config.{field} is {new!r}, and the checkpoint of step "
            f"{meta['step']} was saved with {old!r}. Restore it."
        )


def network_variables(arrays: dict[str, np.ndarray], role: str, *, origin: str) -> dict[str, Any]:
    """Return {"params": ..., other collections} of a role out of a checkpoint's arrays, averaged where it has averages.

    Raises:
        InputError: there is no such role.
    """
    network = _nest(arrays, f"networks/{role}/")
    if "params" not in network:
        known = sorted({path.split("/")[1] for path in arrays if path.startswith("networks/")})
        raise InputError(f"{origin} has no {role}; it has: {', '.join(known)}.")
    if "ema_params" in network:
        return {"params": network["ema_params"], **network.get("ema_collections", {})}
    return {"params": network["params"], **network.get("collections", {})}


def restore_networks(
    workdir: str | Path, roles: tuple[str, ...], which: str = "best", *, limit: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return role -> {"params": ..., other collections} out of another run, averaged weights where it has them.

    Raises:
        InputError: the run has no such role, its checkpoint cannot be read, or is larger than `limit` bytes.
    """
    arrays, _ = load_checkpoint(workdir, which, training=False, limit=limit)
    return {role: network_variables(arrays, role, origin=str(workdir)) for role in roles}


def _nest(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """Return the nested dict of the paths that start with `prefix`."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        if path.startswith(prefix):
            *parents, name = path[len(prefix) :].split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = array
    return tree

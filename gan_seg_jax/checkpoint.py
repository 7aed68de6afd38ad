"""Checkpoints: Orbax writes them atomically; this module adds integrity, fall-back and the choice of what stays.

A checkpoint `checkpoints/<step>/` holds every array of the state under its path (`networks/generator/params/...`) and a
JSON `meta` (position of the data, best score, seconds, and the SHA-256 of every array: Orbax restores a flipped bit
without an error). A checkpoint that does not verify is moved aside as `damaged-<step>`, never deleted, and the newest
one that does verify is used.
"""

import errno
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gan_seg_jax import files, parallel
from gan_seg_jax.config import from_json
from gan_seg_jax.errors import InputError

_policies = ocp.checkpoint_managers
_PASSING = (errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM)  # no damage
_REPLACED = "replaced-"  # name of a checkpoint whose step is being saved again


def flatten(tree: Any) -> dict[str, Any]:
    """Return path -> leaf, with paths such as `networks/generator/params/head/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def array_digest(array: np.ndarray) -> str:
    """Return the SHA-256 over dtype, shape and bytes of an array, in hexadecimal."""
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def state_digest(state: Any) -> str:
    """Return one SHA-256 over all paths and arrays of a state: equal exactly when every bit is."""
    digests = {path: array_digest(np.asarray(leaf)) for path, leaf in flatten(state).items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


class _Keep:
    """Orbax preservation policy: the newest few, and the best."""

    def __init__(self, count: int):
        self.count, self.best = count, None

    def should_preserve(self, checkpoints, *, context):
        del context
        newest = {info.step for info in checkpoints[-self.count :]}
        return [info.step in newest or info.step == self.best for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints`."""

    def __init__(self, workdir: str | Path, *, keep: int = 2, read_only: bool = False):
        """Open the folder (made if it is missing, unless `read_only`); left-overs of killed saves are removed.

        Args:
            workdir: the run's folder.
            keep: how many of the newest checkpoints stay, besides the best.
            read_only: never write, remove or move anything.
        """
        # Orbax tells of every retention decision through absl; a run has its own messages.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.directory = Path(workdir).absolute() / "checkpoints"
        self._keep = _Keep(keep)
        self._read_only = read_only
        if not read_only:
            self._settle()
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_names=("state", "meta"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._keep,
                save_decision_policy=_policies.FixedIntervalPolicy(1),
                enable_async_checkpointing=not read_only,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
            ),
        )

    def steps(self) -> list[int]:
        """Return the steps that have a committed checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Start to save; return when the arrays are copied and writing goes on in the background.

        Args:
            step: the step that the state is at; an earlier checkpoint of it is replaced.
            state: any tree of arrays; on several hosts every array is replicated.
            meta: JSON values; `meta["best_step"]` (or None) is kept from removal.
        """
        replaced = step in self._manager.all_steps()
        if replaced:  # aside until the new one is there: a kill in between loses nothing
            self.wait()
            self._move(step, f"{_REPLACED}{step}")
        # A copy, since the next step donates the buffers (np.asarray would be a view of them on CPU).
        arrays = {path: np.array(leaf) for path, leaf in flatten(state).items()}
        digests = {path: array_digest(array) for path, array in arrays.items()}
        self._keep.best = meta["best_step"]
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(arrays), meta=ocp.args.JsonSave({**meta, "digests": digests})
        )
        self._manager.save(step, args=items)
        if replaced:
            self.wait()
            self._settle()

    def load(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return path -> array and the meta of one checkpoint, verified.

        Raises:
            InputError: the checkpoint is missing, unreadable, or an array differs from what was saved.
        """
        if step not in self._manager.all_steps():
            known = ", ".join(map(str, self.steps())) or "none"
            raise InputError(f"There is no checkpoint of step {step} in {self.directory}; there are: {known}.")
        try:
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
            like = dict.fromkeys(meta["digests"], ocp.RestoreArgs(restore_type=np.ndarray))
            item = ocp.args.PyTreeRestore(dict.fromkeys(like, 0), restore_args=like)
            arrays = self._manager.restore(step, args=ocp.args.Composite(state=item)).state
        except Exception as error:  # Orbax and TensorStore raise anything, by the byte that is damaged
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in _PASSING:
                raise
            raise InputError(f"The checkpoint {self.directory / str(step)} cannot be read: {_short(error)}") from error
        wrong = sorted(path for path, digest in meta["digests"].items() if array_digest(arrays[path]) != digest)
        if wrong:
            raise InputError(
                f"The checkpoint {self.directory / str(step)} is damaged: {wrong[0]} differs from what was saved."
            )
        return arrays, meta

    def load_latest(self) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]] | None:
        """Return arrays and meta of the newest checkpoint that verifies, and a sentence for each one that does not.

        The ones that do not verify are moved aside. None if nothing is there.

        Raises:
            InputError: there are checkpoints and none verifies.
        """
        problems = []
        for step in reversed(self.steps()):
            problem, found = None, None
            try:
                found = self.load(step)
            except InputError as error:
                problem = str(error)
            if not parallel.any_process(found is None):  # all processes use the same one
                self._keep.best = found[1]["best_step"]
                return *found, problems
            problems.append(problem or f"Another process could not read the checkpoint of step {step}.")
            self._set_aside(step)
        if problems:
            raise InputError(
                f"No checkpoint in {self.directory} can be used. {problems[0]} Remove the folder to start anew."
            )
        return None

    def _set_aside(self, step: int) -> None:
        """Rename a damaged checkpoint so that nothing picks it up again."""
        if self._read_only:
            return
        name, number = f"damaged-{step}", 1
        while (self.directory / name).exists():
            name, number = f"damaged-{step}-{number}", number + 1
        self._move(step, name)

    def _move(self, step: int, name: str) -> None:
        """Rename the folder of a checkpoint, on all processes at the same point."""
        _together(f"before {name}")
        if jax.process_index() == 0:
            (self.directory / str(step)).rename(self.directory / name)
        _together(f"after {name}")
        self._manager.reload()

    def _settle(self) -> None:
        """Finish the replacement of a checkpoint: the new one stays if it is there, else the old one comes back."""
        if jax.process_index() == 0:
            for old in self.directory.glob(f"{_REPLACED}*"):
                new = self.directory / old.name.removeprefix(_REPLACED)
                if new.exists():
                    shutil.rmtree(old)
                else:
                    old.rename(new)
        _together("settled")

    def wait(self) -> None:
        """Block until everything that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait and let go of the folder."""
        self._manager.close()


def _together(point: str) -> None:
    """Wait until every process is at this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(point)


def _short(error: Exception) -> str:
    """Return the first line of an error, at most 200 characters."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


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
    """Return the config of a finished or running run.

    Raises:
        InputError: the folder holds no run.
    """
    path = Path(workdir) / "config.json"
    try:
        values = files.read_json(path)
    except FileNotFoundError as error:
        raise InputError(f"{workdir} is not the folder of a run: {path} is missing.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} cannot be read: a config is an object, found {type(values).__name__}.")
    return from_json(values)


def load_checkpoint(workdir: str | Path, which: str = "best") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and meta of a run's checkpoint.

    Args:
        workdir: the run's folder.
        which: "best" (by validation), "latest", or a step.

    Raises:
        InputError: no such checkpoint, or it is damaged.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        raise InputError(f"{workdir} holds no checkpoints yet; train first.")
    checkpoints = Checkpoints(workdir, read_only=True)
    steps = checkpoints.steps()
    if not steps:
        raise InputError(f"{workdir} holds no checkpoints yet; train first.")
    if which.isdigit():
        return checkpoints.load(int(which))
    if which not in ("best", "latest"):
        raise InputError(f"--checkpoint is {which!r}; expected best, latest or a step ({', '.join(map(str, steps))}).")
    arrays, meta, _ = checkpoints.load_latest()
    best = meta["best_step"]
    if which == "best" and best is not None and best != meta["step"]:
        try:
            return checkpoints.load(best)
        except InputError as error:
            raise InputError(f"{error} Another one can be named: --checkpoint=latest.") from error
    return arrays, meta


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


def restore_networks(workdir: str | Path, roles: tuple[str, ...], which: str = "best") -> dict[str, dict[str, Any]]:
    """Return role -> {"params": ..., other collections} out of another run, averaged weights where it has them.

    Raises:
        InputError: the run has no such role, or its checkpoint cannot be read.
    """
    arrays, _ = load_checkpoint(workdir, which)
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

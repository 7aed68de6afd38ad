"""The checkpoints of one run: Orbax writes them atomically; integrity, fall-back and what stays are added here.

A checkpoint `checkpoints/<step>/` holds every array of the state under its path (`networks/generator/params/...`) and a
JSON `meta`: the run's config, position and best score, digests of its data, the SHA-256 of every array, and its own
(`integrity.py`). A checkpoint that does not verify is moved aside as `damaged-<step>`, never deleted, and the newest
one that does verify is used.
"""

import contextlib
import errno
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gan_seg_jax import parallel
from gan_seg_jax.config_fields import present_fields
from gan_seg_jax.errors import InputError
from gan_seg_jax.runs import integrity
from gan_seg_jax.runs.integrity import Damaged, array_digest, flatten
from gan_seg_jax.system import faults

_policies = ocp.checkpoint_managers
_PASSING = (errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM)  # no damage
_REPLACED = "replaced-"  # name of a checkpoint whose step is being saved again
_DAMAGED = "damaged-"
_OPTIMIZER = "/opt_state/"  # in the path of arrays that training alone needs


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

        Raises:
            InputError: a link to nothing, a pipe or another file stands in the place of the folder.
        """
        # Orbax tells of every retention decision through absl, and prints what it raises; a run has its own messages.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        _drop_late_futures()
        self.directory = Path(workdir).absolute() / "checkpoints"
        self._keep = _Keep(keep)
        self._read_only = read_only
        self._saved: int | None = None  # the newest step that this process has saved or restored
        if os.path.lexists(self.directory) and not self.directory.is_dir():
            raise InputError(f"{self.directory} is no folder; remove it, or name another --workdir.")
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

        self._identity = _identity(self.directory)

    def steps(self) -> list[int]:
        """Return the steps that have a committed checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Start to save; return when the arrays are copied and writing goes on in the background.

        Args:
            step: the step that the state is at; an earlier checkpoint of it is replaced.
            state: any tree of arrays; on several hosts every array is replicated.
            meta: JSON values; `meta["best_step"]` (or None) is kept from removal.

        Raises:
            InputError: it cannot be written, or somebody has removed what was saved before.
        """
        self.wait()
        replaced = step in self._manager.all_steps()
        if replaced:  # aside until the new one is there: a kill in between loses nothing
            self._move(step, f"{_REPLACED}{step}")
        # A copy, since the next step donates the buffers (np.asarray would be a view of them on CPU).
        arrays = {path: np.array(leaf) for path, leaf in flatten(state).items()}
        digests = {path: array_digest(array) for path, array in arrays.items()}
        self._keep.best = meta["best_step"]
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(arrays), meta=ocp.args.JsonSave(integrity.seal({**meta, "digests": digests}))
        )
        with self._saving():
            self._manager.save(step, args=items)
        self._saved = step
        if replaced:
            self.wait()
            self._settle()

    def load_meta(self, step: int) -> dict[str, Any]:
        """Return the meta of one checkpoint, verified; no array is read.

        Raises:
            Damaged: it is not what was saved.
            InputError: there is no such checkpoint, or it is of an earlier version.
        """
        if step not in self._manager.all_steps():
            known = ", ".join(map(str, self.steps())) or "none"
            raise InputError(f"There is no checkpoint of step {step} in {self.directory}; there are: {known}.")
        with self._reading(step):
            meta = integrity.open_meta(self.directory / str(step))
        return {**meta, "config": present_fields(meta["config"])} if "config" in meta else meta

    def load(
        self, step: int, *, training: bool = True, limit: int | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return path -> array and the meta of one checkpoint, verified.

        Args:
            step: of the checkpoint.
            training: also the state of the optimizers.
            limit: bytes that the arrays may take (`integrity.room`); None is any number.

        Raises:
            Damaged: it is unreadable, or something differs from what was saved.
            InputError: there is no such checkpoint, or it is larger than `limit`.
        """
        meta, folder = self.load_meta(step), self.directory / str(step)
        paths = [path for path in meta["digests"] if training or _OPTIMIZER not in path]
        like = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path in paths}
        item = ocp.args.PyTreeRestore(dict.fromkeys(like, 0), restore_args=like, partial_restore=True)
        with self._reading(step):
            integrity.check_size(folder, paths, meta, limit)
            arrays = self._manager.restore(step, args=ocp.args.Composite(state=item)).state
            integrity.check_arrays(folder, arrays, meta)
        return arrays, meta

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turn whatever the reading of a damaged checkpoint raises into Damaged."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # Orbax and TensorStore raise anything, by the byte that is damaged
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in _PASSING:
                raise
            raise Damaged(f"The checkpoint {self.directory / str(step)} cannot be read: {_short(error)}") from error

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Turn whatever the writing of a checkpoint raises, also in the background, into InputError."""
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:
            self._check_there(self.directory)
            reason = faults.said_by_disk(error) or _short(error).rstrip(".")
            raise InputError(
                f"A checkpoint cannot be written to {self.directory}: {reason}. What was saved before stays."
            ) from error

    def load_latest(
        self, *, limit: int | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]] | None:
        """Return arrays and meta of the newest checkpoint that verifies, and a sentence for each one that does not.

        The ones that do not verify are moved aside. None if nothing is there.

        Args:
            limit: as of `load`.

        Raises:
            InputError: there are checkpoints and none verifies, now or at an earlier start.
        """
        problems = []
        for step in reversed(self.steps()):
            problem, found = None, None
            try:
                found = self.load(step, limit=limit)
            except Damaged as error:
                problem = str(error)
            if not parallel.any_process(found is None):  # all processes use the same one
                self._keep.best, self._saved = found[1]["best_step"], step
                return *found, problems
            problems.append(problem or f"Another process could not read the checkpoint of step {step}.")
            self._set_aside(step)
        damaged = sorted(path.name for path in self.directory.glob(f"{_DAMAGED}*"))
        if problems or damaged:
            raise InputError(
                f"No checkpoint in {self.directory} can be used. "
                f"{problems[0] if problems else f'It holds {damaged[0]}, which did not verify.'} "
                f"Remove {self.directory.parent} to start anew."
            )
        return None

    def _set_aside(self, step: int) -> None:
        """Rename a damaged checkpoint so that nothing picks it up again."""
        if self._read_only:
            return
        name, number = f"{_DAMAGED}{step}", 1
        while (self.directory / name).exists():
            name, number = f"{_DAMAGED}{step}-{number}", number + 1
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
        """Block until everything that was saved is on disk.

        Raises:
            InputError: it could not be written, or has gone since: somebody has removed the folder.
        """
        with self._saving():
            self._manager.wait_until_finished()
        self._check_there(self.directory if self._saved is None else self.directory / str(self._saved))

    def _check_there(self, newest: Path) -> None:
        """Raise InputError if somebody has removed the folder of checkpoints, or the newest one in it."""
        if not newest.is_dir() or _identity(self.directory) != self._identity:
            raise InputError(
                f"{newest} is gone: it has been removed while the run went on, so what has been trained since cannot "
                "be kept. Start it again."
            )

    def close(self) -> None:
        """Wait and let go of the folder."""
        with self._saving():
            self._manager.close()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one of its name, None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _together(point: str) -> None:
    """Wait until every process is at this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(point)


def _drop_late_futures() -> None:
    """Let TensorStore's futures end unheard whose event loop has been closed since another one has failed.

    For each array of a damaged checkpoint they would print a traceback, long after the error was caught.
    """
    before = sys.unraisablehook
    if getattr(before, "drops_late_futures", False):
        return

    def hook(unraisable):
        if not (isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"):
            before(unraisable)

    hook.drops_late_futures = True
    sys.unraisablehook = hook


def _short(error: Exception) -> str:
    """Return the first line of an error, at most 200 characters."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]

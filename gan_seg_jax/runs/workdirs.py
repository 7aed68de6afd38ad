"""The folder of a run: who may write to it, and whether it belongs to this config."""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.config import differences, from_json, to_json
from gan_seg_jax.config_fields import RENAMED
from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import generators
from gan_seg_jax.models import MODELS
from gan_seg_jax.phases import is_complete, plan, planned
from gan_seg_jax.runs import checkpoint
from gan_seg_jax.system import files
from gan_seg_jax.system.files import write_json

UNREADABLE = "[]\\"  # Orbax takes paths for patterns and finds none of the arrays that it has saved there
FEATURE_NETWORK = "feature_network"  # name of the prior run that stands for the config's field of that name


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Hold the folder for this run; it is made if it is missing.

    Raises:
        InputError: it cannot be written, another process trains in it, or its checkpoints could not be read again.
    """
    files.local(workdir)
    if found := sorted({*os.fspath(workdir.absolute())} & {*UNREADABLE}):
        raise InputError(
            f"The workdir {files.shown(workdir.absolute())} has {' and '.join(found)} in its path, from where Orbax "
            "cannot read checkpoints; name another with --workdir."
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = files.open_in_place(workdir / f".lock-{jax.process_index()}", os.O_RDWR)
    except OSError as error:
        raise InputError(
            f"The workdir {workdir} cannot be written: {error.strerror}. Name another with --workdir."
        ) from error
    with open(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InputError(
                    f"Another process is training in {workdir}; wait for it or name another --workdir."
                ) from error
            # A file system without locks: go on without one.
        yield


def has_checkpoints(workdir: Path) -> bool:
    """Return whether a run in this folder has saved anything, usable or not; a save that was killed is none."""
    saved = re.compile(r"((damaged|replaced)-)?\d+(-\d+)?")
    return any(saved.fullmatch(path.name) for path in (workdir / "checkpoints").glob("*"))


def begun_config(workdir: Path) -> ConfigDict | None:
    """Return the config of the run that this folder holds, as its newest checkpoint has it; None if there is none yet.

    Raises:
        InputError: config.json is missing beside what a run has left, has been changed, or cannot be read.
    """
    begun = has_checkpoints(workdir)
    if not os.path.lexists(workdir / "config.json"):
        if begun or (workdir / "summary.json").exists():
            raise InputError(
                f"{workdir} holds a run whose config.json is missing, so nothing says what it is; restore the file, or "
                "name another --workdir."
            )
        return None
    config = checkpoint.read_config(workdir)
    meta = checkpoint.newest_meta(workdir) if begun else None
    if meta is None:
        return config
    checkpoint.check_config(workdir, config, meta)
    return from_json(meta["config"])


def source(config: ConfigDict, workdir: Path, name: str) -> str:
    """Return where a role's weights (or the feature network) come from: the config's words, its prior run, or ""."""
    given = config.feature_network if name == FEATURE_NETWORK else config.init[name]
    return str(prior(workdir, name)) if not given and name in config.prior_runs else given


def prior(workdir: Path, name: str) -> Path:
    """Return the folder of the run that is trained before this one for its role `name`, also by a former name of it."""
    folders = [workdir / "prior" / each for each in (name, *(old for old, new in RENAMED.items() if new == name))]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def adopt_architectures(config: ConfigDict, workdir: Path) -> None:
    """Give each role that starts from another run that run's architecture; a run that has begun knows it already.

    Raises:
        InputError: the other run has no such role, or its network is bound to another crop size.
    """
    begun = begun_config(workdir)
    for role in config.init:
        origin = source(config, workdir, role)
        if origin and origin != "random":
            from_run = begun or trained_config(origin)
            networks = from_run.networks
            if role not in networks:
                raise InputError(f"config.init.{role} is {origin}, which has no {role}; it has: {', '.join(networks)}.")
            if begun is None and MODELS[networks[role].name].SIZED and from_run.crop_size != config.crop_size:
                raise InputError(
                    f"config.init.{role} is {origin}, whose {role} ({networks[role].name}) is made for a crop_size of "
                    f"{from_run.crop_size}, and config.crop_size is {config.crop_size}; give "
                    f'--config.crop_size="{from_run.crop_size}" --config.canvas_size="{from_run.canvas_size}", as that '
                    "run has them, or train it again with the sizes of this one."
                )
            config.networks[role] = networks[role]
            for field in generators.FIELDS if role == "generator" else ():  # how it is used belongs to it
                if field in config and field in from_run:
                    config[field] = from_run[field]
            if "backbone" in config and "backbone" in networks[role]:  # the short name of the same field
                config.backbone = networks[role].backbone


def trained_config(workdir: str | Path) -> ConfigDict:
    """Return the config of another run.

    Raises:
        InputError: the folder holds no run, or its config.json has been changed since.
    """
    config = checkpoint.read_config(workdir)
    if has_checkpoints(Path(workdir)):
        checkpoint.check_config(workdir, config, checkpoint.load_meta(workdir))
    return config


def finished(workdir: Path, config: ConfigDict) -> dict[str, Any] | None:
    """Check that a folder is free or belongs to this config; return its summary if the run in it is finished.

    Where the run is extended, `config.planned_steps` is filled in.

    Raises:
        InputError: the folder belongs to another config; field, old and new value are named.
    """
    begun = begun_config(workdir)
    if begun is not None:
        found = differences(to_json(begun), to_json(config))
        if found:
            field, old, new = found[0]
            more = f" ({len(found) - 1} more fields differ)" if len(found) > 1 else ""
            raise InputError(
                f"{workdir} belongs to another config: config.{field} was {old!r}, now {new!r}{more}. "
                "Name another --workdir, or give the old value."
            )
        if has_checkpoints(workdir):
            _keep_plan(config, begun, workdir)
    try:
        summary = files.read_json(workdir / "summary.json")
        return summary if is_complete(config, summary["steps"], summary.get("unimproved", 0)) else None
    except FileNotFoundError:
        return None
    except (InputError, TypeError, KeyError) as error:
        raise InputError(
            f"{workdir / 'summary.json'} cannot be read; remove it to take the final scores again."
        ) from error


def _keep_plan(config: ConfigDict, begun: ConfigDict, workdir: Path) -> None:
    """Let a run that has begun keep its phases, learning rates and ramps where its length changes.

    Raises:
        InputError: they would be others than it has been trained with so far.
    """
    if config.extend == "constant":
        config.planned_steps = planned(begun) if config.steps > planned(begun) else 0
    old = plan(begun)
    changed = [name for name, value in plan(config).items() if old.get(name) != value]
    if not changed:
        return
    field = "steps" if config.steps != planned(begun) else "phases"
    before = planned(begun) if field == "steps" else begun.phases
    keep = "give the old value"
    if field == "steps" and config.steps > before:
        keep = "continue at the last rates with --config.extend=constant"
    moving = dict.fromkeys(role for _, updates in config.phases for group in updates for role in group)
    others = " ".join(f"--config.init.{role}={workdir}" for role in moving)
    raise InputError(
        f"config.{field} is {config[field]!r} and was {before!r} when the run in {workdir} began; "
        f"{', '.join(changed)} would no longer be what it has been trained with. Either {keep}, or start a new run "
        f"from it: {others} and another --workdir."
    )


def claim(workdir: Path, config: ConfigDict) -> None:
    """Write the config into the folder: it is this run's from now on."""
    if parallel.is_first_process():
        write_json(workdir / "config.json", to_json(config))

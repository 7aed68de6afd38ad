"""What a run starts from: first weights, pre-trained ones, and those of other runs."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.models import pip_weights, pretrained
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.runs import checkpoint, integrity, workdirs
from gan_seg_jax.state import AdversarialState, create_state, init_variables, variable_shapes
from gan_seg_jax.system import files


def initial_state(method: Any, config: ConfigDict, workdir: Path, *, fresh: bool = True) -> AdversarialState:
    """Return the state before the first step.

    Args:
        method: the method.
        config: the run's config.
        workdir: the run's folder, where prior runs are.
        fresh: fill in the roles that the config takes from other runs and the pre-trained backbones; False where a
            checkpoint replaces them anyway, so that a run goes on when their files are gone.

    Raises:
        InputError: a role that moves in no phase has nothing to start from, or weights do not fit.
    """
    modules = method.build(config)
    variables = dict(init_variables(method, modules, example_batch(method.STREAMS, config), config, config.seed))
    optimizers = create_optimizers(config)
    for role in modules:
        source = workdirs.source(config, workdir, role)
        if source and source != "random":
            if not fresh:
                continue
            stored = checkpoint.restore_networks(source, (role,), limit=integrity.room(variables))[role]
            stored, origin = checkpoint.flatten(stored), f"The {role} of {source}"
            trained = workdirs.trained_config(source)
            if _other_classes(config, trained) and (role in optimizers or trained.num_classes == config.num_classes):
                stored = _without_head(method, config, role, variables[role], stored, trained, origin)
            variables[role] = checkpoint.fill(variables[role], stored, origin=origin)
        elif role not in optimizers and source != "random":
            raise InputError(
                f"{role} moves in no phase, so it needs weights: set config.init.{role} to the folder of a run, or to "
                "random."
            )
    if fresh:
        variables |= _pretrained(variables, config, workdir)
    return create_state(variables, modules, optimizers, seed=config.seed, ema_roles=_averaged(config, optimizers))


def _other_classes(config: ConfigDict, trained: ConfigDict) -> bool:
    """Return whether a run has other classes than the one it starts from, be it in their order."""
    names = tuple(config.class_names), tuple(trained.class_names)
    return trained.num_classes != config.num_classes or (all(names) and names[0] != names[1])


def _without_head(
    method: Any, config: ConfigDict, role: str, first: Any, stored: dict[str, Any], trained: ConfigDict, origin: str
) -> dict[str, Any]:
    """Return path -> array of a network trained for other classes, those that follow from the classes as in `first`.

    Args:
        method: the method.
        config: the run's config.
        role: of the network; where it is trained no further, it may have no head.
        first: its first variables in this run.
        stored: path -> array, of the other run.
        trained: the other run's config.
        origin: what to call the network.

    Raises:
        InputError: more differs than the classes explain, or the network cannot learn the classes of this run.
    """
    there = config.copy_and_resolve_references().unlock()
    there.update({name: trained[name] for name in ("num_classes", "class_names", "class_colors")})
    there.losses.class_weights = ()

    def shapes(run):
        batch = jax.eval_shape(lambda: example_batch(method.STREAMS, run))
        return variable_shapes(method, method.build(run), batch, run)[role]

    checkpoint.fill(shapes(there), stored, origin=origin)
    here, theirs = checkpoint.flatten(first), checkpoint.flatten(shapes(there))
    what, others = "their number", here
    if trained.num_classes == config.num_classes:  # with one more, the same arrays have another shape
        what, there.num_classes = "them", trained.num_classes + 1
        there.class_names, there.class_colors = (*trained.class_names, "one more"), (*trained.class_colors, (1, 2, 3))
        others = checkpoint.flatten(shapes(there))
    head = {path: here[path] for path in theirs if path in here and theirs[path].shape != others[path].shape}
    if not head:
        return stored
    both = f"{trained.num_classes} classes, this run has {config.num_classes}"
    if what == "them":
        both = f"the classes {_listed(trained)}, this run has {_listed(config)}"
    if not any(role in group for _, updates in config.phases for group in updates):
        raise InputError(f"{origin} was trained for {both}, and it moves in no phase; name a run with the same ones.")
    if parallel.is_first_process():
        print(
            f"{origin} was trained for {both}: all of it is taken but what follows from {what}, "
            f"{', '.join(sorted(head))}.",
            flush=True,
        )
    return {**stored, **head}


def _listed(config: ConfigDict) -> str:
    """Return the first few names of a run's classes, in their order."""
    names = [files.shown(name) for name in config.class_names]
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def state_shapes(method: Any, config: ConfigDict) -> AdversarialState:
    """Return the shapes and dtypes of the state before the first step, without computing it."""
    modules, optimizers = method.build(config), create_optimizers(config)
    variables = variable_shapes(method, modules, example_batch(method.STREAMS, config), config)
    averaged = _averaged(config, optimizers)
    return jax.eval_shape(
        lambda values: create_state(values, modules, optimizers, seed=0, ema_roles=averaged), variables
    )


def constants(config: ConfigDict) -> tuple[np.ndarray, ...]:
    """Return what `train_step` takes beside state and batch: float32 [k], the classes' weights, where there are any."""
    weights = np.asarray(config.losses.class_weights, np.float32)
    return (weights,) if weights.size else ()


def _averaged(config: ConfigDict, optimizers: dict[str, Any]) -> frozenset[str]:
    """Return the roles that keep a running average of their weights."""
    return frozenset(role for role in optimizers if config.ema_decay > 0 and config.networks[role].ema)


def _pretrained(variables: dict[str, Any], config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Return the variables of each role whose backbone has pre-trained weights, with these in place."""
    loaded = {}
    for role, source in config.pretrained.items():
        if not source or workdirs.source(config, workdir, role) == str(workdirs.prior(workdir, role)):
            continue  # none, or those that the prior run began with
        if config.init[role] not in ("", "random"):
            raise InputError(
                f"config.init.{role} and config.pretrained.{role} are both set; choose one of them "
                f"(--config.pretrained.{role}= leaves the second out)."
            )
        network = config.networks[role]
        if "backbone" not in network:
            raise InputError(f"config.pretrained.{role} is set, but {network.name} has no backbone; leave it empty.")
        if source.startswith(pip_weights.PREFIX):
            pip_weights.expect_backbone(source, network.backbone, field=f"config.pretrained.{role}")
            if parallel.is_first_process():
                print(f"{role} starts from {pip_weights.describe(source)}", flush=True)
        loaded[role] = pretrained.load_backbone(source, variables[role], backbone=network.backbone)
    return loaded

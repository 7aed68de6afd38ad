"""A trained run, loaded to be used: what the commands that use one begin with."""

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import get_method
from gan_seg_jax.runs import checkpoint, integrity, weights
from gan_seg_jax.state import AdversarialState, create_state, inference_view, variable_shapes


@dataclasses.dataclass(frozen=True)
class Run:
    """A method, the config it was trained with, its state, the step of its checkpoint, digests of its data by split."""

    method: Any
    config: ConfigDict
    state: AdversarialState
    step: int
    data: dict[str, str] = dataclasses.field(default_factory=dict)


def example_batch(streams: tuple[str, ...], config: ConfigDict, count: int = 2) -> dict[str, dict[str, jax.Array]]:
    """Return an all-zero batch of `count` examples as methods see it, for shapes."""
    size = (count, *config.crop_size)
    stream = {
        "image": jnp.zeros((*size, 3)),
        "label": jnp.zeros(size, jnp.int32),
        "target": jnp.zeros((*size, 3)),
        "valid": jnp.ones(count, bool),
        "id": jnp.zeros(count, jnp.int32),
    }
    return dict.fromkeys(streams, stream)


def load_run(workdir: str | Path, which: str = "best", data_dir: str | None = None) -> Run:
    """Load a run for inference: averaged weights where it has them, no optimizers.

    Args:
        workdir: the run's folder, or that of its exported weights.
        which: "best", "latest" or a step.
        data_dir: where the data set is now; None: where it was.

    Raises:
        InputError: the folder holds no run, or the checkpoint cannot be read.
    """
    config = checkpoint.read_config(workdir)
    if data_dir is not None:
        config.data_dir = data_dir
    if config.method in BASELINES:
        raise InputError(
            f"{workdir} holds the run of {config.method}, a classical method: it has no checkpoint; its scores are in "
            "its summary.json."
        )
    method, modules, template = _networks(config, workdir)
    if weights.are_in(workdir):
        return _load_exported(workdir, which, config, method, modules, template)
    arrays, meta = checkpoint.load_checkpoint(workdir, which, training=False, limit=integrity.room(template))
    checkpoint.check_config(workdir, config, meta)
    stored = {role: checkpoint.network_variables(arrays, role, origin=str(workdir)) for role in modules}
    variables = checkpoint.fill(template, checkpoint.flatten(stored), origin=f"The checkpoint in {workdir}")
    state = create_state(jax.tree.map(jnp.asarray, variables), modules, {}, seed=config.seed)
    return Run(method, config, state.replace(step=jnp.int32(meta["step"])), meta["step"], meta["data"])


def _load_exported(workdir, which, config, method, modules, template) -> Run:
    """Return a run whose weights `export` has written: of the roles that label, so that no discriminator judges."""
    arrays, facts = weights.read(workdir, integrity.room(template))
    if which not in ("best", "latest", str(facts["step"])):
        raise InputError(f"{workdir} holds exported weights of step {facts['step']} alone; found --checkpoint={which}.")
    roles: list[str] = []
    trace = lambda variables: roles.extend(acting_roles(method, config, create_state(variables, modules, {}, seed=0)))
    jax.eval_shape(trace, template)
    modules, template = ({role: tree[role] for role in roles} for tree in (modules, template))
    for path, leaf in checkpoint.flatten(template).items():
        if path in arrays and arrays[path].dtype != leaf.dtype:
            raise InputError(f"{workdir}/{weights.MODEL} has {path} as {arrays[path].dtype}, expected {leaf.dtype}.")
    variables = checkpoint.fill(template, arrays, origin=f"{workdir}/{weights.MODEL}")
    state = create_state(jax.tree.map(jnp.asarray, variables), modules, {}, seed=config.seed)
    method = types.SimpleNamespace(**{**vars(method), "score_map": None, "discriminator_inputs": None})
    return Run(method, config, state.replace(step=jnp.int32(facts["step"])), facts["step"])


def acting_roles(method: Any, config: ConfigDict, state: AdversarialState) -> list[str]:
    """Return the roles whose networks a method of segmentation labels by; nothing is computed."""
    acted: dict[str, None] = {}

    def watched(role, network):
        def apply(*args, **kwargs):
            acted[role] = None
            return network.apply_fn(*args, **kwargs)

        return network.replace(apply_fn=apply)

    networks = {role: watched(role, network) for role, network in state.networks.items()}
    nets = inference_view(state.replace(networks=networks), jax.random.key(0))
    jax.eval_shape(lambda: method.predict(nets, example_batch(method.STREAMS, config), nets.rng, config))
    return list(acted)


def _networks(config: ConfigDict, workdir: str | Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the method of a run, its networks by role, and the shapes of their variables; nothing is allocated.

    Raises:
        InputError: the config describes none: it may be anybody's.
    """
    if config.num_classes < 1:
        raise InputError(f"{workdir}/config.json names no class; the run in it has not begun.")
    try:
        method = get_method(config)
        modules = method.build(config)
        batch = jax.eval_shape(lambda: example_batch(method.STREAMS, config))
        return method, modules, variable_shapes(method, modules, batch, config)
    except InputError:
        raise
    except Exception as error:  # whatever Flax and JAX raise, by the field that is wrong
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{workdir}/config.json describes no networks of {config.method}: {type(error).__name__}: {reason}."
        ) from error


def open_split(run: Run, name: str) -> tuple[Split, Mesh]:
    """Return a split of a run's data set, and the mesh; the run's batch size becomes one that the mesh can share.

    Raises:
        InputError: the data set has no such split, or other classes than the run.
    """
    config = run.config
    dataset = pipeline.open_dataset(config)
    pipeline.resolve_classes(config, dataset)
    if name not in dataset.splits:
        raise InputError(f"{dataset.info.name} has no split {name!r}; it has: {', '.join(dataset.splits)}.")
    if run.data.get(name) != dataset.digests.get(name) and parallel.is_first_process():
        print(
            f"The images or labels of {name} are not those that the run knew at step {run.step}; its own scores are of "
            "others.",
            file=sys.stderr,
        )
    mesh = parallel.make_mesh()
    config.batch_size = -(-config.batch_size // mesh.size) * mesh.size
    return dataset.splits[name], mesh

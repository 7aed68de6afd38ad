"""Compile the step of a config for chips that are not here, and read from the program what it takes."""

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import MAX_CLASSES
from gan_seg_jax.methods import get_method
from gan_seg_jax.phases import frozen_backbones, phase_ends
from gan_seg_jax.planning.slices import Slice
from gan_seg_jax.state import AdversarialState
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import start

NO_COMPILER = (
    'The TPU\'s compiler is not installed; it needs no TPU: pip install "jax[tpu]<0.12" (best in an environment of its '
    "own, for it is 1 GB)."
)


class TooLargeError(Exception):
    """The compiler found no way to fit the step into the memory of a chip.

    Attributes:
        needed: bytes that it would take; 0 where the compiler does not say.
        there: bytes that there are.
    """

    def __init__(self, needed: int, there: int):
        """Keep both."""
        self.needed, self.there = needed, there


def devices(where: Slice) -> list[Any]:
    """Return the chips of a slice, as JAX knows them; they need not be here.

    Raises:
        InputError: The compiler is not installed, or does not know the slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(NO_COMPILER)
    alone = {"chips_per_host_bounds": (1, 1, 1)} if where.chips == 1 else {}  # libtpu takes a host for four chips
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=where.topology, **alone).devices
    except (RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The TPU's compiler cannot plan {where.name} ({where.topology}): {reason}") from error


def versions() -> dict[str, str]:
    """Return whose figures a plan has: those of another compiler may differ."""
    return {name: importlib.metadata.version(name) for name in ("jax", "libtpu", "gan_seg_jax")}


def use_classes(config: ConfigDict, count: int) -> None:
    """Let a config have so many classes, without a data set: their names and colours cost nothing.

    Raises:
        InputError: No training has so many.
    """
    if not 2 <= count <= MAX_CLASSES:
        raise InputError(f"config.num_classes is {count}; expected 2 to {MAX_CLASSES}.")
    config.num_classes = count
    config.class_names = tuple(f"class {number}" for number in range(count))
    config.class_colors = tuple((number, 0, 0) for number in range(count))
    if config.losses.class_weighting:  # would count the labels
        config.losses.class_weighting, config.losses.class_weights = "", (1.0,) * count


def batch_shapes(method: Any, config: ConfigDict) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Return the shapes of what all hosts deliver for a step, as `pipeline.train_batches` says."""
    lead = (config.batch_size,) if config.rounds == 1 else (config.rounds, config.batch_size)
    canvas = (*lead, *config.canvas_size)
    stream = {
        "image": jax.ShapeDtypeStruct((*canvas, 3), np.uint8),
        "label": jax.ShapeDtypeStruct(canvas, np.uint8),
        "content": jax.ShapeDtypeStruct((*lead, 2), np.int32),
        "valid": jax.ShapeDtypeStruct(lead, bool),
        "id": jax.ShapeDtypeStruct(lead, np.int32),
    }
    if config.dataset == "pairs":
        stream["target"] = jax.ShapeDtypeStruct((*canvas, 3), np.uint8)
    return dict.fromkeys(method.STREAMS, stream)


def compile_last_phase(config: ConfigDict, chips: Sequence[Any]) -> tuple[Any, AdversarialState]:
    """Compile the step that the last phase takes most often: its roles move, no lazy penalty is due, nothing is frozen.

    Args:
        config: With classes; its batch is that of all chips.
        chips: Where it will run; they need not be here.

    Returns:
        The compiled step, and the shapes of the state.

    Raises:
        InputError: The chips cannot share the batch evenly, or the method refuses the config.
        TooLargeError: The step does not fit.
    """
    method, mesh = get_method(config), parallel.make_mesh(list(chips), spatial=config.spatial_shards)
    parallel.check_batch_size(config.batch_size, mesh)
    _, updates = phase_ends(config)[-1]
    moving = {role for group in updates for role in group}
    step = functools.partial(
        train_step,
        method=method,
        config=config,
        updates=updates,
        penalty=config.penalty_every == 1,
        frozen=frozen_backbones(config, config.steps - 1) & moving,
        images=parallel.image_sharding(mesh),
    )
    state = start.state_shapes(method, config)
    try:
        batch, constants = batch_shapes(method, config), start.constants(config)
        return parallel.compile_step(step, state, batch, mesh, rounds=config.rounds, constants=constants), state
    except jax.errors.JaxRuntimeError as error:
        found = too_large(str(error))
        if found is None:
            raise
        raise found from error


def too_large(message: str) -> TooLargeError | None:
    """Return what an error of the compiler says of memory; None where it is another.

    It says "Used 33.52G of 15.75G hbm" or "(33.52G) exceeds available HBM (15.75G)".
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    size = r"\(?([\d.]+)([KMGT])\)?"
    found = re.search(f"{size} (?:of|exceeds available HBM) {size}", message)
    if found is None:
        return TooLargeError(0, 0)
    scale = {letter: 2 ** (10 * power) for power, letter in enumerate("KMGT", start=1)}
    return TooLargeError(round(float(found[1]) * scale[found[2]]), round(float(found[3]) * scale[found[4]]))

"""What a training will take on this machine: memory of its step as compiled, and the time of a few steps."""

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.data import class_weights, pipeline
from gan_seg_jax.methods import get_method
from gan_seg_jax.phases import frozen_backbones, phase_ends
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import checks, start

_STEPS = 3  # that are timed, behind one that is not


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a training takes.

    Attributes:
        step_bytes: Memory of one device in a step: state, batch, and what is between them.
        device_bytes: Memory of a device; 0 where it cannot be said, as of a processor.
        compile_seconds: To compile the step.
        step_seconds: A step, its images read and prepared.
        minutes: All steps, without validation.
    """

    step_bytes: int
    device_bytes: int
    compile_seconds: float
    step_seconds: float
    minutes: float


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device in a compiled step.

    Attributes:
        arguments: State and batch; the next state takes the place of this one.
        outputs: What is new beside it.
        temporary: What is between them.
        code: The program.
    """

    arguments: int
    outputs: int
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.arguments + self.outputs + self.temporary + self.code


def memory(compiled: Any) -> Memory:
    """Return what a compiled step (`parallel.compile_step`) takes, as its compiler says."""
    found = compiled.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
    )


def measure(config: ConfigDict) -> Cost:
    """Compile the first step of a run and take a few; nothing is written.

    Args:
        config: Of a run without runs before it; a copy is filled in from the data.

    Raises:
        InputError: The run could not start.
    """
    config = config.copy_and_resolve_references().unlock()
    method, mesh = get_method(config), parallel.make_mesh(spatial=config.spatial_shards)
    parallel.check_batch_size(config.batch_size, mesh)
    dataset = pipeline.open_dataset(config)
    pipeline.resolve_classes(config, dataset)
    class_weights.resolve_class_weights(config, dataset, None)
    config.lock()
    checks.check(method, config, dataset)
    state = start.initial_state(method, config, Path())
    updates = phase_ends(config)[0][1]
    moving = {role for group in updates for role in group}
    variant = {"updates": updates, "penalty": config.penalty_every > 0, "images": parallel.image_sharding(mesh)}
    step = functools.partial(
        train_step, method=method, config=config, frozen=frozen_backbones(config, 0) & moving, **variant
    )
    constants = parallel.place(start.constants(config), parallel.replicated(mesh))
    sharding = parallel.batch_sharding(mesh, rounds=config.rounds)
    process = (jax.process_index(), jax.process_count())
    state = parallel.place(state, parallel.replicated(mesh))
    with contextlib.closing(
        pipeline.train_batches(dataset, config, method.STREAMS, start=0, process=process)
    ) as batches:
        batch = parallel.place(next(batches), sharding)
        began = time.monotonic()
        compiled = parallel.compile_step(step, state, batch, mesh, rounds=config.rounds, constants=constants)
        compile_seconds = time.monotonic() - began
        for number in range(_STEPS + 1):
            if number == 1:
                jax.block_until_ready(state)
                began = time.monotonic()
            state, _ = compiled(state, batch, *constants)
            batch = parallel.place(next(batches), sharding)
        jax.block_until_ready(state)
        seconds = (time.monotonic() - began) / _STEPS
    limit = (mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit", 0)
    minutes = (compile_seconds + seconds * config.steps) / 60
    return Cost(memory(compiled).total, limit, compile_seconds, seconds, minutes)


def rows(cost: Cost) -> list[tuple[str, str, str]]:
    """Return a cost as name, value and what it means."""
    memory = f"{cost.step_bytes / 2**30:.2f} GiB"
    of = "of the processor's memory, by the compiled step"
    if cost.device_bytes:
        of = f"of the {cost.device_bytes / 2**30:.1f} GiB of a device, by the compiled step"
        of += "" if cost.step_bytes < cost.device_bytes else ": too much, so lower batch_size or crop_size"
    speed = f"{cost.step_seconds:.2f} s a step, mean of {_STEPS}, after {cost.compile_seconds:.0f} s of compiling"
    return [("memory", memory, of), ("minutes", f"{cost.minutes:.0f}", f"{speed}; validation comes on top")]

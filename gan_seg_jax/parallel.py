"""Devices: the mesh, the shardings, several hosts, and the one place that compiles a step.

One `jax.jit` over a mesh `('data',)`: the state is replicated, the batch is sharded by its examples, and the compiler
inserts the reductions, so that losses, gradients and batch statistics are those of the global batch. Where a batch has
fewer images than there are devices, or an image is too large for one, a second axis shares out the rows of each image.
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan_seg_jax.errors import InputError, LostPeerError
from gan_seg_jax.system import process, programs

LASTING = 0.2  # seconds that a program must have taken to compile, to be kept for later starts
DEFAULT_LASTING = 1.0  # the same of JAX
YNN = "xla_cpu_experimental_ynn_fusion_type"
PEER_SECONDS = 60  # without a word from a process, after which the run ends
Item, Result = TypeVar("Item"), TypeVar("Result")
_on_abort = None  # keeps the function alive that C calls


def initialize() -> None:
    """Join the other processes of a run on several hosts (not on a single one), and keep what is compiled from here on.

    A Cloud TPU slice of several workers is recognised by itself. Elsewhere set JAX_COORDINATOR_ADDRESS=host:port,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID for every process.

    Raises:
        InputError: the variables are incomplete, the other processes cannot be reached, or there is no device.
    """
    if not jax.distributed.is_initialized():
        _join()
    _keep_programs()


def _join() -> None:
    """Join the other processes, if there are any, and start the devices.

    Raises:
        InputError: as of `initialize`.
    """
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        try:
            count, number = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
        except (KeyError, ValueError) as error:
            raise InputError(
                "JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers too."
            ) from error
        try:
            jax.distributed.initialize(num_processes=count, process_id=number, heartbeat_timeout_seconds=PEER_SECONDS)
        except (ValueError, RuntimeError) as error:
            address = os.environ["JAX_COORDINATOR_ADDRESS"]
            raise InputError(f"The other processes cannot be joined at {address}: {_first_line(error)}") from error
        _joined()
    elif _has_tpu():
        with contextlib.suppress(ValueError, RuntimeError):  # no slice was found: a single host
            jax.distributed.initialize(heartbeat_timeout_seconds=PEER_SECONDS)
            _joined()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where support for CUDA is not installed
        if not jax.config.jax_platforms:
            raise InputError(f"JAX finds no devices: {_first_line(error)}") from error
        raise InputError(
            f"JAX_PLATFORMS is {jax.config.jax_platforms!r}, but there is no such device, or JAX lacks the support for "
            "it. Unset it to take what is there, or see docs/accelerators.md."
        ) from error


def _keep_programs() -> None:
    """Find compiled programs of earlier starts, and keep those of this one, in a folder that is this user's alone.

    JAX's own variables come first: JAX_COMPILATION_CACHE_DIR for another folder, JAX_ENABLE_COMPILATION_CACHE=false
    for none. Several processes need such a folder that all can read: only the first one writes, and if it alone found a
    program, it would wait while the others compile, on GPUs for what it is to share with them.
    """
    if not jax.config.jax_enable_compilation_cache:
        return
    if jax.config.jax_compilation_cache_dir is None:
        folder = None if jax.process_count() > 1 else programs.folder()
        if folder is None:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    named = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" in os.environ
    if jax.config.jax_persistent_cache_min_compile_time_secs == DEFAULT_LASTING and not named:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LASTING)
    # Of an entry that a killed process or a full disk has cut off: what it holds is compiled again.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")


def _joined() -> None:
    """Answer signals again, one of which JAX's service takes for itself, and a lost process with a sentence.

    Where the service loses a process, it aborts from a thread of its own; nothing can be raised or saved then.
    """
    global _on_abort
    lost = LostPeerError()
    process.watch()
    _on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: process.leave(lost.exit_code, str(lost)))
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)  # a handler of Python's would run too late


def _first_line(error: Exception) -> str:
    """Return the first line of an error, which may be empty, as a sentence."""
    line = str(error).strip().partition("\n")[0][:200]
    return line if not line or line.endswith(".") else line + "."


def _has_tpu() -> bool:
    """Return whether JAX would use a TPU here, without starting it: the processes of a slice must join first."""
    wanted = os.environ.get("JAX_PLATFORMS", "")
    return importlib.util.find_spec("libtpu") is not None and (not wanted or "tpu" in wanted)


def make_mesh(devices: list[Any] | None = None, *, spatial: int = 1) -> Mesh:
    """Return the mesh over all (or the given) devices: `('data',)`, or `('data', 'spatial')` where images are split.

    The axes are `Auto`: under the default, `Explicit`, Flax linen's Dropout raises a ShardingTypeError.

    Args:
        devices: in the order of their processes.
        spatial: so many neighbouring devices of a process share each image (`image_sharding`).

    Raises:
        InputError: the devices of a process are no multiple of `spatial`.
    """
    devices = jax.devices() if devices is None else devices
    if spatial == 1:
        return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))
    here = len(devices) // len({device.process_index for device in devices})
    if here % spatial:
        raise InputError(
            f"config.spatial_shards is {spatial}, but a process has {here} devices here; use a divisor of {here}."
        )
    return Mesh(np.asarray(devices).reshape(-1, spatial), ("data", "spatial"), axis_types=(AxisType.Auto,) * 2)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise InputError unless the batch can be split evenly over the devices, or over the groups that share images."""
    parts = mesh.shape["data"]
    if batch_size % parts:
        near = max(parts, round(batch_size / parts) * parts)
        of = "" if parts == mesh.size else "groups of "
        raise InputError(
            f"config.batch_size is {batch_size}, which {parts} {of}devices cannot share evenly; "
            f"use a multiple of {parts}, such as {near}."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of the state: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, rounds: int = 1) -> NamedSharding:
    """Return the sharding of a batch: examples over the devices; slices, where there are any, come first."""
    return NamedSharding(mesh, PartitionSpec("data") if rounds == 1 else PartitionSpec(None, "data"))


def image_sharding(mesh: Mesh) -> NamedSharding | None:
    """Return the sharding of images and maps [b, h, w, ...] inside of a step, rows over the axis `spatial`.

    The compiler exchanges the rows at the borders that a convolution needs, so that results are those of one device.

    Returns:
        The sharding; None for a mesh without that axis.
    """
    return NamedSharding(mesh, PartitionSpec("data", "spatial")) if "spatial" in mesh.axis_names else None


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Put each process's part of every leaf on its devices; return global arrays."""
    return jax.tree.map(functools.partial(jax.make_array_from_process_local_data, sharding), tree)


def compile_step(
    step: Callable, state: Any, batch: Any, mesh: Mesh, *, rounds: int = 1, constants: tuple[Any, ...] = ()
) -> Any:
    """Compile `step(state, batch, *constants) -> (state, metrics)` ahead of time for the mesh; the state is donated.

    Args:
        step: a pure function.
        state: the state, or its shapes.
        batch: a global batch, or its shapes.
        mesh: where it will run; may be a topology without devices at hand.
        rounds: slices in the batch.
        constants: arrays that stay the same from step to step, or their shapes, whole on every device. They are
            arguments, so that a run with other values finds the program that another one has compiled.

    Returns:
        The compiled step, which refuses any other shapes: nothing recompiles silently.
    """
    whole = replicated(mesh)
    jitted = jax.jit(
        step,
        in_shardings=(whole, batch_sharding(mesh, rounds=rounds), *(whole for _ in constants)),
        out_shardings=whole,
        donate_argnums=(0,),
        compiler_options=step_options(mesh.devices.flat[0].platform),
    )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, batch, *constants))
    return jitted.lower(*shapes).compile()


@functools.cache
def step_options(platform: str) -> dict[str, str]:
    """Return the compiler's options for programs with gradients: on processors, convolutions by Eigen, not by YNNPACK.

    XLA for CPU hands convolutions to YNNPACK, whose gradients of kernels take 2 to 3.5 times as long as Eigen's
    (3x3, 32 to 256 channels); products of matrices and reductions stay with YNNPACK.

    Args:
        platform: of the devices, such as "cpu".

    Returns:
        The options of `jax.jit`; none elsewhere, and none that this compiler does not know.
    """
    if platform != "cpu":
        return {}
    options = {YNN: "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # an experimental option: later versions may lack it
        return {}
    return options


def flops(compiled: Any, mesh: Mesh) -> float | None:
    """Return the floating-point operations of one call, on all devices, as XLA counts them.

    A multiplication and an addition are two; the body of a loop is counted once, a call of a foreign library where XLA
    knows what it does.

    Args:
        compiled: from `compile_step`.
        mesh: where it runs.

    Returns:
        The number; None where this backend does not say.
    """
    try:
        found = compiled.cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    value = (found or {}).get("flops", 0.0)
    return value * mesh.size if value > 0 else None


def one_behind(dispatch: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what was dispatched for it, after the next one has been dispatched, too.

    JAX returns before the devices are done, so they compute on one item while the caller fetches and uses the result
    of the one before it.

    Args:
        dispatch: item -> arrays that may still be being computed.
        items: such as batches.
    """
    pending = []  # at most one
    for item in items:
        found = dispatch(item)
        yield from pending
        pending = [(item, found)]
    yield from pending


def is_first_process() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def sum_over_processes(tree: Any) -> Any:
    """Return the elementwise sum of each process's NumPy arrays, exact in int64."""
    if jax.process_count() == 1:
        return tree

    def total(x):
        # Two 32-bit halves: JAX is 32-bit by default and would truncate int64 on the way.
        x = np.asarray(x, np.int64)
        halves = np.stack([(x >> 31).astype(np.int32), (x & 0x7FFFFFFF).astype(np.int32)])
        high, low = multihost_utils.process_allgather(halves).astype(np.int64).sum(axis=0)
        return (high << 31) + low

    return jax.tree.map(total, tree)


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Return the rows [n, d] of all processes, which may have different numbers of them, one below the other."""
    if jax.process_count() == 1:
        return rows
    counts = multihost_utils.process_allgather(np.asarray(len(rows)))
    padded = np.zeros((int(counts.max()), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    gathered = multihost_utils.process_allgather(padded)
    return np.concatenate([part[:count] for part, count in zip(gathered, counts, strict=True)])


def local_rows(array: jax.Array) -> np.ndarray:
    """Return this process's rows of an array that is sharded by its first axis."""
    if array.is_fully_addressable:
        return np.asarray(array)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def any_process(flag: bool) -> bool:
    """Return whether the flag is set on any process; every process must call this at the same point."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))

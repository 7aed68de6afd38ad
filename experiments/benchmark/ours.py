"""Our side: the step that `train` compiles, and inference, of a case. Started by `compare`.

The step is all that a run does on its device: it takes images of 8 bits, mirrors them at random, and looks whether all
is finite. Peers get images that are ready.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.benchmark import cases, sides, worker
from gan_seg_jax import parallel
from gan_seg_jax.augment import paired
from gan_seg_jax.config import check as check_config
from gan_seg_jax.methods import get_method
from gan_seg_jax.state import AdversarialState, inference_view, parameter_counts
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import start

PRODUCT = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # side of the matrices by whose product the peak is measured


def host_batch(config: Any, streams: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Return a batch as the pipeline delivers it, of noise."""
    rng, size = np.random.default_rng(0), (config.batch_size, *config.canvas_size)
    stream = {
        "image": rng.integers(0, 256, (*size, 3), np.uint8),
        "label": rng.integers(0, cases.CLASSES, size).astype(np.uint8),
        "content": np.tile(np.int32(config.canvas_size), (config.batch_size, 1)),
        "valid": np.ones(config.batch_size, bool),
        "id": np.arange(config.batch_size, dtype=np.int32),
    }
    return dict.fromkeys(streams, stream)


def placed(config: Any, mesh: Mesh) -> tuple[AdversarialState, dict[str, dict[str, jax.Array]]]:
    """Return the first state of a config and a batch of noise, on the devices of a mesh."""
    method = get_method(config)
    with tempfile.TemporaryDirectory() as folder:
        state = start.initial_state(method, config, Path(folder))
    batch = parallel.place(host_batch(config, method.STREAMS), parallel.batch_sharding(mesh))
    return jax.device_put(state, parallel.replicated(mesh)), batch


def product(device: str, dtype: str) -> tuple[Any, int]:
    """Return a work, a product of square matrices, and its floating-point operations."""
    side = PRODUCT[device]
    a = jnp.ones((side, side), dtype)
    multiply = jax.jit(lambda a, b: a @ b)

    def work(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(multiply(a, a))

    return work, 2 * side**3


def program(name: str, make: Callable[[], Any], call: Callable[[Any], Any], flops: dict[str, float]) -> Any:
    """Return a work that compiles at its first call, which is timed, too.

    Args:
        name: of the work.
        make: returns the compiled program.
        call: runs it and returns arrays that are there when it is done.
        flops: gets the floating-point operations that XLA counts, under the name.
    """
    compiled: list[Any] = []

    def work(count: int) -> None:
        if not compiled:
            compiled.append(make())
            flops[name] = parallel.flops(compiled[0], parallel.make_mesh(jax.devices()[:1]))
        for _ in range(count):
            found = call(compiled[0])
        jax.block_until_ready(found)

    return work


def facts(
    parameters: dict[str, int], flops: dict[str, float], images: dict[str, int], **versions: str
) -> dict[str, Any]:
    """Return what `worker.serve` wants to know of a side that runs on JAX."""
    device = jax.devices()[0]
    on_host = device.platform == "cpu"
    return {
        "parameters": parameters,
        "flops": flops,
        "images": images,
        "versions": {"jax": jax.__version__, **versions},
        "device": device.device_kind,
        "memory": None if on_host else lambda: device.memory_stats()["peak_bytes_in_use"],
    }


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return works and facts; compiled at the first call of each."""
    config = cases.load(options.case, options.dtype)
    check_config(config)
    method, mesh = get_method(config), parallel.make_mesh(jax.devices()[: sides.devices_of(options.side)])
    state, batch = placed(config, mesh)
    training = functools.partial(train_step, method=method, config=config, updates=config.phases[-1][1])
    counts, held = parameter_counts(state), [state]
    flops: dict[str, float] = {}

    def step(compiled: Any) -> Any:
        held[0], metrics = compiled(held[0], batch)
        return metrics

    def predict(state: Any, stream: Any) -> jax.Array:
        key = jax.random.key(0)
        stream = paired.prepare(stream, key, crop_size=config.crop_size, options=config.augment, train=False)
        found = method.predict(inference_view(state, key), {"labelled": stream}, key, config)
        return found["image"] if isinstance(found, dict) else jnp.argmax(found, axis=-1)

    def compile_step() -> Any:
        return parallel.compile_step(training, held[0], batch, mesh)

    def compile_inference() -> Any:
        return jax.jit(predict).lower(held[0], batch["labelled"]).compile()

    matrices, flops["product"] = product(options.device, options.dtype)
    works = {
        "step": program("step", compile_step, step, flops),
        "inference": program("inference", compile_inference, lambda run: run(held[0], batch["labelled"]), flops),
        "product": matrices,
    }
    images = {"step": len(method.STREAMS) * config.batch_size, "inference": config.batch_size}
    return works, facts(counts, flops, images)


if __name__ == "__main__":
    worker.serve(make)

"""Time the layers' forms against the textbook operations: `python -m experiments.benchmark.layers --output=FILE`.

Both run alternately in one process, so that a busy machine slows both alike; medians and quartiles, in milliseconds.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gan_seg_jax.models import convolution

BATCH = 8
# Height and width of the larger map, channels of the larger map, channels of the smaller.
SCALES = [(144, 192, 3, 32), (128, 128, 14, 64), (72, 96, 32, 64), (36, 48, 64, 128), (18, 24, 128, 256)]


def native_down(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return `convolution.down(x, w)` by the native operation, which JAX differentiates."""
    return jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=convolution.NHWC)


def native_up(y: jax.Array, w: jax.Array) -> jax.Array:
    """Return `convolution.up(y, w)` by the native operation, which JAX differentiates."""
    return jax.lax.conv_transpose(y, w, (2, 2), "SAME", dimension_numbers=convolution.NHWC, transpose_kernel=True)


def native_pointwise(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return `convolution.pointwise(x, w)` by the native operation, which JAX differentiates."""
    return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=convolution.NHWC)


def forward_backward(operation: Callable) -> Callable:
    """Return a function of both arguments that gives the output and the two gradients of half its square."""

    def run(a, b):
        out, pullback = jax.vjp(operation, a, b)
        return out, pullback(out)

    return run


def gradient_penalty(operation: Callable) -> Callable:
    """Return the gradients of |d/da sum(tanh(operation))|^2, the form of R1."""

    def penalty(a, b):
        return jnp.sum(jax.grad(lambda a: jnp.sum(jnp.tanh(operation(a, b))))(a) ** 2)

    return jax.grad(penalty, argnums=(0, 1))


def compare(functions: dict[str, Callable], a: jax.Array, b: jax.Array, *, repeats: int) -> dict[str, dict]:
    """Time functions of the same arguments in turn.

    Args:
        functions: by name.
        a: first argument of each.
        b: second argument of each.
        repeats: how many times to run each, after one that is not counted.

    Returns:
        For each name its "median", "quartiles" and "fastest" in milliseconds, and "gflop" as compiled.
    """
    compiled = {name: jax.jit(function).lower(a, b).compile() for name, function in functions.items()}
    times = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(function(a, b))
            if repeat:
                times[name].append(1e3 * (time.perf_counter() - start))

    def record(name):
        low, median, high = statistics.quantiles(times[name], n=4)
        gflop = compiled[name].cost_analysis()["flops"] / 1e9
        return {"median": median, "quartiles": [low, high], "fastest": min(times[name]), "gflop": gflop}

    return {name: record(name) for name in functions}


def measure(repeats: int) -> list[dict]:
    """Return one record for each operation, size and derivative, and print it."""
    records = []
    for height, width, i, o in SCALES:
        keys = jax.random.split(jax.random.key(0), 4)
        large = jax.random.normal(keys[0], (BATCH, height, width, i))
        small = jax.random.normal(keys[1], (BATCH, height // 2, width // 2, o))
        kernel = jax.random.normal(keys[2], (4, 4, i, o)) / 16
        matrix = jax.random.normal(keys[3], (1, 1, o, o))
        for name, native, ours, arguments in [
            ("down", native_down, convolution.down, (large, kernel)),
            ("up", native_up, convolution.up, (small, kernel)),
            ("1x1", native_pointwise, convolution.pointwise, (small, matrix)),
        ]:
            for what, of in [
                ("forward", lambda f: f),
                ("forward and backward", forward_backward),
                ("gradient penalty", gradient_penalty),
            ]:
                times = compare({"native": of(native), "ours": of(ours)}, *arguments, repeats=repeats)
                shapes = [list(argument.shape) for argument in arguments]
                records.append({"operation": name, "what": what, "shapes": shapes, **times})
                ratio = times["native"]["median"] / times["ours"]["median"]
                medians = "  ".join(f"{form} {times[form]['median']:8.1f} ms" for form in ("native", "ours"))
                print(f"{name:5s} {what:21s} {shapes[0]!s:20s} {medians}  {ratio:5.2f}x", flush=True)
    return records


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    results = {**machine, "batch": BATCH, "unit": "ms", "records": measure(arguments.repeats)}
    with open(arguments.output, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()

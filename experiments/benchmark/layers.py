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

from gan_seg_jax import parallel
from gan_seg_jax.models import convolution, layers
from gan_seg_jax.models.backbones import create_backbone

BATCH = 8
# Height and width of the larger map, channels of the larger map, channels of the smaller.
SCALES = [(144, 192, 3, 32), (128, 128, 14, 64), (72, 96, 32, 64), (36, 48, 64, 128), (18, 24, 128, 256)]

# Height, width and channels of maps, and stride and rate of the depthwise convolutions on them.
MAPS = [(72, 96, 96, 2, 1), (36, 48, 144, 1, 1), (32, 32, 256, 1, 6), (9, 12, 960, 1, 2)]
BACKBONES = ["resnet18", "resnet50", "mobilenetv2"]


def native_down(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return `convolution.down(x, w)` by the native operation, which JAX differentiates."""
    return jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=convolution.NHWC)


def native_up(y: jax.Array, w: jax.Array) -> jax.Array:
    """Return `convolution.up(y, w)` by the native operation, which JAX differentiates."""
    return jax.lax.conv_transpose(y, w, (2, 2), "SAME", dimension_numbers=convolution.NHWC, transpose_kernel=True)


def native_pointwise(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return `convolution.pointwise(x, w)` by the native operation, which JAX differentiates."""
    return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=convolution.NHWC)


def native_depthwise(stride: int, rate: int) -> Callable:
    """Return `convolution.depthwise` of 3x3 kernels by the native operation, which JAX differentiates."""

    def run(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            ((rate, rate), (rate, rate)),
            rhs_dilation=(rate, rate),
            dimension_numbers=convolution.NHWC,
            feature_group_count=x.shape[-1],
        )

    return run


def native_max_pool(x: jax.Array) -> jax.Array:
    """Return the 3x3 maxima with stride 2 and padding 1 by the native operation, which JAX differentiates."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


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
    options = parallel.step_options(jax.default_backend())  # as a step is compiled
    compiled = {
        name: jax.jit(function, compiler_options=options).lower(a, b).compile() for name, function in functions.items()
    }
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
                records.append(versus(name, what, of(native), of(ours), arguments, repeats=repeats))
    return records


def versus(name: str, what: str, native: Callable, ours: Callable, arguments: tuple, *, repeats: int) -> dict:
    """Return the record of one operation in its two forms, and print it."""
    times = compare({"native": native, "ours": ours}, *arguments, repeats=repeats)
    shapes = [list(argument.shape) for argument in arguments]
    ratio = times["native"]["median"] / times["ours"]["median"]
    medians = "  ".join(f"{form} {times[form]['median']:8.1f} ms" for form in ("native", "ours"))
    print(f"{name:16s} {what:21s} {shapes[0]!s:20s} {medians}  {ratio:5.2f}x", flush=True)
    return {"operation": name, "what": what, "shapes": shapes, **times}


def measure_maps(repeats: int) -> list[dict]:
    """Return the records of depthwise and atrous convolutions and of max-pooling, and print them."""
    records = []
    for height, width, channels, stride, rate in MAPS:
        keys = jax.random.split(jax.random.key(0), 2)
        x = jax.random.normal(keys[0], (BATCH, height, width, channels))
        kernel = jax.random.normal(keys[1], (3, 3, 1, channels)) / 3
        name = f"depthwise {stride} {rate}"
        native, ours = native_depthwise(stride, rate), lambda x, w, s=stride, r=rate: convolution.depthwise(x, w, s, r)
        # The second argument of a pool is a factor on the input, so that all are functions of two arrays.
        pools = [lambda x, w, pool=pool: pool(x * w[0, 0]) for pool in (native_max_pool, our_max_pool)]
        for what, of in [("forward", lambda f: f), ("forward and backward", forward_backward)]:
            records.append(versus(name, what, of(native), of(ours), (x, kernel), repeats=repeats))
            records.append(versus("max pool 3x3/2", what, *map(of, pools), (x, kernel), repeats=repeats))
    return records


def our_max_pool(x: jax.Array) -> jax.Array:
    """Return the 3x3 maxima with stride 2 and padding 1 as the networks take them."""
    return layers.max_pool(x, 3, stride=2, padding=1)


def measure_networks(repeats: int) -> list[dict]:
    """Return the records of whole backbones, and print them."""
    cases = []
    for name in BACKBONES:
        module = create_backbone(name, output_stride=16, module_name=None)
        cases.append((f"{name} stride 16", module, jnp.ones((BATCH, 144, 192, 3))))
    records = []
    for name, module, x in cases:
        variables = jax.jit(lambda x, m=module: m.init(jax.random.key(0), x, train=True))(x)

        def forward(params, x, module=module, rest=variables):
            outputs = module.apply(rest | {"params": params}, x, train=True, mutable=["batch_stats"])
            return sum(jnp.mean(leaf**2) for leaf in jax.tree.leaves(outputs[0]))

        functions = {"forward": forward, "forward and backward": jax.grad(forward)}
        times = compare(functions, variables["params"], x, repeats=repeats)
        records += [{"operation": name, "what": what, "shapes": [list(x.shape)], **times[what]} for what in functions]
        medians = "  ".join(f"{what} {times[what]['median']:8.1f} ms" for what in functions)
        print(f"{name:21s} {x.shape!s:20s} {medians}", flush=True)
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
    records = [record for part in (measure, measure_maps, measure_networks) for record in part(arguments.repeats)]
    results = {**machine, "batch": BATCH, "unit": "ms", "records": records}
    with open(arguments.output, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()

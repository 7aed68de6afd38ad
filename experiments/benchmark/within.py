"""Time our steps against each other: `python -m experiments.benchmark.within [--only=fused]`.

What a design of ours costs or saves: a fused step against two updates that are compiled apart, an adversarial step
against the supervised one of the same segmenter, our forms of convolutions and our options of the compiler against
XLA's own, atrous convolutions against plain ones, the gradient of a 3x3 kernel against a matrix product, and the same
batch on several virtual devices. Two works of a pair run in turn, so that a machine that slows down slows both; a ratio
is that of a round. docs/performance.md shows the records after `python experiments/collect.py --readme`.
"""

import argparse
import datetime
import functools
import math
import statistics
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from configs import supervised_seg
from experiments.benchmark import cases, compare, layers, ours, report
from experiments.benchmark.sides import Side
from gan_seg_jax import parallel
from gan_seg_jax.methods import get_method
from gan_seg_jax.models import convolution
from gan_seg_jax.models.layers import Conv
from gan_seg_jax.system import process
from gan_seg_jax.train_step import train_step

RESULTS = compare.RESULTS / "within"
STEPS = ("cgan", "cgan-default", "adversarial-resnet18", "adversarial-mobilenetv2", "adversarial-lite0")
LEVERS = ("cgan", "adversarial-resnet18", "adversarial-lite0", "fcdensenet56")
RATES = (6, 12, 18)
KERNELS = ((72, 96, 32), (36, 48, 64), (18, 24, 128), (36, 48, 256))  # height, width and channels of the maps
DEVICES = (2, 4, 8)
SCALED = "cgan-default"  # what runs on several devices

Work = Callable[[], Any]  # does it once and returns arrays that are there when it is done


def fused(case: str) -> dict[str, Work]:
    """Return a step, which shares the acting network's pass, and the same two updates, compiled apart."""
    config = cases.load(case)
    updates = config.phases[-1][1]
    return {"two updates": _step(config, *((group,) for group in updates)), "fused": _step(config, updates)}


def adversarial(case: str) -> dict[str, Work]:
    """Return an adversarial step and the supervised one of the same segmenter and losses."""
    game, alone = cases.load(case), supervised_seg.get_config()
    role = "generator" if "generator" in game.networks else "segmenter"
    with alone.unlocked():
        for name in ("batch_size", "canvas_size", "crop_size", "augment", "num_classes"):
            alone[name] = game[name]
        alone.losses.weights = game.losses.weights
        alone.networks.segmenter, alone.optimizers.segmenter = game.networks[role], game.optimizers[role]
    return {"adversarial": _step(game, game.phases[-1][1]), "supervised": _step(alone, alone.phases[-1][1])}


def forms(case: str) -> dict[str, Work]:
    """Return a step of XLA's own convolutions wherever we have a form of them for processors, and one of our forms."""
    config = cases.load(case)
    with convolution.native_alone():
        native = _step(config, config.phases[-1][1])
    return {"native": native, "our forms": _step(config, config.phases[-1][1])}


def compiler_options(case: str) -> dict[str, Work]:
    """Return a step as XLA compiles it by default, its convolutions by YNNPACK, and one by `parallel.step_options`."""
    config = cases.load(case)
    with unittest.mock.patch.object(parallel, "step_options", lambda platform: {}):
        default = _step(config, config.phases[-1][1])
    return {"YNNPACK": default, "Eigen": _step(config, config.phases[-1][1])}


def _step(config: Any, *programs: Any) -> Work:
    """Return a work that runs compiled updates, one after the other, on a state of its own."""
    method, mesh = get_method(config), parallel.make_mesh(jax.devices()[:1])
    state, batch = ours.placed(config, mesh)
    held = [state]
    fixed = {"method": method, "config": config}
    compiled = [
        parallel.compile_step(functools.partial(train_step, updates=updates, **fixed), held[0], batch, mesh)
        for updates in programs
    ]

    def work() -> Any:
        for program in compiled:
            held[0], _ = program(held[0], batch)
        return held[0]

    return work


def atrous(rate: int) -> dict[str, Work]:
    """Return a 3x3 convolution of that rate and one of rate 1, both with their gradients."""
    x = jax.random.normal(jax.random.key(1), (layers.BATCH, 32, 32, 128))

    def make(rate: int) -> Work:
        module = Conv(128, rate=rate, bias=False)
        variables = module.init(jax.random.key(0), x)

        def loss(variables, x):
            return jnp.sum(module.apply(variables, x) ** 2)

        gradients = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=parallel.step_options("cpu"))
        program = gradients.lower(variables, x).compile()
        return lambda: program(variables, x)

    return {f"rate {rate}": make(rate), "rate 1": make(1)}


def kernel_gradient(shape: tuple[int, int, int]) -> dict[str, Work]:
    """Return the gradient of a 3x3 kernel, and a product of square matrices with as many operations."""
    *size, channels = shape
    x, y = (jax.random.normal(jax.random.key(number), (layers.BATCH, *size, channels)) for number in (1, 2))
    module = Conv(channels, bias=False)
    variables = module.init(jax.random.key(0), x)

    def pulled(variables, x, y):  # x is no constant, whose layout would be made while compiling
        return jax.vjp(lambda v: module.apply(v, x), variables)[1](y)

    gradient = jax.jit(pulled, compiler_options=parallel.step_options("cpu")).lower(variables, x, y).compile()
    side = ours.PRODUCT["cpu"]
    a, multiply = jnp.ones((side, side)), jax.jit(lambda a: a @ a)
    share = layers.BATCH * size[0] * size[1] * 9 * channels**2 / side**3  # of the product, whose time is scaled by it
    return {"gradient": lambda: gradient(variables, x, y), "product": _Scaled(lambda: multiply(a), share)}


class _Scaled:
    """A work of which a share is counted."""

    def __init__(self, work: Work, share: float):
        self._work, self.share = work, share

    def __call__(self) -> Any:
        return self._work()


KINDS: dict[str, dict[str, Callable[[], dict[str, Work]]]] = {  # kind -> name -> what makes the two works
    "fused": {case: functools.partial(fused, case) for case in STEPS},
    "adversarial": {case: functools.partial(adversarial, case) for case in STEPS},
    "forms": {case: functools.partial(forms, case) for case in LEVERS},
    "options": {case: functools.partial(compiler_options, case) for case in LEVERS},
    "atrous": {f"rate {rate}, 128 channels at 32x32": functools.partial(atrous, rate) for rate in RATES},
    "kernel": {f"{c} channels at {h}x{w}": functools.partial(kernel_gradient, (h, w, c)) for h, w, c in KERNELS},
}


def in_turn(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each work in each round: each goes on for `compare.STRETCH` seconds, at least once."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    once = {name: _seconds(work, 2) / 2 for name, work in works.items()}
    for number in range(rounds):
        for name in list(works) if number % 2 else reversed(works):
            count = max(1, math.ceil(compare.STRETCH / once[name]))
            seconds[name].append(_seconds(works[name], count) / count * getattr(works[name], "share", 1.0))
    return seconds


def _seconds(work: Work, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        found = work()
    jax.block_until_ready(found)
    return time.perf_counter() - began


def on_devices(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of a step of the same batch on one and on several virtual devices of this processor."""
    names = {f"ours-{count}-devices": f"{count} devices" for count in DEVICES}
    sides: dict[str, Side] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("ours", *names):
                sides[name] = Side(name, SCALED, options, Path(folder))
                sides[name].facts["first"] = {"step": sides[name].facts["first"]["step"]}
            found = compare.measure(sides, options.rounds, 0)
        finally:
            for side in sides.values():
                side.stop()
    return {names.get(name, "1 device"): values["step"] for name, values in found.items()}


def main() -> int:
    """Measure, print and keep; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[*KINDS, "devices"], help="a kind; may be repeated")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help=f"folder of the records; with {report.ROUNDS} rounds {RESULTS}")
    options = parser.parse_args()
    process.restart()  # as a command does
    options.device, options.dtype = "cpu", "float32"
    jax.config.update("jax_platforms", options.device)
    hardware = compare.records.hardware()
    options.threads = hardware["cores"]
    folder = options.output or (RESULTS if options.rounds >= report.ROUNDS else None)
    for kind in options.only or [*KINDS, "devices"]:
        before = compare.load.snapshot()
        began = time.process_time() + compare.load.of_children()
        if kind == "devices":
            seconds = {cases.CASES[SCALED].title: on_devices(options)}
        else:
            seconds = {}
            for name, make in KINDS[kind].items():
                seconds[name] = in_turn(make(), options.rounds)
                print(kind, name, {work: statistics.median(found) for work, found in seconds[name].items()}, flush=True)
        used = time.process_time() + compare.load.of_children() - began
        record = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **compare.records.git_state(compare.records.ROOT),
            "rounds": options.rounds,
            "versions": {"jax": jax.__version__},
            "load": compare.load.between(before, compare.load.snapshot(), used),
            "seconds": seconds,
        }
        if folder is not None:
            keep(folder, hardware, kind, record)
    if folder is not None:
        print(report.within(folder))
    return 0


def keep(folder: Path, hardware: Mapping[str, Any], kind: str, record: Mapping[str, Any]) -> None:
    """Put the record of a kind among those of its processor, in place of an earlier one."""
    path = folder / f"{compare.slug(hardware['cpu'])}-{hardware['cores']}-threads.json"
    found = compare.records.read_json(path) or {"hardware": hardware, "kinds": {}}
    compare.records.write_json(path, {**found, "kinds": {**found["kinds"], kind: record}})


if __name__ == "__main__":
    sys.exit(main())

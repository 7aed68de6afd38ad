"""Compile the training step of a config for TPU chips that are not here, and print what came out as JSON.

Run by test_tpu_compile.py in an environment with `jax[tpu]`: python tpu_compile_step.py DTYPE CHIPS [CONFIG[:WORDS]]
"""

import functools
import importlib
import json
import re
import sys
import time

import jax
import numpy as np
from jax.experimental import topologies

from gan_seg_jax import config as config_lib
from gan_seg_jax import parallel, phases
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import get_method
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import create_state, variable_shapes
from gan_seg_jax.train_step import train_step

TOPOLOGY = "v5e:2x4"
BATCH_PER_CHIP = 8
NUM_CLASSES = 10
COLLECTIVES = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")


def main(dtype: str, chips: int, name: str = "cgan_seg") -> None:
    """Print the JSON."""
    file, _, words = name.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(words)
    config.dtype, config.batch_size = dtype, BATCH_PER_CHIP * chips
    config.num_classes, config.class_names = NUM_CLASSES, tuple(f"class {i}" for i in range(NUM_CLASSES))
    config.class_colors = tuple((25 * i, 0, 0) for i in range(NUM_CLASSES))
    config_lib.check(config.lock())
    method = get_method(config)
    state, batch = _state_shapes(method, config), _batch_shapes(method, config)
    devices = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices
    _, updates = phases.phase_ends(config)[-1]
    step = functools.partial(train_step, method=method, config=config, updates=updates)
    began = time.monotonic()
    compiled = parallel.compile_step(step, state, batch, parallel.make_mesh(devices[:chips]))
    seconds = time.monotonic() - began
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    result = {
        "devices": sorted({device.device_kind for device in devices}),
        "compile_seconds": seconds,
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "aliased": memory.alias_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
            "code": memory.generated_code_size_in_bytes,
        },
        "flops": cost["flops"],
        "bytes_moved": cost["bytes accessed"],
        "parameters": {role: _shapes(net.params) for role, net in state.networks.items()},
        "statistics": {role: _shapes(net.batch_stats) for role, net in state.networks.items()},
        **parse(compiled.as_text()),
    }
    print(json.dumps(result))


def _state_shapes(method, config):
    modules, optimizers = method.build(config), create_optimizers(config)
    variables = variable_shapes(method, modules, example_batch(method.STREAMS, config), config)
    return jax.eval_shape(lambda values: create_state(values, modules, optimizers, seed=config.seed), variables)


def _batch_shapes(method, config):
    """Return the shapes of what the host delivers."""
    b, (height, width) = config.batch_size, config.canvas_size
    stream = {
        "image": jax.ShapeDtypeStruct((b, height, width, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((b, height, width), np.uint8),
        "content": jax.ShapeDtypeStruct((b, 2), np.int32),
        "valid": jax.ShapeDtypeStruct((b,), bool),
        "id": jax.ShapeDtypeStruct((b,), np.int32),
    }
    if config.rounds > 1:
        stream = {name: jax.ShapeDtypeStruct((config.rounds, *leaf.shape), leaf.dtype) for name, leaf in stream.items()}
    return dict.fromkeys(method.STREAMS, stream)


def _shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def parse(hlo: str) -> dict:
    """Return the collectives, convolutions and number of run-time branches of an optimised program's text."""
    collectives, convolutions = [], []
    for line in hlo.splitlines():
        found = re.search(rf" = (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(", line)
        name = re.search(r'op_name="([^"]*)"', line)
        name = name.group(1) if name else ""
        if found:
            arrays = re.findall(r"\b(\w+)\[([\d,]*)\]", found.group(1))
            collectives.append(
                {
                    "kind": found.group(2),
                    "name": name,
                    "dtypes": [dtype for dtype, _ in arrays],
                    "shapes": [[int(size) for size in shape.split(",") if size] for _, shape in arrays],
                    "participants": _participants(line),
                }
            )
        elif " convolution(" in line:
            window = re.search(r"window=\{([^}]*)\}", line)  # a matrix product has none
            convolutions.append({"window": window.group(1) if window else "", "name": name})
    return {"collectives": collectives, "convolutions": convolutions, "branches": hlo.count(" conditional(")}


def _participants(line: str) -> int:
    """Return how many chips take part, from any of the four ways to write it."""
    if "source_target_pairs=" in line:  # {{0,1},{1,2}}
        pairs = line.split("source_target_pairs=")[1].split("}}")[0]
        return len(set(re.findall(r"\d+", pairs)))
    groups = line.split("replica_groups=")[1]
    if groups.startswith("mesh"):  # mesh['a'=8,'b'=1] {'a'}
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", groups.split("]")[0]))
        axes = re.findall(r"'(\w+)'", groups.split("{")[1].split("}")[0])
        return int(np.prod([int(sizes[axis]) for axis in axes]))
    if groups.startswith("["):  # [1,8]<=[8]
        return int(groups.split("]")[0].split(",")[1])
    return groups.split("}")[0].count(",") + 1  # {{0,1,2,3,4,5,6,7}}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])

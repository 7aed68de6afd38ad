"""Compile the training step of a config for TPU chips that are not here, and print what came out as JSON.

Run by test_tpu_compile.py in an environment with `jax[tpu]`: python tpu_compile_step.py DTYPE CHIPS [CONFIG[:WORDS]]
"""

import dataclasses
import importlib
import json
import re
import sys

import jax
from jax.sharding import SingleDeviceSharding

from gan_seg_jax import config as config_lib
from gan_seg_jax.methods import get_method
from gan_seg_jax.planning import hlo, program, slices
from gan_seg_jax.training import measure

BATCH_PER_CHIP = 8
NUM_CLASSES = 10


def main(dtype: str, chips: int, name: str = "cgan_seg") -> None:
    """Print the JSON."""
    file, _, words = name.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(words)
    config.dtype, config.batch_size = dtype, BATCH_PER_CHIP * chips
    program.use_classes(config, NUM_CLASSES)
    config_lib.check(config.lock())
    devices = program.devices(slices.named("v5e-8"))[:chips]
    compiled, state = program.compile_last_phase(config, devices)
    text = compiled.as_text()
    result = {
        "memory": dataclasses.asdict(measure.memory(compiled)),
        "flops": compiled.cost_analysis()["flops"],
        "parameters": {role: _shapes(net.params) for role, net in state.networks.items()},
        "statistics": {role: _shapes(net.batch_stats) for role, net in state.networks.items()},
        "collectives": [each._asdict() for each in hlo.collectives(text)],
        "convolutions": _convolutions(text),
        "branches": text.count(" conditional("),
        "doubles": text.count("f64["),
    }
    if name == "cgan_seg" and chips == 1:
        result["forwards"] = _forwards(config, state, SingleDeviceSharding(devices[0]))
    print(json.dumps(result))


def _forwards(config, state, sharding):
    """Return role -> the operations of a network's training forward on a batch."""
    modules, size = get_method(config).build(config), (config.batch_size, *config.crop_size)
    image, mask = (jax.ShapeDtypeStruct((*size, count), "float32", sharding=sharding) for count in (3, NUM_CLASSES))
    found = {}
    for role, inputs in {"generator": (image,), "discriminator": (image, mask)}.items():

        def apply(variables, *inputs, role=role):
            rngs = {"dropout": jax.random.key(0)}
            return modules[role].apply(variables, *inputs, train=True, mutable=["batch_stats"], rngs=rngs)

        network = state.networks[role]
        variables = {"params": network.params, **network.collections}
        placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), variables)
        found[role] = jax.jit(apply).lower(placed, *inputs).compile().cost_analysis()["flops"]
    return found


def _shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def _convolutions(text: str) -> list[dict[str, str]]:
    """Return the convolutions of an optimised program's text."""
    found = []
    for line in text.splitlines():
        if " convolution(" in line:
            window = re.search(r"window=\{([^}]*)\}", line)  # a matrix product has none
            found.append({"window": window[1] if window else "", "name": hlo.name_of(line)})
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])

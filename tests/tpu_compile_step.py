"""Compile the training step of a config for TPU chips that are not here, and print what came out as JSON.

Run by test_tpu_compile.py in an environment with `jax[tpu]`: python tpu_compile_step.py DTYPE CHIPS [CONFIG[:WORDS]]
"""

import dataclasses
import importlib
import json
import re
import sys

import jax

from gan_seg_jax import config as config_lib
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
    compiled, state = program.compile_last_phase(config, program.devices(slices.named("v5e-8"))[:chips])
    text = compiled.as_text()
    result = {
        "memory": dataclasses.asdict(measure.memory(compiled)),
        "flops": compiled.cost_analysis()["flops"],
        "parameters": {role: _shapes(net.params) for role, net in state.networks.items()},
        "statistics": {role: _shapes(net.batch_stats) for role, net in state.networks.items()},
        "collectives": [each._asdict() for each in hlo.collectives(text)],
        "convolutions": _convolutions(text),
        "branches": text.count(" conditional("),
    }
    print(json.dumps(result))


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

"""Train a config whose discriminator is constant, random or always right, in a process of its own; print the mIoU.

    python tests/bad_discriminators.py --kind=KIND --config=CONFIG[:WORDS] --workdir=DIR [--config.FIELD=VALUE ...]

KIND: good (the discriminator as it is), constant (one score for everything), random (as it was drawn, never trained)
or right (a high score for every map of zeros and ones, a low one for every other, whatever the training).
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import config_flags

from gan_seg_jax import commands, config, models, train

CERTAIN = 10.0  # scores of the discriminator that is right
CRISP = 0.999  # mean largest value of a map that is a truth


def constant(outputs, inputs):
    """Return the same scores and features for everything."""
    del inputs
    return jax.tree.map(lambda x: 0.0 * x, outputs)


def right(outputs, inputs):
    """Return scores that tell a truth from a prediction; the class map is the last input."""
    largest = jnp.max(inputs[-1], axis=-1)
    known = jnp.sum(inputs[-1], axis=-1) > 0.5
    crispness = jnp.sum(largest * known, axis=(1, 2)) / jnp.maximum(jnp.sum(known, axis=(1, 2)), 1)
    score = jnp.clip(1e4 * (crispness - CRISP), -CERTAIN, CERTAIN)

    def judged(scores):
        return 0.0 * scores + score.reshape(-1, *[1] * (scores.ndim - 1))

    return (judged(outputs[0]), *outputs[1:]) if isinstance(outputs, tuple) else judged(outputs)


def spoil(network: type, transform) -> type:
    """Return a network whose outputs are transformed."""

    class Spoiled(network):
        def __call__(self, *inputs, train):
            return transform(super().__call__(*inputs, train=train), inputs)

    return Spoiled


def main():
    """Train and print."""
    settings = flags.FLAGS.config
    kind, workdir = flags.FLAGS.kind, Path(flags.FLAGS.workdir)
    if kind in ("constant", "right"):
        for role in settings.networks:
            if role.startswith("discriminator"):
                name = settings.networks[role].name
                models.MODELS[name] = spoil(models.MODELS[name], {"constant": constant, "right": right}[kind])
    config.check(settings)
    summary = train.train_and_evaluate(settings, workdir)
    print(json.dumps({"miou": summary["test"]["miou"]}))


if __name__ == "__main__":
    flags.DEFINE_string("kind", "good", "good | constant | random | right")
    flags.DEFINE_string("workdir", "", "Folder of the run.")
    config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    commands.run(main, __doc__)

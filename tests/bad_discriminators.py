"""Train a config whose discriminator is constant, random or always right, in a process of its own; print the mIoU.

    python tests/bad_discriminators.py --kind=KIND --config=CONFIG[:WORDS] --workdir=DIR [--config.FIELD=VALUE ...]

KIND: good (the discriminator as it is), constant (one score for everything), random (as it was drawn, never trained)
or right (a high score for all that is real and a low one for all else, whatever the training, with a slope that draws
predictions towards certainty, right or wrong).
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import config_flags

from gan_seg_jax import config, models, train
from gan_seg_jax.cli import commands
from gan_seg_jax.methods import game

CERTAIN = 10.0  # scores of the discriminator that is right
SLOPE = 2 * CERTAIN  # of these scores along the certainty of a map, from 0 to 1: that of a line from fake to real
_real = []  # whether what the discriminator sees next is real, of the passes of a game that are to come


def told(play):
    """Return `game.play` as it is, but for telling a discriminator that is right what it sees: real, then fake."""

    def played(*args, **options):
        _real[:] = [True, False]
        outcome = play(*args, **options)
        _real.clear()
        return outcome

    return played


def constant(outputs, inputs):
    """Return the same scores and features for everything."""
    del inputs
    return jax.tree.map(lambda x: 0.0 * x, outputs)


def right(outputs, inputs):
    """Return scores that tell real from fake, as `told` says; the class map is the last input.

    The slope adds nothing to the scores: they are right however certain the map is.
    """
    real = _real.pop(0) if _real else False  # outside a game there are predictions only
    largest = jnp.max(inputs[-1], axis=-1)
    known = jnp.sum(inputs[-1], axis=-1) > 0.5
    certainty = jnp.sum(largest * known, axis=(1, 2)) / jnp.maximum(jnp.sum(known, axis=(1, 2)), 1)
    score = (CERTAIN if real else -CERTAIN) + SLOPE * (certainty - jax.lax.stop_gradient(certainty))

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
        for name in {network.name for role, network in settings.networks.items() if role.startswith("discriminator")}:
            models.MODELS[name] = spoil(models.MODELS[name], {"constant": constant, "right": right}[kind])
        game.play = told(game.play)
    config.check(settings)
    summary = train.train_and_evaluate(settings, workdir)
    print(json.dumps({"miou": summary["test"]["miou"]}))


if __name__ == "__main__":
    flags.DEFINE_string("kind", "good", "good | constant | random | right")
    flags.DEFINE_string("workdir", "", "Folder of the run.")
    config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    commands.run(main, __doc__)

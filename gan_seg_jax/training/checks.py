"""What is checked before the first step, so that a run that cannot work ends at once, with a sentence."""

import functools
import traceback
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import config_dict

from gan_seg_jax import tasks
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import InputError, expect
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses import fields
from gan_seg_jax.phases import frozen_backbones, phase_ends
from gan_seg_jax.state import AdversarialState, Networks


def check(method: Any, config: ConfigDict, dataset: Dataset) -> None:
    """Check that config and data fit the method, as far as can be said before anything is trained.

    Raises:
        InputError: they do not.
    """
    fields.check_classes(config)
    check_shards(config)
    pipeline.check_streams(dataset, method.STREAMS)
    build(method, config)
    tasks.of(method).check(config, dataset.splits["val"])


def check_shards(config: ConfigDict) -> None:
    """Check that the devices that share an image can do so evenly.

    Raises:
        InputError: they cannot.
    """
    height, shards = config.crop_size[0], config.spatial_shards
    expect(height % shards == 0, "spatial_shards", shards, f"a divisor of the crops' height, {height}")


def build(method: Any, config: ConfigDict) -> dict[str, nn.Module]:
    """Return the network of each role.

    Raises:
        InputError: they cannot be built, such as from the config of another method.
    """
    try:
        return method.build(config)
    except (AttributeError, KeyError) as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename != config_dict.__file__:
            raise
        reason = str(error).split("\n")[0].strip("\"'")
        raise InputError(
            f"config.method is {config.method!r}, which reads a field that this config does not have: {reason}. Start "
            "from a config of that method."
        ) from error


def check_training(method: Any, config: ConfigDict, state: AdversarialState) -> None:
    """Trace what the networks do in each phase, on batches of the run's size, without computing it.

    Args:
        method: the method.
        config: the run's config.
        state: the state before the first step, or its shapes.

    Raises:
        InputError: a network cannot be trained on such batches, such as by a norm over single values.
    """
    batch = jax.eval_shape(lambda: example_batch(method.STREAMS, config, config.batch_size))

    def passes(networks, batch, moving, frozen):
        view = {"rng": jax.random.key(0), "step": jnp.int32(0), "moving": moving, "frozen": frozen}
        nets = Networks(states=networks, **view)
        outputs, nets = method.forward(nets, batch, nets.rng, config)
        return method.losses(nets, outputs, batch, nets.rng, config).losses

    if "sample_as_trained" in config:  # where a label-to-image generator gets one image at a time
        one = jax.eval_shape(lambda: example_batch(method.STREAMS, config, 1))
        view = lambda networks: Networks(states=networks, rng=jax.random.key(0), step=jnp.int32(0))
        sample = lambda networks, batch: method.predict(view(networks), batch, jax.random.key(0), config)
        jax.eval_shape(sample, state.networks, one)
    phases = [(frozenset(role for group in updates for role in group), end) for end, updates in phase_ends(config)]
    for moving, frozen in {(moving, frozen_backbones(config, end - 1) & moving) for moving, end in phases}:
        jax.eval_shape(functools.partial(passes, moving=moving, frozen=frozen), state.networks, batch)

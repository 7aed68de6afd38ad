"""How many images a second a machine reads and prepares for training."""

import contextlib
import time
from collections.abc import Sequence

from ml_collections import ConfigDict

from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Dataset

_BATCH, _BATCHES, _SECONDS = 32, 4, 2.0  # of one measurement: images, the fewest batches, the shortest time


def measured_rate(config: ConfigDict, dataset: Dataset, streams: Sequence[str]) -> float:
    """Return images a second of the config's pipeline on this machine, over a few batches, without any step.

    Args:
        config: The run's.
        dataset: Its data.
        streams: That its method reads; an image of each counts as one.

    Raises:
        InputError: As of `pipeline.train_batches`.
    """
    config = config.copy_and_resolve_references().unlock()
    config.batch_size = min(config.batch_size, _BATCH)
    with contextlib.closing(pipeline.train_batches(dataset, config, tuple(streams))) as batches:
        next(batches)  # workers have started
        count, began = 0, time.monotonic()
        while count < _BATCHES or time.monotonic() - began < _SECONDS:
            next(batches)
            count += 1
        seconds = time.monotonic() - began
    return count * config.batch_size * config.rounds * len(streams) / seconds

"""A method that reads the classes off the red channel of an image, and splits coded like that: no network is needed."""

import types

import jax.numpy as jnp
import numpy as np

from configs import common
from gan_seg_jax.inference import load
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.state import AdversarialState
from tests import tiny_runs

SIZES = ((12, 20), (16, 24), (9, 31), (7, 5))


def read_class(nets, batch, rng, config):
    """A method's `predict` whose logits follow the red channel of the image."""
    del nets, rng
    red = batch["labelled"]["image"][..., 0]
    return -jnp.square(red[..., None] * 127.5 + 127.5 - 40.0 * jnp.arange(config.num_classes)) / 200.0


METHOD = types.SimpleNamespace(predict=read_class, score_map=None, discriminator_inputs=None)
STATE = AdversarialState(jnp.int32(0), jnp.uint32(0), jnp.int32(0), jnp.int32(0), {})


def coded_split(count: int, *, errors: float) -> tiny_runs.MemorySplit:
    """Return a split whose red channel is 40 times the label, but for a share of the pixels."""
    plain = tiny_runs.memory_split(count, sizes=SIZES)
    rng, images = np.random.default_rng(5), []
    for label in plain.labels:
        shown = np.where((rng.random(label.shape) < errors) | (label == IGNORE), rng.integers(0, 3, label.shape), label)
        images.append(np.repeat((40 * shown).astype(np.uint8)[..., None], 3, axis=2))
    return tiny_runs.MemorySplit(plain.info, plain.name, tuple(images), plain.labels)


def make_config(**fields):
    """Return a config of three classes."""
    config = common.get_config()
    names = {"num_classes": 3, "class_names": tiny_runs.INFO.class_names, "class_colors": tiny_runs.INFO.class_colors}
    config.update({"batch_size": 4, "resize": "none", **names, **fields})
    return config


def take_place(monkeypatch) -> None:
    """Let commands load, whatever folder they name, a run of the method."""
    method = types.SimpleNamespace(**vars(METHOD), TASK="segmentation")
    run = load.Run(method, make_config(), STATE, 0)
    monkeypatch.setattr(load, "load_run", lambda *args: run)

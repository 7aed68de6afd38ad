"""A trained run, ready to label images: what `evaluate`, `predict` and the pictures of a run share."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax import augment, checkpoint, resample
from gan_seg_jax.methods import get_method
from gan_seg_jax.state import AdversarialState, create_state, inference_view, variable_shapes


@dataclasses.dataclass(frozen=True)
class Run:
    """A method, the config it was trained with, its state, and the step of its checkpoint."""

    method: Any
    config: ConfigDict
    state: AdversarialState
    step: int


def example_batch(streams: tuple[str, ...], config: ConfigDict) -> dict[str, dict[str, jax.Array]]:
    """Return an all-zero batch of two as methods see it, for shapes."""
    h, w = config.crop_size
    stream = {
        "image": jnp.zeros((2, h, w, 3)), "label": jnp.zeros((2, h, w), jnp.int32),
        "valid": jnp.ones(2, bool), "id": jnp.zeros(2, jnp.int32),
    }  # fmt: skip
    return dict.fromkeys(streams, stream)


def load_run(workdir: str | Path, which: str = "best") -> Run:
    """Load a run for inference: averaged weights where it has them, no optimizers.

    Args:
        workdir: the run's folder.
        which: "best", "latest" or a step.

    Raises:
        InputError: the folder holds no run, or the checkpoint cannot be read.
    """
    config = checkpoint.read_config(workdir)
    method = get_method(config.method)
    modules = method.build(config)
    arrays, meta = checkpoint.load_checkpoint(workdir, which)
    template = variable_shapes(method, modules, example_batch(method.STREAMS, config), config)
    stored = {role: checkpoint.network_variables(arrays, role, origin=str(workdir)) for role in modules}
    variables = checkpoint.fill(template, checkpoint.flatten(stored), origin=f"The checkpoint in {workdir}")
    state = create_state(jax.tree.map(jnp.asarray, variables), modules, {}, seed=config.seed)
    return Run(method, config, state.replace(step=jnp.int32(meta["step"])), meta["step"])


def prepare(stream: dict[str, jax.Array], config: ConfigDict) -> dict[str, jax.Array]:
    """Return what methods see of canvases that are to be labelled; every pixel counts as not labelled.

    The stream's own `label`, if it is there, may have another size than the canvas: it is for scoring.
    """
    unknown = jnp.full(stream["image"].shape[:3], augment.IGNORE, jnp.uint8)
    key = jax.random.key(0)  # nothing is drawn
    stream = {**stream, "label": unknown}
    return augment.prepare(stream, key, crop_size=config.crop_size, options=config.augment, train=False)


def make_predictor(method: Any, config: ConfigDict) -> Callable:
    """Return a function that labels a batch of canvases at the images' own sizes.

    The function takes (state, stream, out_size), `out_size` static, and returns (labels uint8 [b, *out_size],
    probability of the chosen class float32 [b, *out_size]); only the first `stream["size"]` pixels have a meaning.
    """

    def predict(state: AdversarialState, stream: dict[str, jax.Array], out_size: tuple[int, int]):
        key = jax.random.key(0)
        batch = {"labelled": prepare(stream, config)}
        logits = method.predict(inference_view(state, key), batch, key, config).astype(jnp.float32)
        logits = resample.resize_bilinear(logits, stream["content"], stream["size"], out_size=out_size)
        chosen = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
        confidence = jnp.exp(jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1))
        return chosen, confidence

    return predict

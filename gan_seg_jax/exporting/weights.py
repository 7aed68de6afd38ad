"""The weights alone, as safetensors, which many programs read; `gan_seg_jax.load` makes a segmenter of the folder."""

import os
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from gan_seg_jax.config import to_json
from gan_seg_jax.exporting.program import networks_of
from gan_seg_jax.inference.load import Run
from gan_seg_jax.runs.integrity import flatten

_PLACES = ("data_dir", "folder", "index_file", "feature_network")  # fields that hold places of the training's machine
_OF_ROLES = ("init", "pretrained")  # groups of such fields, one for each role


def serialize(run: Run) -> bytes:
    """Return the weights of the roles that label, by ROLE/params/..., ROLE/batch_stats/... and so on."""
    states = {role: run.state.networks[role] for role in networks_of(run)}
    variables = {role: {"params": state.params, **state.collections} for role, state in states.items()}
    arrays = {path: np.asarray(leaf) for path, leaf in flatten(jax.device_get(variables)).items()}
    return safetensors.numpy.save(arrays, metadata={"format": "flax"})


def published_config(run: Run) -> dict[str, Any]:
    """Return the run's config for JSON; of folders and files only their own names: where they lay is private."""
    return _without_places(to_json(run.config))


def _without_places(values: dict[str, Any], *, all_places: bool = False) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            value = _without_places(value, all_places=name in _OF_ROLES)
        elif isinstance(value, str) and (all_places or name in _PLACES) and not value.startswith(("hf:", "pip:")):
            value = os.path.basename(value.rstrip("/"))
        found[name] = value
    return found

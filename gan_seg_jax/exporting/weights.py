"""The weights alone, as safetensors, which many programs read; `gan_seg_jax.load` makes a segmenter of the folder."""

from typing import Any

import jax
import numpy as np
import safetensors.numpy

from gan_seg_jax.config import to_json
from gan_seg_jax.exporting.program import networks_of
from gan_seg_jax.inference.load import Run
from gan_seg_jax.runs.integrity import flatten

_FOLDERS = ("data_dir", "folder")  # fields whose values are places of the machine of the training


def serialize(run: Run) -> bytes:
    """Return the weights of the roles that label, by ROLE/params/..., ROLE/batch_stats/... and so on."""
    states = {role: run.state.networks[role] for role in networks_of(run)}
    variables = {role: {"params": state.params, **state.collections} for role, state in states.items()}
    arrays = {path: np.asarray(leaf) for path, leaf in flatten(jax.device_get(variables)).items()}
    return safetensors.numpy.save(arrays, metadata={"format": "flax"})


def published_config(run: Run) -> dict[str, Any]:
    """Return the run's config for JSON; of folders only their own names, for the others are nobody's business."""
    return _without_folders(to_json(run.config))


def _without_folders(values: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            inner = _without_folders(value)
            found[name] = {role: _own_name(path) for role, path in inner.items()} if name == "init" else inner
        else:
            found[name] = _own_name(value) if name in _FOLDERS else value
    return found


def _own_name(path: Any) -> Any:
    return path.rstrip("/").rpartition("/")[2] if isinstance(path, str) else path  # its last part; a word is as it was

"""What `--config=configs/auto.py` stands for: the suggestion for the data, as fields before those that are given.

So a config says concretely what was chosen, and a field on the command line holds. A run that has begun keeps what was
chosen at its start, whatever has become of machine and data since.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

if TYPE_CHECKING:
    from gan_seg_jax.data.splits import Rules
    from gan_seg_jax.inspection.suggestion import Suggestion

FIELDS = (
    "canvas_size",
    "crop_size",
    "batch_size",
    "steps",
    "eval_every",
    "checkpoint_every",
    "samples_every",
    "losses.class_weighting",
    "augment.policy",
)
"""The fields that are chosen."""


def chosen(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the words behind the colon and the fields for the data that the arguments name; nothing without data.

    Args:
        words: The arguments of a command, each field as one word.

    Raises:
        InputError: The data cannot be used.
    """
    given = {match[1]: match[2] for word in words if (match := re.match(r"--?([\w.]+)=(.*)", word, re.DOTALL))}
    data_dir, name = given.get("config.data_dir", ""), given.get("config.dataset", "folder")
    if not data_dir or name == "scenes" or name.startswith("tfds:"):  # for which the defaults are made
        return "", {}
    begun = _begun(Path(given["workdir"]) / "config.json") if given.get("workdir") else None
    if begun is not None:
        return begun
    from gan_seg_jax.data.splits import Rules

    most = given.get("config.max_pixels", "")  # whether images are in two splits is for the run to say
    found = suggest(data_dir, name, Rules(True, **({"max_pixels": int(most)} if most.isdigit() else {})))
    return found.words, {"dataset": name, **found.fields}


def suggest(data_dir: str | os.PathLike, name: str, rules: "Rules") -> "Suggestion":
    """Return what to train on a folder, on this machine.

    Args:
        data_dir: The folder.
        name: "folder" or a set of the catalog.
        rules: How it is read.

    Raises:
        InputError: The set cannot be used.
    """
    from gan_seg_jax import parallel  # now: other configs need neither data nor JAX before their fields are known
    from gan_seg_jax.data import folder
    from gan_seg_jax.data.catalog import CATALOG
    from gan_seg_jax.inspection import suggestion
    from gan_seg_jax.models import pip_weights

    if name not in ("folder", *CATALOG):
        raise InputError(f"configs/auto.py is for folders of images and masks; {name} needs a config of its own.")
    dataset = folder.open_folder(data_dir, info=CATALOG.get(name), name=name, rules=rules)
    parallel.initialize()
    pretrained = pip_weights.is_there("pip:efficientnet_lite0")
    return suggestion.suggest(dataset, suggestion.machine(), pretrained=pretrained)


def _begun(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return what was chosen for a run that has begun; None where there is none, or its config cannot be read."""
    try:
        config = files.read_json(path)
        network = config["networks"]["segmenter"]["name"]
        fields = {"dataset": config["dataset"]}
        for field in FIELDS:
            value = config
            for part in field.split("."):
                value = value[part]
            fields[field] = tuple(value) if isinstance(value, list) else value
    except (OSError, InputError, KeyError, TypeError):
        return None
    return ("unet_lite0,recipe" if network == "backbone_unet" else "unet"), fields

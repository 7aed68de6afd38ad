"""Look at the metadata of a prepared set before TensorFlow Datasets does.

`features.json` names Python classes, and TFDS imports the module of any; `dataset_info.json` says where the records
lie. Whoever sends somebody a prepared set, or the config of a run, must not thereby run code on that machine or have
other files read: only the feature classes of TFDS itself, and files in the folder of the set.
"""

import inspect
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

_CLASS_FIELDS = ("pythonClassName", "python_class_name", "type")
_PLAIN = re.compile(r"[\w.+-]+")  # a name that leads to no other folder


def check(directory: str) -> None:
    """Check the metadata of a prepared set; files that are missing are left to TFDS to complain about.

    Args:
        directory: Folder of the prepared version, with dataset_info.json in it.

    Raises:
        InputError: They name other classes or places, cannot be read, or something there is no regular file.
    """
    expect_regular_files(directory)
    features, info = (_read(os.path.join(directory, name)) for name in ("features.json", "dataset_info.json"))
    known = _feature_classes()
    for path, value in (("features.json", features), ("dataset_info.json", _inner(info, "features"))):
        strange = sorted(set(_class_names(value)) - known)
        if strange:
            raise InputError(
                f"{files.shown(directory)}/{path} names the feature class {files.shown(strange[0])}, which would be "
                "imported; only the classes of tensorflow_datasets.features are. Prepare the set with these."
            )
    _check_places(directory, info)


def expect_regular_files(folder: str) -> None:
    """Refuse pipes and devices in a folder and below: TFDS would wait for them.

    Raises:
        InputError: There is one.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if os.path.exists(path) and not os.path.isfile(path):
                raise InputError(f"{files.shown(path)} is no regular file; remove it, or prepare the set anew.")


def _check_places(directory: str, info: Any) -> None:
    """Refuse names out of which TFDS would make paths outside of the folder."""
    splits = _inner(info, "splits")
    named = [info.get(field) for field in ("name", "fileFormat", "file_format")] if isinstance(info, dict) else []
    named += [_inner(split, "name") for split in splits or ()]
    templates = [_inner(split, field) for split in splits or () for field in ("filepathTemplate", "filepath_template")]
    for name in filter(None, named):
        _expect(directory, name, isinstance(name, str) and _PLAIN.fullmatch(name) is not None)
    for template in filter(None, templates):
        parts = re.sub(r"[${}]", "", str(template)).split("/")
        _expect(directory, template, all(_PLAIN.fullmatch(part) and part != ".." for part in parts))


def _expect(directory: str, found: Any, ok: bool) -> None:
    if not ok or found == "..":
        raise InputError(
            f"{files.shown(directory)}/dataset_info.json says that records lie at {files.shown(str(found))!r}; "
            "expected plain names of files in this folder: prepare the set anew."
        )


def _read(path: str) -> Any:
    try:
        return files.read_json(path)
    except FileNotFoundError:
        return {}


def _inner(value: Any, field: str) -> Any:
    return value.get(field) if isinstance(value, dict) else None


def _class_names(value: Any) -> Iterator[str]:
    """Yield the names of classes at any depth, also in JSON inside of strings, as older sets have it."""
    if isinstance(value, list):
        for inner in value:
            yield from _class_names(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in _CLASS_FIELDS and isinstance(inner, str):
                yield inner
            yield from _class_names(inner)
    elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            yield from _class_names(json.loads(value))
        except (ValueError, RecursionError):
            return  # no JSON


def _feature_classes() -> set[str]:
    """Return the full names of TFDS's own feature classes."""
    found = {"tensorflow_datasets.core.features.top_level_feature.TopLevelFeature"}
    for value in vars(tfds.features).values():
        if inspect.isclass(value) and issubclass(value, tfds.features.FeatureConnector):
            found.add(f"{value.__module__}.{value.__name__}")
    return found

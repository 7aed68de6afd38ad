"""What a generator has seen: the proof that generated images bring nothing in that a run may not train on.

A run that trains a generator writes WORKDIR/training_data.json, the SHA-256 of every training image as decoded, and
stores the file's digest in each checkpoint, so that neither can be exchanged. The command `sample` copies the record to
OUTPUT/provenance.json and adds the hashes of what it made. `check` refuses a source that has seen anything but the
labelled training images of the run at hand; where these are generated images themselves, what their generator has seen
counts as seen by the run, and must not be of val or test. Hashes are of pixels, so a renamed or re-packed copy is
recognised; one that was scaled or compressed anew is not.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan_seg_jax.data import images
from gan_seg_jax.data.catalog import Dataset, Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files
from gan_seg_jax.system.files import write_json

RECORD = "training_data.json"  # in the folder of a run
COPY = "provenance.json"  # in a folder of generated images
HELD_OUT = ("val", "test")  # splits that scores are taken of
LIMIT = 2**30  # bytes of a record: 67 for an image
_SHOWN = 5  # ids in a message


def image_hash(image: np.ndarray) -> str:
    """Return the SHA-256 over shape and bytes of an image, uint8 [h, w, c], in hexadecimal."""
    head = ",".join(map(str, image.shape)).encode()
    return hashlib.sha256(head + b":" + np.ascontiguousarray(image, np.uint8).tobytes()).hexdigest()


@functools.lru_cache(maxsize=8)  # several checks at the start of a run ask for the same
def hashes(split: Split) -> tuple[str, ...]:
    """Return the hash of each image of a split, in its order; names do not matter, nor do labels."""
    return tuple(image_hash(split[index]["image"]) for index in range(len(split)))


def split_digest(split: Split) -> str:
    """Return one SHA-256 over the images of a split, whatever their order and names."""
    return hashlib.sha256("\n".join(sorted(hashes(split))).encode()).hexdigest()


def claim(
    workdir: Path,
    splits: Iterable[Split],
    sources: Mapping[str, str | None],
    *,
    fresh: bool = True,
    write: bool = True,
) -> str:
    """Record what the generator of a run sees; return the record's digest, for every checkpoint.

    Args:
        workdir: the run's folder.
        splits: what it trains on.
        sources: runs that it starts from -> the digest in their checkpoint, None without any, and folders of made
            images that it trains on -> None; what they have seen it has seen. A run without a record makes this one's
            incomplete, and `check` will say so. Not looked at where a record stays.
        fresh: whether the run has no checkpoint yet. A record of one that has stays as it is; any other is of a start
            that failed, perhaps from other sources, and is written anew.
        write: whether this process writes the file.

    Raises:
        InputError: the run began on other images, or a source's record does not fit its checkpoint.
    """
    path, seen = workdir / RECORD, {value for split in splits for value in hashes(split)}
    begun = None if fresh else _read(path)
    if begun is not None:
        if seen - set(begun["images"]):
            raise InputError(
                f"{workdir} would go on with {len(seen - set(begun['images']))} training images that it did not begin "
                "with. Restore the data, or name another --workdir."
            )
        return _digest(begun)
    unknown: set[str] = set()
    for source, digest in sources.items():
        record = _find(Path(source).expanduser(), digest)
        if record is None:
            unknown.add(str(source))
            continue
        seen.update(record["images"])
        unknown.update(record["unknown"])
    record = {"images": sorted(seen), "unknown": sorted(unknown)}
    if write:
        _write(path, record)
    return _digest(record)


def digest(workdir: Path) -> str | None:
    """Return the digest of a run's record, None where there is none.

    Raises:
        InputError: it cannot be read.
    """
    record = _read(workdir / RECORD)
    return None if record is None else _digest(record)


def copy(workdir: Path, output: Path) -> None:
    """Write what the generator of a run has seen, and what it made, beside what it made.

    Without a record in the run's folder nothing is written.

    Args:
        workdir: the run's folder.
        output: the folder whose train/images hold what was made.

    Raises:
        InputError: the record or an image cannot be read.
    """
    record = _read(workdir / RECORD)
    if record is not None:
        _write(output / COPY, {**record, "digest": _digest(record), "made": sorted(_made(output))})


def made_sets(*folders: str) -> list[str]:
    """Return those of some folders ("" is none) that hold what the command `sample` made, with its record."""
    return [folder for folder in folders if folder and (Path(folder).expanduser() / COPY).exists()]


def check(dataset: Dataset, sources: Mapping[str, str | None], made_sets: Iterable[str] = ()) -> None:
    """Refuse generators and generated images that bring in what a run may not train on.

    Args:
        dataset: of the run: its "train" is what it may use (where a part keeps its labels, that part).
        sources: folder of a generator's run -> the digest in its checkpoint, None without any; or folder of generated
            images -> anything.
        made_sets: folders of generated images that the data set itself is read from. What their generators have seen
            may be used, too, unless it is of "val" or "test".

    Raises:
        InputError: a source has seen other images (how many, of which split, and ids), or has no record, or one that
            does not fit.
    """
    inherited: set[str] = set()
    for folder in made_sets:
        seen = _seen(folder, None)
        held_out = {value for name in HELD_OUT if name in dataset.splits for value in hashes(dataset.splits[name])}
        if seen & held_out:
            raise InputError(_leak(folder, seen & held_out, dataset))
        inherited |= seen
    if not sources:
        return
    allowed = inherited.union(hashes(dataset.splits["train"]))
    for source, expected in sources.items():
        seen = _seen(source, expected)
        if seen - allowed:
            raise InputError(_leak(source, seen - allowed, dataset))


def _seen(source: str, expected: str | None) -> set[str]:
    """Return the hashes of what a source has seen.

    Raises:
        InputError: nothing says it, or not reliably.
    """
    record = _find(Path(source).expanduser(), expected)
    if record is None:
        raise InputError(
            f"Nothing says which images the generator of {source} was trained on ({RECORD} of a run, {COPY} of a "
            "folder of the command sample), so it may have seen the test images; train it again, then sample anew."
        )
    if record["unknown"]:
        raise InputError(
            f"The generator of {source} began with weights of {', '.join(record['unknown'])}, and nothing says which "
            "images these have seen; train it from the start."
        )
    return set(record["images"])


def _find(source: Path, expected: str | None) -> dict[str, Any] | None:
    """Return the record of a folder of generated images, or that of a run; None without one.

    Raises:
        InputError: it cannot be read, or does not fit what was made or the run's checkpoints.
    """
    record = _read(source / COPY)
    if record is None:
        record = _read(source / RECORD)
        if record is not None:
            _expect_digest(source, record, expected)
        return record
    _expect_digest(source, record, record.get("digest"))
    strange = _made(source) - set(record.get("made", ()))
    if strange:
        raise InputError(
            f"{source} holds {len(strange)} training images that the command sample did not write; remove them, or "
            "make the folder anew."
        )
    return record


def _leak(source: str | Path, strange: set[str], dataset: Dataset) -> str:
    """Return the sentence that counts and names the images that a source should not have seen."""
    parts, left = [], set(strange)
    for name, split in dataset.splits.items():
        if name == "train":
            continue
        found = {value: split[index]["id"] for index, value in enumerate(hashes(split)) if value in strange}
        left -= found.keys()
        if found:
            ids = sorted(found.values())
            more = ", ..." if len(ids) > _SHOWN else ""
            parts.append(f"{len(ids)} of {name} ({', '.join(ids[:_SHOWN])}{more})")
    if left:
        parts.append(f"{len(left)} that this data set does not have")
    return (
        f"The generator of {source} has seen {len(strange)} images that this run may not train on: {', '.join(parts)}. "
        "Train it with the same data fields (dataset, scenes, config.labelled) as this run."
    )


def _made(folder: Path) -> set[str]:
    """Return the hashes of the training images in a folder of generated images."""
    paths = [path for path in (folder / "train" / "images").glob("*") if path.suffix.lower() in images.ENDINGS]
    return {image_hash(images.read_image(path)) for path in paths}


def _digest(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 over what a record says."""
    text = json.dumps({name: record[name] for name in ("images", "unknown")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _expect_digest(source: str | Path, record: Mapping[str, Any], expected: str | None) -> None:
    if _digest(record) != expected:
        raise InputError(
            f"The record of what the generator of {source} has seen is not the one its checkpoints were saved with; "
            "restore the file, or train again."
        )


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record, None where there is no file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        record = files.read_json(path, limit=LIMIT)
        if not all(isinstance(record[name], list) for name in ("images", "unknown")):
            raise ValueError
    except FileNotFoundError:
        return None
    except (InputError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read; restore it, or train again.") from error
    return record


def _write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record in one piece; its folder is made if it is missing.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    write_json(path, dict(record))

"""How the pictures that a run is trained on were made of volumes: what `prepare` has said of it, kept with the run."""

from pathlib import Path
from typing import Any

from gan_seg_jax.data.listing import PREPARED
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing.source import Options
from gan_seg_jax.system import files

FIELDS = ("window", "level", "percentiles", "axis", "channel")
"""Flags of `prepare` that say how a volume becomes pictures."""


def keep(workdir: Path, data_dir: str) -> None:
    """Copy what is known of it from a folder set into the folder of a run; nothing where nothing is known.

    Raises:
        InputError: it cannot be written.
    """
    try:
        record = files.read_json(Path(data_dir) / PREPARED) if data_dir else None
        known = {"format": record["format"], "version": record["version"], "flags": _known(record)}
    except (InputError, OSError, KeyError, TypeError, AttributeError):  # a file of that name may be anybody's
        return
    if known["flags"]:
        files.write_json(workdir / PREPARED, known)


def read(workdir: str | Path) -> dict[str, Any]:
    """Return those of `FIELDS` that were given when a run's data were prepared, {} where that is not known.

    Raises:
        InputError: the file in the run's folder has been changed.
    """
    path = Path(workdir) / PREPARED
    try:
        known = _known(files.read_json(path))
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{files.shown(path)} has been changed; restore it, or remove it.") from error
    for name, value in known.items():
        kinds = (int, float) if name in ("window", "level") else type(getattr(Options(), name))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InputError(f"{files.shown(path)} has been changed ({name} is {value!r}); restore it, or remove it.")
    return known


def _known(record: Any) -> dict[str, Any]:
    return {name: value for name, value in record["flags"].items() if name in FIELDS}

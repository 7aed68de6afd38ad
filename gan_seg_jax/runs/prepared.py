"""How the pictures that a run is trained on were made of volumes: what `prepare` has said of it, kept with the run.

A run has it in its PREPARED.json, exported weights in their export.json.
"""

from pathlib import Path
from typing import Any

from gan_seg_jax.data.listing import PREPARED
from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing.source import Options
from gan_seg_jax.runs import weights
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
        known = {"format": record["format"], "version": record["version"], "flags": _known(record["flags"])}
    except (InputError, OSError, KeyError, TypeError, AttributeError):  # a file of that name may be anybody's
        return
    if known["flags"]:
        files.write_json(workdir / PREPARED, known)


def read(workdir: str | Path) -> dict[str, Any]:
    """Return those of `FIELDS` that were given when a run's data were prepared, {} where that is not known.

    Args:
        workdir: the run's folder, or that of its exported weights.

    Raises:
        InputError: the file that says it has been changed.
    """
    exported = weights.are_in(workdir)
    path = Path(workdir) / (weights.FACTS if exported else PREPARED)
    mend = "export the run again" if exported else "restore it, or remove it"
    try:
        record = files.read_json(path)
        known = _known(record.get("prepared", {}) if exported else record["flags"])
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{files.shown(path)} has been changed; {mend}.") from error
    for name, value in known.items():
        kinds = (int, float) if name in ("window", "level") else type(getattr(Options(), name))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InputError(f"{files.shown(path)} has been changed ({name} is {value!r}); {mend}.")
    return known


def _known(given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in FIELDS}

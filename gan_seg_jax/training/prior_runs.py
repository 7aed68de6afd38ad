"""The runs that a run needs before itself, such as that of a frozen segmenter, and that no one has trained for it."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_seg_jax.data import pipeline
from gan_seg_jax.runs import workdirs
from gan_seg_jax.training import checks, start

DATA_FIELDS = (  # that a prior run takes from the run it serves
    "dataset",
    "data_dir",
    "scenes",
    "labelled",
    "source",
    "resize",
    "canvas_size",
    "crop_size",
    "seed",
    "num_workers",
    "prefetch",
    "allow_duplicates",
    "group_pattern",
    "max_pixels",
    "image_bits",
)


def missing(method: Any, config: ConfigDict, workdir: Path) -> list[str]:
    """Return the names of `config.prior_runs` that are to be trained now: neither given nor finished.

    Raises:
        InputError: there are some, and something is wrong with the run they would serve.
    """
    names = []
    for name in config.prior_runs:
        folder = workdirs.prior(workdir, name)
        begun = workdirs.has_checkpoints(workdir) and (folder / "summary.json").exists()
        if not begun and workdirs.source(config, workdir, name) == str(folder):
            names.append(name)
    if names:  # what is wrong with this run is said before others have trained for it
        dataset = pipeline.open_dataset(config)
        with config.unlocked():
            pipeline.resolve_classes(config, dataset)
        checks.check(method, config, dataset)
        checks.check_training(method, config, start.state_shapes(method, config))
    return names


def config_of(config: ConfigDict, name: str) -> ConfigDict:
    """Return the config of a prior run, on the data of the run it serves."""
    prior = ConfigDict(config.prior_runs[name])
    with prior.unlocked():
        for field in DATA_FIELDS:
            prior[field] = config[field]
        prior.baselines = ()
    return prior

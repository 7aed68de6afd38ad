"""What a run was trained on, as digests in its checkpoints, so that it does not go on with other data."""

import hashlib
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_seg_jax import parallel, tasks
from gan_seg_jax.data import pipeline, provenance
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import InputError
from gan_seg_jax.runs import checkpoint, workdirs

# In a checkpoint's meta, digests:
TRAINING_DATA = "training_data"  # of what a generator has seen
LABELLED = "labelled"  # of the ids of the training images with labels, where a file lists them
CHECKED = "checked"  # of the training images that generated pairs were checked against, where there are any
DATA = "data"  # of the images and labels of each split, {} where they are drawn


def of(method: Any, config: ConfigDict, dataset: Dataset, workdir: Path, *, fresh: bool) -> dict[str, Any]:
    """Return the digests, by the names above; first, generated images are kept from bringing in what may not be seen.

    Args:
        method: the method.
        config: the run's config.
        dataset: its data.
        workdir: its folder.
        fresh: as in `start.initial_state`.

    Raises:
        InputError: as `_training_data` says.
    """
    return {
        TRAINING_DATA: _training_data(method, config, dataset, workdir, fresh=fresh),
        LABELLED: _labelled(config, dataset),
        CHECKED: _checked(config, dataset),
        DATA: _data(method, dataset),
    }


def _training_data(method: Any, config: ConfigDict, dataset: Dataset, workdir: Path, *, fresh: bool) -> str | None:
    """Keep generated images from bringing in what may not be trained on.

    Args:
        method: the method.
        config: the run's config.
        dataset: its data.
        workdir: its folder.
        fresh: as in `initial_state`; where the run has begun, the runs it started from were looked at then.

    Returns:
        The digest of what the run's generator sees (`provenance.claim`), for its checkpoints; None without any.

    Raises:
        InputError: a generator or a folder of generated pairs has seen other images than this run's training split, or
            the data set is itself of generated images, and their generator has seen its val or test.
    """
    origins = {role: workdirs.source(config, workdir, role) for role in config.init}
    origins = {role: origin for role, origin in origins.items() if origin not in ("", "random")}
    origins = origins if fresh else {}
    digests = {origin: checkpoint.load_meta(origin)[TRAINING_DATA] for origin in origins.values()}
    generates = config.method == "augmentation" and "generator" in origins
    made = {origins["generator"]: digests[origins["generator"]]} if generates else {}
    if config.synthetic.folder:
        made[config.synthetic.folder] = None
    made_sets = provenance.made_sets(config.data_dir, config.source.data_dir)
    provenance.check(dataset, made, made_sets)
    if not tasks.of(method).records_data:
        return None
    splits = [dataset.splits[pipeline.STREAM_SPLITS.get(stream, stream)] for stream in method.STREAMS]
    seen_before = {**digests, **dict.fromkeys(made_sets)}
    return provenance.claim(workdir, splits, seen_before, fresh=fresh, write=parallel.is_first_process())


def _labelled(config: ConfigDict, dataset: Dataset) -> str | None:
    """Return the digest of the ids that `config.labelled.index_file` chose, None without such a file."""
    if not config.labelled.index_file:
        return None
    return hashlib.sha256("\n".join(dataset.splits["train"].ids).encode()).hexdigest()


def _checked(config: ConfigDict, dataset: Dataset) -> str | None:
    """Return the digest of the images that the generator of the pairs may have seen, None where none are generated.

    A run that goes on may have lost the generator and its record; that its training images are the same is enough.
    """
    return provenance.split_digest(dataset.splits["train"]) if config.synthetic.share > 0 else None


def _data(method: Any, dataset: Dataset) -> dict[str, str]:
    """Return a digest of the images and labels of each split that matters to a run."""
    read = {*dataset.digests} - (set() if "unlabelled" in method.STREAMS else {"unlabelled"})
    return {name: digest for name, digest in dataset.digests.items() if name in read}


def check_same(found: dict[str, Any], meta: dict[str, Any], config: ConfigDict, workdir: Path) -> None:
    """Check that a run goes on with the data that it began with.

    Args:
        found: the digests of now, by the names above.
        meta: of the checkpoint, with those that it was saved with.
        config: the run's config.
        workdir: its folder.

    Raises:
        InputError: the data are others.
    """
    changed = [name for name, digest in found.items() if meta.get(name) != digest]
    if not changed:
        return
    before, now = meta.get(DATA) or {}, found[DATA]
    splits = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    what = {
        TRAINING_DATA: f"{workdir / provenance.RECORD}, which says what the generator was trained on, is",
        LABELLED: f"The list of labelled images in {config.labelled.index_file} is",
        CHECKED: "The set of training images, which is all that the generator of the pairs may have seen, is",
        DATA: f"The images or labels of {' and '.join(splits)} are",
    }[changed[0]]
    one = "one its" if what.endswith("is") else "ones its"
    raise InputError(
        f"{what} not the {one} checkpoints were saved with (step {meta['step']}); restore them, or name another "
        "--workdir."
    )

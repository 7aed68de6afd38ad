"""What a run starts from: weights, pre-trained or of other runs, and the checks before the first step."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax import parallel, tasks
from gan_seg_jax.data import pipeline, provenance
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses import fields
from gan_seg_jax.models import pretrained
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.runs import checkpoint, integrity, workdirs
from gan_seg_jax.state import AdversarialState, Networks, create_state, init_variables, variable_shapes
from gan_seg_jax.system import files

# In a checkpoint's meta, digests:
TRAINING_DATA = "training_data"  # of what a generator has seen
LABELLED = "labelled"  # of the ids of the training images with labels, where a file lists them
CHECKED = "checked"  # of the training images that made pairs were checked against, where there are any
DATA = "data"  # of the images and labels of each split, {} where they are drawn


def check(method: Any, config: ConfigDict, dataset: Dataset) -> None:
    """Check that config and data fit the method, as far as can be said before anything is trained.

    Raises:
        InputError: they do not.
    """
    fields.check_classes(config)
    pipeline.check_streams(dataset, method.STREAMS)
    method.build(config)
    tasks.of(method).check(config, dataset.splits["val"])


def training_data(
    method: Any, config: ConfigDict, dataset: Dataset, workdir: Path, *, fresh: bool = True
) -> str | None:
    """Keep made images from bringing in what may not be trained on.

    Args:
        method: the method.
        config: the run's config.
        dataset: its data.
        workdir: its folder.
        fresh: as in `initial_state`; where the run has begun, the runs it started from were looked at then.

    Returns:
        The digest of what the run's generator sees (`provenance.claim`), for its checkpoints; None without any.

    Raises:
        InputError: a generator or a folder of made pairs has seen other images than this run's training split, or the
            data set is itself of made images, and their generator has seen its val or test.
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


def labelled(config: ConfigDict, dataset: Dataset) -> str | None:
    """Return the digest of the ids that `config.labelled.index_file` chose, None without such a file."""
    if not config.labelled.index_file:
        return None
    return hashlib.sha256("\n".join(dataset.splits["train"].ids).encode()).hexdigest()


def checked(config: ConfigDict, dataset: Dataset) -> str | None:
    """Return the digest of the images that the generator of made pairs may have seen, None where no pairs are made.

    A run that goes on may have lost the generator and its record; that its training images are the same is enough.
    """
    return provenance.split_digest(dataset.splits["train"]) if config.synthetic.share > 0 else None


def data(method: Any, dataset: Dataset) -> dict[str, str]:
    """Return a digest of the images and labels of each split that matters to a run."""
    read = {*dataset.digests} - (set() if "unlabelled" in method.STREAMS else {"unlabelled"})
    return {name: digest for name, digest in dataset.digests.items() if name in read}


def check_data(found: dict[str, Any], meta: dict[str, Any], config: ConfigDict, workdir: Path) -> None:
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
        CHECKED: "The set of training images, which is all that the generator of the made pairs may have seen, is",
        DATA: f"The images or labels of {' and '.join(splits)} are",
    }[changed[0]]
    one = "one its" if what.endswith("is") else "ones its"
    raise InputError(
        f"{what} not the {one} checkpoints were saved with (step {meta['step']}); restore them, or name another "
        "--workdir."
    )


def initial_state(method: Any, config: ConfigDict, workdir: Path, *, fresh: bool = True) -> AdversarialState:
    """Return the state before the first step.

    Args:
        method: the method.
        config: the run's config.
        workdir: the run's folder, where prior runs are.
        fresh: fill in the roles that the config takes from other runs and the pre-trained backbones; False where a
            checkpoint replaces them anyway, so that a run goes on when their files are gone.

    Raises:
        InputError: a role that moves in no phase has nothing to start from, or weights do not fit.
    """
    modules = method.build(config)
    variables = dict(init_variables(method, modules, example_batch(method.STREAMS, config), config, config.seed))
    optimizers = create_optimizers(config)
    for role in modules:
        source = workdirs.source(config, workdir, role)
        if source and source != "random":
            if not fresh:
                continue
            stored = checkpoint.restore_networks(source, (role,), limit=integrity.room(variables))[role]
            stored, origin = checkpoint.flatten(stored), f"The {role} of {source}"
            trained = workdirs.trained_config(source)
            if _other_classes(config, trained) and (role in optimizers or trained.num_classes == config.num_classes):
                stored = _without_head(method, config, role, variables[role], stored, trained, origin)
            variables[role] = checkpoint.fill(variables[role], stored, origin=origin)
        elif role not in optimizers and source != "random":
            raise InputError(
                f"{role} moves in no phase, so it needs weights: set config.init.{role} to the folder of a run, or to "
                "random."
            )
    if fresh:
        variables |= _pretrained(variables, config, workdir)
    return create_state(variables, modules, optimizers, seed=config.seed, ema_roles=_averaged(config, optimizers))


def _other_classes(config: ConfigDict, trained: ConfigDict) -> bool:
    """Return whether a run has other classes than the one it starts from, be it in their order."""
    names = tuple(config.class_names), tuple(trained.class_names)
    return trained.num_classes != config.num_classes or (all(names) and names[0] != names[1])


def _without_head(
    method: Any, config: ConfigDict, role: str, first: Any, stored: dict[str, Any], trained: ConfigDict, origin: str
) -> dict[str, Any]:
    """Return path -> array of a network trained for other classes, those that follow from the classes as in `first`.

    Args:
        method: the method.
        config: the run's config.
        role: of the network; where it is trained no further, it may have no head.
        first: its first variables in this run.
        stored: path -> array, of the other run.
        trained: the other run's config.
        origin: what to call the network.

    Raises:
        InputError: more differs than the classes explain, or the network cannot learn the classes of this run.
    """
    there = config.copy_and_resolve_references().unlock()
    there.update({name: trained[name] for name in ("num_classes", "class_names", "class_colors")})
    there.losses.class_weights = ()

    def shapes(run):
        batch = jax.eval_shape(lambda: example_batch(method.STREAMS, run))
        return variable_shapes(method, method.build(run), batch, run)[role]

    checkpoint.fill(shapes(there), stored, origin=origin)
    here, theirs = checkpoint.flatten(first), checkpoint.flatten(shapes(there))
    what, others = "their number", here
    if trained.num_classes == config.num_classes:  # with one more, the same arrays have another shape
        what, there.num_classes = "them", trained.num_classes + 1
        there.class_names, there.class_colors = (*trained.class_names, "one more"), (*trained.class_colors, (1, 2, 3))
        others = checkpoint.flatten(shapes(there))
    head = {path: here[path] for path in theirs if path in here and theirs[path].shape != others[path].shape}
    if not head:
        return stored
    both = f"{trained.num_classes} classes, this run has {config.num_classes}"
    if what == "them":
        both = f"the classes {_listed(trained)}, this run has {_listed(config)}"
    if not any(role in group for _, updates in config.phases for group in updates):
        raise InputError(f"{origin} was trained for {both}, and it moves in no phase; name a run with the same ones.")
    if parallel.is_first_process():
        print(
            f"{origin} was trained for {both}: all of it is taken but what follows from {what}, "
            f"{', '.join(sorted(head))}.",
            flush=True,
        )
    return {**stored, **head}


def _listed(config: ConfigDict) -> str:
    """Return the first few names of a run's classes, in their order."""
    names = [files.shown(name) for name in config.class_names]
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def state_shapes(method: Any, config: ConfigDict) -> AdversarialState:
    """Return the shapes and dtypes of the state before the first step, without computing it."""
    modules, optimizers = method.build(config), create_optimizers(config)
    variables = variable_shapes(method, modules, example_batch(method.STREAMS, config), config)
    averaged = _averaged(config, optimizers)
    return jax.eval_shape(
        lambda values: create_state(values, modules, optimizers, seed=0, ema_roles=averaged), variables
    )


def _averaged(config: ConfigDict, optimizers: dict[str, Any]) -> frozenset[str]:
    """Return the roles that keep a running average of their weights."""
    return frozenset(role for role in optimizers if config.ema_decay > 0 and config.networks[role].ema)


def _pretrained(variables: dict[str, Any], config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Return the variables of each role whose backbone has pre-trained weights, with these in place."""
    loaded = {}
    for role, source in config.pretrained.items():
        if not source or workdirs.source(config, workdir, role) == str(workdirs.prior(workdir, role)):
            continue  # none, or those that the prior run began with
        if config.init[role] not in ("", "random"):
            raise InputError(f"config.init.{role} and config.pretrained.{role} are both set; choose one of them.")
        network = config.networks[role]
        if "backbone" not in network:
            raise InputError(f"config.pretrained.{role} is set, but {network.name} has no backbone; leave it empty.")
        loaded[role] = pretrained.load_backbone(source, variables[role], backbone=network.backbone)
    return loaded


def check_training(method: Any, config: ConfigDict, state: AdversarialState) -> None:
    """Trace what the networks do in each phase, on batches of the run's size, without computing it.

    Args:
        method: the method.
        config: the run's config.
        state: the state before the first step, or its shapes.

    Raises:
        InputError: a network cannot be trained on such batches, such as by a norm over single values.
    """
    batch = jax.eval_shape(lambda: example_batch(method.STREAMS, config, config.batch_size))

    def passes(networks, batch, moving):
        nets = Networks(states=networks, rng=jax.random.key(0), step=jnp.int32(0), moving=moving)
        outputs, nets = method.forward(nets, batch, nets.rng, config)
        return method.losses(nets, outputs, batch, nets.rng, config).losses

    if "sample_as_trained" in config:  # where a label-to-image generator gets one image at a time
        one = jax.eval_shape(lambda: example_batch(method.STREAMS, config, 1))
        view = lambda networks: Networks(states=networks, rng=jax.random.key(0), step=jnp.int32(0))
        sample = lambda networks, batch: method.predict(view(networks), batch, jax.random.key(0), config)
        jax.eval_shape(sample, state.networks, one)
    for moving in {frozenset(role for group in updates for role in group) for _, updates in config.phases}:
        jax.eval_shape(functools.partial(passes, moving=moving), state.networks, batch)

"""Score and show what a generator makes: as many images as a split has, compared with the split's own.

Scores, in the features of a network (`feature_network`): `frechet`, by which the best checkpoint is chosen; `kernel`,
`precision`, `recall`; `diversity`, the mean distance of two generated images over that of two real ones; `duplicates`,
the share of generated images that nearly equal another; `collapsed`, 1 where these two say that the generator makes few
images again and again. `frechet_real` is about what a perfect generator would get at this count: half the distance of
every other real image from the rest, since of equal distributions the distance is all bias, which falls as 1 / count.
It is far too small for frames of a video, whose neighbours are alike.

Where it makes pairs, `judge_miou`: how well that network, trained on real pairs, finds the mask in the generated image,
and `judge_miou_real`, the same on the real pairs. Of the discriminator, `discriminator_auc` and
`discriminator_accuracy`: how well it tells the split's images from generated ones; one with BatchNorm normalises by its
running statistics here, those of real batches alone, so its scores are not those of training. A score that needs more
images than there are is None.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import metrics, parallel
from gan_seg_jax.augment import paired
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.judging import fidelity
from gan_seg_jax.judging.detection import real_fake
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.losses import segmentation
from gan_seg_jax.parallel import local_rows
from gan_seg_jax.pictures import panels
from gan_seg_jax.runs import workdirs
from gan_seg_jax.runs.tables import values_table
from gan_seg_jax.state import AdversarialState, inference_view
from gan_seg_jax.tasks.feature_network import FeatureNetwork, open_feature_network
from gan_seg_jax.tasks.task import OfSplit, Task

# Images that a score needs.
LEAST = {"frechet": 2, "discriminator": 2, "frechet_real": 4, "kernel": 4, "precision_recall": 20, "collapse": 20}
SHEET = 24  # images that the sample sheet shows
LIMIT = 10000  # images of a split that are used at most: features lie in memory


def check(config: ConfigDict, val: Split) -> None:
    """Check that a generator can be trained and validated.

    Raises:
        InputError: crops are larger than the canvas, so that it would learn padding, or augmentation damages images;
            there are too few images to validate by, or a feature network would have to be trained on images without
            labels.
    """
    for name in ("greyscale", "blur", "noise", "cutout", "cutmix", "classmix"):
        if config.augment[name]:
            raise InputError(
                f"config.augment.{name} is {config.augment[name]}, but {config.method} learns to make what "
                "augmentation makes, and would make that, too; set it to 0. losses.diff_augment is for generators."
            )
    if any(crop > side for crop, side in zip(config.crop_size, config.canvas_size, strict=True)):
        raise InputError(
            f"config.crop_size is {config.crop_size} and config.canvas_size {config.canvas_size}: every image would be "
            "padded, and the generator would learn that; give a canvas at least as large."
        )
    if len(val) < LEAST["frechet"]:
        raise InputError(
            f"{val.info.name} has {len(val)} validation image; {config.method} needs {LEAST['frechet']} to compare "
            "what it makes with, better 100: add images (a tenth of train is taken where there is no val)."
        )
    if val.info.num_classes == 1 and workdirs.FEATURE_NETWORK in config.prior_runs and not config.feature_network:
        raise InputError(
            f"{val.info.name} has no labels, from which the network that knows the data could be trained: name one, by "
            "--config.feature_network=WORKDIR (a finished segmentation run, also of other images) or "
            "--config.feature_network=FILE.safetensors (Inception weights)."
        )


def streams(split: Split, config: ConfigDict, process: tuple[int, int] = (0, 1)) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of a split as `make_batch` takes them; `process` as of `pipeline.eval_batches`."""
    more = {"canvas_label": True, "canvas": tuple(config.canvas_size)}
    return pipeline.eval_batches(split, config, process=process, **more)


def make_batch(stream: dict[str, jax.Array], config: ConfigDict) -> dict[str, jax.Array]:
    """Return what generation methods see of a batch of evaluation: images with their labels, cut to the middle.

    Args:
        stream: of `streams`.
        config: the run's config; what is larger than `crop_size` is cut, around the middle of each image.

    Returns:
        `image`, `label`, `valid` and `id` as in training, and `inside` bool [b, h, w]: what is not padding.
    """
    key = jax.random.key(0)  # nothing is drawn
    stream = {**stream, "label": stream["canvas_label"]}
    batch = paired.prepare(stream, key, crop_size=config.crop_size, options=config.augment, train=False)
    # An image may be smaller than a crop where images keep their scale (`resize` "none"): padded, as in training.
    lack = [max(0, crop - side) for crop, side in zip(config.crop_size, batch["label"].shape[1:], strict=True)]
    for name, value in (("image", 0), ("label", IGNORE)):
        x = batch[name]
        batch[name] = jnp.pad(x, ((0, 0), *((0, n) for n in lack), *[(0, 0)] * (x.ndim - 3)), constant_values=value)

    def middle(example, content):
        start = jnp.maximum(content - jnp.array(config.crop_size), 0) // 2
        cut = lambda x: jax.lax.dynamic_slice(x, (*start, *[0] * (x.ndim - 2)), (*config.crop_size, *x.shape[2:]))
        shown = [jnp.arange(length) + start[axis] < content[axis] for axis, length in enumerate(config.crop_size)]
        inside = shown[0][:, None] & shown[1][None, :]
        return {**example, "image": cut(example["image"]), "label": cut(example["label"]), "inside": inside}

    return jax.vmap(middle)(batch, stream["content"])


def make(method: Any, state: AdversarialState, batch: dict[str, jax.Array], key: jax.Array, config: ConfigDict):
    """Return what the method makes, {"image", maybe "label"}; as real images, it is 0 where the canvas is padding.

    Each is made by itself, with a key of its own (`key` and its `id`): batch-mates and devices change nothing in it.
    """

    def one(example):
        own, alone = jax.random.fold_in(key, example["id"]), jax.tree.map(lambda x: x[None], example)
        made = method.predict(inference_view(state, own), {"labelled": alone}, own, config)
        return jax.tree.map(lambda x: x[0], made)

    made = jax.vmap(one)(batch)
    image = jnp.where(batch["inside"][..., None], made["image"].astype(jnp.float32), 0.0)
    label = {"label": jnp.where(batch["inside"], made["label"], IGNORE)} if "label" in made else {}
    return {"image": image, **label}


def told_apart(
    method: Any, state: AdversarialState, batch: dict[str, Any], made: dict[str, Any], key: Any, config: ConfigDict
) -> jax.Array:
    """Return how real the discriminator finds each image and what was made, the means of its maps, float [b, 2].

    Both are shown in one batch, since a loss without a threshold centres its scores on the batch's. Zeros without a
    discriminator.
    """
    if method.score_map is None:
        return jnp.zeros((len(batch["image"]), 2))
    known = segmentation.known(batch["label"], config.num_classes)[..., None]
    labels = batch["label"], made.get("label", batch["label"])
    maps = jnp.concatenate([segmentation.one_hot(label, config.num_classes) * known for label in labels])
    images = jnp.concatenate([batch["image"], made["image"]])
    view = method.score_map(inference_view(state, key), images, maps, config)
    return jnp.mean(view.reshape(2, len(batch["image"]), -1), axis=2).T


class Evaluator(OfSplit):
    """Scores a state by what it makes; compiled once."""

    def __init__(self, method: Any, config: ConfigDict, split: Split, mesh: Mesh, *, network: FeatureNetwork):
        """Prepare to make as many images as `split` has, with the batch size of the config on all devices."""
        self._config, self._mesh = config, mesh
        self._read(split)
        self._tells_apart = method.score_map is not None
        whole, rows = parallel.replicated(mesh), parallel.batch_sharding(mesh)

        def look(images, label, valid):
            label = jnp.where(valid[:, None, None], label, IGNORE)
            counts = jnp.zeros((config.num_classes,) * 2, jnp.int32)
            if network.logits is not None:
                found = jnp.argmax(network.logits(images), axis=-1)
                counts = metrics.confusion_matrix(label, found, num_classes=config.num_classes)
            return network.features(images), counts

        def real(stream):
            batch = make_batch(stream, config)
            nothing = jnp.zeros((len(batch["image"]), 2))
            return (*look(batch["image"], batch["label"], batch["valid"]), nothing)

        def fake(state, stream):
            batch, key = make_batch(stream, config), jax.random.key(config.seed)
            made = make(method, state, batch, key, config)
            label = made.get("label", jnp.full_like(batch["label"], IGNORE))
            return (*look(made["image"], label, batch["valid"]), told_apart(method, state, batch, made, key, config))

        self._look_real = jax.jit(real, in_shardings=(rows,), out_shardings=(rows, whole, rows))
        self._look_fake = jax.jit(fake, in_shardings=(whole, rows), out_shardings=(rows, whole, rows))

    def _read(self, split: Split) -> None:
        self._split = split
        self._real: tuple[np.ndarray, np.ndarray] | None = None  # features and confusion of the real ones

    def __call__(self, state: AdversarialState, *, poll: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Return the scores (module docstring) of a state.

        Args:
            state: the state; averaged weights are used where there are any.
            poll: called between batches; may raise to stop.
        """
        if self._real is None:
            self._real = self._gather(self._look_real, poll)[:2]
        *fake, views = self._gather(lambda stream: self._look_fake(state, stream), poll)
        found = scores(*self._real, *fake)
        if self._tells_apart and len(views) >= LEAST["discriminator"]:
            told = real_fake(views[:, 0], views[:, 1], threshold=0.5)
            found |= {"discriminator_auc": told.auc, "discriminator_accuracy": told.accuracy}
        return found

    def _gather(self, look, poll) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the features of all images, of all processes, the network's confusion matrix, and `told_apart`."""
        rows, confusion = [], 0
        process = (jax.process_index(), jax.process_count())
        sharded = parallel.batch_sharding(self._mesh)
        batches = itertools.islice(streams(self._split, self._config, process), -(-LIMIT // self._config.batch_size))
        for batch, seen in parallel.one_behind(lambda batch: look(parallel.place(batch, sharded)), batches):
            poll()
            found, counts, view = seen
            rows.append([x[batch["valid"]] for x in (batch["id"], local_rows(found), local_rows(view))])
            confusion = confusion + np.asarray(counts.addressable_data(0), np.int64)
        ids, features, views = (parallel.gather_rows(np.concatenate(parts)) for parts in zip(*rows, strict=True))
        order = np.argsort(ids)  # of the split, whatever the number of processes
        return features[order], confusion, views[order]


def scores(
    real: np.ndarray, real_confusion: np.ndarray, fake: np.ndarray, fake_confusion: np.ndarray
) -> dict[str, float | None]:
    """Return the scores (module docstring).

    Args:
        real: features of the real images, float [n, d].
        real_confusion: int [k, k], rows are labels, columns what the feature network finds in the real images.
        fake: features of the generated images, float [m, d].
        fake_confusion: likewise of the generated pairs; all zero without any.
    """
    count = min(len(real), len(fake))
    enough = {name: count >= least for name, least in LEAST.items()}
    found: dict[str, float | None] = {"frechet": _frechet(real, fake) if enough["frechet"] else None}
    found["frechet_real"] = 0.5 * _frechet(real[::2], real[1::2]) if enough["frechet_real"] else None
    found["kernel"] = fidelity.kernel_distance(real, fake).mean if enough["kernel"] else None
    covered = fidelity.precision_recall(real, fake) if enough["precision_recall"] else None
    found["precision"], found["recall"] = covered or (None, None)
    seen = fidelity.collapse(real, fake) if enough["collapse"] else None
    found["diversity"] = seen.diversity / seen.real_diversity if seen and seen.real_diversity > 0 else None
    found["duplicates"] = seen.duplicates if seen else None
    found["collapsed"] = float(seen.collapsed) if seen else None
    for name, confusion in (("judge_miou", fake_confusion), ("judge_miou_real", real_confusion)):
        names = [str(number) for number in range(len(confusion))]
        found[name] = metrics.scores(confusion, names)["miou"] if np.any(confusion) else None
    return found


def _frechet(*samples: np.ndarray) -> float:
    statistics = [fidelity.FeatureStatistics() for _ in samples]
    for each, features in zip(statistics, samples, strict=True):
        each.add(features)
    return fidelity.frechet_distance(*statistics)


class SampleSheet(OfSplit):
    """Draws what a state makes of the first images of a split: pairs where it makes pairs, else a grid of images."""

    def __init__(self, method: Any, config: ConfigDict, split: Split):
        """Read the images."""
        self._config = config
        self._read(split)

        def step(state, stream):
            batch = make_batch(stream, config)
            return _in_bytes(batch), _in_bytes(make(method, state, batch, jax.random.key(config.seed), config))

        self._step = jax.jit(step)

    def _read(self, split: Split) -> None:
        rows = np.linspace(0, len(split) - 1, SHEET).astype(int).tolist()
        more = {"canvas_label": True, "canvas": tuple(self._config.canvas_size)}
        examples = [pipeline.eval_example(split, row, self._config, **more) for row in rows]
        self._stream = {name: np.stack([example[name] for example in examples]) for name in examples[0]}

    def __call__(self, state: AdversarialState) -> np.ndarray:
        """Return the picture, uint8 [H, W, 3]."""
        local = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state)
        batch, made = jax.device_get(self._step(local, self._stream))
        columns = {}
        if "label" in made and np.array_equal(made["label"], batch["label"]):  # made of the split's own masks
            columns["real"] = batch["image"]
        columns["made"] = made["image"]
        if "label" in made:
            columns["mask"] = panels.colorize(made["label"], self._config.class_colors)
        return panels.image_grid(columns)


def _in_bytes(example: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {**example, "image": paired.to_uint8(example["image"])}


def batches(method: Any, config: ConfigDict, split: Split, state: AdversarialState, seed: int) -> Iterator[dict]:
    """Yield batches of what a state makes, without end: {"image": uint8 [b, h, w, 3], maybe "label": [b, h, w]}.

    Label-to-image methods go through the label maps of `split`, again and again, with other draws each time; one that
    draws nothing makes the same images again.
    """

    def step(state, stream, time):
        key = jax.random.fold_in(jax.random.key(seed), time)
        return _in_bytes(make(method, state, make_batch(stream, config), key, config))

    step = jax.jit(step)
    for time in itertools.count():
        for stream in streams(split, config):
            made = jax.device_get(step(state, stream, time))
            yield {name: value[stream["valid"]] for name, value in made.items()}


def _evaluator(
    method: Any, config: ConfigDict, split: Split, mesh: Mesh, workdir: Path, options: Options = PLAIN
) -> Evaluator:
    del options
    return Evaluator(method, config, split, mesh, network=open_feature_network(config, workdir))


TASK = Task(
    "generation",
    selected_by="frechet",
    lower_is_better=True,
    evaluator=_evaluator,
    sheet=SampleSheet,
    table=values_table,
    refusals={
        "predict": "reads no images; see sample",
        "judge": "labels no images: only segmentations are judged here; the scores of a generator are in summary.json",
        "crf_search": "labels no images: there is nothing that a CRF could refine",
    },
    check=check,
    batches=batches,
    records_data=True,
)

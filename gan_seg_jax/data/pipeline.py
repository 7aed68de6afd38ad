"""From a data set to batches on the host: grain decodes, this module says what is read where.

Order and host draws are functions of (seed, position) alone, where position counts the examples of the run. So a
resumed run continues by position, and any number of processes or workers yields the same global batches.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.data import workers
from gan_seg_jax.data.canvas import bucket, canvas_of, fit_to_canvas, pad, scaled_views
from gan_seg_jax.data.catalog import CATALOG, Dataset, Split
from gan_seg_jax.data.domains import from_source
from gan_seg_jax.data.folder import open_folder
from gan_seg_jax.data.pairs import open_pairs
from gan_seg_jax.data.rare_classes import RareClasses, open_rare_classes
from gan_seg_jax.data.scenes.builder import open_scenes
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.data.subset import keep_labels
from gan_seg_jax.data.synthetic import MadePairs, open_made_pairs
from gan_seg_jax.data.tfds_reader import open_tfds
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.labels import IGNORE

THREADS = 2  # that decode, where there are no worker processes
STREAM_SPLITS = {"labelled": "train", "unlabelled": "unlabelled"}


def open_dataset(config: ConfigDict) -> Dataset:
    """Open the data set that the config names; `scenes` is drawn at the first use.

    Its "train" holds the images that keep their labels (`config.labelled`), "unlabelled" those that do not. Where
    `config.source` names another set, "train" is that set's, and "target" the data set's own training images without
    their labels, if they have any.

    Raises:
        InputError: unknown name, or the set cannot be used as it is.
    """
    scenes = config.scenes
    source = _open_source(config) if config.source.dataset else None
    target = source is not None
    dataset = _open_whole(
        config.dataset, config.data_dir, scenes, rules(config), seed=scenes.seed, domain=scenes.look, target=target
    )
    if source is not None:
        dataset = from_source(source, dataset, rules(config))
    return keep_labels(dataset, **config.labelled)


def rules(config: ConfigDict) -> Rules:
    """Return how the config wants a set to be read and checked."""
    return Rules(**{field.name: config[field.name] for field in dataclasses.fields(Rules)})


def _open_source(config: ConfigDict) -> Dataset:
    """Open the set that the labelled images come from.

    Raises:
        InputError: it is the data set itself.
    """
    name, folder, seed = config.source.dataset, config.source.data_dir, config.source.seed
    if name == config.dataset == "scenes":
        folder = folder or config.data_dir  # one cache
        if seed == config.scenes.seed:
            raise InputError(
                f"config.source.seed is {seed}, as config.scenes.seed: source and target would be the same drawings; "
                "choose another."
            )
    elif (name, folder) == (config.dataset, config.data_dir):
        raise InputError("config.source is the data set itself; name another data_dir, or leave config.source.dataset.")
    # config.image_bits and config.group_pattern are of the data set itself; its source may have other images and ids.
    how = dataclasses.replace(rules(config), image_bits=0, group_pattern="")
    return _open_whole(name, folder, config.scenes, how, seed=seed, domain=config.source.look, field="source.data_dir")


def _open_whole(
    name: str,
    folder: str,
    scenes: ConfigDict,
    how: Rules,
    *,
    seed: int,
    domain: str,
    field: str = "data_dir",
    target: bool = False,
) -> Dataset:
    """Open a data set with all its labels; `field` is where the config has its folder, `target` as of `open_folder`."""
    if "://" in folder:
        raise InputError(f"config.{field} is {folder!r}; data sets are read from a folder of this machine: mount it.")
    if name == "scenes":
        if how.group_pattern:
            raise InputError("config.group_pattern has no meaning for scenes, drawn one by one; leave it away.")
        return open_scenes(folder, size=tuple(scenes.size), counts=tuple(scenes.counts), seed=seed, domain=domain)
    if name.startswith("tfds:"):
        return open_tfds(name.removeprefix("tfds:"), folder, rules=how)
    if name not in ("folder", "pairs", *CATALOG):
        raise unknown("data set", name, ["scenes", "folder", "pairs", "tfds:NAME", *CATALOG])
    if not folder:
        raise InputError(
            f"config.{field.replace('data_dir', 'dataset')} is {name!r}, so config.{field} must name its folder: "
            f"--config.{field}=FOLDER."
        )
    if name == "pairs":
        return open_pairs(folder, rules=how)
    return open_folder(folder, info=CATALOG.get(name), name=name, target=target, rules=how)


def resolve_classes(config: ConfigDict, dataset: Dataset) -> None:
    """Fill `num_classes`, `class_names`, `class_colors` and `image_bits` from the data set.

    Raises:
        InputError: the config names other classes than the data set has.
    """
    info = dataset.info
    names, colors = tuple(info.class_names), tuple(tuple(color) for color in info.class_colors)
    for field, found in (("num_classes", info.num_classes), ("class_names", names), ("class_colors", colors)):
        if field != "class_colors" and config[field] not in (0, (), found):
            raise InputError(f"config.{field} is {config[field]!r}, but {info.name} has {found!r}; leave it out.")
        config[field] = found
    config.image_bits = info.image_bits


def _stack(examples: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


@dataclasses.dataclass(frozen=True)
class _TrainBatches:
    """Callable that reads this process's rows of one global training batch; picklable for worker processes."""

    split: Split
    config: dict[str, Any]
    stream: str
    process: tuple[int, int]  # number of this process, how many there are
    made: MadePairs | None = None  # pairs that take the place of some
    rare: RareClasses | None = None  # draws the others, instead of taking them in turn

    def __call__(self, number: int, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the streams' arrays for global batch `number`, whose examples are `indices`."""
        slices = np.asarray(indices).reshape(self.config["rounds"], self.config["batch_size"])
        per_process = self.config["batch_size"] // self.process[1]
        first = self.process[0] * per_process
        rows = []
        for slot in range(self.config["rounds"]):
            examples = []
            for row in range(first, first + per_process):
                position = number * slices.size + slot * self.config["batch_size"] + row
                examples.append(self._read(int(slices[slot, row]), position))
            rows.append(_stack(examples))
        return _stack(rows) if self.config["rounds"] > 1 else rows[0]

    def _read(self, index: int, position: int) -> dict[str, np.ndarray]:
        number = None if self.made is None else self.made.find(position)
        if self.rare is not None:
            index = self.rare.find(position)
        example = self.split[index] if number is None else self.made[number]
        rng = np.random.default_rng((self.config["seed"], position))
        arrays = fit_to_canvas(
            example["image"],
            example["label"],
            self.config["canvas_size"],
            resize=self.config["resize"],
            rng=rng,
            target=example.get("target"),
        )
        return {**arrays, "valid": np.bool_(True), "id": np.int32(index if number is None else -1 - number)}


def check_streams(dataset: Dataset, streams: tuple[str, ...]) -> None:
    """Check that a data set has the images that a method reads.

    Raises:
        InputError: it lacks those of a stream.
    """
    hints = {"unlabelled": "; set config.labelled.fraction below 1", "target": "; set config.source.dataset"}
    for stream in streams:
        split = dataset.splits.get(STREAM_SPLITS.get(stream, stream))
        if split is None or len(split) == 0:
            hint = hints.get(stream, "")
            raise InputError(f"The method reads {stream} images, but {dataset.info.name} has none{hint}.")


def train_batches(
    dataset: Dataset, config: ConfigDict, streams: tuple[str, ...], *, start: int = 0, process: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, dict[str, np.ndarray]]]:
    """Yield this process's part of every global training batch, without end, from batch `start` on.

    Args:
        dataset: the data.
        config: batch_size, rounds, seed, canvas_size, resize, num_workers, prefetch, synthetic, rare_classes.
        streams: names of the streams a batch holds.
        start: number of the first batch: the position of the data.
        process: (number of this process, number of processes).

    Yields:
        stream -> image uint8 [b, H, W, 3], label uint8 [b, H, W], content int32 [b, 2], valid bool [b], id int32 [b]
        (below 0: generated pairs), and of pairs target uint8 [b, H, W, 3]; all with a leading axis of slices if
        `config.rounds` is more than 1.

    Raises:
        InputError: the data set lacks a split that a stream needs, the workers have too little shared memory, or
            a file cannot be read any more.
    """
    plain = {name: config[name] for name in ("batch_size", "rounds", "seed", "canvas_size", "resize")}
    check_streams(dataset, streams)
    if config.num_workers > 0:
        channels = 3 + 1 + 3 * (dataset.info.name == "pairs")  # image, label and target
        pixels = config.batch_size * config.rounds // process[1] * math.prod(config.canvas_size)
        workers.prepare(config.num_workers, config.prefetch, len(streams) * pixels * channels)
    iterators, made, rare = (
        {},
        open_made_pairs(config, dataset.info),
        open_rare_classes(config, dataset.splits["train"]),
    )
    for order, stream in enumerate(streams):
        split = dataset.splits[STREAM_SPLITS.get(stream, stream)]
        of_labelled = (made, rare) if stream == "labelled" else (None, None)
        batches = (
            grain.MapDataset.range(len(split))
            # grain adds the number of the epoch to this seed: neighbouring seeds would share their orders.
            .shuffle(seed=int(np.random.SeedSequence((config.seed, order)).generate_state(1)[0]))
            .repeat()
            .batch(config.batch_size * config.rounds, drop_remainder=True)  # of 2**63: a length must fit into 63 bits
            .map_with_index(_TrainBatches(split, plain, stream, process, *of_labelled))
        )
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=config.prefetch)
        read = batches[start:].to_iter_dataset(options)
        if config.num_workers > 0:
            read = read.mp_prefetch(grain.MultiprocessingOptions(config.num_workers, config.prefetch), workers.start)
        iterators[stream] = iter(read)
    try:
        while True:
            yield {stream: next(iterator) for stream, iterator in iterators.items()}
    finally:  # or the interpreter stops in the middle of ending the workers
        for iterator in iterators.values():
            iterator.close()


def eval_batches(
    split: Split,
    config: ConfigDict,
    *,
    process: tuple[int, int] = (0, 1),
    at_once: Callable[[tuple[int, int]], int] | None = None,
    scales: tuple[float, ...] = (),
    original: bool = False,
    canvas_label: bool = False,
    canvas: tuple[int, int] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield this process's part of every batch of a split, each image once, those of like sizes together.

    Args:
        split: the images.
        config: batch_size, canvas_size, resize, prefetch.
        process: (number of this process, number of processes).
        at_once: from the size of the arrays (height, width) to the number of images in a batch, over all processes;
            None is `config.batch_size` for all.
        scales: of `eval_example`, as are the following.
        original: likewise.
        canvas_label: likewise.
        canvas: likewise.

    Yields:
        The arrays of `eval_example`, stacked; a batch that its images do not fill repeats the last one, not valid.
        Batches come in the order of their first images, so where all sizes are alike images come in order.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(split.sizes()):
        groups.setdefault(_box(size, config, canvas_label, canvas), []).append(row)
    plan = []  # (images, those that do not count repeated; how many count)
    for box, rows in groups.items():
        count = config.batch_size if at_once is None else at_once(box)
        for first in range(0, len(rows), count):
            part = rows[first : first + count]
            plan.append((part + part[-1:] * (count - len(part)), len(part)))
    plan.sort()
    more = {"scales": scales, "original": original, "canvas_label": canvas_label, "canvas": canvas}

    def read(number: int) -> dict[str, np.ndarray]:
        rows, valid = plan[number]
        share = len(rows) // process[1]
        places = range(process[0] * share, (process[0] + 1) * share)
        return _stack([eval_example(split, rows[place], config, valid=place < valid, **more) for place in places])

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=config.prefetch)
    yield from grain.MapDataset.range(len(plan)).map(read).to_iter_dataset(options)


def eval_example(
    split: Split,
    row: int,
    config: ConfigDict,
    *,
    valid: bool = True,
    scales: tuple[float, ...] = (),
    original: bool = False,
    canvas_label: bool = False,
    canvas: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Read one example of a split for evaluation; nothing of it depends on the other examples.

    Args:
        split: the images.
        row: of the example.
        config: canvas_size and resize.
        valid: whether it counts.
        scales: further ones, which add the arrays of `scaled_views`.
        original: add the image as it is stored, uint8 [Hl, Wl, 3] (padding 0).
        canvas_label: give the label on the canvas, as training sees it, instead of the one of its own size.
        canvas: height and width of the canvas, instead of those of `canvas_of`: what is larger is cut to the middle.

    Returns:
        image uint8 [H, W, 3], content int32 [2], `valid`, `id` and, of pairs, target, as of `train_batches`; `size`
        int32 [2], height and width of the label; and the label, uint8: `label` [Hl, Wl] at its own size in its
        `bucket` (padding 255), or `canvas_label` [H, W].
    """
    example = split[row]
    image, label = example["image"], example["label"]
    box = _box(label.shape, config, canvas_label, canvas)
    canvas = canvas or canvas_of(label.shape, config.canvas_size, resize=config.resize)
    arrays = fit_to_canvas(image, label, canvas, resize=config.resize, rng=None, target=example.get("target"))
    arrays |= scaled_views(image, canvas, scales, resize=config.resize)
    on_canvas = arrays.pop("label")
    arrays |= {"canvas_label": on_canvas} if canvas_label else {"label": pad(label, box, IGNORE)}
    if original:
        arrays["original"] = pad(image, box)
    size = np.array(label.shape, np.int32)
    return {**arrays, "size": size, "valid": np.bool_(valid), "id": np.int32(row)}


def _box(
    size: Sequence[int], config: ConfigDict, canvas_label: bool, canvas: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the size of the largest arrays of an example of evaluation: those of its own size, or its canvas."""
    if not canvas_label:
        return bucket(size)
    return tuple(canvas or canvas_of(size, config.canvas_size, resize=config.resize))

"""Our side of what is no training: the data pipeline, evaluation, labelling files, the CRF. Started by `compare`.

The pipeline reads by threads of this process, its default, and starts anew at each call: nothing is read out of turn.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmark import cases, ours, photographs, worker
from gan_seg_jax import parallel, tasks
from gan_seg_jax.data import pipeline
from gan_seg_jax.inference import file_batches
from gan_seg_jax.inference.labelling import ImageLabeller
from gan_seg_jax.inference.load import Run
from gan_seg_jax.methods import get_method
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.postprocess import crf
from gan_seg_jax.state import parameter_counts
from gan_seg_jax.training import start


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the work of a part, and facts."""
    makers = {"data": _data, "evaluation": _evaluation, "predict": _predict, "crf": _crf}
    return makers[options.case](options)


def _open(options: argparse.Namespace) -> tuple[Any, Any, Path]:
    """Return the config, the data set, and its folder."""
    config, folder = cases.load(options.case, options.dtype), photographs.write_folder(cases.IMAGES, cases.CLASSES)
    config.dataset, config.data_dir = "folder", str(folder)
    dataset = pipeline.open_dataset(config)
    with config.unlocked():
        pipeline.resolve_classes(config, dataset)
    return config, dataset, folder


def _data(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    config, dataset, _ = _open(options)

    def batch(count: int) -> None:
        batches = pipeline.train_batches(dataset, config, ("labelled",))
        for _ in itertools.islice(batches, count):
            pass
        batches.close()

    return {"batch": batch}, ours.facts({}, {}, {"batch": config.batch_size})


def _evaluation(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    config, dataset, folder = _open(options)
    method, mesh = get_method(config), parallel.make_mesh(jax.devices()[:1])
    state = jax.device_put(start.initial_state(method, config, folder), parallel.replicated(mesh))
    evaluator = tasks.of(method).evaluator(method, config, dataset.splits["val"], mesh, folder)

    def evaluation(count: int) -> None:
        for _ in range(count):
            evaluator(state)

    return {"evaluation": evaluation}, ours.facts(parameter_counts(state), {}, {"evaluation": cases.IMAGES["val"]})


def _predict(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    config = cases.load(options.case, options.dtype)
    files = photographs.write_files(cases.PHOTOGRAPHS, cases.PHOTOGRAPH)
    method, mesh = get_method(config), parallel.make_mesh(jax.devices()[:1])
    state = start.initial_state(method, config, files[0].parent)
    label = ImageLabeller(Run(method, config, state, 0), mesh=mesh)
    read = file_batches.reader(config)

    def masks(count: int) -> None:
        for _ in range(count):
            for found in label([(file, file.with_suffix(".png")) for file in files], read):
                write_picture(found.name, found.labels)

    return {"masks": masks}, ours.facts(parameter_counts(state), {}, {"masks": cases.PHOTOGRAPHS})


def _crf(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    del options
    image, label = photographs.synthetic()
    arguments = jax.device_put((photographs.unaries(label)[None], image[None].astype(np.float32)))

    def label_image(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(crf.mean_field(*arguments, None, crf.CRFParameters(*photographs.CRF)))

    return {"image": label_image}, ours.facts({}, {}, {"image": 1})


if __name__ == "__main__":
    worker.serve(make)

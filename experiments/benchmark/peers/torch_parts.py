"""Data pipeline, evaluation and labelling in PyTorch, with `DataLoader` and Pillow. Started by `compare`.

Images are read, scaled and stacked as ours are, by two processes; mirroring is left to the device, as ours is.
Evaluation counts one confusion matrix at the labels' own size; ours counts class boundaries, too.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.benchmark import cases, photographs, worker
from experiments.benchmark.peers import missing

READERS = 2  # as many processes, at most, as our pipeline has threads by default


class Images:
    """The images of a split with their labels: [3, h, w] and [h, w], uint8."""

    def __init__(self, folder: Path, size: tuple[int, int], *, scale_labels: bool):
        """Find the files; `size` is height and width of the images, and of the labels with `scale_labels`."""
        self._paths, self._size, self._scale = sorted((folder / "images").iterdir()), size[::-1], scale_labels

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image and its label."""
        path = self._paths[index]
        image = Image.open(path).convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
        label = Image.open(path.parents[1] / "masks" / path.name)
        label = label.resize(self._size, Image.Resampling.NEAREST) if self._scale else label
        return np.asarray(image).transpose(2, 0, 1).copy(), np.array(label)


class Photographs:
    """Files of images: [3, h, w], uint8, and the number of each."""

    def __init__(self, files: list[Path], size: tuple[int, int]):
        """Scale them to that height and width."""
        self._files, self._size = files, size[::-1]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Return an image and its number."""
        image = Image.open(self._files[index]).convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
        return np.asarray(image).transpose(2, 0, 1).copy(), index


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the work of a part, and facts."""
    torch = missing.need("torch")
    if options.device == "tpu":
        raise worker.MissingError("PyTorch has no TPU of its own; its sides are left out.")
    torch.set_num_threads(options.threads)
    config = cases.load(options.case)
    works, parameters = {"data": _data, "evaluation": _evaluation, "predict": _predict}[options.case](config, options)
    modules = ("torch", *(["segmentation_models_pytorch"] if "smp" in options.side else []))
    versions = {module: missing.need(module).__version__ for module in modules}
    return works, {"parameters": parameters, "flops": {}, "versions": versions, "device": options.device}


def _loader(images: Any, config: Any, options: argparse.Namespace, order: Sequence[int] | None = None) -> Any:
    """Return a loader of all images, whose processes stay from one pass to the next, or of an order of them."""
    return missing.need("torch").utils.data.DataLoader(
        images,
        config.batch_size,
        sampler=order,
        num_workers=min(options.threads, READERS),
        persistent_workers=order is None,
        pin_memory=options.device == "gpu",
    )


def _images(config: Any, split: str) -> Images:
    folder = photographs.write_folder(cases.IMAGES, cases.CLASSES)
    return Images(folder / split, tuple(config.canvas_size), scale_labels=split == "train")


def _data(config: Any, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int]]:
    images, rng = _images(config, "train"), np.random.default_rng(0)

    def batch(count: int) -> None:  # as ours: what reads is started once, and ends with the last batch
        wanted = count * config.batch_size
        passes = [rng.permutation(len(images)) for _ in range(-(-wanted // len(images)))]
        for _ in _loader(images, config, options, np.concatenate(passes)[:wanted].tolist()):
            pass

    return {"batch": batch}, {}


def _network(config: Any, options: argparse.Namespace) -> tuple[Any, Callable, str, dict[str, int]]:
    """Return PyTorch, what takes a batch uint8 [b, 3, h, w] to its scores, the device, and the network's size."""
    import torch

    from experiments.benchmark.peers import torch_game

    device = "cuda" if options.device == "gpu" else "cpu"
    layout = torch.channels_last if "channels_last" in options.side else torch.contiguous_format
    network = torch_game.segmenter(config.networks.segmenter, options.side.split("-")[0], tuple(config.crop_size))
    network.to(device, memory_format=layout).eval()
    run = torch.compile(network) if "compile" in options.side else network

    def scores(image: torch.Tensor) -> torch.Tensor:
        return run((image.to(device).float() / 127.5 - 1).contiguous(memory_format=layout)).float()

    return torch, scores, device, {"segmenter": sum(p.numel() for p in network.parameters())}


def _evaluation(config: Any, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int]]:
    torch, scores, device, parameters = _network(config, options)
    loader, classes = _loader(_images(config, "val"), config, options), cases.CLASSES

    def evaluation(count: int) -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16"):
            for _ in range(count):
                confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
                for image, label in loader:
                    label = label.to(device).long()
                    found = torch.nn.functional.interpolate(scores(image), label.shape[1:], mode="bilinear").argmax(1)
                    confusion += torch.bincount((label * classes + found).flatten(), minlength=classes * classes)
                confusion.cpu()

    return {"evaluation": evaluation}, parameters


def _predict(config: Any, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int]]:
    torch, scores, device, parameters = _network(config, options)
    files = photographs.write_files(cases.PHOTOGRAPHS, cases.PHOTOGRAPH)
    loader = _loader(Photographs(files, tuple(config.canvas_size)), config, options)

    def masks(count: int) -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16"):
            for _ in range(count):
                for image, numbers in loader:
                    found = torch.nn.functional.interpolate(scores(image), cases.PHOTOGRAPH, mode="bilinear").argmax(1)
                    for number, mask in zip(numbers.tolist(), found.byte().cpu().numpy(), strict=True):
                        Image.fromarray(mask).save(files[number].with_suffix(".png"))

    return {"masks": masks}, parameters


if __name__ == "__main__":
    worker.serve(make)

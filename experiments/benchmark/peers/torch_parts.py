"""Data pipeline and evaluation in PyTorch: a `DataLoader` with a process for each thread, Pillow. Started by `compare`.

Images are read, scaled and stacked as ours are; mirroring is left to the device, as ours is. Evaluation counts one
confusion matrix at the labels' own size; ours counts class boundaries, too.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.benchmark import cases, photographs, worker
from experiments.benchmark.peers import missing


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


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the work of a part, and facts."""
    torch = missing.need("torch")
    if options.device == "tpu":
        raise worker.MissingError("PyTorch has no TPU of its own; its sides are left out.")
    torch.set_num_threads(options.threads)
    config, folder = cases.load(options.case), photographs.write_folder(cases.IMAGES, cases.CLASSES)
    size, split = tuple(config.canvas_size), {"data": "train", "evaluation": "val"}[options.case]
    images = Images(folder / split, size, scale_labels=split == "train")
    loader = torch.utils.data.DataLoader(
        images,
        config.batch_size,
        shuffle=split == "train",
        num_workers=options.threads,
        pin_memory=options.device == "gpu",
    )
    works, parameters = _works(torch, loader, config, options)
    versions = {"torch": torch.__version__}
    return works, {"parameters": parameters, "flops": {}, "versions": versions, "device": options.device}


def _works(torch: Any, loader: Any, config: Any, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int]]:
    if options.case == "data":

        def batch(count: int) -> None:
            epochs = itertools.chain.from_iterable(itertools.repeat(loader))
            for _ in itertools.islice(epochs, count):
                pass

        return {"batch": batch}, {}

    from experiments.benchmark.peers import twins

    functional, device = torch.nn.functional, "cuda" if options.device == "gpu" else "cpu"
    layout = torch.channels_last if "channels_last" in options.side else torch.contiguous_format
    network = twins.build(config.networks.segmenter, channels=3, classes=cases.CLASSES, size=config.crop_size)
    network.to(device, memory_format=layout).eval()
    classes = cases.CLASSES

    def evaluation(count: int) -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16"):
            for _ in range(count):
                confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
                for image, label in loader:
                    image, label = image.to(device), label.to(device).long()
                    logits = network((image.float() / 127.5 - 1).contiguous(memory_format=layout)).float()
                    found = functional.interpolate(logits, label.shape[1:], mode="bilinear").argmax(1)
                    confusion += torch.bincount((label * classes + found).flatten(), minlength=classes * classes)
                confusion.cpu()

    return {"evaluation": evaluation}, {"segmenter": sum(p.numel() for p in network.parameters())}


if __name__ == "__main__":
    worker.serve(make)

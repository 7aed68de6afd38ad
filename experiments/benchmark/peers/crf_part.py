"""The fully connected CRF by pydensecrf, the authors' code, on one image: it has one thread. Started by `compare`."""

import argparse
from importlib import metadata
from typing import Any

import numpy as np

from experiments.benchmark import photographs, worker
from experiments.benchmark.peers import missing


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the work and facts."""
    if options.device != "cpu":
        raise worker.MissingError("pydensecrf runs on the processor only.")
    densecrf = missing.need("pydensecrf.densecrf")
    image, label = photographs.synthetic()
    image, logits = np.ascontiguousarray(image.astype(np.uint8)), photographs.unaries(label)
    classes = logits.shape[-1]
    logits = logits - logits.max(-1, keepdims=True)
    unary = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits  # -log softmax
    unary = np.ascontiguousarray(unary.transpose(2, 0, 1).reshape(classes, -1).astype(np.float32))
    gaussian_weight, gaussian_xy, bilateral_weight, bilateral_xy, bilateral_rgb = photographs.CRF
    height, width = photographs.SIZE

    def label_image(count: int) -> None:
        for _ in range(count):
            field = densecrf.DenseCRF2D(width, height, classes)
            field.setUnaryEnergy(unary)
            field.addPairwiseGaussian(sxy=gaussian_xy, compat=gaussian_weight)
            field.addPairwiseBilateral(sxy=bilateral_xy, srgb=bilateral_rgb, rgbim=image, compat=bilateral_weight)
            field.inference(10)

    versions = {package: metadata.version(package) for package in metadata.packages_distributions()["pydensecrf"]}
    return {"image": label_image}, {"parameters": {}, "flops": {}, "versions": versions, "device": "cpu"}


if __name__ == "__main__":
    worker.serve(make)

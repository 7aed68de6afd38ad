"""Time the fully connected CRF on 360x480 pixels: `python -m experiments.benchmark.crf --output=FILE`.

The two forms run alternately in one process, so that a busy machine slows both alike. The exact form takes minutes on a
CPU: it runs at full size with `--exact` only, and on a crop for the accuracy. Without `--image` and `--label` the image
is a synthetic one.
"""

import argparse
import json
import os
import platform
import statistics
import time

import jax
import numpy as np
from PIL import Image

from experiments.benchmark.photographs import CLASSES, SIZE, synthetic, unaries
from gan_seg_jax.postprocess.crf import CRFParameters, mean_field

CROP = (120, 160)
PARAMETERS = {
    "deeplab": CRFParameters(),
    "wide": CRFParameters(3.0, 3.0, 5.0, 49.0, 13.0),
    "near": CRFParameters(3.0, 3.0, 5.0, 5.0, 13.0),
}


def compare(logits: np.ndarray, image: np.ndarray, parameters: CRFParameters) -> dict[str, float]:
    """Return how far the lattice is from the exact form, for arrays [1, h, w, c]."""
    ours, exact = (np.asarray(mean_field(logits, image, None, parameters, method=m)) for m in ("lattice", "exact"))
    return {
        "marginals": float(np.abs(np.exp(ours) - np.exp(exact)).mean()),
        "labels": float(np.mean(ours.argmax(-1) != exact.argmax(-1))),
        "changed_by_crf": float(np.mean(logits.argmax(-1) != exact.argmax(-1))),
    }


def measure(logits: np.ndarray, image: np.ndarray, methods: list[str], repeats: int) -> list[dict]:
    """Return one record for each setting, and print it."""
    crop = tuple(slice((whole - part) // 2, (whole + part) // 2) for whole, part in zip(SIZE, CROP, strict=True))
    records = []
    for name, parameters in PARAMETERS.items():
        times = {method: [] for method in methods}
        for repeat in range(repeats + 1):  # the first compiles
            for method in methods:
                start = time.perf_counter()
                jax.block_until_ready(mean_field(logits[None], image[None], None, parameters, method=method))
                if repeat:
                    times[method].append(time.perf_counter() - start)
        record = {
            "parameters": name,
            **parameters._asdict(),
            **compare(logits[crop][None], image[crop][None], parameters),
        }
        for method in methods:
            low, median, high = statistics.quantiles(times[method], n=4)
            record[method] = {"median": median, "quartiles": [low, high], "fastest": min(times[method])}
            print(f"{name:8s} {method:8s} {median:7.2f} s ({low:.2f} to {high:.2f})", end="  ")
        print(f"marginals {record['marginals']:.5f}  labels {100 * record['labels']:.2f}%", flush=True)
        records.append(record)
    return records


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=5, help="at least 2")
    parser.add_argument("--exact", action="store_true", help="time the exact form at full size too")
    parser.add_argument("--image", help=f"image file; its top left {SIZE[0]}x{SIZE[1]} pixels are used")
    parser.add_argument("--label", help="label file of the image: class ids, 255 = ignore")
    arguments = parser.parse_args()
    if bool(arguments.image) != bool(arguments.label):
        parser.error("--image and --label go together")
    if arguments.image:
        image, label = np.asarray(Image.open(arguments.image).convert("RGB")), np.asarray(Image.open(arguments.label))
        image, label = image[: SIZE[0], : SIZE[1]], label[: SIZE[0], : SIZE[1]]
        if label.shape != SIZE or image.shape[:2] != SIZE:
            parser.error(f"image {image.shape[:2]} and label {label.shape} must be at least {SIZE}")
    else:
        image, label = synthetic()
    methods = ["lattice", "exact"] if arguments.exact else ["lattice"]
    results = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "size": [*SIZE, CLASSES],
        "crop": CROP,
        "iterations": 10,
        "unit": "s",
        "records": measure(unaries(label), image.astype(np.float32), methods, arguments.repeats),
    }
    with open(arguments.output, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()

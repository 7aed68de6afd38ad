"""Split the nuclei of the 2018 Data Science Bowl by how they were imaged, into two folder sets.

    python experiments/split_dsb2018.py FOLDER/dsb2018 OUTPUT

OUTPUT/fluorescence gets the grey images on dark ground (bright nuclei), OUTPUT/stained the others (dark or coloured
nuclei on light ground); train, val and test stay what they are. Files are copied, nothing is changed.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

DARK, GREY = 100.0, 5.0  # largest mean level, and largest mean difference of the colours of a pixel, both of 255


def domain(path: Path) -> str:
    """Return "fluorescence" or "stained" for an image file."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((32, 32)), np.float32)
    colour = (pixels.max(axis=-1) - pixels.min(axis=-1)).mean()
    return "fluorescence" if pixels.mean() < DARK and colour < GREY else "stained"


def main() -> None:
    """Copy the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the set dsb2018")
    parser.add_argument("output", type=Path, help="folder for the two sets")
    options = parser.parse_args()
    counts: dict[str, int] = {}
    for image in sorted(options.source.glob("*/images/*.png")):
        split, name = image.parts[-3], domain(image)
        for kind in ("images", "masks"):
            target = options.output / name / split / kind
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(options.source / split / kind / image.name, target)
        shutil.copy(options.source / "classes.txt", options.output / name)
        counts[f"{name}/{split}"] = counts.get(f"{name}/{split}", 0) + 1
    print(counts)


if __name__ == "__main__":
    main()

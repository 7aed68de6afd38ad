"""The fields of a config that say which data are read and how; no other module is loaded for their check."""

import math

from ml_collections import ConfigDict

from gan_seg_jax.errors import expect
from gan_seg_jax.labels import MAX_CLASSES

DOMAINS = ("day", "night", "rain", "camera")  # of the embedded scenes, drawn by `data.scenes.domains`
SIZES = ("canvas_size", "crop_size")
POSITIVE = ("prefetch", "max_pixels")
NOT_NEGATIVE = ("num_workers", "num_classes")
# No more than any machine could hold: a config may come from somebody else.
MOST = {"num_workers": 2**10, "prefetch": 2**10, "num_classes": MAX_CLASSES}
LONGEST_SIDE, LARGEST_AREA = 2**14, 2**26  # of a canvas, a crop or a scene, in pixels
PIXELS_OF_A_STEP, PIXELS_OF_SCENES = 2**31, 2**40
KINDS = {  # as of `config_fields`
    "dataset": str,
    "data_dir": str,
    "scenes": {"size": [int], "counts": [int], "seed": int, "look": str},
    "labelled": {"fraction": float, "seed": int, "index_file": str},
    "source": {"dataset": str, "data_dir": str, "look": str, "seed": int},
    "synthetic": {"share": float, "folder": str},
    "rare_classes": {"temperature": float, "area": float},
    "allow_duplicates": bool,
    "group_pattern": str,
    "max_pixels": int,
    "image_bits": int,
    "num_classes": int,
    "class_names": [str],
    "class_colors": [[int]],
    "resize": str,
    "canvas_size": [int],
    "crop_size": [int],
    "num_workers": int,
    "prefetch": int,
}


def check(config: ConfigDict) -> None:
    """Check sizes and counts, and which images are labelled, come from elsewhere or are made.

    Raises:
        InputError: a value is out of its range.
    """
    for name in POSITIVE:
        expect(config[name] > 0, name, config[name], "a positive whole number")
    for name in NOT_NEGATIVE:
        expect(config[name] >= 0, name, config[name], "zero or a positive whole number")
    for name, most in MOST.items():
        expect(config[name] <= most, name, config[name], f"at most {most}")
    _check_sizes(config)
    expect(config.resize in ("fit", "none"), "resize", config.resize, "'fit' or 'none'")
    bits = config.image_bits
    expect(bits == 0 or 8 <= bits <= 16, "image_bits", bits, "8 to 16, or 0 (the data set says)")
    fraction, share = config.labelled.fraction, config.synthetic.share
    expect(0 < fraction <= 1, "labelled.fraction", fraction, "more than 0 and at most 1")
    expect(0 <= share < 1, "synthetic.share", share, "at least 0 and less than 1")
    temperature, area = config.rare_classes.temperature, config.rare_classes.area
    expect(temperature >= 0, "rare_classes.temperature", temperature, "0 (off) or more")
    expect(0 <= area <= 1, "rare_classes.area", area, "a share, 0 to 1")
    for name, domain in (("scenes.look", config.scenes.look), ("source.look", config.source.look)):
        expect(domain in DOMAINS, name, domain, f"one of {', '.join(DOMAINS)}")
    for name, seed in (("labelled.seed", config.labelled.seed), ("source.seed", config.source.seed)):
        expect(0 <= seed < 2**32, name, seed, "at least 0 and less than 2**32")

    names, colors, lengths = config.class_names, config.class_colors, (0, config.num_classes)
    expect(len(names) in lengths, "class_names", names, "(), or as many names as config.num_classes")
    ok = len(colors) in lengths and all(len(rgb) == 3 and 0 <= min(rgb) <= max(rgb) < 256 for rgb in colors)
    expect(ok, "class_colors", colors, "(), or (red, green, blue), 0 to 255 each, as many as config.num_classes")


def _check_sizes(config: ConfigDict) -> None:
    """Check that no canvas, crop or drawn set may use up a machine's memory or disk."""
    for name in SIZES:
        size = config[name]
        ok = len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        expect(ok, name, size, "(height, width) in pixels, both positive whole numbers")
    for name, sides in (*((name, config[name]) for name in SIZES), ("scenes.size", config.scenes.size)):
        ok = len(sides) == 2 and 0 < min(sides) <= max(sides) <= LONGEST_SIDE and math.prod(sides) <= LARGEST_AREA
        expect(ok, name, sides, f"(height, width), 1 to {LONGEST_SIDE} each, of at most {LARGEST_AREA} pixels")
    for name in SIZES:
        pixels = math.prod(config[name]) * config.batch_size * config.rounds
        most = f"batches of at most {PIXELS_OF_A_STEP} pixels in a step"
        expect(pixels <= PIXELS_OF_A_STEP, name, config[name], most)
    counts = config.scenes.counts
    ok = len(counts) == 3 and min(counts) >= 0 and sum(counts) * math.prod(config.scenes.size) <= PIXELS_OF_SCENES
    expect(ok, "scenes.counts", counts, f"those of train, val and test, of at most {PIXELS_OF_SCENES} pixels in all")

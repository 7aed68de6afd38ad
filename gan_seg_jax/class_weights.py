"""Print the weights of classes that the training labels suggest.

    python -m gan_seg_jax.class_weights --config=configs/supervised_seg.py --config.dataset=camvid
        --config.data_dir=FOLDER [--rule=median_frequency] [--output=class_weights.json]

The rules are explained in gan_seg_jax/data/class_weights.py. `--config.losses.class_weighting=RULE` computes the same
weights at the start of a training run.
"""

from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import config_flags

from gan_seg_jax.cli import commands
from gan_seg_jax.errors import InputError, unknown


def main() -> None:
    """Run the command."""
    if flags.FLAGS["config"].value is None:
        raise InputError("--config is missing; for instance --config=configs/supervised_seg.py.")
    from gan_seg_jax.data import class_weights, pipeline  # after the flags: a mistake is answered at once
    from gan_seg_jax.system.files import write_json

    rule, output = flags.FLAGS.rule, flags.FLAGS.output
    if rule not in class_weights.RULES:
        raise unknown("--rule", rule, class_weights.RULES)
    dataset = pipeline.open_dataset(flags.FLAGS.config)
    names = dataset.info.class_names
    counts = class_weights.count_classes(dataset.splits["train"])
    weights = {each: class_weights.rounded(class_weights.class_weights(counts, each)) for each in class_weights.RULES}
    if output:
        values = {
            "dataset": dataset.info.name,
            "rule": rule,
            "class_weights": dict(zip(names, weights[rule], strict=True)),
            "pixels": dict(zip(names, counts[0].tolist(), strict=True)),
        }
        write_json(Path(output), values)
    print(_table(names, counts[0], weights))
    absent = [name for name, pixels in zip(names, counts[0], strict=True) if pixels == 0]
    if absent:
        print(f"warning: no pixel of the training labels is {', '.join(absent)}; the weight is 0.")
    print(f'\n--config.losses.class_weights="{weights[rule]}"')


def _table(names: tuple[str, ...], pixels: np.ndarray, weights: dict[str, tuple[float, ...]]) -> str:
    """Return one line for each class: name, pixels, share of the known pixels, weight by every rule."""
    width = max(len("class"), *map(len, names))
    lines = [f"{'class':<{width}}  {'pixels':>12}  {'share':>7}" + "".join(f"  {rule}" for rule in weights)]
    for index, name in enumerate(names):
        share = pixels[index] / pixels.sum()
        cells = "".join(f"  {values[index]:>{len(rule)}.4g}" for rule, values in weights.items())
        lines.append(f"{name:<{width}}  {pixels[index]:>12}  {share:>7.2%}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Config file, with words for it behind a colon.", lock_config=True)
    flags.DEFINE_string("rule", "median_frequency", "Whose weights the flag to paste and the file hold.")
    flags.DEFINE_string("output", "", "JSON file to write.")
    commands.run(main, __doc__)

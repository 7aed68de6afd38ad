"""Look at a folder of images and masks: what is in it, what is wrong with it, what mends that, what to train on it.

    python -m gan_seg_jax.inspect --data_dir=FOLDER [--dataset=folder|camvid|...] [--output=FOLDER] [--measure]

Looks at every file as training would, and also for what training cannot see: images that look the same in two splits
(with the extra `inspect`: pip install "gan_seg_jax[inspect]"), classes that are absent from a split, empty labels.
Problems are ranked: an error is what training refuses, or what makes it learn or score what is not meant; a warning is
what usually harms; a note is what one should know. Without errors there is a suggestion of what to train, each choice
with its reason: what --config=configs/auto.py takes; --measure adds memory and minutes on this machine.

Prints a summary; writes inspect.html, a page with pictures that needs no other file, inspect.json, which has
everything, and for each command that mends something the files it is about, lists/NAME.lst. The data folder is never
written to, unless --output is in it. The exit code is 0 without errors, also where there are warnings, and 2 with any.
"""

import collections
import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from gan_seg_jax.cli import auto, commands
from gan_seg_jax.data.images import MAX_PIXELS
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files


def main() -> None:
    """Run the command."""
    from gan_seg_jax.inspection import page, problems, survey, text  # after the flags: a mistake is answered at once

    values = flags.FLAGS
    data_dir = Path(commands.required("data_dir")).expanduser().resolve()
    survey.expect(data_dir, values.dataset)
    output = _output(values.output, data_dir)
    found = survey.survey(data_dir, values.dataset, max_pixels=values.max_pixels)
    listed, advice, command = problems.find(found), [], ""
    if not problems.errors(listed):
        try:
            advice, command = _advice(data_dir)
        except InputError as error:  # the last word is that of training
            listed = problems.ranked([problems.refused(str(error)), *listed])
    facts, mends = survey.as_json(found), _write_lists(output, listed)
    shown = [
        dataclasses.asdict(problem) | {"command": mend, "count": problem.count or len(problem.files)}
        for problem, mend in zip(listed, mends, strict=True)
    ]
    choices = [dict(zip(("field", "value", "reason"), row, strict=True)) for row in advice]
    facts |= {"problems": shown, "suggestion": {"choices": choices, "command": command}}
    files.write_json(output / "inspect.json", facts)
    files.write_text(output / "inspect.html", page.page(found, facts, listed, mends))
    print(text.summary(facts, listed, mends))
    print(f"\nPictures are in {files.shown(output / 'inspect.html')}, all facts in inspect.json beside it.", flush=True)
    if count := len(problems.errors(listed)):
        raise InputError(
            f"{files.shown(data_dir)} has {count} error{'s' * (count > 1)}, listed above; mend them first."
        )


def _advice(data_dir: Path) -> tuple[list[tuple[str, Any, str]], str]:
    """Return what to train on a set, as rows of a field, its value and the reason, and the command that does.

    Raises:
        InputError: Training cannot read the set.
    """
    dataset, most = flags.FLAGS.dataset, flags.FLAGS.max_pixels
    found = auto.suggest(data_dir, dataset, Rules(max_pixels=most))
    rows = [("network", found.words, found.why_words), *map(tuple, found.choices)]
    given = {"dataset": dataset, "data_dir": data_dir} | ({"max_pixels": most} if most != MAX_PIXELS else {})
    if flags.FLAGS.measure:
        fields = [f"--config.{name}={value}" for name, value in (given | found.fields).items()]
        config = commands.load_config([f"--config=configs/supervised_seg.py:{found.words}", *fields])
        from gan_seg_jax.training import measure

        rows += measure.rows(measure.measure(config))
    else:
        rows.append(
            ("minutes, memory", "not measured", "--measure compiles the step and times a few, which takes minutes")
        )
    workdir = f"--workdir=runs/{data_dir.name or 'first'}"
    words = [f"--config.{name}={value}" for name, value in given.items() if (name, value) != ("dataset", "folder")]
    return rows, shlex.join(["gan-seg", "train", "--config=configs/auto.py", *words, workdir])


def _output(given: str, data_dir: Path) -> Path:
    """Return the folder to write into, made and writable.

    Raises:
        InputError: It is in the data folder though nobody said so, or cannot be written to.
    """
    output = files.local(given or f"inspected/{data_dir.name or 'data'}").expanduser().absolute()
    if not given and output.resolve().is_relative_to(data_dir):
        raise InputError(
            f"The report would be written into the data folder, {files.shown(output)}; say where: --output=FOLDER."
        )
    try:
        (output / "lists").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{files.shown(output)} cannot be made: {error.strerror}; give another --output.") from error
    if not os.access(output / "lists", os.W_OK | os.X_OK):
        raise InputError(f"{files.shown(output)} cannot be written to; give another --output.")
    return output


def _write_lists(output: Path, listed: Sequence) -> list[str]:
    """Write the files that commands are about, each path ended by a NUL; return the commands."""
    mends: list[str] = []
    seen: collections.Counter[str] = collections.Counter()
    for problem in listed:
        seen[problem.name] += 1
        number = seen[problem.name]
        path = output / "lists" / f"{problem.name}{f'-{number}' if number > 1 else ''}.lst"
        if "{files}" in problem.command:
            files.write_text(path, "".join(f"{file}\0" for file, _ in problem.files))
        mends.append(problem.command.replace("{files}", shlex.quote(os.fspath(path))))
    return mends


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the set: classes.txt, train/images, train/masks, ...")
    flags.DEFINE_string(
        "dataset", "folder", "folder, or camvid, facades, dsb2018, isbi_em: classes.txt may be missing."
    )
    flags.DEFINE_string("output", "", "Folder to write into; default inspected/NAME of the data folder.")
    flags.DEFINE_boolean("measure", False, "Compile the suggested step and time a few, for its memory and minutes.")
    flags.DEFINE_integer("max_pixels", MAX_PIXELS, "Of an image: larger ones are refused.", lower_bound=1)
    commands.run(main, __doc__, devices=False)

"""The report of a run as one page."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.data import decoding, images
from gan_seg_jax.data.catalog import CATALOG
from gan_seg_jax.pictures import judgement, pages, panels
from gan_seg_jax.reporting import looks, scores
from gan_seg_jax.reporting.looks import Look
from gan_seg_jax.reporting.run_files import RunFiles, number, title_of
from gan_seg_jax.system import files

_SHEET = 1000  # pixels of the longer side of a sheet of samples
_SHEETS = 6
_VALIDATIONS = 40  # the last ones, in a table


class Origin(NamedTuple):
    """Which config a run was made of.

    Attributes:
        config: such as configs/cgan_seg.py:smoke; "" where none of the project's has its method.
        differences: (field, value of the config, the run's).
        arguments: of `gan-seg train`, that make the run's config; () where they are not known.
    """

    config: str
    differences: Sequence[tuple[str, Any, Any]]
    arguments: Sequence[str]


def page(run: RunFiles, origin: Origin, look: Look | None, why_not: str) -> str:
    """Return the page.

    Args:
        run: the run.
        origin: what its config is.
        look: what a pass of its network has found; None where there was none.
        why_not: a sentence that says why there was none.
    """
    finished = run.summary is not None
    parts = [
        _begin(run),
        pages.section("Scores", scores.scores(run) if finished else ""),
        pages.section("Classes", scores.by_class(run) if finished else ""),
        pages.section("Single images", scores.single_images(run)),
        pages.section("Curves", _curves(run)),
        *_looked(run, look, why_not),
        pages.section("Calibration", _calibration(run, look)),
        pages.section("Samples", _samples(run)),
        pages.section("Config", _config(origin)),
        pages.section("Data", _data(run)),
        pages.section("Training", _training(run)),
        pages.section("What next", _next(run, origin)),
    ]
    return pages.page(f"{run.config.method} on {run.config.dataset}: {run.workdir.absolute().name}", "".join(parts))


def _begin(run: RunFiles) -> str:
    if run.summary is None:
        done = f"step {run.step} of {run.config.steps} is saved" if run.step is not None else "nothing is saved yet"
        return pages.paragraph(f"This run is not finished: {done}. What there is of it is shown.")
    if run.classical:
        return pages.paragraph(f"A classical method, fitted in {run.summary['seconds']:.0f} s; nothing is trained.")
    best = f"best step {run.summary['best_step']} by {title_of(run.summary['selected_by'])} on val"
    more = f" It has been made longer since, to {run.config.steps} steps." if run.longer else ""
    if run.stopped:
        more = f" It stopped before step {run.config.steps}, for validation was not better any more."
    return pages.paragraph(f"A run of {run.task.name}: {run.summary['steps']} steps, {best}.{more}")


def _curves(run: RunFiles) -> str:
    if run.classical:
        return ""
    if not run.records:
        return pages.paragraph("Nothing is logged yet.")
    alt = "Training losses, validation scores and gradient norms over the steps"
    parts = [pages.figure(pages.exact_address(panels.curves(run.records)), alt, wide=True)]
    validations = [record for record in run.records if record["split"] == "val"][-_VALIDATIONS:]
    names = list(dict.fromkeys(name for record in validations for name in record if name not in ("step", "split")))
    if names:
        rows = [[str(record["step"]), *(_logged(record.get(name)) for name in names)] for record in validations]
        parts.append(pages.details("Validations as numbers", pages.table([["step", *map(title_of, names)], *rows])))
    return "".join(parts)


def _logged(value: Any) -> str:
    return format(value, ".5g") if isinstance(value, float) else "-" if value is None else str(value)[:20]


def _looked(run: RunFiles, look: Look | None, why_not: str) -> list[str]:
    """Return the sections of what the network was needed for."""
    if look is None:
        return [pages.section("Best and worst images", pages.paragraph(why_not))]
    of = f"of {len(look.counts)} images of {look.split}, step {look.step}"
    doubted = any("doubt" in name for seen in (*look.worst, *look.best) for name in seen.pictures)
    words = "The discriminator's doubt: yellow is what it takes for made up, dark blue for real."
    colors = pages.paragraph(words) if doubted else ""
    return [
        pages.section("Confusion matrix", scores.confusion(look.confusion, run.config.class_names)),
        pages.section(f"Worst {of}", colors + looks.rows_of(look.worst)),
        pages.section(f"Best {of}", looks.rows_of(look.best)),
        pages.section("Explanation", _explained(look)),
    ]


def _explained(look: Look) -> str:
    if not look.explained:
        return ""
    words = "What the network uses, which is not what is right: maps of Grad-CAM, integrated gradients and occlusion."
    figures = [
        pages.figure(address, f"The worst image, {name}", wide=True) if address else pages.paragraph(name)
        for name, address in look.explained
    ]
    return pages.paragraph(words) + "".join(figures)


def _calibration(run: RunFiles, look: Look | None) -> str:
    parts = [scores.judged(split, found) for split, found in run.judging.items()]
    if look is not None and look.confusion.any():
        ece = look.reliability.ece()
        title = f"{look.split}: calibration error {number(ece)}"
        diagram = pages.exact_address(judgement.reliability({title: look.reliability.diagram()}))
        caption = f"Accuracy of the pixels of {look.split} over their confidence; on the dashed line the two are equal"
        parts.insert(0, pages.figure(diagram, caption, wide=True))
    if not parts or run.judging:
        return "".join(parts)
    words = "The temperature that mends it, errors found and what the discriminator knows: "
    return "".join([*parts, pages.paragraph(words), pages.command(_command("judge", run))])


def _samples(run: RunFiles) -> str:
    return "".join(sheet(name, path) for name, path in list(run.samples.items())[:_SHEETS])


def sheet(name: str, path: Path) -> str:
    """Return a sheet of samples of this name, or a sentence where it is damaged."""
    try:
        picture = np.asarray(decoding.read(path, max_pixels=images.MAX_PIXELS).image.convert("RGB"))
    except images.ImageError as error:
        return pages.paragraph(error)
    return pages.figure(pages.address(picture, _SHEET), f"samples/{path.name}", alt=f"Samples, {name}", wide=True)


def _config(origin: Origin) -> str:
    if not origin.config:
        return pages.paragraph("None of the project's configs has this method; all fields are in config.json.")
    if not origin.differences:
        return pages.paragraph(f"All fields are those of {origin.config}.")
    rows = [["field", origin.config, "this run"], *([name, short(a), short(b)] for name, a, b in origin.differences)]
    return pages.paragraph(f"The nearest config is {origin.config}; what differs:") + pages.table(rows, left=True)


def short(value: Any) -> str:
    """Return the value of a field, cut where it is very long."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _data(run: RunFiles) -> str:
    config = run.config
    rows = [["", ""], ["data set", config.dataset]]
    rows += [["folder", config.data_dir]] if config.data_dir else []
    rows += (
        [["labelled images come from", f"{config.source.dataset} {config.source.data_dir}"]]
        if config.source.dataset
        else []
    )
    rows += [["classes", f"{config.num_classes}: {', '.join(config.class_names)}"]] if config.num_classes else []
    rows.append(["canvas, crop", f"{_size(config.canvas_size)}, {_size(config.crop_size)}"])
    rows += [["runs before this one", ", ".join(config.prior_runs)]] if config.prior_runs else []
    rows += [["test images", str(len(run.counts))]] if run.counts is not None else []
    rows += [["protocol", CATALOG[config.dataset].protocol]] if config.dataset in CATALOG else []
    return pages.table(rows, left=True)


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _training(run: RunFiles) -> str:
    found = run.summary
    if found is None:
        return ""
    rows = [["", ""], ["seconds", number(found["seconds"], ".0f")]]
    rows += [
        ["of these compiling", number(found["compile_seconds"], ".0f")],
        ["images/s", number(found["images_per_second"], ".1f")],
    ]
    rows += [[f"parameters of {role}", f"{count:,}"] for role, count in found["parameters"].items()]
    rows += [["skipped steps", str(found["skipped_steps"])], ["devices", ", ".join(found["devices"])]]
    rows += [[name, version] for name, version in found["versions"].items()]
    return pages.table(rows, left=True)


def _next(run: RunFiles, origin: Origin) -> str:
    train = shlex.join(["gan-seg", "train", *origin.arguments, f"--workdir={files.shown(run.workdir)}"])
    ended = run.summary is not None and not run.longer
    again = "it prints the scores again" if ended else "it goes on where it stopped"
    parts = [pages.paragraph(f"The command of this run; {again}:"), pages.command(train)]
    if not origin.arguments:
        parts = [pages.paragraph(f"The command that began this run continues it with --workdir={run.workdir}.")]
    elif ended and not run.classical:
        longer = (f"--config.steps={2 * run.config.steps}", "--config.extend=constant")
        how = "Train on, at the last learning rates:"
        if run.stopped:
            longer, how = (
                (f"--config.patience={run.summary['unimproved'] + run.config.patience}",),
                "Train on, with more patience:",
            )
        parts += [
            pages.paragraph(how),
            pages.command(f"{train} {shlex.join(longer)}"),
        ]
    if run.classical or (run.summary is None and run.step is None):
        return "".join(parts)
    parts += [pages.paragraph("Score it again:"), pages.command(_command("evaluate", run))]
    uses = {
        "predict": ("Use it on new images:", ("--input=new_images", "--output=labelled")),
        "sample": ("Make images with it:", ("--output=made", "--count=100")),
        "memorization": ("Whether it repeats its training images:", ("--output=memorization",)),
        "judge": ("Judge its probabilities and its discriminator:", ()),
    }
    for name, (text, more) in uses.items():
        if name not in run.task.refusals:
            parts += [pages.paragraph(text), pages.command(_command(name, run, *more))]
    return "".join(parts)


def _command(name: str, run: RunFiles, *more: str) -> str:
    return shlex.join(["gan-seg", name, f"--workdir={files.shown(run.workdir)}", *more])

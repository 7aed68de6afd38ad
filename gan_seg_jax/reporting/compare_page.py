"""Runs beside each other as one page."""

from typing import Any

from gan_seg_jax.pictures import pages
from gan_seg_jax.reporting import looks
from gan_seg_jax.reporting.comparison import Comparison, score_rows, with_interval
from gan_seg_jax.reporting.page import sheet, short
from gan_seg_jax.reporting.run_files import number


def page(found: Comparison) -> str:
    """Return the page."""
    first = next(iter(found.runs))
    shown = found.split if not found.images else f"{found.split}, mean IoU of each prediction"
    parts = [
        pages.table([["run", "method", "data set", "folder"], *_runs(found)], left=True),
        pages.section(f"Scores of {found.split}", pages.table(score_rows(found)) + _words(found, first)),
        pages.section("Classes", _classes(found, first)),
        pages.section(f"Where they differ most: {shown}", _images(found)),
        pages.section("Samples", _samples(found)),
        pages.section("Fields in which the configs differ", _fields(found)),
    ]
    return pages.page(f"Comparison of {' and '.join(found.runs)}", "".join(parts))


def _runs(found: Comparison) -> list[list[str]]:
    return [
        [name, run.config.method, run.config.dataset, str(run.workdir.absolute())] for name, run in found.runs.items()
    ]


def _words(found: Comparison, first: str) -> str:
    notes = list(found.notes)
    if found.differences:
        text = f"In brackets: 95% interval of the difference to {first}, by the paired bootstrap over images"
        notes.insert(0, f"{text}. It holds for other images of the kind; of other trainings only other seeds tell.")
    return "".join(map(pages.paragraph, notes))


def _classes(found: Comparison, first: str) -> str:
    """Return the IoU of each class in each run, with bars, and the differences to the first."""
    names = list(found.scores[first].get("iou_per_class") or ())
    if not names:
        return ""
    config = found.runs[first].config
    colors = dict(zip(config.class_names, config.class_colors, strict=False))
    rows = []
    for place, name in enumerate(names):
        cells = [pages.swatch(colors.get(name, (128, 128, 128))) + pages.escaped(name)]
        for scores in found.scores.values():
            value = (scores.get("iou_per_class") or {}).get(name)
            cells += [f"{pages.bar(value or 0)} {number(value)}"]
        cells += [with_interval(*difference.classes[:, place]) for difference in found.differences.values()]
        rows.append(cells)
    headings = ["class", *(f"IoU of {name}" for name in found.scores)]
    return pages.cells_table([*headings, *(f"{name} - {first}" for name in found.differences)], rows)


def _images(found: Comparison) -> str:
    return "".join(looks.row(title, shown, f"of {title}") for title, shown in found.images)


def _samples(found: Comparison) -> str:
    """Return the sheets of runs that are not shown on the same images."""
    if found.images:
        return ""
    parts = []
    for name, run in found.runs.items():
        path = run.samples.get(found.split)
        if path is not None:
            parts.append(f"<h3>{pages.escaped(name)}</h3>{sheet(found.split, path)}")
    return "".join(parts)


def _fields(found: Comparison) -> str:
    if not found.fields:
        return pages.paragraph("None.")
    rows: list[list[Any]] = [[name, *map(short, values)] for name, values in found.fields]
    return pages.table([["field", *found.runs], *rows], left=True)

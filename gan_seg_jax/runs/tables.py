"""Scores as tables of text, for the console."""

from collections.abc import Mapping, Sequence

SCORE_COLUMNS = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "boundary_f1": "boundary F1",
}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as lines: the first column aligned left, the others right, a rule below the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def scores_table(rows: Sequence[tuple[str, Mapping]]) -> str:
    """Return a text table with a row for each (name, scores): mIoU, accuracies and boundary F1.

    Args:
        rows: (name, scores), scores as in summary.json; a score that is missing or None is shown as "-".

    Returns:
        Lines joined by newlines, numbers with four decimals, columns aligned.
    """
    header = ["", *SCORE_COLUMNS.values()]
    return table([header, *([name, *(text(scores.get(key), ".4f") for key in SCORE_COLUMNS)] for name, scores in rows)])


def values_table(rows: Sequence[tuple[str, Mapping[str, float | None]]]) -> str:
    """Return a text table of the first of (name, scores): a line for each score.

    Numbers have four significant digits; undefined ones are shown as "-".
    """
    return table([["", "score"], *([name, text(value, ".4g")] for name, value in rows[0][1].items())])


def per_class_table(class_names: Sequence[str], rows: Sequence[tuple[str, Mapping]]) -> str:
    """Return a text table of the IoU with a row for each class and a column for each (name, scores).

    Args:
        class_names: the classes, in the order of the rows.
        rows: (name, scores), scores with "iou_per_class" as in summary.json.

    Returns:
        Lines joined by newlines, the last one with the mIoU; undefined values are shown as "-".
    """
    header = ["IoU", *(name for name, _ in rows)]
    body = [[name, *(text(scores["iou_per_class"][name], ".4f") for _, scores in rows)] for name in class_names]
    return table([header, *body, ["mean", *(text(scores["miou"], ".4f") for _, scores in rows)]])


def text(value: float | None, spec: str) -> str:
    """Return a number by a format, "-" for None."""
    return "-" if value is None else format(float(value), spec)

"""What the doctor says on a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gan_seg_jax.inspection.problem import SEVERITIES, Problem
from gan_seg_jax.system.files import shown

_NAMED = 5  # files of a problem
_CLASSES = 40  # rows of the table


def summary(facts: Mapping[str, Any], problems: Sequence[Problem], commands: Sequence[str]) -> str:
    """Return the report as text.

    Args:
        facts: What `survey.as_json` returns, and the suggestion.
        problems: The worst first.
        commands: The command of each, {files} filled in.
    """
    parts = [f"{facts['data_dir']} ({facts['dataset']})", _splits(facts["splits"]), _classes(facts)]
    parts += [_problem(problem, command) for problem, command in zip(problems, commands, strict=True)]
    parts += [tally(problems), _suggestion(facts["suggestion"])]
    return "\n\n".join("\n".join(map(shown, part.split("\n"))) for part in parts if part)


def tally(problems: Iterable[Problem]) -> str:
    """Return how many problems of each severity there are, in words."""
    severities = [problem.severity for problem in problems]
    counts = [(severity, severities.count(severity)) for severity in SEVERITIES]
    found = [f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts if count]
    return f"Found: {', '.join(found)}." if found else "No problem was found."


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first one of headings, in columns; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def sizes(found: Sequence[Sequence[Any]]) -> str:
    """Return (height, width) with counts as text: the one size, or the smallest and the largest."""
    if not found:
        return "-"
    ordered = sorted((tuple(size) for size, _ in found), key=lambda size: size[0] * size[1])
    low, high = ("x".join(map(str, size)) for size in (ordered[0], ordered[-1]))
    return low if len(ordered) == 1 else f"{low} to {high} ({len(ordered)} sizes)"


def split_rows(splits: Mapping[str, Any]) -> list[list[str]]:
    """Return a row of headings and one for each split."""
    rows = [["split", "images", "masks", "height x width", "stored as", "mask values", "void"]]
    for split, facts in splits.items():
        kinds = " ".join(str(value) for name in ("kinds", "modes", "bits") for value, _ in facts[name])
        values = [str(value) for value, _ in facts["mask_values"]]
        listed = " ".join(values) if len(values) <= 6 else f"{' '.join(values[:3])} ... {values[-2]} {values[-1]}"
        void = "-" if facts["void"] is None else f"{facts['void']:.1%}"
        numbers = [str(facts["images"]), str(facts["masks"]), sizes(facts["sizes"])]
        rows.append([split, *numbers, f"{kinds} bit" if kinds else "-", listed or "-", void])
    return rows


def class_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """Return a row of headings and one for each class: its share of each split's known pixels, images, weights."""
    counted = {split: found for split, found in facts["splits"].items() if sum(found.get("class_pixels", ()))}
    rows = [["class", *(f"{split} share, images" for split in counted), *facts["class_weights"]]]
    for index, name in enumerate(facts["classes"]):
        cells = []
        for found in counted.values():
            share = found["class_pixels"][index] / sum(found["class_pixels"])
            cells.append(f"{share:.2%}, {found['images_with_class'][index]}")
        rows.append([name, *cells, *(f"{weights[index]:.4g}" for weights in facts["class_weights"].values())])
    return rows


def suggestion_rows(choices: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row of headings and one for each choice."""
    rows = [["field", "value", "because"]]
    for choice in choices:
        value = choice["value"]
        rows.append([choice["field"], str(value) if value != "" else "none", choice["reason"]])
    return rows


def _suggestion(found: Mapping[str, Any]) -> str:
    if not found["choices"]:
        return ""
    rows = suggestion_rows(found["choices"])[1:]
    wide, long = (max(len(row[place]) for row in rows) for place in (0, 1))
    lines = [f"  {name:<{wide}}  {value:<{long}}  {reason}" for name, value, reason in rows]
    return "\n".join(["Suggested:", *lines, f"  $ {found['command']}"])


def _splits(splits: Mapping[str, Any]) -> str:
    return table(split_rows(splits)) if splits else ""


def _classes(facts: Mapping[str, Any]) -> str:
    rows = class_rows(facts)
    if len(rows) == 1 or len(rows[0]) == 1:
        return ""
    more = f"\n... and {len(rows) - 1 - _CLASSES} more classes" if len(rows) > _CLASSES + 1 else ""
    return table(rows[: _CLASSES + 1]) + more


def _problem(problem: Problem, command: str) -> str:
    lines = [f"{problem.severity.upper()}: {problem.title}", f"  {problem.meaning}".replace("\n", "\n  ")]
    named = [shown(f"{path} ({detail})" if detail else path) for path, detail in problem.files[:_NAMED]]
    if named:
        more = len(problem.files) - len(named)
        lines.append(f"  {', '.join(named)}{f' and {more} more' if more else ''}")
    return "\n".join([*lines, *([f"  $ {command}"] if command else [])])

"""The report as one HTML page that needs nothing else: no network, no script, its pictures in it.

All that comes from the set (names of files and classes, what libraries say of damaged files) is escaped
(`pages.escaped`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gan_seg_jax.inspection import text, thumbnails
from gan_seg_jax.inspection.problem import Problem
from gan_seg_jax.inspection.survey import Survey
from gan_seg_jax.pictures import pages
from gan_seg_jax.system.progress import Progress

_PICTURES = 4  # of a problem
_SAMPLES = 4  # of a class
_CLASSES = 40  # with samples
_FILES = 200  # listed of a problem; inspect.json has all


def page(found: Survey, facts: Mapping[str, Any], problems: Sequence[Problem], commands: Sequence[str]) -> str:
    """Return the page.

    Args:
        found: The set, whose pictures are read again.
        facts: What `survey.as_json` returns, and the suggestion.
        problems: The worst first.
        commands: The command of each, {files} filled in.
    """
    with Progress(len(problems) + len(facts["classes"]), "picture") as progress:
        cards = []
        for done, (problem, command) in enumerate(zip(problems, commands, strict=True), start=1):
            cards.append(_problem(found, problem, command))
            progress.show(done)
        samples = []
        for class_id in range(min(len(facts["classes"]), _CLASSES)):
            samples.append(_samples(found, class_id))
            progress.show(len(problems) + class_id + 1)
        progress.show(len(problems) + len(facts["classes"]))
    parts = [
        pages.paragraph(text.tally(problems)),
        pages.section("Problems", "".join(cards)),
        pages.section("Suggestion", _suggestion(facts["suggestion"])),
        pages.section("Splits", pages.table(text.split_rows(facts["splits"])) if facts["splits"] else ""),
        pages.section("Classes", _classes(found, facts)),
        pages.section("Weights of classes", _weights(facts)),
        pages.section("Samples of each class", "".join(samples)),
    ]
    return pages.page(facts["data_dir"], "".join(parts))


def _problem(found: Survey, problem: Problem, command: str) -> str:
    meaning = "<br>".join(map(pages.escaped, problem.meaning.split("\n")))
    parts = [f"<p><b>{problem.severity}</b> {pages.escaped(problem.title)}</p><p>{meaning}</p>"]
    if command:
        parts.append(pages.command(command))
    if pictures := _pictures(found, problem):
        parts.append(f"<div>{pictures}</div>")
    if problem.files:
        entries = [f"{path} ({detail})" if detail else path for path, detail in problem.files[:_FILES]]
        more = len(problem.files) - len(entries)
        entries += [f"and {more} more, in inspect.json"] if more else []
        listed = "".join(f"<li>{pages.escaped(entry)}</li>" for entry in entries)
        parts.append(pages.details(f"{len(problem.files)} listed", f"<ul>{listed}</ul>"))
    return f'<div class="problem {problem.severity}">{"".join(parts)}</div>'


def _pictures(found: Survey, problem: Problem) -> str:
    """Return the first files of a problem, each beside what it is like, or the mask or image that it belongs to."""
    rows, shown = [], set()
    for path, detail in problem.files:
        if path not in found.looks or path in shown or len(rows) == _PICTURES:
            continue
        other = problem.beside.get(path) or found.partner_of.get(path)
        shown |= {path, other}
        figures = pages.figure(thumbnails.of_file(found, path), f"{path} ({detail})" if detail else path)
        figures += pages.figure(thumbnails.of_file(found, other), other) if other else ""
        rows.append(f'<span class="row">{figures}</span>' if figures else "")
    return "".join(rows)


def _suggestion(found: Mapping[str, Any]) -> str:
    if not found["choices"]:
        return ""
    return pages.command(found["command"]) + pages.table(text.suggestion_rows(found["choices"]), left=True)


def _classes(found: Survey, facts: Mapping[str, Any]) -> str:
    """Return a table of the classes with bars of their shares in each split."""
    counted = {split: value for split, value in facts["splits"].items() if sum(value.get("class_pixels", ()))}
    if not counted:
        return ""
    shares = {split: np.array(value["class_pixels"]) / sum(value["class_pixels"]) for split, value in counted.items()}
    most = max(float(share.max()) for share in shares.values())
    rows = []
    for class_id in range(found.info.num_classes):
        cells = [f'<th scope="row">{_class(found, class_id)}</th>']
        for split, share in shares.items():
            images = counted[split]["images_with_class"][class_id]
            bar = pages.bar(float(share[class_id]) / most)
            cells.append(f"<td>{bar}</td><td>{share[class_id]:.2%}</td><td>{images}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th colspan="2">{pages.escaped(split)}: known pixels</th><th>images</th>' for split in shares)
    head, body = f"<thead><tr><th>class</th>{head}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def _weights(facts: Mapping[str, Any]) -> str:
    rules = facts["class_weights"]
    if not rules:
        return ""
    rows = [
        [name, *(f"{weights[index]:.4g}" for weights in rules.values())] for index, name in enumerate(facts["classes"])
    ]
    return pages.table([["class", *rules], *rows])


def _samples(found: Survey, class_id: int) -> str:
    """Return images of a class: of those that show it, spread from a small share (the lower quarter) to the largest."""
    split = next((split for split in ("train", "val", "test") if split in found.splits), None)
    pairs = [] if split is None else [pair for pair in found.pairs(split) if found.looks[pair[1]].facts is not None]
    pixels = found.class_pixels(split)[:, class_id] if pairs else np.zeros(0)
    order = [row for row in np.argsort(pixels, kind="stable") if pixels[row] > 0]
    chosen = (
        dict.fromkeys(order[place] for place in np.linspace(len(order) // 4, len(order) - 1, _SAMPLES).astype(int))
        if order
        else ()
    )
    figures = "".join(pages.figure(thumbnails.of_class(found, *pairs[row], class_id), pairs[row][0]) for row in chosen)
    return f"<h3>{_class(found, class_id)}</h3>{figures or '<p>In no image.</p>'}"


def _class(found: Survey, class_id: int) -> str:
    """Return the colour, the number and the name of a class."""
    color, name = found.info.class_colors[class_id], found.info.class_names[class_id]
    return f"{pages.swatch(color)}{class_id} {pages.escaped(name)}"

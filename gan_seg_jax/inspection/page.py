"""The report as one HTML page that needs nothing else: no network, no script, its pictures in it.

All that comes from the set (names of files and classes, what libraries say of damaged files) goes through `_text`.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gan_seg_jax.inspection import text, thumbnails
from gan_seg_jax.inspection.problem import Problem
from gan_seg_jax.inspection.survey import Survey
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import Progress

_PICTURES = 4  # of a problem
_SAMPLES = 4  # of a class
_CLASSES = 40  # with samples
_FILES = 200  # listed of a problem; inspect.json has all
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222;
       background: #fff }
h1 { font-size: 1.5em } h2 { margin-top: 2em; border-bottom: 1px solid #ccc } h3 { margin-bottom: .2em }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
th:first-child, td:first-child, .left th, .left td { text-align: left }
.left td { white-space: normal }
.problem { border-left: 6px solid; padding: .3em 1em; margin: 1em 0; background: #f7f7f7 }
.problem p { margin: .3em 0 } .error { border-color: #c62828 } .warning { border-color: #e69100 }
.note { border-color: #5b7fa6 } .error b { color: #c62828 } .warning b { color: #a86a00 } .note b { color: #40668f }
pre { background: #222; color: #eee; padding: .6em .8em; overflow-x: auto; margin: .4em 0 }
.row { display: inline-block; margin-right: 2em; white-space: nowrap } .row figcaption { white-space: normal }
figure { display: inline-block; margin: .3em; vertical-align: top; max-width: 240px }
figure img { display: block; max-width: 100% }
figcaption { font-size: .75em; color: #555; overflow-wrap: anywhere }
.bar { fill: #4c78a8 } .swatch { display: inline-block; width: .9em; height: .9em; border: 1px solid #888;
       margin-right: .5em; vertical-align: -.1em }
summary { cursor: pointer } ul { font-size: .85em; overflow-wrap: anywhere }
"""


def page(found: Survey, facts: Mapping[str, Any], problems: Sequence[Problem], commands: Sequence[str]) -> str:
    """Return the page.

    Args:
        found: The set, whose pictures are read again.
        facts: What `survey.as_json` returns, and the suggestion.
        problems: The worst first.
        commands: The command of each, {files} filled in.
    """
    name = _text(facts["data_dir"])
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
        f"<h1>{name}</h1><p>{_text(text.tally(problems))}</p>",
        _section("Problems", "".join(cards)),
        _section("Suggestion", _suggestion(facts["suggestion"])),
        _section("Splits", _table(text.split_rows(facts["splits"])) if facts["splits"] else ""),
        _section("Classes", _classes(found, facts)),
        _section("Weights of classes", _weights(facts)),
        _section("Samples of each class", "".join(samples)),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    body = f"<head>{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body>"
    return f'<!doctype html><html lang="en">{body}</html>\n'


def _text(value: Any) -> str:
    return html.escape(files.shown(str(value)))


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _figure(address: str | None, caption: str) -> str:
    if address is None:
        return ""
    return f'<figure><img src="{address}" alt="{_text(caption)}"><figcaption>{_text(caption)}</figcaption></figure>'


def _problem(found: Survey, problem: Problem, command: str) -> str:
    meaning = "<br>".join(map(_text, problem.meaning.split("\n")))
    parts = [f"<p><b>{problem.severity}</b> {_text(problem.title)}</p><p>{meaning}</p>"]
    if command:
        parts.append(f"<pre>{_text(command)}</pre>")
    if pictures := _pictures(found, problem):
        parts.append(f"<div>{pictures}</div>")
    if problem.files:
        entries = [f"{path} ({detail})" if detail else path for path, detail in problem.files[:_FILES]]
        more = len(problem.files) - len(entries)
        entries += [f"and {more} more, in inspect.json"] if more else []
        listed = "".join(f"<li>{_text(entry)}</li>" for entry in entries)
        parts.append(f"<details><summary>{len(problem.files)} listed</summary><ul>{listed}</ul></details>")
    return f'<div class="problem {problem.severity}">{"".join(parts)}</div>'


def _pictures(found: Survey, problem: Problem) -> str:
    """Return the first files of a problem, each beside what it is like, or the mask or image that it belongs to."""
    rows, shown = [], set()
    for path, detail in problem.files:
        if path not in found.looks or path in shown or len(rows) == _PICTURES:
            continue
        other = problem.beside.get(path) or found.partner_of.get(path)
        shown |= {path, other}
        figures = _figure(thumbnails.of_file(found, path), f"{path} ({detail})" if detail else path)
        figures += _figure(thumbnails.of_file(found, other), other) if other else ""
        rows.append(f'<span class="row">{figures}</span>' if figures else "")
    return "".join(rows)


def _suggestion(found: Mapping[str, Any]) -> str:
    if not found["choices"]:
        return ""
    table = _table(text.suggestion_rows(found["choices"])).replace("<table>", '<table class="left">')
    return f"<pre>{_text(found['command'])}</pre>{table}"


def _classes(found: Survey, facts: Mapping[str, Any]) -> str:
    """Return a table of the classes with bars of their shares in each split."""
    counted = {split: value for split, value in facts["splits"].items() if sum(value.get("class_pixels", ()))}
    if not counted:
        return ""
    shares = {split: np.array(value["class_pixels"]) / sum(value["class_pixels"]) for split, value in counted.items()}
    most = max(float(share.max()) for share in shares.values())
    rows = []
    for class_id in range(found.info.num_classes):
        cells = [f"<td>{_class(found, class_id)}</td>"]
        for split, share in shares.items():
            images = counted[split]["images_with_class"][class_id]
            width = 100 * float(share[class_id]) / most
            bar = f'<svg width="100" height="12"><rect class="bar" width="{width:.1f}" height="12"/></svg>'
            cells.append(f"<td>{bar}</td><td>{share[class_id]:.2%}</td><td>{images}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th colspan="2">{_text(split)}: share of known pixels</th><th>images</th>' for split in shares)
    return f'<div class="scroll"><table><tr><th>class</th>{head}</tr>{"".join(rows)}</table></div>'


def _weights(facts: Mapping[str, Any]) -> str:
    rules = facts["class_weights"]
    if not rules:
        return ""
    rows = [
        [name, *(f"{weights[index]:.4g}" for weights in rules.values())] for index, name in enumerate(facts["classes"])
    ]
    return _table([["class", *rules], *rows])


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
    figures = "".join(_figure(thumbnails.of_class(found, *pairs[row], class_id), pairs[row][0]) for row in chosen)
    return f"<h3>{_class(found, class_id)}</h3>{figures or '<p>In no image.</p>'}"


def _class(found: Survey, class_id: int) -> str:
    """Return the colour, the number and the name of a class."""
    color, name = found.info.class_colors[class_id], found.info.class_names[class_id]
    return f'<span class="swatch" style="background:rgb{color}"></span>{class_id} {_text(name)}'

"""Parts of HTML pages that need no network and no script, light and dark; most have their pictures in them.

What comes from elsewhere (names of files and classes, what libraries say) goes through `escaped`.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from gan_seg_jax.pictures.png import encode_png
from gan_seg_jax.system import files

SIDE = 240  # pixels of the longer side of a picture among others
_QUALITY = 85
# So a browser holds it to that, whatever is in it.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src {}; style-src 'unsafe-inline'\">"
)
_STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --faint: #555; --line: #ddd; --card: #f5f5f5;
        --error: #c62828; --warning: #a86a00; --note: #40668f; --shade: 110 160 215 }
@media (prefers-color-scheme: dark) { :root { --text: #ddd; --page: #16181b; --faint: #aaa; --line: #3a3d42;
        --card: #22252a; --error: #ff7b72; --warning: #e3a84a; --note: #8ab4e0; --shade: 40 90 150 } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: var(--text);
       background: var(--page) }
h1 { font-size: 1.5em; overflow-wrap: anywhere } h2 { margin-top: 2em; border-bottom: 1px solid var(--line) }
h3 { margin-bottom: .2em } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } tbody th { font-weight: normal }
caption { text-align: left; color: var(--faint) }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child, .left th, .left td { text-align: left }
.left td { white-space: normal; overflow-wrap: anywhere; min-width: 16em }
.problem { border-left: 6px solid; padding: .3em 1em; margin: 1em 0; background: var(--card) }
.problem p { margin: .3em 0 } .error { border-color: var(--error) } .warning { border-color: var(--warning) }
.note { border-color: var(--note) } .error b { color: var(--error) } .warning b { color: var(--warning) }
.note b { color: var(--note) }
pre { background: #222; color: #eee; padding: .6em .8em; margin: .4em 0; white-space: pre-wrap; overflow-x: auto }
pre span { white-space: nowrap }
.row { display: inline-flex; margin-right: 1.5em; max-width: calc(100% - 1.5em) } .row figure { flex: 1 1 0 }
figure { display: inline-block; margin: .3em; vertical-align: top; max-width: 240px } .wide { max-width: 100% }
figure img { display: block; max-width: 100%; height: auto }
.cells figure { width: 200px } .cells img { width: 100% }
figcaption { font-size: .75em; color: var(--faint); overflow-wrap: anywhere }
.swatch { display: inline-block; width: .9em; height: .9em; border: 1px solid #888;
       margin-right: .5em; vertical-align: -.1em }
.shade { display: block; margin: -.2em -.8em; padding: .2em .8em; background: rgb(var(--shade) / var(--share)) }
summary { cursor: pointer } ul { font-size: .85em; overflow-wrap: anywhere }
"""


def page(title: Any, content: str, *, pictures_beside: bool = False) -> str:
    """Return a whole page, its title also the heading of the first level.

    Args:
        title: text.
        content: HTML.
        pictures_beside: whether its pictures are files beside it; else they are in it.
    """
    name = escaped(title)
    policy = _POLICY.format("'self' file:" if pictures_beside else "data:")
    head = f'<meta charset="utf-8">{policy}<meta name="viewport" content="width=device-width"><title>{name}</title>'
    body = f"<body><main><h1>{name}</h1>{content}</main></body>"
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head>{body}</html>\n'


def escaped(value: Any) -> str:
    """Return a value as text of a page, control characters and undecodable bytes escaped, too."""
    return html.escape(files.shown(str(value)))


def section(title: Any, content: str) -> str:
    """Return a heading of the second level with what belongs to it; nothing without content."""
    return f"<h2>{escaped(title)}</h2>{content}" if content else ""


def paragraph(value: Any) -> str:
    """Return a paragraph of text."""
    return f"<p>{escaped(value)}</p>"


def command(value: Any) -> str:
    """Return what is to be typed; lines are broken between its words alone, not within --flags."""
    return f"<pre>{' '.join(f'<span>{word}</span>' for word in escaped(value).split(' '))}</pre>"


def table(rows: Sequence[Sequence[Any]], *, left: bool = False, caption: str = "") -> str:
    """Return a table of text: a row of headings and those below it.

    Args:
        rows: cells.
        left: whether columns after the first are aligned left, too, and long cells broken.
        caption: above the table.
    """
    return cells_table(rows[0], [[escaped(cell) for cell in row] for row in rows[1:]], left=left, caption=caption)


def cells_table(
    headings: Sequence[Any], rows: Sequence[Sequence[str]], *, left: bool = False, caption: str = ""
) -> str:
    """Return a table whose cells are HTML; the first of each row is its heading. The headings are text."""
    head = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in headings)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    above = f"<caption>{escaped(caption)}</caption>" if caption else ""
    kind = ' class="left"' if left else ""
    return f'<div class="scroll"><table{kind}>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(share: float) -> str:
    """Return a bar of a share, 0 to 1; what it shows stands beside it as a number, so it has no text of its own."""
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<svg width="100" height="12" aria-hidden="true"><rect fill="#5b8dc0" width="{width:.1f}" height="12"/></svg>'
    )


def swatch(color: Sequence[int]) -> str:
    """Return a small field of a colour, RGB of 0..255."""
    red, green, blue = (int(value) for value in color)
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def figure(address: str | None, caption: Any, *, alt: Any = "", wide: bool = False) -> str:
    """Return a picture with its caption, which is also its text for those who cannot see it unless there is another."""
    if address is None:
        return ""
    kind = ' class="wide"' if wide else ""
    words = escaped(alt or caption)
    return f'<figure{kind}><img src="{address}" alt="{words}"><figcaption>{escaped(caption)}</figcaption></figure>'


def details(summary: Any, content: str) -> str:
    """Return content that is shown where it is asked for."""
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>"


def address(picture: np.ndarray, side: int = SIDE) -> str:
    """Return a picture uint8 [h, w] or [h, w, 3], made smaller, as an address that holds a JPEG."""
    buffer = io.BytesIO()
    smaller = Image.fromarray(small(Image.fromarray(picture), side))
    smaller.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def exact_address(picture: np.ndarray | bytes) -> str:
    """Return a picture uint8 [h, w] or [h, w, 3], or the bytes of a PNG file, as an address that holds the PNG."""
    data = picture if isinstance(picture, bytes) else encode_png(picture)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def small(image: Image.Image, side: int, resampling: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    """Return an image of at most `side` pixels a side."""
    factor = min(1.0, side / max(image.size))
    size = tuple(max(1, round(length * factor)) for length in image.size)
    return np.asarray(image if size == image.size else image.resize(size, resampling))

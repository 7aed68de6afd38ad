"""Lets the site follow links of docs/ to files outside of it: they become pages below `project/`, the README the start.

A hook of mkdocs. In the files links stay as they are, so that they work on a code host, too.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = (
    "ARCHITECTURE.md",
    "configs/common.py",
    "experiments/README.md",
    "experiments/results/*/*.md",
    "experiments/results/*/*.png",
    "experiments/results/*/table.csv",
    "experiments/results/*/table.tex",
)
LINK = re.compile(r"(\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside of docs/ that its pages may link to."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, _on_site(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text with links as they lie on the site."""
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    here = posixpath.dirname(page.file.src_uri)

    def moved(found: re.Match) -> str:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[2]))
        return found[1] + posixpath.relpath(_on_site(name), here or ".")

    return LINK.sub(moved, markdown)


def _on_site(name: str) -> str:
    """Return where a file of the project lies on the site."""
    if name == "README.md":
        return "index.md"
    return name.removeprefix("docs/") if name.startswith("docs/") else f"project/{name}"

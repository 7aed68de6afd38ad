"""The pictures of a run, in its folder samples/, and the page that shows them: samples/index.html."""

import re
from pathlib import Path

from gan_seg_jax.pictures import pages
from gan_seg_jax.system import files

INDEX = "index.html"
_FILE = re.compile(r"([\w-]*?)(?:-(\d{7,}))?\.png")


def file_name(name: str, step: int | None) -> str:
    """Return the file of a picture: of that many steps, or None, of the start of a run."""
    number = "" if step is None else f"-{step:07d}"
    return f"{name.replace('/', '-')}{number}.png"


def found(folder: Path) -> dict[str, list[tuple[int | None, Path]]]:
    """Return the pictures of each name, (step, file), the newest first; those of the start have no step."""
    pictures: dict[str, list[tuple[int | None, Path]]] = {}
    for path in sorted(folder.glob("*.png")):
        if match := _FILE.fullmatch(path.name):
            pictures.setdefault(match[1], []).append((int(match[2]) if match[2] else None, path))
    return {name: sorted(of_name, key=lambda x: x[0] or 0, reverse=True) for name, of_name in pictures.items()}


def write_index(folder: Path) -> None:
    """Write the page: a section for each name, its pictures one below the other.

    Raises:
        OSError: it cannot be written.
    """
    sections = [
        pages.section(name, "".join(_figure(step, path.name) for step, path in pictures))
        for name, pictures in found(folder).items()
    ]
    title = f"Samples of {folder.resolve().parent.name}"
    files.write_bytes(folder / INDEX, pages.page(title, "".join(sections), pictures_beside=True).encode())


def _figure(step: int | None, name: str) -> str:
    caption = "before the first step" if step is None else f"step {step}"
    return pages.figure(pages.escaped(name), caption, wide=True)

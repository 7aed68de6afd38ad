"""What docstrings say of commands and configs, read without running the files."""

import ast
import textwrap
from collections.abc import Iterable
from pathlib import Path

WORDS = "Words behind the colon"  # begins the part of a config's docstring that explains them


def docstring(file: Path) -> str:
    """Return the docstring of a Python file, "" where it has none or cannot be read."""
    try:
        return ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except (OSError, ValueError, SyntaxError):
        return ""


def first_line(file: Path) -> str:
    """Return the first line of a file's docstring."""
    return docstring(file).partition("\n")[0]


def configs(files: Iterable[Path], common: Path) -> str:
    """Return what `--help` says of configs: each with its first line and its words, and where all fields are.

    Args:
        files: the config files.
        common: the file that explains the fields all of them have.
    """
    texts = [f"  {file.name:20}{_about(docstring(file))}" for file in files]
    return (
        "Configs, --config=configs/NAME.py or --config=configs/NAME.py:WORD,WORD; their words:\n\n"
        + "\n".join(texts)
        + f"\n\nEvery field is explained in {common}\nor in the config's own file; any of them is set by "
        "--config.FIELD=VALUE.\n--config=configs/NAME.py:WORDS --show_config prints all fields with their values."
    )


def _about(text: str) -> str:
    """Return the first line of a config's docstring, and its words below."""
    first, _, rest = text.partition("\n")
    return first + textwrap.indent("".join(f"\n{line}" for line in words(rest)), " " * 6)


def words(text: str) -> list[str]:
    """Return the lines that explain the words: an indented block, or sentences up to the next line that begins one."""
    lines = iter(text.splitlines())
    first = next((line for line in lines if line.startswith(WORDS)), "").removeprefix(WORDS).removeprefix(":").strip()
    found = [first] if first else []
    for line in lines:
        ended = not line.startswith(" ") if not first else found[-1].endswith(".") and not line[:1].islower()
        if ended or not line:
            break
        found.append(line)
    return textwrap.dedent("\n".join(found)).splitlines()

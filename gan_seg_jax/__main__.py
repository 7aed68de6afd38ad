"""The commands: `gan-seg COMMAND ...`, or `python -m gan_seg_jax COMMAND ...`; without a command they are listed.

`python -m gan_seg_jax.MODULE ...` runs one, too. JAX is not loaded before a command asks for it.
"""

import sys
from pathlib import Path
from typing import NoReturn

import gan_seg_jax
from gan_seg_jax.system import process

# Word -> module, whose docstring says on its first line what the command does.
COMMANDS = {
    "prepare": "prepare",
    "train": "main",
    "plan": "plan",
    "evaluate": "evaluate",
    "predict": "predict",
    "export": "export",
    "push": "push",
    "pull": "pull",
    "serve": "serve",
    "sample": "sample",
    "judge": "judge",
    "report": "report",
    "compare": "compare",
    "memorization": "memorization",
    "inspect": "inspect",
    "class_weights": "class_weights",
    "crf_search": "crf_search",
}
ALIASES = ("main", "copies")  # modules that are commands, too, by their own names

USAGE = """Usage: gan-seg COMMAND --FLAG=VALUE ... (or python -m gan_seg_jax COMMAND ...)

{commands}

gan-seg COMMAND --help explains a command and lists its flags, gan-seg train --help the configs, too."""


def main() -> NoReturn:
    """Run the command that the first word names; list them all where there is none."""
    process.restart()
    process.begin()
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    module = COMMANDS.get(word, word if word in ALIASES else "")
    if module:
        _run(module)
    with process.lasting_streams():
        code = _answer(word)
    process.watch(code, "")  # all is done: a signal only hastens the end
    sys.exit(code)


def _run(module: str) -> None:
    """Run `python -m gan_seg_jax.MODULE` with the words behind the command in this process; it ends by sys.exit."""
    import runpy

    del sys.argv[1]
    runpy.run_module(f"gan_seg_jax.{module}", run_name="__main__", alter_sys=True)


def _answer(word: str) -> int:
    """Print what is asked for instead of a command; return the exit code."""
    if word in ("--help", "-h", "-help", "--helpfull", "help"):
        print(USAGE.format(commands=_listed()), flush=True)
        return 0
    if word == "--version":
        print(f"gan_seg_jax {gan_seg_jax.__version__}", flush=True)
        return 0
    from gan_seg_jax.errors import unknown

    print(f"error: {unknown('command', word, COMMANDS)}", file=sys.stderr, flush=True)
    return 2


def _listed() -> str:
    """Return a line for each command."""
    from gan_seg_jax.cli import listing

    width = max(map(len, COMMANDS)) + 2
    files = {word: Path(__file__).with_name(f"{module}.py") for word, module in COMMANDS.items()}
    return "\n".join(f"{word:{width}}{listing.first_line(file)}" for word, file in files.items())


if __name__ == "__main__":
    main()

"""What every command shares: flags, exit codes, and errors as sentences.

Exit codes: 0 done (also `--help`), 2 bad input, 3 training diverged, 75 interrupted and saved; 1 is a fault of ours.
absl alone exits with 1 on `--help` and on unknown flags, and prints a traceback for a misspelt field.
"""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from gan_seg_jax.cli import config_files
from gan_seg_jax.errors import DivergedError, InputError, LostPeerError, PreemptedError
from gan_seg_jax.system import faults, files, process


def run(main: Callable[..., None], usage: str, *, devices: bool = True, words: bool = False) -> NoReturn:
    """Parse the flags, call `main` and end the process with the contract's exit code.

    Args:
        main: the command; reads its flags' values.
        usage: what `--help` prints above the flags.
        devices: look for the devices (`parallel.initialize`) before `main`; False where `main` does it, after what it
            can answer without loading JAX.
        words: call `main` with the list of the arguments that are no flags, which are else refused.
    """
    process.begin()
    code = _run(main, usage, devices=devices, words=words)
    process.watch(code, "")  # all is done: a signal only hastens the end
    sys.exit(code)


def _run(main: Callable[..., None], usage: str, *, devices: bool = True, words: bool = False) -> int:
    with process.lasting_streams():
        try:
            if {"--help", "-h", "-help", "--helpfull"} & set(sys.argv[1:]):
                configs = f"\n\n{config_files.listed()}" if "config" in flags.FLAGS else ""
                print(f"{usage.strip()}{configs}\n\nFlags:\n{_flags_help()}", flush=True)
                return 0
            given = _parse(sys.argv)
            if given and not words:
                raise InputError(f"Unexpected argument {given[0]!r}; flags are written --name=value. See --help.")
            # Libraries log what no user can act on; a run has its own messages.
            logging.getLogger("absl").setLevel(logging.CRITICAL)
            process.find_home()
            if devices:
                from gan_seg_jax import parallel  # after the flags: it loads JAX

                parallel.initialize()
            main(given) if words else main()
        except Exception as error:
            return _say(error)
        return 0


def _flags_help() -> str:
    """Return the help of the command's flags, whichever module of the package defined them; libraries have others."""
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if module.startswith("gan_seg_jax."):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    return flags.FLAGS.module_help(sys.argv[0])


def _say(error: Exception) -> int:
    """Print what ended a command as a sentence and return its exit code; a fault of ours is raised again."""
    if not isinstance(error, (InputError, DivergedError, PreemptedError)):
        found = faults.known(error, _run_config(), processes=_processes())
        if found is None:
            raise error
        error = found
    lines = str(error if isinstance(error, PreemptedError) else f"error: {error}").split("\n")
    print("\n".join(map(files.shown, lines)), file=sys.stderr, flush=True)  # names in it may be anybody's
    if isinstance(error, LostPeerError):
        process.leave(error.exit_code)
    return error.exit_code


def _run_config() -> ConfigDict | None:
    """Return the config that the flags name, None where the command takes none."""
    flag = flags.FLAGS["config"] if "config" in flags.FLAGS else None
    return flag.value if flag is not None and isinstance(flag.value, ConfigDict) else None


def _processes() -> int:
    """Return how many processes the run has; JAX is not loaded for it."""
    return sys.modules["jax"].process_count() if "jax" in sys.modules else 1


def _parse(argv: list[str]) -> list[str]:
    """Parse all flags and return the arguments that are none.

    Whatever absl and ml_collections raise is turned into one sentence.

    Raises:
        InputError: a flag, a config field or its value is wrong, or the config file cannot be read.
    """
    try:
        words = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
        if "config" in flags.FLAGS:
            words = last_values(config_files.prepare(words))
            sys.argv = words  # where ml_collections looks for the fields that are set
        rest = flags.FLAGS(words)[1:]
    except InputError:
        raise
    except AttributeError as error:  # ml_collections: 'name'\nDid you mean "other" instead of "name"?
        if "'config_config' has no attribute 'get_config'" in str(error):
            path = config_files.named(argv)
            raise InputError(
                f"{path} is no config, for it has no function get_config; {config_files.known(path.parent)}."
            ) from error
        name, _, hint = str(error.args[0]).replace("\\n", "\n").replace("\\'", "'").strip("\"'\n ").partition("\n")
        name = name.strip("\"' ")
        raise config_files.unknown_field(name, hint, sys.argv) from error
    except flags.Error as error:
        raise config_files.wrong_field(error) or InputError(f"{_one_line(error)} See --help.") from error
    except OSError as error:
        reason = re.findall(r"\[Errno \d+\] (.*)", str(error))
        raise InputError(f"The config file cannot be read: {reason[-1] if reason else _one_line(error)}") from error
    except Exception as error:  # a config file is Python: it may raise anything
        if wrong := config_files.wrong_field(error):
            raise wrong from error
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = f"{type(error).__name__}: {_one_line(error)}"
        raise InputError(f"The config file {config_files.named(argv)}{line} cannot be run: {reason}") from error
    return rest


def load_config(words: list[str]) -> ConfigDict:
    """Return the config that the arguments of a command, `--config=FILE` and fields, name.

    Raises:
        InputError: as of a command.
    """
    before, defined = sys.argv, flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", lock_config=True, flag_values=defined)
    try:
        sys.argv = last_values(config_files.prepare([before[0], *words]))  # where ml_collections looks for the fields
        defined(sys.argv)
    finally:
        sys.argv = before
    return defined.config


def last_values(argv: list[str]) -> list[str]:
    """Return the arguments with only the last of each `--config.FIELD=VALUE`: ml_collections would join two tuples."""
    field = lambda word: word.partition("=")[0] if word.startswith("--config.") and "=" in word else None
    last = {field(word): number for number, word in enumerate(argv)}
    return [word for number, word in enumerate(argv) if field(word) is None or last[field(word)] == number]


def _one_line(error: Exception) -> str:
    """Return the message of an error as one line that ends in a full stop."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text if text.endswith((".", "?")) else text + "."


def define_run_flags(*names: str, split: str = "test") -> None:
    """Define flags of a command that uses a trained run.

    Args:
        names: of "workdir", "split", "checkpoint" and "data_dir" those that the command reads.
        split: the default of --split.
    """
    texts = {
        "workdir": (None, "Folder of the run."),
        "split": (split, "Which split of the data set."),
        "checkpoint": ("best", "Which checkpoint: best (by validation), latest, or a step."),
        "data_dir": (None, "Folder of the data set, where it is not the one of the training."),
    }
    for name in names:
        flags.DEFINE_string(name, *texts[name])


def required(name: str) -> str:
    """Return the value of a flag.

    Raises:
        InputError: it was not given.
    """
    value = getattr(flags.FLAGS, name)
    if not value:
        raise InputError(f"--{name} is missing. See --help.")
    return value


def output_file(given: str | os.PathLike) -> Path:
    """Return the path of the file that --output names.

    Raises:
        InputError: there is a folder of that name, or it is no path of this machine.
    """
    output = files.local(given).expanduser()
    if output.is_dir():
        raise InputError(f"--output is {files.shown(output)}, a folder; expected the name of a file.")
    return output

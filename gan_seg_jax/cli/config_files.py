"""Config files on the command line: which there are, what `from configs import ...` means in them, groups of fields.

ml_collections runs the file and sets the fields; what is here comes before that.
"""

import ast
import difflib
import importlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from gan_seg_jax.augment.fields import POLICIES
from gan_seg_jax.cli import auto, listing
from gan_seg_jax.config_fields import RENAMED
from gan_seg_jax.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
# The project's own configs: within the package where that is installed, beside it in a checkout. A user may have a
# folder of this name, too.
PROJECT = (_PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent) / "configs"


def prepare(argv: list[str]) -> list[str]:
    """Return the arguments with the config file found and every group of fields as its single fields.

    `configs/NAME.py` is the file of the current folder or else the project's own. From then on `from configs import`
    means what `_place` says. Fields may be set by the names that they had in earlier versions.

    Raises:
        InputError: the config file does not exist, or a group of fields cannot be read.
    """
    words = [_present(word) for word in single_fields(_joined(argv))]
    path = named(words)
    if path != Path() and _find(path).resolve() == PROJECT / "auto.py":
        words = _with_choices(words)
    words = _with_policies(words)
    for number, word in enumerate(words):
        if match := re.match(r"(--?config=)([^:]*)(.*)", word, re.DOTALL):
            path = _find(Path(match[2]))
            words[number] = f"{match[1]}{path}{match[3]}"
            _place(path)
    return words


def _with_choices(words: list[str]) -> list[str]:
    """Return the arguments of configs/auto.py with what is chosen for the data; what is given holds."""
    place = max(place for place, word in enumerate(words) if re.match(r"--?config=", word))
    meant = words[place].partition(":")[2]
    if "smoke" in meant.split(","):
        return words
    chosen, fields = auto.chosen(words)
    given = {word.partition("=")[0].lstrip("-").removeprefix("config."): word.partition("=")[2] for word in words}
    if "canvas_size" in given and "crop_size" in fields:
        fields["crop_size"] = given["canvas_size"]
    if "steps" in given:  # the intervals were chosen for others
        given |= dict.fromkeys(("eval_every", "checkpoint_every", "samples_every"))
    before = [f"--config.{name}={value}" for name, value in fields.items() if name not in given]
    config = words[place] if meant or not chosen else f"{words[place].rstrip(':')}:{chosen}"
    return [*words[:place], config, *before, *words[place + 1 :]]


def _with_policies(words: list[str]) -> list[str]:
    """Return the arguments with what each `--config.augment.policy=NAME` stands for, as single fields before it.

    Fields that are given themselves, before or after it, are not among them. Of a run before the run, likewise.
    """
    given = {word.partition("=")[0].lstrip("-") for word in words}
    policies = {}
    for word in words:
        if match := re.fullmatch(r"--?(config\.(?:\w+\.)*augment)\.policy=(\w*)", word):
            policies[match[1]] = POLICIES.get(match[2], {})  # "" has none; `check` answers an unknown one
    meant = [(f"{group}.{field}", value) for group, fields in policies.items() for field, value in fields.items()]
    first = next((place for place, word in enumerate(words) if re.match(r"--?config\.", word)), len(words))
    return [*words[:first], *(f"--{name}={value}" for name, value in meant if name not in given), *words[first:]]


def _present(word: str) -> str:
    """Return an argument with the names that fields have now."""
    name, equals, value = word.partition("=")
    if not re.match(r"--?config\.", name):
        return word
    return ".".join(RENAMED.get(part, part) for part in name.split(".")) + equals + value


def named(argv: list[str]) -> Path:
    """Return the config file that the arguments name, without the words behind its colon."""
    found = [match[1] for word in _joined(argv) if (match := re.match(r"--?config=([^:]*)", word))]
    return Path(found[-1] if found else "")


def known(folder: Path) -> str:
    """Return the names of a folder's config files, in words; where it is `configs`, the project's own with them."""
    return f"in {folder}/ there are: {', '.join(_names(folder)) or 'none'}"


def listed() -> str:
    """Return what `--help` says of the configs: those of a folder `configs` in the current one, and the project's."""
    folder = Path("configs")
    return listing.configs([_find(folder / name) for name in _names(folder)], _find(folder / "common.py"))


def _names(folder: Path) -> list[str]:
    folders = {folder, PROJECT} if folder == Path("configs") else {folder}
    return sorted({file.name for each in folders for file in each.glob("*.py") if _is_config(file)})


def _is_config(file: Path) -> bool:
    """Return whether a file has a function get_config; the project's own take the words behind the colon."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, ValueError, SyntaxError):
        return False
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "get_config":
            return bool(node.args.args) or file.resolve().parent != PROJECT
        if isinstance(node, ast.ImportFrom) and any((name.asname or name.name) == "get_config" for name in node.names):
            return True
    return False


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if path.parent == Path("configs") and (PROJECT / path.name).is_file():
        return PROJECT / path.name
    near = difflib.get_close_matches(path.name, _names(path.parent), n=1)
    hint = f" Did you mean {path.parent / near[0]}?" if near else ""
    raise InputError(f"The config file {path} does not exist; {known(path.parent)}.{hint}")


def project_config(name: str, words: str = "") -> ConfigDict:
    """Return one of the project's own configs, whatever the current folder has, such as cgan_seg with "smoke".

    Raises:
        InputError: A word is unknown, or words exclude each other.
    """
    _place(PROJECT / f"{name}.py")
    return importlib.import_module(f"configs.{name}").get_config(words or None)


def _place(path: Path) -> None:
    """Let `from configs import NAME` find NAME in a user's own folder `configs` first, then among the project's files.

    The own folder is that of the config file `path`, or that in the current folder. The project's files see each other
    only, for they are imported before it is looked at.
    """
    folder = path.resolve().parent
    if [Path(place).resolve() for place in getattr(sys.modules.get("configs"), "__path__", ())] != [PROJECT]:
        _open(PROJECT)
    own = folder if folder.name == "configs" else Path("configs").resolve()
    if PROJECT in (folder, own) or not own.is_dir():
        return
    names = [file.stem for file in sorted(PROJECT.glob("*.py")) if file.stem != "__init__"]
    modules = {name: importlib.import_module(f"configs.{name}") for name in names}
    taken = {entry.stem for entry in own.iterdir()}
    _open(own, {name: module for name, module in modules.items() if name not in taken})


def _open(folder: Path, more: dict[str, Any] | None = None) -> None:
    """Make `folder` the package `configs`, with `more` modules in it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
        del sys.modules[name]
    init, places = folder / "__init__.py", [str(folder)]
    spec = ModuleSpec("configs", None, is_package=True)
    if init.is_file():
        spec = importlib.util.spec_from_file_location("configs", init, submodule_search_locations=places)
    spec.submodule_search_locations = places
    package = sys.modules["configs"] = importlib.util.module_from_spec(spec)
    for name, module in (more or {}).items():
        sys.modules[f"configs.{name}"] = module
        setattr(package, name, module)
    if init.is_file():
        spec.loader.exec_module(package)


def _joined(argv: list[str]) -> list[str]:
    """Return the arguments with `--config FILE` and `--config.GROUP {...}` as one word each."""
    words = []
    for word in argv:
        last = words[-1] if words else ""
        if re.fullmatch(r"--?config", last) or (re.fullmatch(r"--?config\.[^=]+", last) and word.startswith("{")):
            words[-1] = f"{last}={word}"
        else:
            words.append(word)
    return words


def single_fields(argv: list[str]) -> Iterator[str]:
    """Yield the arguments, `--config.GROUP={...}` as a `--config.GROUP.FIELD=VALUE` for each of its fields.

    So a group is merged and each of its values checked like any other, and of a field given twice the last one counts.
    Python's and JSON's form of a dict are read.

    Raises:
        InputError: a group is empty, or it holds what cannot be the name or the value of a field.
    """
    for word in argv:
        name, _, text = word.partition("=")
        group = _dict(text) if re.match(r"--?config\.", name) else None
        if group is None:
            yield word
        else:
            yield from _fields(name, group)


def _dict(text: str) -> dict | None:
    for read in (ast.literal_eval, json.loads):
        try:
            value = read(text) if text.lstrip().startswith("{") else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def _fields(name: str, group: dict) -> Iterator[str]:
    if not group:
        raise InputError(f"{name}={{}} sets nothing: a group of fields is merged into the config's, field by field.")
    for field, value in group.items():
        if not isinstance(field, str) or not all(part.isidentifier() for part in field.split(".")):
            raise InputError(f"{name} holds {field!r}, which cannot be the name of a field.")
        if isinstance(value, dict):
            yield from _fields(f"{name}.{field}", value)
        elif isinstance(value, (str, bool, int, float, tuple, list)):
            value = tuple(value) if isinstance(value, list) else value
            yield f"{name}.{field}={value if isinstance(value, str) else repr(value)}"
        else:
            raise InputError(f"{name}.{field} is {value!r}; expected a number, a word, a tuple or a group of fields.")


def wrong_field(error: Exception) -> InputError | None:
    """Return the sentence for a field that is not there, or a group set to what is none; None for other errors."""
    text = str(error)
    if match := re.search(r"flag (--config\.[^=]+)=.*as a ConfigDict", text, re.DOTALL):
        form = f"\"{match[1]}={{'FIELD': VALUE}}\", or {match[1]}.FIELD=VALUE for one of them"
        return InputError(f"{match[1]} is a group of fields; write {form}.")
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = [frame.f_locals for frame in frames if frame.f_code.co_filename == config_path.__file__]
    fields = [names.get("override") or names.get("config_path") for names in inner]
    if not fields:
        return None
    hint = re.search(r'Did you mean "[^"]+"', text)
    return unknown_field(fields[0], f"{hint[0]}?" if hint else "", [])


def unknown_field(name: str, hint: str, words: list[str]) -> InputError:
    """Return the sentence for a field that is not there: `name`, without its groups, of the arguments `words`."""
    if any(re.match(rf"--?config\.(\w+\.)*pretrained\.{name}=", word) for word in words):
        return InputError(
            f"config.pretrained.{name} names weights of a backbone, and config.networks.{name} has none; leave it out."
        )
    return InputError(f"Unknown config field {name!r}. {hint or 'See --help.'}")

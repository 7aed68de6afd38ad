"""What README.md and docs/ say exists, and their commands parse; so do those in the configs' docstrings."""

import ast
import importlib
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gan_seg_jax.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
METHOD_PAGES = [page for page in PAGES if page.parent.name == "methods"]
WITHOUT_COMMANDS = ("comparison.md", "formulas.md", "performance.md", "results.md")
CHINESE = ROOT / "docs" / "README.zh-CN.md"
NAMED = re.compile(r"`((?:gan_seg_jax|configs|experiments|tests|docs)/[\w./]*|\w+\.(?:md|txt|toml|cff))(?:::\w+)?`")
MADE_BY_USERS = ("configs/mask_critic.py", "classes.txt", "labelmap.txt")
REST = r"((?:\\\n|[^\n`'|&;])*)"
COMMAND = re.compile(r"(?:python -m gan_seg_jax\.|gan-seg )([a-z_]+)" + REST)
EXPERIMENT = re.compile(r"python (experiments/\w+\.py)")


def _name(path):
    return str(path.relative_to(ROOT))


def _commands(text):
    """Return (module, flags) of every command of ours in a text, patches aside."""
    text = re.sub(r"```diff.*?```", "", text, flags=re.S)
    found = [(COMMANDS.get(name, name), rest) for name, rest in COMMAND.findall(text)]
    return [(module, shlex.split(rest.replace("\\\n", " "), comments=True)) for module, rest in found]


def _map_of_the_code(text):
    """Return the paths that the map of the code names; indented lines are below the last folder at the margin."""
    block = re.search(r"```\n(configs/ .*?)```", text, re.S)[1]
    paths, folder = [], ""
    for line in block.strip().splitlines():
        names = re.findall(r"\w+(?:/|\.py)(?=[\s,;:]|$)", line, re.A)
        if not line.startswith(" "):
            folder = names.pop(0)
            paths.append(folder)
        paths += [folder + name for name in names]
    return paths


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "experiments" / "README.md"], ids=_name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = [ROOT / name for name in NAMED.findall(text) if name not in MADE_BY_USERS and "NAME" not in name]
    named += [ROOT / name for name in EXPERIMENT.findall(text)]
    named += [page.parent / name for name in re.findall(r"\]\((?!http)([^)#]+)", text)]
    assert not [str(path) for path in named if not path.exists()]
    folders = (
        "augment baselines cli data docs inference judging losses methods models pictures postprocess preparing runs"
    )
    short = re.findall(rf"`((?:{folders.replace(' ', '|')}|system|tasks|training)/\w+\.py)", text)
    assert not [name for name in short if "NAME" not in name and not (ROOT / "gan_seg_jax" / name).exists()]


def test_names_in_the_architecture_are_defined():
    """Those written as `module.name` or `folder/module.name`."""
    found = re.findall(r"`((?:\w+/)?\w+)\.(\w+)`", (ROOT / "ARCHITECTURE.md").read_text())
    files = {(module, name): ROOT / "gan_seg_jax" / f"{module}.py" for module, name in found}
    known = {(m, n): file for (m, n), file in files.items() if file.exists() and m != "config" and n != "py"}
    assert len(known) > 2
    for (module, name), file in known.items():
        assert re.search(rf"^(?:(?:def|class) {name}\b|{name}\b.* = )", file.read_text(), re.M), f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_headings_that_a_page_links_to_exist(page):
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / path).read_text() if path else page.read_text()
        headings = [re.sub(r"[^\w -]", "", line.lstrip("# ")).lower() for line in text.splitlines() if line[:1] == "#"]
        assert anchor in [heading.replace(" ", "-") for heading in headings], f"{path}#{anchor}"


def test_every_page_is_in_the_navigation_of_the_site_once():
    listed = re.findall(r"^ +- (?:[\w ]+: )?([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:])


def test_the_site_loads_nothing_from_other_hosts():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings and not re.search(r"https?:|extra_javascript|extra_css|analytics", settings)
    for page in PAGES:
        text = page.read_text()
        assert not re.search(r"!\[[^]]*\]\(http|<(?:script|img|link|iframe)\b", text), page


def test_the_pages_are_markdown_that_the_site_reads_as_a_code_host_does():
    """Python-Markdown wants an empty line before a list, and four spaces before what belongs to an item's inside."""
    for page in PAGES[1:]:
        text = re.sub(r"^( *)```.*?^\1```$", "```", page.read_text(), flags=re.M | re.S)
        lines = text.splitlines()
        for before, line in itertools.pairwise(lines):
            if re.match(r"(- |\d+\. )", line):
                assert re.match(r"$|- |\d+\. | ", before), f"{page}: {line}"
            assert not re.match(r" {1,3}(- |\d+\. |```)", line), f"{page}: {line}"


def test_every_method_has_a_page_and_every_equation_is_that_of_a_module():
    written = {line.strip() for path in (ROOT / "gan_seg_jax").rglob("*.py") for line in path.read_text().splitlines()}
    for page in METHOD_PAGES:
        for block in re.findall(r"^```text\n(.*?)^```$", page.read_text(), re.M | re.S):
            lines = [line.strip() for line in block.splitlines() if line.strip()]
            assert not [line for line in lines if line not in written], page
    named = {word for page in METHOD_PAGES for word in re.findall(r"configs/(\w+)\.py", page.read_text())}
    parts = {"__init__", "common", "discriminators", "networks"}  # of configs, no configs themselves
    assert named | parts >= {path.stem for path in (ROOT / "configs").glob("*.py")}


def test_the_sentences_of_the_troubleshooting_are_in_the_code():
    nodes = (
        node
        for folder in ("gan_seg_jax", "configs")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    said = "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    text = (ROOT / "docs" / "troubleshooting.md").read_text().split("## Sentences")[1].split("## Symptoms")[0]
    sentences = re.findall(r"^\| `([^`]+)` \|", text, re.M)
    assert len(sentences) == text.count("\n| `") > 20
    assert not [sentence for sentence in sentences if sentence not in said]


@pytest.mark.parametrize("page", [ROOT / "README.md", CHINESE], ids=_name)
def test_the_map_of_the_code_names_every_folder(page):
    named = _map_of_the_code(page.read_text())
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / name).exists() and not (ROOT / "gan_seg_jax" / name).exists()]
    folders = {path.parent.name for path in (ROOT / "gan_seg_jax").glob("*/__init__.py")}
    assert {f"gan_seg_jax/{name}/" for name in folders} <= {name.replace("tests/gan", "gan") for name in named}


def test_the_table_of_problems_names_configs_and_words_that_exist():
    table = (ROOT / "README.md").read_text().split("## Which config")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `configs/(\w+)\.py([^`]*)` \| (.*) \|$", table, re.M)
    assert len(rows) == table.count("\n| `") > 10
    for config, forms, text in rows:
        words = re.findall(r"`([a-z]\w*)`", text) + re.findall(r"[a-z]\w*", forms)
        for word in words:
            importlib.import_module(f"configs.{config}").get_config(word)


def test_the_chinese_readme_says_the_same():
    """Commands, configs, words, files and numbers are those of the README."""
    english, chinese = (ROOT / "README.md").read_text(), CHINESE.read_text()
    assert _commands(english) == _commands(chinese)
    for pattern in (r"\d+\.\d+", r"`[\w./:\\|\[\],=-]+`"):
        assert sorted(re.findall(pattern, english)) == sorted(re.findall(pattern, chinese))


@pytest.mark.parametrize(
    "source",
    [*PAGES, *(path for path in sorted((ROOT / "configs").glob("*.py")) if path.stem not in ("__init__", "common"))],
    ids=_name,
)
def test_commands_parse(source):
    """Modules, config files, their words, fields and flags exist; every page and config shows a command, but a few."""
    commands = _commands(source.read_text())
    assert commands or source.name in WITHOUT_COMMANDS or source.parent.name == "reference"
    for module, flags in commands:
        _check(source.name, module, [flag for flag in flags if "mask_critic" not in flag])


def _check(source, module, flags):
    code = (ROOT / "gan_seg_jax" / f"{module}.py").read_text()
    if "define_flags()" in code:
        code += (ROOT / "gan_seg_jax" / "inference" / "options.py").read_text()
    config = None
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        if flag in ("--help", "--version"):
            continue
        if name == "config":
            path, _, words = value.partition(":")
            config = importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config(words)
        elif name.startswith("config."):
            node = config
            for part in name.split(".")[1:]:
                assert part in node, f"{source}: {flag}"
                node = node[part]
        else:
            if not flag.startswith("--") and "words=True" in code:
                continue  # the command takes others, too, such as folders
            names = (name, name.removeprefix("no"))  # --noNAME turns it off
            assert flag.startswith("--") and any(f'"{each}"' in code for each in names), f"{source}: {flag}"


@pytest.fixture(scope="module")
def with_the_method(tmp_path_factory):
    """A copy of the checkout to which the patch of docs/add-a-method.md was applied, and the page."""
    text, copy = (ROOT / "docs" / "add-a-method.md").read_text(), tmp_path_factory.mktemp("copy")
    for folder in ("gan_seg_jax", "configs", "tests", "pyproject.toml"):
        subprocess.run(["cp", "-r", str(ROOT / folder), str(copy)], check=True)
    patch = re.search(r"```diff\n(.*?)```", text, re.S)[1]
    subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=copy, check=True)
    return copy, text


@pytest.mark.slow
def test_the_method_of_the_docs_trains(with_the_method):
    copy, text = with_the_method
    module, (config, _) = next(command for command in _commands(text) if "mask_critic" in command[1][0])
    overrides = ["--config.scenes.counts=(8, 4, 4)", "--config.scenes.size=(32, 32)", "--config.steps=2"]
    overrides += ["--config.canvas_size=(32, 32)", "--config.crop_size=(32, 32)", "--config.tensorboard=False"]
    overrides += ["--config.networks.segmenter={'channels': (4, 8), 'encoder_convs': (0, 1), 'decoder_convs': (1,)}"]
    command = [sys.executable, "-m", f"gan_seg_jax.{module}", config, "--workdir=run", *overrides]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (copy / "run" / "summary.json").exists()


def _tests_of(page, *more):
    """Return the test command that a page shows, with other flags."""
    words = re.search(r"^python (-m pytest .*mask_critic.*)$", page, re.M)[1].split()
    return [sys.executable, *words, "-n", "0", "-p", "no:cacheprovider", *more]


@pytest.mark.slow
def test_the_method_of_the_docs_is_tested_when_it_is_named(with_the_method):
    copy, text = with_the_method
    found = subprocess.run(_tests_of(text, "--collect-only", "-q"), cwd=copy, capture_output=True, text=True)
    assert "test_method_trains[mask_critic]" in found.stdout, found.stdout + found.stderr


@pytest.mark.slow
def test_the_test_of_the_docs_passes(with_the_method):
    copy, text = with_the_method
    done = subprocess.run(_tests_of(text), cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* passed", done.stdout) and "failed" not in done.stdout

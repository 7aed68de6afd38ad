"""The list of commands, the command `gan-seg`, and the package where it is installed without a checkout."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

import gan_seg_jax
from gan_seg_jax.__main__ import ALIASES, COMMANDS
from gan_seg_jax.cli import listing
from gan_seg_jax.system import process
from tests import tiny_runs

GAN_SEG = (sys.executable, "-m", "gan_seg_jax")
LATE = "import os, signal\ndef get_config(_=None):\n    os.kill(os.getpid(), signal.SIGTERM)\n    raise ValueError\n"


def ended(*command, cwd=tiny_runs.ROOT, **env) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **env})


def answered(*args) -> tuple[int, str, set[str]]:
    """Return exit code, stdout and the libraries that were loaded, of gan-seg as pip's script starts it."""
    script = (
        f"import sys\nsys.argv = {['gan-seg', *args]!r}\nfrom gan_seg_jax.__main__ import main\n"
        "try: main()\nfinally: print('loaded', *{'jax', 'absl', 'numpy'} & set(sys.modules))"
    )
    found = ended(sys.executable, "-c", script)
    out, _, loaded = found.stdout.rpartition("loaded")
    return found.returncode, out + found.stderr, set(loaded.split())


def test_every_command_is_in_the_table(repository):
    commands = {
        file.stem
        for file in (repository / "gan_seg_jax").glob("[!_]*.py")
        if 'if __name__ == "__main__"' in file.read_text()
    }
    assert commands == {*COMMANDS.values(), *ALIASES, "train"}  # which only says what trains
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"gan-seg": "gan_seg_jax.__main__:main"}


@pytest.mark.parametrize("args", [(), ("--help",)])
def test_the_commands_are_listed_and_nothing_is_loaded(args):
    code, out, loaded = answered(*args)
    assert code == 0 and not loaded
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [line[0] for line in lines if line and line[0] in COMMANDS] == list(COMMANDS)
    assert ["evaluate", "Score a run over a whole split, on all devices."] in lines
    assert ended(*GAN_SEG, *args).stdout.split() == out.split()


def test_the_version_is_the_one_that_is_cited(repository):
    code, out, loaded = answered("--version")
    assert (code, out.strip(), loaded) == (0, f"gan_seg_jax {gan_seg_jax.__version__}", set())
    assert f"\nversion: {gan_seg_jax.__version__}\n" in (repository / "CITATION.cff").read_text()


def test_an_unknown_command_is_answered_by_the_nearest_name():
    code, out, loaded = answered("evalute", "--workdir=x")
    assert code == 2 and out.startswith("error: ") and "'evaluate'" in out and not loaded


def test_the_module_of_the_loop_says_which_command_trains():
    outcome = tiny_runs.command("train", "--config=configs/supervised_seg.py:smoke")
    assert outcome.code == 2 and outcome.err.startswith("error: ") and "use gan-seg train" in outcome.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("train", "--help"), 0, "python -m gan_seg_jax.main"),
        (("main", "--config=configs/supervised_seg.py", "--show_config"), 0, '"method": "supervised"'),
        (("train", "--config=configs/supervised_seg.py", "--config.stps=1"), 2, 'Did you mean "steps"'),
    ],
)
def test_a_command_answers_as_its_module_does(args, code, words):
    module, rest = COMMANDS.get(args[0], args[0]), args[1:]
    found, out, loaded = answered(*args)
    assert found == code and words in out and "jax" not in loaded
    alone = ended(sys.executable, "-m", f"gan_seg_jax.{module}", *rest)
    assert (alone.returncode, (alone.stdout + alone.stderr).strip()) == (code, out.strip())


def test_signals_and_names_of_files_as_of_the_modules(tmp_path):
    config = tmp_path / "größe.py"
    config.write_text(LATE)
    latin = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    found = ended(*GAN_SEG, "train", f"--config={config}", **latin)
    assert (found.returncode, found.stderr) == (75, process.STARTING + "\n")


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "| true"])
def test_streams_that_are_closed_or_full_cost_no_exit_code(redirection):
    found = ended("bash", "-c", f"{' '.join(GAN_SEG)} {redirection}; exit ${{PIPESTATUS[0]}}")
    assert (found.returncode, found.stderr) == (0, "")


def test_help_explains_the_words_of_every_config(repository):
    out = ended(*GAN_SEG, "train", "--help").stdout
    for file in (repository / "configs").glob("*.py"):
        text = listing.docstring(file)
        if listing.WORDS not in text:
            continue
        assert f"  {file.name:20}{listing.first_line(file)}\n" in out
        lines = listing.words(text)
        assert "smoke" in " ".join(lines) and all(line.strip() in out for line in lines)
    assert "configs/common.py" in out and "--show_config" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A.\nWords behind the colon: a (one\ntwo.) or b; c.\nCost: much.\n", ["a (one", "two.) or b; c."]),
        ("A.\nWords behind the colon:\n    a    one\n         two\n    b\nCost.", ["a    one", "     two", "b"]),
        ("A.\n\nWords behind the colon: a.", ["a."]),
        ("A.", []),
    ],
)
def test_words_are_a_block_or_sentences(text, words):
    assert listing.words(text) == words


def test_an_installed_package_has_its_own_configs(repository, tmp_path):
    """As pip lays it out: they are found in a folder without any, and in one with others of that name."""
    site, here = tmp_path / "site", tmp_path / "here"
    shutil.copytree(repository / "gan_seg_jax", site / "gan_seg_jax")
    shutil.copytree(repository / "configs", site / "gan_seg_jax" / "configs")
    (site / "configs").mkdir()
    (site / "configs" / "common.py").write_text("raise ValueError('somebody else lives here')")
    here.mkdir()
    shown = [*GAN_SEG, "train", "--show_config", "--config=configs/cgan_seg.py:smoke"]
    expected = ended(*shown)
    assert expected.returncode == 0 and '"method": "cgan"' in expected.stdout
    assert ended(*shown, cwd=here, PYTHONPATH=str(site)).stdout == expected.stdout
    (here / "configs").mkdir()
    (here / "configs" / "mine.py").write_text(
        "from configs import common, cgan_seg\nget_config = cgan_seg.get_config\n"
    )
    for name in ("cgan_seg", "mine"):
        command = [word.replace("cgan_seg", name) for word in shown]
        assert ended(*command, cwd=here, PYTHONPATH=str(site)).stdout == expected.stdout
    assert (
        str(site / "gan_seg_jax" / "configs" / "common.py")
        in ended(*GAN_SEG, "train", "--help", cwd=here, PYTHONPATH=str(site)).stdout
    )

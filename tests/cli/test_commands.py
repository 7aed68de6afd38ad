"""Exit codes, help, and flags: the same for every command."""

import contextlib
import json
import subprocess
import sys

import pytest

from gan_seg_jax import parallel
from gan_seg_jax.cli import commands
from gan_seg_jax.errors import DivergedError, InputError, PreemptedError
from tests import tiny_runs


@pytest.fixture(autouse=True)
def in_the_repository():
    with contextlib.chdir(tiny_runs.ROOT):
        yield


def run(main, monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["command", *args])
    return commands._run(main, "What it does.")


def raising(error):
    def main():
        raise error

    return main


def test_what_an_error_names_cannot_act_on_the_terminal(monkeypatch, capsys):
    assert run(raising(InputError("a\x1b[2J\r is wrong.\nGive b\x9b.")), monkeypatch) == 2
    assert capsys.readouterr().err == "error: a\\x1b[2J\\r is wrong.\nGive b\\x9b.\n"


def test_of_a_field_given_twice_the_last_value_counts():
    argv = [
        "main",
        "--config=a.py",
        "--config.size=(1, 2)",
        "--workdir=x",
        "--config.steps",
        "3",
        "--config.size=(4, 5)",
    ]
    assert commands.last_values(argv) == [argv[i] for i in (0, 1, 3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("bad thing."), 2), (DivergedError("too far."), 3), (PreemptedError("later."), 75)]
)
def test_every_end_has_its_code_and_its_sentence(monkeypatch, capsys, error, code):
    assert run(raising(error), monkeypatch) == code
    captured = capsys.readouterr()
    assert str(error) in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_success_is_zero_and_faults_of_ours_are_not_hidden(monkeypatch):
    assert run(lambda: None, monkeypatch) == 0
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0, monkeypatch)


@pytest.mark.parametrize("module", ["main", "evaluate", "predict"])
@pytest.mark.parametrize("flag", ["--help", "-h", "-help", "--helpfull"])
def test_help_is_a_success_and_names_the_flags(module, flag):
    outcome = tiny_runs.command(module, flag)
    assert outcome.code == 0 and outcome.err == ""
    assert "--workdir" in outcome.out and f"python -m gan_seg_jax.{module}" in outcome.out


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("evaluate", "workdir split checkpoint data_dir scales [no]flip window overlap [no]crf min_region"),
        ("predict", "workdir checkpoint input output scales [no]flip window overlap [no]crf max_hole opening closing"),
        ("sample", "workdir checkpoint data_dir output count seed"),
        ("memorization", "workdir checkpoint data_dir output count seed"),
        ("copies", "workdir checkpoint data_dir output count seed"),
        ("judge", "workdir split checkpoint data_dir"),
        ("crf_search", "workdir split checkpoint data_dir images"),
        ("class_weights", "config rule output"),
        ("plan", "config slice batch_per_chip input_rate json"),
    ],
)
def test_help_lists_every_flag_wherever_it_is_defined(module, names):
    listed = tiny_runs.command(module, "--help").out.partition("\nFlags:\n")[2]
    assert [name for name in names.split() if f"\n  --{name}:" not in listed] == []


@pytest.mark.parametrize("module", ["main", "evaluate", "predict"])
def test_unknown_and_stray_arguments(module):
    outcome = tiny_runs.command(module, "--wrkdir=x")
    assert outcome.code == 2 and "Did you mean" in outcome.err and "workdir" in outcome.err
    outcome = tiny_runs.command(module, "stray")
    assert outcome.code == 2 and "stray" in outcome.err


@pytest.mark.parametrize("missing", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID"])
def test_half_a_cluster_is_bad_input(monkeypatch, missing):
    values = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(InputError, match=missing):
        parallel.initialize()


def test_a_mistake_is_answered_by_a_process_of_its_own(tmp_path):
    """As a user meets it: exit code, one sentence, no traceback."""
    command = [sys.executable, "-m", "gan_seg_jax.main", "--config=configs/cgan_seg.py:smok"]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=tiny_runs.ROOT, env=tiny_runs.environment(tmp_path)
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: ") and "smoke" in ended.stderr and ended.stderr.count("\n") == 1


def test_show_config_prints_what_would_run_and_runs_nothing(tmp_path):
    flags = ("--config=configs/cgan_seg.py:lambda0", "--config.losses.weights.l1=0.5", "--show_config")
    shown = tiny_runs.command("main", *flags, f"--workdir={tmp_path / 'run'}")
    values = json.loads(shown.out)
    assert shown.code == 0 and not (tmp_path / "run").exists()
    assert values["method"] == "cgan" and values["canvas_size"] == [96, 128]
    assert values["losses"]["adversarial_weight"] == 0.0 and values["losses"]["weights"]["l1"] == 0.5
    wrong = tiny_runs.command("main", "--config=configs/cgan_seg.py", "--config.batch_size=0", "--show_config")
    assert wrong.code == 2 and "config.batch_size is 0" in wrong.err and wrong.out == ""

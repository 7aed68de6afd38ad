"""The command that plans a slice, on a machine where the TPU's compiler need not be installed."""

import contextlib
import importlib.util
import json
import os
from unittest import mock

import pytest

from gan_seg_jax.planning import apart, feeding, figures, program
from tests import tiny_runs
from tests.planning.test_figures import compiled


def _run(*args):
    with contextlib.chdir(tiny_runs.ROOT), mock.patch.dict(os.environ):
        return tiny_runs.command("plan", *args)


CONFIG = "--config=configs/supervised_seg.py:smoke"


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that makes the same program of all that is asked for; returns the configs."""
    asked = []

    def compile_last_phase(config, chips):
        asked.append((config.batch_size, config.num_classes, len(chips)))
        return compiled(), program.start.state_shapes(program.get_method(config), config)

    monkeypatch.setattr(figures, "on_slice_apart", figures.on_slice)
    monkeypatch.setattr(program, "devices", lambda where: [None] * where.chips)
    monkeypatch.setattr(program, "compile_last_phase", compile_last_phase)
    monkeypatch.setattr(program, "versions", lambda: {"libtpu": "0"})
    return asked


def test_one_slice_as_lines_and_as_json(compiler, tmp_path):
    output = tmp_path / "plan.json"
    outcome = _run(CONFIG, "--slice=v5p-8", "--config.num_classes=5", "--config.batch_size=16", f"--json={output}")
    assert outcome.code == 0 and outcome.err == ""
    assert compiler == [(16, 5, 4)]
    assert "v5p-8 (v5p:2x2x1): 4 chips, 1 host" in outcome.out and "16, 4 per chip" in outcome.out
    found = json.loads(output.read_text())
    assert found["config"] == "supervised_seg.py:smoke"
    assert found["classes"] == 5 and found["slices"][0]["chips"] == 4 and found["versions"] == {"libtpu": "0"}
    assert "input" not in found["slices"][0]  # without data its rate is not known


def test_several_slices_as_a_table_and_the_input_as_measured(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(feeding, "_SECONDS", 0.0)
    data = "--config.dataset=folder", f"--config.data_dir={tiny_runs.write_set(tmp_path)}"
    outcome = _run(CONFIG, "--slice=v5e-4", "--slice=v5e-8", "--slice=v5e-4", "--batch_per_chip=2", *data)
    assert outcome.code == 0 and outcome.err == ""
    assert compiler == [(8, 3, 4), (16, 3, 8)]
    header, *rows = outcome.out.split("\n\n")[-1].splitlines()
    assert header.startswith("slice") and [row.split()[:4] for row in rows] == [
        ["v5e-4", "4", "1", "8"],
        ["v5e-8", "8", "1", "16"],
    ]


@pytest.mark.parametrize(("code", "said"), [(11, "pip install -U"), (9, "memory runs out")])
def test_a_crash_of_the_compiler_is_a_sentence(monkeypatch, tmp_path, code, said):
    def crash(*_):
        raise apart.CrashedError(-code)

    monkeypatch.setattr(program, "devices", lambda where: [None] * where.chips)
    monkeypatch.setattr(program, "versions", lambda: {"libtpu": "0"})
    monkeypatch.setattr(apart, "call", crash)
    args = (CONFIG, "--config.num_classes=5", "--batch_per_chip=2")
    outcome = _run(*args, "--slice=v5e-4", f"--json={tmp_path / 'plan.json'}")
    assert outcome.code == 2 and ("crashed" if code == 11 else "killed") in outcome.out and said in outcome.err
    found = json.loads((tmp_path / "plan.json").read_text())["slices"][0]
    assert found["crashed"] and found["signal"] == {11: "SIGSEGV", 9: "SIGKILL"}[code]
    assert _run(*args, "--slice=v5e-4", "--slice=v5e-8").out.count("compiler crashed") == 2


def test_without_data_the_classes_must_be_given(compiler):
    outcome = _run(CONFIG, "--slice=v5e-4", "--config.dataset=folder", "--config.data_dir=/nowhere")
    assert outcome.code == 2 and "/nowhere" in outcome.err and "--config.num_classes=" in outcome.err
    assert not compiler


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="the TPU's compiler is installed")
def test_without_the_compiler_a_sentence_says_how_to_get_it():
    outcome = _run(CONFIG, "--slice=v5e-8", "--batch_per_chip=1")
    assert outcome.code == 2 and outcome.out == ""
    assert 'pip install "jax[tpu]<0.12"' in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((CONFIG,), "--slice is missing; name one of v5e-1, v5e-4"),
        ((CONFIG, "--slice=v4-8"), "Unknown --slice 'v4-8'"),
        (("--slice=v5e-8",), "--config is missing"),
        (("--config=configs/classical.py:sobel", "--slice=v5e-8"), "no training step"),
        ((CONFIG, "--slice=v5e-8", "--config.batch_size=0"), "config.batch_size is 0"),
        ((CONFIG, "--slice=v5e-8", "--input_rate=-1"), "input_rate"),
        ((CONFIG, "--slice=v5e-4", "--slice=v5e-16", "--config.batch_size=8"), "the 16 chips of v5e-16 cannot share"),
    ],
)
def test_mistakes_are_answered_before_anything_is_compiled(args, said):
    outcome = _run(*args)
    assert outcome.code == 2 and said in outcome.err and outcome.out == ""
    assert outcome.err.count("\n") == 1

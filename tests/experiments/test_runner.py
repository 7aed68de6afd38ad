"""The runner with a stub in place of the command, the collector on made-up records, one real cell."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))  # as for `python experiments/TABLE.py`

import collect
import records
import runner
from runner import Arm

EXPERIMENTS = Path(runner.__file__).parent
# A command that behaves as its flag --do says: ok | exit:CODE | once:CODE (the second call is ok) | wait (for a signal)
# | die (of a signal, the second call is ok) | nothing (ends before it writes its config).
STUB = """
import json, os, pathlib, signal, sys, time
module, *arguments = sys.argv[1:]
flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
if module != "gan_seg_jax.main":
    workdir = pathlib.Path(flags["workdir"])
    name = flags["do"].removeprefix("fail:")
    with (workdir / "calls.txt").open("a") as file:
        file.write(module + " " + name + "\\n")
    if name != flags["do"] and not (workdir / "tried").exists():
        (workdir / "tried").touch()
        print("error: no such thing.", file=sys.stderr)
        sys.exit(2)
    plain = json.loads((workdir / "summary.json").read_text())["test"]["miou"]
    values = {"split": "test", "miou": plain + 0.05, "seconds": 30.0}
    (workdir / f"evaluation-test-{name}.json").write_text(json.dumps(values))
    sys.exit()
workdir, seed, do = pathlib.Path(flags["workdir"]), int(flags["config.seed"]), flags.get("do", "ok")
calls = workdir / "calls.txt"
first = not calls.exists()
with calls.open("a") as file:
    file.write(" ".join(arguments) + "\\n")
if do == "nothing":
    sys.exit(2)
config = {"seed": seed, "method": "cgan", "dataset": "scenes", "canvas_size": [8, 16], "crop_size": [8, 16],
          "resize": "fit", "batch_size": 4, "rounds": 1, "dtype": "float32",
          "data_dir": flags.get("config.data_dir", ""), "scenes": {"size": [8, 16], "counts": [3, 2, 1], "seed": 0}}
(workdir / "config.json").write_text(json.dumps(config))
kind, _, code = do.partition(":")
if kind in ("wait", "die") and first:
    signals = []
    for number in (signal.SIGTERM, signal.SIGINT) if kind == "wait" else ():
        signal.signal(number, lambda number, frame: signals.append(number))
    (workdir / "ready").write_text(str(os.getpgrp() == os.getpid()))
    while not signals:
        time.sleep(0.01)
    time.sleep(0.3)
    (workdir / "saved").write_text(str(len(signals)))
    sys.exit(75)
if kind == "exit" or (kind == "once" and first):
    print(f"error: {workdir} is no good.", file=sys.stderr)
    sys.exit(int(code))
scores = {"miou": 0.5 + 0.1 * seed, "pixel_accuracy": 0.75, "mean_accuracy": 0.6, "boundary_f1": None,
          "iou_per_class": {"sky": 0.5, "car": None}}
from PIL import Image
(workdir / "samples").mkdir(exist_ok=True)
Image.effect_noise((900, 700), 90).convert("RGB").save(workdir / "samples" / "test-0000020.png")
(workdir / "summary.json").write_text(json.dumps({
    "val": scores, "test": scores, "baselines": {"majority": {**scores, "miou": 0.125}}, "best_step": 20, "steps": 30,
    "seconds": 90.0, "compile_seconds": 3.0, "images_per_second": 7.5, "parameters": {"generator": 10},
    "skipped_steps": 0, "devices": ["cpu:0 cpu"], "versions": {"jax": "0.0"}}))
"""


@pytest.fixture
def table(tmp_path):
    """Return a function that runs a table with the stub and returns the exit code; its folders are below tmp_path."""
    (tmp_path / "stub.py").write_text(STUB)

    def run(arms, *flags):
        argv = [f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}", *flags]
        command = (sys.executable, str(tmp_path / "stub.py"))
        return runner.main("tables/tiny.py", "Tiny", arms, argv, command=command)

    return run


def calls(tmp_path, cell):
    return (tmp_path / "runs" / cell / "calls.txt").read_text().splitlines()


def record_of(tmp_path, cell):
    return json.loads((tmp_path / "results" / f"{cell}.json").read_text())


def test_records_what_ran_and_where(table, tmp_path, capfd):
    arms = [
        Arm("a", "configs/a.py", ("--config.data_dir={data_dir}/set", "--init={workdir}/b-seed{seed}"), seeds=(0, 1))
    ]
    assert table(arms, f"--data_dir={tmp_path}", "--keep_pictures") == 0
    assert calls(tmp_path, "a-seed1") == [
        f"--config=configs/a.py --config.data_dir={tmp_path}/set --init={tmp_path}/runs/b-seed1 --config.seed=1 "
        f"--workdir={tmp_path}/runs/a-seed1"
    ]
    record = record_of(tmp_path, "a-seed1")
    assert record["arguments"][1:3] == ["--config.data_dir={data_dir}/set", "--init={workdir}/b-seed1"]
    assert (record["status"], record["exit_code"], record["seed"], record["steps"]) == ("finished", 0, 1, 30)
    assert record["scores"]["test"]["miou"] == pytest.approx(0.6) and record["scores"]["baselines"]["majority"]
    assert record["hardware"]["cores"] >= 1 and record["hardware"]["devices"] == ["cpu:0 cpu"]
    assert record["versions"].keys() == {"python", "jax"} and len(record["config_sha256"]) == 64
    assert record["commit"] is None or len(record["commit"]) == 40
    text = (tmp_path / "results" / "a-seed1.json").read_text()
    assert str(tmp_path) not in text and str(EXPERIMENTS.parent) not in text
    assert (tmp_path / "results" / "a-seed0.png").stat().st_size <= 200_000  # the panel itself is larger
    assert not (tmp_path / "results" / "a-seed1.png").exists()
    assert "![a-seed0](a-seed0.png)" in (tmp_path / "results" / "README.md").read_text() in capfd.readouterr().out


def test_config_hash_does_not_depend_on_folders_of_the_machine(table, tmp_path):
    arms = [Arm("a", "configs/a.py", ("--config.data_dir={data_dir}/set",))]
    hashes = []
    for name in ("one", "two"):
        assert table(arms, f"--data_dir={tmp_path / name}", f"--workdir={tmp_path / 'runs' / name}") == 0
        hashes.append(record_of(tmp_path, "a-seed0")["config_sha256"])
    assert hashes[0] == hashes[1]


def test_finished_cells_are_skipped_and_their_records_stay_the_same_bytes(table, tmp_path):
    arms = [Arm("a", "configs/a.py"), Arm("b", "configs/b.py")]
    assert table(arms) == 0
    files = sorted((tmp_path / "results").iterdir())
    before = [file.read_bytes() for file in files]
    assert table(arms) == 0
    assert [file.read_bytes() for file in files] == before
    assert len(calls(tmp_path, "a-seed0")) == len(calls(tmp_path, "b-seed0")) == 1


def test_commands_follow_a_finished_run_once(table, tmp_path, capfd):
    then = (("evaluate", "--do=flip"), ("evaluate", "--do=fail:crf"))
    arms = [Arm("a", "configs/a.py", seeds=(0, 1)), Arm("b", "configs/b.py", then=then)]
    assert table(arms) == 1
    assert "b-seed0 (exit code 2)" in capfd.readouterr().err
    record = record_of(tmp_path, "b-seed0")
    assert record["evaluations"].keys() == {"test-flip"} and record["exit_code"] == 2
    assert "`b`, seed 0: a command after the run **failed**" in (tmp_path / "results" / "README.md").read_text()
    assert table(arms) == 0
    assert calls(tmp_path, "b-seed0")[1:] == ["gan_seg_jax.evaluate flip", *["gan_seg_jax.evaluate crf"] * 2]
    record = record_of(tmp_path, "b-seed0")
    assert record["evaluations"]["test-crf"]["miou"] == pytest.approx(0.55)
    assert [entry["command"] for entry in record["then"]] == ["evaluate --do=flip", "evaluate --do=fail:crf"]
    assert record["exit_code"] == 0
    assert "| b, test-crf | 1 | 0.5500 | +0.0500 | - | - | 0.5 |" in capfd.readouterr().out
    assert table(arms) == 0 and len(calls(tmp_path, "b-seed0")) == 4
    # One command is another now: it runs, and all behind it, which may use what it leaves.
    arms[1] = dataclasses.replace(arms[1], then=(("evaluate", "--do=scales"), ("evaluate", "--do=crf")))
    assert table(arms) == 0
    assert calls(tmp_path, "b-seed0")[4:] == ["gan_seg_jax.evaluate scales", "gan_seg_jax.evaluate crf"]


def test_a_killed_cell_resumes_with_the_same_command(table, tmp_path):
    arms = [Arm("a", "configs/a.py", ("--do=once:75",)), Arm("b", "configs/b.py")]
    assert table(arms) == 75
    assert not (tmp_path / "runs" / "b-seed0").exists() and not (tmp_path / "results" / "a-seed0.json").exists()
    assert table(arms) == 0
    first, second = calls(tmp_path, "a-seed0")
    assert first == second
    record = record_of(tmp_path, "a-seed0")
    assert record["status"] == "finished" and len(record["resumed"]) == 1


def test_a_failed_cell_is_recorded_shown_and_tried_again(table, tmp_path, capfd):
    arms = [Arm("a", "configs/a.py", ("--do=once:2",)), Arm("b", "configs/b.py")]
    assert table(arms) == 1
    assert record_of(tmp_path, "b-seed0")["status"] == "finished"
    record = record_of(tmp_path, "a-seed0")
    assert (record["status"], record["exit_code"], record["message"]) == ("failed", 2, "{workdir}/a-seed0 is no good.")
    assert record["seconds"] is None and record["scores"]["test"] is None
    out, err = capfd.readouterr()
    assert "`a`, seed 0: **failed** with exit code 2: {workdir}/a-seed0 is no good." in out
    assert "| a | 0 | - | - | - | - | - | - |" in out
    assert err.endswith("error: failed: a-seed0 (exit code 2).\n") and "is no good" in err
    assert table(arms) == 0
    assert record_of(tmp_path, "a-seed0")["status"] == "finished"


@pytest.mark.parametrize(("do", "code"), [("exit:3", 3), ("exit:1", 1)])
def test_a_diverged_cell_stays_so_a_crashed_one_is_tried_again(table, tmp_path, do, code):
    arms = [Arm("a", "configs/a.py", (f"--do={do}",))]
    assert table(arms) == table(arms) == 1
    assert record_of(tmp_path, "a-seed0")["exit_code"] == code
    assert len(calls(tmp_path, "a-seed0")) == (1 if code == 3 else 2)


def test_a_run_with_other_arguments_is_neither_skipped_nor_lost(table, tmp_path, capfd):
    assert table([Arm("a", "configs/a.py")]) == 0
    before = record_of(tmp_path, "a-seed0")
    assert table([Arm("a", "configs/a.py")], "--override=--config.steps=7") == 2
    error = capfd.readouterr().err
    assert "a-seed0 was run with other arguments" in error and "--config.steps=7" in error
    assert record_of(tmp_path, "a-seed0") == before and len(calls(tmp_path, "a-seed0")) == 1


def test_arguments_may_be_corrected_where_nothing_began(table, tmp_path):
    assert table([Arm("a", "configs/a.py", ("--do=nothing",))]) == 1
    assert table([Arm("a", "configs/a.py")]) == 0


def test_a_foreign_run_is_left_alone(table, tmp_path, capfd):
    folder = tmp_path / "runs" / "a-seed0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert table([Arm("a", "configs/a.py")]) == 2
    assert "holds a run that no table started" in capfd.readouterr().err


def test_only_runs_one_arm_and_shows_the_others_as_missing(table, tmp_path, capfd):
    arms = [Arm("first", "configs/a.py"), Arm("second", "configs/b.py")]
    assert table(arms, "--only=second") == 0
    assert not (tmp_path / "runs" / "first-seed0").exists()
    assert "`first`, seed 0: not run yet." in capfd.readouterr().out
    assert table(arms, "--only=secnd") == 2
    assert "Did you mean 'second'?" in capfd.readouterr().err


def test_overrides_reach_every_cell_and_leave_the_committed_records_alone(tmp_path):
    (tmp_path / "stub.py").write_text(STUB)
    argv = [f"--workdir={tmp_path / 'runs'}", "--override=--config.steps=7"]
    code = runner.main("tiny.py", "Tiny", [Arm("a", "c.py")], argv, command=(sys.executable, str(tmp_path / "stub.py")))
    assert code == 0 and "--config.steps=7 --config.seed=0" in calls(tmp_path, "a-seed0")[0]
    assert (tmp_path / "runs" / "results" / "tiny" / "a-seed0.json").exists()


@pytest.mark.parametrize("names", [("a", "a"), ("cgan:paper",), ("a/b",)])
def test_names_must_be_unique_file_names(table, names, capfd):
    assert table([Arm(name, "configs/a.py") for name in names]) == 2
    assert "needs a name of its own" in capfd.readouterr().err


@pytest.mark.parametrize(("do", "number"), [("wait", signal.SIGTERM), ("wait", signal.SIGINT), ("die", signal.SIGTERM)])
def test_signals_reach_the_cell_once_and_are_waited_for(tmp_path, do, number):
    (tmp_path / "stub.py").write_text(STUB)
    script = tmp_path / "tiny.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(EXPERIMENTS)!r})\nimport runner\n"
        f"arms = [runner.Arm('a', 'c.py', ('--do={do}',)), runner.Arm('b', 'c.py')]\n"
        f"sys.exit(runner.main(__file__, 'Tiny', arms, command=(sys.executable, {str(tmp_path / 'stub.py')!r})))\n"
    )
    command = [sys.executable, str(script), f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
    process = subprocess.Popen(command, process_group=0)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "runs" / "a-seed0" / "ready").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, number)  # as a terminal does for Ctrl-C
        assert process.wait(timeout=30) == 75
    finally:
        process.kill()
    assert (tmp_path / "runs" / "a-seed0" / "ready").read_text() == "True"  # a group of its own: no second Ctrl-C
    assert do == "die" or (tmp_path / "runs" / "a-seed0" / "saved").read_text() == "1"
    assert not (tmp_path / "results" / "a-seed0.json").exists()
    assert not (tmp_path / "runs" / "b-seed0").exists()
    assert subprocess.run(command, timeout=60).returncode == 0
    assert record_of(tmp_path, "a-seed0")["status"] == "finished"


def test_a_signal_just_before_the_cell_starts_is_passed_on():
    with runner.Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        began = time.monotonic()
        code, _ = interrupts.run([sys.executable, "-c", "import time; time.sleep(30)"])
        assert interrupts.noted and code == -signal.SIGTERM and time.monotonic() - began < 20


def test_git_state_counts_changes_but_not_records(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "--no-verify", "-m", "first")
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "results" / "a.json").write_text("{}")
    state = records.git_state(tmp_path)
    assert len(state["commit"]) == 40 and state["dirty"] is False
    (tmp_path / "code.py").write_text("2")
    assert records.git_state(tmp_path) == {**state, "dirty": True}
    assert records.git_state(tmp_path / "missing") == {"commit": None, "dirty": None}


# collect


def test_mean_interval_known_answers():
    mean, half = collect.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0 and half == pytest.approx(1.9633, abs=1e-4)  # 2.7764 * sqrt(2.5 / 5)
    mean, half = collect.mean_interval([0.4, None, 0.6])
    assert mean == pytest.approx(0.5) and half == pytest.approx(12.7062 * 0.1, abs=1e-4)
    assert collect.mean_interval([0.4]) == (0.4, None)
    assert collect.mean_interval([]) == collect.mean_interval([None]) == (None, None)


def test_paired_differences_known_answers():
    pairs, mean, half = collect.paired_differences({0: 0.1, 1: 0.5, 2: 0.3}, {0: 0.2, 1: 0.7, 2: None, 3: 0.9})
    assert pairs == 2 and mean == pytest.approx(0.15) and half == pytest.approx(12.7062 * 0.05, abs=1e-4)
    assert collect.paired_differences({0: 0.25}, {0: 0.5}) == (1, 0.25, None)
    assert collect.paired_differences({0: 0.25}, {1: 0.5}) == (0, None, None)


def made_up(folder, values, *, dataset="scenes"):
    """Write records: `values` is arm -> seed -> mIoU, or None for a run without scores."""
    folder.mkdir(exist_ok=True)
    arms = [
        {"name": a, "cells": [{"seed": s, "arguments": [f"--config={a}.py"]} for s in v]} for a, v in values.items()
    ]
    (folder / "table.json").write_text(json.dumps({"title": "Made up", "script": "made_up.py", "arms": arms}))
    for arm, seeds in values.items():
        for seed, miou in seeds.items():
            scores = {"miou": miou, "iou_per_class": {"sky": miou, "car": None}}
            test = None if miou is None else scores
            config = {"dataset": dataset, "canvas_size": [8, 16], "crop_size": [8, 8], "resize": "fit", "batch_size": 4}
            record = {
                "arm": arm, "seed": seed, "status": "finished", "arguments": [f"--config={arm}.py"], "config": config,
                "date": "2020-01-02T03:04:05Z", "commit": "c" * 40, "dirty": seed == 1, "resumed": [],
                "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 7.7, "devices": ["cpu:0 cpu"]},
                "versions": {"jax": "0.0"}, "seconds": 90.0, "images_per_second": 7.5, "steps": 30,
                "scores": {"val": None, "test": test, "baselines": {"majority": {"miou": 0.1}}},
            }  # fmt: skip
            (folder / f"{arm}-seed{seed}.json").write_text(json.dumps(record))


def test_table_of_several_seeds(tmp_path):
    made_up(tmp_path, {"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {0: 0.2, 1: 0.4, 2: 0.6}})
    text = collect.collect(tmp_path)
    # t(0.975, 2) = 4.3027; standard deviations 0.1 and 0.2, of the differences 0.1
    assert "| a | 3 | 0.2000 ± 0.2484 | - | - | - | 7.5 ± 0.0 | 1.5 ± 0.0 |" in text
    assert "| b | 3 | 0.4000 ± 0.4968 |" in text
    assert "| majority | 3 | 0.1000 ± 0.0000 | - | - | - | - | - |" in text
    assert "Differences to `a`" in text and "| b | 3 | +0.2000 ± 0.2484 | - | - | - |" in text
    assert "| sky | 0.2000 ± 0.2484 | 0.4000 ± 0.4968 | - |" in text and "| car | - | - | - |" in text
    for fact in ("`scenes`", "test split", "255", "8 x 16", "8 x 8", "batch 4", "A CPU, 2 cores, 7.7 GiB", "jax 0.0"):
        assert fact in text
    assert "cccccccccccc | cccccccccccc with uncommitted changes" in text and "95% t-interval" in text
    assert (tmp_path / "README.md").read_text() == text


def test_table_of_one_seed_says_that_it_has_no_interval(tmp_path):
    made_up(tmp_path, {"a": {0: 0.25}, "b": {0: None}})
    text = collect.collect(tmp_path)
    assert "one seed: no interval" in text and "±" not in text
    assert "| a | 1 | 0.2500 | - |" in text and "| b | 1 | - | - |" in text
    assert "| b | 0 | - | - | - | - |" in text  # no pairs


def test_stale_and_unknown_records_are_named_not_shown(tmp_path):
    made_up(tmp_path, {"a": {0: 0.25}, "old": {0: 0.75}})
    table = json.loads((tmp_path / "table.json").read_text())
    table["arms"] = [{"name": "a", "cells": [{"seed": 0, "arguments": ["--config=new.py"]}]}]
    (tmp_path / "table.json").write_text(json.dumps(table))
    text = collect.collect(tmp_path)
    assert "`a`, seed 0: its record is of other arguments (--config=a.py)." in text
    assert "`old-seed0.json`: of no arm." in text
    assert "0.2500" not in text and "0.7500" not in text and "No run is finished." in text


def test_collect_refuses_what_is_no_table(tmp_path, capsys):
    assert collect.main([str(tmp_path)]) == 2
    assert "holds no table.json" in capsys.readouterr().err
    made_up(tmp_path, {"a": {0: 0.25}})
    made_up(tmp_path, {"b": {0: 0.25}}, dataset="camvid")
    (tmp_path / "table.json").write_text(
        json.dumps({"title": "", "script": "", "arms": [
            {"name": n, "cells": [{"seed": 0, "arguments": [f"--config={n}.py"]}]} for n in "ab"
        ]})
    )  # fmt: skip
    assert collect.main([str(tmp_path)]) == 2
    assert "runs on camvid, scenes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_cell(tmp_path):
    arms = [Arm("cgan", "configs/cgan_seg.py:smoke")]
    argv = [f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}", "--keep_pictures"]
    assert runner.main("smoke.py", "Smoke", arms, argv) == 0
    record = record_of(tmp_path, "cgan-seed0")
    assert record["status"] == "finished" and record["seconds"] > record["compile_seconds"] > 0
    assert (
        record["scores"]["test"]["miou"] is not None and {"kmeans", "majority"} <= record["scores"]["baselines"].keys()
    )
    assert "| kmeans | 1 | " in (tmp_path / "results" / "README.md").read_text()
    assert (tmp_path / "results" / "cgan-seed0.png").exists()

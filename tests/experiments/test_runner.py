"""The runner with a stub in place of the command, one real cell."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))  # as for `python experiments/TABLE.py`

import comparison
import load
import matching
import records
import runner
import schedule
from cells import Cell

EXPERIMENTS = Path(runner.__file__).parent
Arm = functools.partial(runner.Arm, reference="")
# A command that behaves as its flag --do says: ok | exit:CODE | once:CODE (the second call is ok) | wait (for a signal)
# | die (of a signal, the second call is ok) | nothing (ends before it writes its config).
STUB = """
import json, os, pathlib, signal, sys, time
module, *arguments = sys.argv[1:]
flags = dict((argument.removeprefix("--") + "=").split("=", 1) for argument in arguments)
flags = {name: value.removesuffix("=") for name, value in flags.items()}
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
config = {"seed": int(flags["config.seed"]), "method": "cgan", "dataset": "camvid", "canvas_size": [8, 16],
          "crop_size": [8, 16], "resize": "fit", "batch_size": 4, "rounds": 1, "dtype": "float32",
          "data_dir": flags.get("config.data_dir", ""), "scenes": {"size": [8, 16], "counts": [3, 2, 1], "seed": 0},
          "labelled": {"fraction": 1.0, "seed": 0, "index_file": ""}, "source": {"dataset": "", "seed": 1},
          "networks": {}, "optimizers": {}, "init": {}, "pretrained": {}, "phases": [],
          "losses": {"l1": float(flags.get("l1", 0))}}
for name in ("labelled.fraction", "labelled.seed", "scenes.seed", "source.seed"):
    group, field = name.split(".")
    if f"config.{name}" in flags:
        config[group][field] = json.loads(flags[f"config.{name}"])
config["dataset"] = flags.get("config.dataset", config["dataset"])
if "show_config" in flags:
    if flags.get("do") == "refused":
        print("error: config.steps is 0; expected more.", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(config))
    sys.exit()
workdir, seed, do = pathlib.Path(flags["workdir"]), int(flags["config.seed"]), flags.get("do", "ok")
calls = workdir / "calls.txt"
first = not calls.exists()
with calls.open("a") as file:
    file.write(" ".join(arguments) + "\\n")
if do == "nothing":
    sys.exit(2)
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
          "iou_per_class": {"sky": 0.5, "car": None}, "confusion": [[3, 0], [12, 5]]}
from PIL import Image
(workdir / "samples").mkdir(exist_ok=True)
Image.effect_noise((900, 700), 90).convert("RGB").save(workdir / "samples" / "test-0000020.png")
lines = [{"step": 10, "split": "val", "miou": 0.3}, {"step": 20, "split": "train"},
         {"step": 20, "split": "val", "miou": 0.5}, {"step": 30, "split": "val", "miou": 0.4}]
(workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
(workdir / "image_counts-test.json").write_text(json.dumps({"num_classes": 2, "images": [{"0": [5, 1, 2]}, {}]}))
last = {"step": 30, "val": scores, "test": {**scores, "miou": scores["miou"] - 0.05}}
(workdir / "summary.json").write_text(json.dumps({
    "last": last, "selected_by": "miou",
    "val": scores, "test": scores, "baselines": {"majority": {**scores, "miou": 0.125}}, "best_step": 20, "steps": 30,
    "seconds": 90.0, "compile_seconds": 3.0, "images_per_second": 7.5, "parameters": {"generator": 10},
    "skipped_steps": 0, "flops": 6e12, "unimproved": 1, "labelled": {"images": 3, "sha256": "ab"},
    "devices": ["cpu:0 cpu"], "versions": {"jax": "0.0"}}))
"""


@pytest.fixture
def table(tmp_path):
    """Return a function that runs a table with the stub and returns the exit code; its folders are below tmp_path."""
    (tmp_path / "stub.py").write_text(STUB)

    def run(arms, *flags, **more):
        argv = [f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}", *flags]
        command = (sys.executable, str(tmp_path / "stub.py"))
        return runner.main("tables/tiny.py", "Tiny", arms, argv, command=command, **more)

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
    assert record["validations"] == [[10, 0.3], [20, 0.5], [30, 0.4]] and record["scores"]["last"]["step"] == 30
    assert records.unpack_counts(record["image_counts"]).tolist() == [[[5, 1, 2], [0, 0, 0]], [[0, 0, 0]] * 2]
    assert record["config"]["labelled"] == {"fraction": 1.0, "seed": 0, "index_file": ""}
    assert record["scores"]["val"]["confusion"] == record["scores"]["test"]["confusion"] == ["3 0", "12 5"]
    assert "confusion" not in {**record["scores"]["last"]["test"], **record["scores"]["baselines"]["majority"]}
    assert (record["flops"], record["labelled"]["images"]) == (6e12, 3)
    (stretch,) = record["load"]
    assert len(stretch["load_start"]) == len(stretch["load_end"]) == 3 and 0 < stretch["cpu_share"] < 1
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


def test_folders_are_replaced_at_their_ends_alone():
    places = {"{data_dir}": Path("/däta"), "{workdir}": Path("/w/runs")}
    values = {
        "a": ["/däta/set", "/däta2/set", "/mnt/däta/set", "/w/runs"],
        "b": "(in /w/runs/x: no '/däta'). See /däta.",
    }
    assert records.without_places(json.loads(json.dumps(values)), places) == {
        "a": ["{data_dir}/set", "/däta2/set", "/mnt/däta/set", "{workdir}"],
        "b": "(in {workdir}/x: no '{data_dir}'). See {data_dir}.",
    }


def test_finished_cells_are_skipped_and_their_records_stay_the_same_bytes(table, tmp_path):
    arms = [Arm("a", "configs/a.py"), Arm("b", "configs/b.py")]
    assert table(arms) == 0
    files = sorted((tmp_path / "results").iterdir())
    before = [file.read_bytes() for file in files]
    assert table(arms) == 0
    assert [file.read_bytes() for file in files] == before
    assert table(arms, "--keep_pictures") == 0
    assert (tmp_path / "results" / "a-seed0.png").exists() and (tmp_path / "results" / "b-seed0.png").exists()
    assert len(calls(tmp_path, "a-seed0")) == len(calls(tmp_path, "b-seed0")) == 1


def test_another_machine_goes_on_where_the_records_stop(table, tmp_path, capfd):
    arms = [
        Arm("a", "configs/a.py", ("--config.data_dir={data_dir}/set",)),
        Arm("b", "configs/b.py", ("--init={workdir}/a-seed{seed}",)),
    ]
    assert table(arms, f"--data_dir={tmp_path / 'one'}") == 0
    files = sorted((tmp_path / "results").iterdir())
    before = [file.read_bytes() for file in files]
    shutil.rmtree(tmp_path / "runs")
    assert table(arms, f"--data_dir={tmp_path / 'two'}") == 0
    assert "2 of 2 cells have a record that counts; 0 to run." in capfd.readouterr().out
    assert not (tmp_path / "runs").exists() and [file.read_bytes() for file in files] == before
    # What starts from the run of another cell needs that run here.
    (tmp_path / "results" / "b-seed0.json").unlink()
    assert table(arms, "--check") == 0 and not (tmp_path / "runs").exists()
    assert "a-seed0: others start from its run, which is not here." in capfd.readouterr().out
    assert table(arms) == 0 and len(calls(tmp_path, "a-seed0")) == len(calls(tmp_path, "b-seed0")) == 1


def test_a_run_of_another_table_beside_this_one_is_taken(table, tmp_path, capfd):
    (tmp_path / "other").mkdir()
    assert table([Arm("first", "a.py", then=(("judge", "--do=x"),))], f"--workdir={tmp_path / 'tables' / 'other'}") == 0
    taken = f"--workdir={tmp_path / 'tables' / 'own'}"
    arms = [Arm("second", "a.py"), Arm("b", "a.py", ("--l1=1",), reference="second")]
    assert table(arms, taken, f"--results={tmp_path / 'own'}", varies=("losses.l1",)) == 0
    assert "[1/2] second-seed0: the same run as" in capfd.readouterr().out
    own, first = (
        json.loads((tmp_path / path).read_text()) for path in ("own/second-seed0.json", "results/first-seed0.json")
    )
    assert own["arm"] == "second" and own["date"] == first["date"] and own["scores"] == first["scores"]
    assert own["then"] == [] and own["evaluations"] == {} and first["evaluations"].keys() == {"test-x"}
    assert (tmp_path / "tables" / "own" / "b-seed0" / "calls.txt").exists()
    assert not list((tmp_path / "tables").rglob("*.part")) and not list(
        (tmp_path / "tables" / "own").rglob("evaluation*")
    )
    # Another seed, other data, or what starts from a run of the own table is run.
    data = ("--config.data_dir={data_dir}/set",)
    assert table([Arm("of", "a.py", data)], f"--workdir={tmp_path / 'tables' / 'other'}", "--data_dir=/full") == 0
    third = f"--workdir={tmp_path / 'tables' / 'third'}"
    arms = [Arm("of", "a.py", data), Arm("seed", "a.py", seeds=(1,))]
    assert table(arms, third, f"--results={tmp_path / 'third'}", "--data_dir=/part") == 0
    assert "the same run as" not in capfd.readouterr().out


def test_a_record_of_another_config_is_left_out_and_made_anew(table, tmp_path, capfd):
    arms = [Arm("a", "configs/a.py")]
    assert table(arms) == 0
    path = tmp_path / "results" / "a-seed0.json"
    changed = json.loads(path.read_text())
    changed["config"]["batch_size"] = 2
    changed["date"] = "2020-01-02T03:04:05Z"
    path.write_text(json.dumps(changed))
    assert table(arms, "--check") == 0
    reason = "its record is of another config (batch_size was 2, is 4 now)."
    assert f"`a`, seed 0: {reason}" in capfd.readouterr().out
    shutil.rmtree(tmp_path / "runs")
    assert table(arms) == 0
    out = capfd.readouterr().out
    assert f"a-seed0: {reason}" in out and "| a | 1 | 0.5000 |" in out
    start = tmp_path / "runs" / "a-seed0" / "cell.json"
    start.write_text(start.read_text().replace('"batch_size": 4', '"batch_size": 2'))
    path.unlink()
    assert table(arms) == 2
    assert "was run with another config: batch_size was 2, is 4 now. Remove it" in capfd.readouterr().err


def test_what_starts_from_a_cell_neither_follows_its_failure_nor_changes_its_record(table, tmp_path, capfd):
    arms = [Arm("a", "c.py", ("--do=once:2",)), Arm("b", "c.py", ("--x={workdir}/a-seed0",))]
    arms.append(Arm("c", "c.py", ("--x={workdir}/b-seed0",)))
    assert table(arms) == 1 and not (tmp_path / "runs" / "b-seed0").exists()
    error = capfd.readouterr().err
    assert "failed: a-seed0 (exit code 2), b-seed0 (not started), c-seed0 (not started)." in error
    assert table(arms) == 0
    path = tmp_path / "results" / "a-seed0.json"
    path.write_text(path.read_text().replace('"seconds": 90.0', '"seconds": 91.0'))
    before = path.read_bytes()
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "results" / "b-seed0.json").unlink()
    assert table(arms) == 1 and path.read_bytes() == before  # a has failed once more
    assert table(arms, "--keep_pictures") == 0 and path.read_bytes() == before
    assert [len(calls(tmp_path, f"{name}-seed0")) for name in "abc"] == [2, 1, 1]


def test_nothing_starts_from_another_run_in_the_folder_of_a_cell(table, tmp_path, capfd):
    arms = [Arm("a", "c.py"), Arm("b", "c.py", ("--x={workdir}/a-seed0",))]
    assert table(arms) == 0
    start = tmp_path / "runs" / "a-seed0" / "cell.json"
    start.write_text(start.read_text().replace('"batch_size": 4', '"batch_size": 2'))
    assert table(arms) == 0  # nothing is left to run
    shutil.rmtree(tmp_path / "runs" / "b-seed0")
    assert table(arms, "--keep_pictures") == 2 and not list((tmp_path / "results").glob("*.png"))
    (tmp_path / "results" / "b-seed0.json").unlink()
    assert table(arms) == 2 and not (tmp_path / "runs" / "b-seed0").exists()
    assert capfd.readouterr().err.count("a-seed0 was run with another config: batch_size was 2, is 4 now.") == 2
    shutil.rmtree(tmp_path / "runs")
    assert table(arms) == 0
    shutil.rmtree(tmp_path / "runs" / "a-seed0")
    (tmp_path / "results" / "a-seed0.json").unlink()
    assert table(arms) == 2 and not (tmp_path / "runs" / "a-seed0").exists()
    assert "b-seed0 started from an earlier run of a-seed0 than the one that counts." in capfd.readouterr().err


def test_a_record_counts_only_where_those_of_the_cells_it_starts_from_do(table, tmp_path, capfd):
    arms = [
        Arm("a", "c.py"),
        Arm("b", "c.py", ("--x={workdir}/a-seed0",)),
        Arm("c", "c.py", ("--x={workdir}/b-seed0",)),
    ]
    assert table(arms) == 0
    path = tmp_path / "results" / "a-seed0.json"
    text = path.read_text()
    date = json.loads(text)["date"]
    path.write_text(text.replace(date, "2999-01-02T03:04:05Z"))
    assert table(arms, "--check") == 0
    out = capfd.readouterr().out
    assert "b-seed0: a-seed0, from which it starts, has been run anew since." in out and "| b | 0 |" in out
    path.write_text(text.replace('"exit_code": 0', '"exit_code": 2'))  # of a command on the finished run
    assert table(arms, "--check") == 0
    assert "2 of 3 cells have a record that counts; 1 to run." in capfd.readouterr().out
    path.write_text(text.replace('"batch_size": 4', '"batch_size": 2').replace(date, "2020-01-02T03:04:05Z"))
    shutil.rmtree(tmp_path / "runs")
    assert table(arms) == 0
    out = capfd.readouterr().out
    reason = "the record of a-seed0, from which it starts, does not count: its record is of another config (batch_size"
    assert (
        f"b-seed0: {reason}" in out
        and f"c-seed0: the record of b-seed0, from which it starts, does not count: {reason}" in out
    )
    assert [len(calls(tmp_path, f"{name}-seed0")) for name in "abc"] == [1, 1, 1]


def test_operations_of_a_record_are_those_of_prior_runs_too(tmp_path):
    folders = [tmp_path, tmp_path / "prior" / "generator", tmp_path / "prior" / "generator" / "prior" / "network"]
    for count, folder in enumerate(folders, 3):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps({"flops": 1e9 * count}))
    assert records._flops(tmp_path) == 12e9
    (folders[2] / "summary.json").write_text("{}")
    assert records._flops(tmp_path) is None


def test_what_a_record_holds_is_compared_by_its_present_names():
    record = {"arguments": ["--a", "--config.judge=x"], "status": "finished", "exit_code": 0, "then": []}
    config = {"feature_network": "x", "scenes": {"seed": 3, "size": [8, 8]}, "since": 1}
    arguments = ["--a", "--config.feature_network=x"]

    def why_not(changes=(), arguments=arguments, then=()):
        return matching.why_not({**record, **dict(changes)}, arguments, then, config)

    whole = {"judge": "x", "scenes": {"seed": 3, "size": [8, 8]}}
    assert why_not({"config": whole}) == why_not({"config": {"scenes": {"seed": 3}}}) == ""
    assert why_not({"config": {**whole, "scenes": {"seed": 4}}}).endswith("(scenes.seed was 4, is 3 now)")
    assert why_not({"config": {**whole, "gone": 0}}).endswith("(gone was 0, is '(absent)' now)")
    assert "other arguments" in why_not({"config": whole}, arguments=["--a"])
    assert "failed with exit code 2" in why_not({"config": None, "status": "failed", "exit_code": 2})
    assert why_not({"config": whole, "status": "failed", "exit_code": 3}) == matching.HAS_DIVERGED
    assert "other commands" in why_not({"config": whole}, then=["evaluate --flip"])
    # A further network or set of weights is no field that has come since.
    assert (
        matching.difference({"pretrained": {}}, {"pretrained": {"s": "x"}}) == "pretrained.s was '(absent)', is 'x' now"
    )
    assert (
        matching.difference({"pretrained": {"s": "x"}}, {"pretrained": {}}) == "pretrained.s was 'x', is '(absent)' now"
    )
    assert matching.difference({"prior_runs": {"judge": {}}}, {"prior_runs": {"feature_network": {"since": 1}}}) == ""
    assert why_not({"config": whole, "then": [{"command": "evaluate --flip"}]}, then=["evaluate --flip"]) == ""
    assert matching.why_not(None, arguments, [], config) == "not run yet"


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
    assert "| b, test-crf | 1 | 0.5500 | +0.0500 | - | - | 15.00" in capfd.readouterr().out
    assert table(arms) == 0 and len(calls(tmp_path, "b-seed0")) == 4
    # One command is another now: it runs, and all behind it, which may use what it leaves.
    arms[1] = dataclasses.replace(arms[1], then=(("evaluate", "--do=scales"), ("evaluate", "--do=crf")))
    assert table(arms) == 0
    assert calls(tmp_path, "b-seed0")[4:] == ["gan_seg_jax.evaluate scales", "gan_seg_jax.evaluate crf"]


def test_commands_that_an_arm_no_longer_has_leave_its_record(table, tmp_path):
    then = (("evaluate", "--do=flip"), ("evaluate", "--do=fail:crf"))
    for number, code in ((2, 1), (1, 0), (0, 0)):
        arms = [Arm("a", "c.py", then=then[:number])]
        assert table(arms) == code
    record = record_of(tmp_path, "a-seed0")
    assert (record["then"], record["exit_code"], record["message"]) == ([], 0, "")
    assert len(calls(tmp_path, "a-seed0")) == 3
    shutil.rmtree(tmp_path / "runs")
    assert table(arms) == 0 and not (tmp_path / "runs").exists()


def test_a_killed_cell_resumes_with_the_same_command(table, tmp_path):
    arms = [Arm("a", "configs/a.py", ("--do=once:75",)), Arm("b", "configs/b.py")]
    assert table(arms) == 75
    assert not (tmp_path / "runs" / "b-seed0").exists() and not (tmp_path / "results" / "a-seed0.json").exists()
    assert table(arms) == 0
    first, second = calls(tmp_path, "a-seed0")
    assert first == second
    record = record_of(tmp_path, "a-seed0")
    assert record["status"] == "finished" and len(record["resumed"]) == 1 and len(record["load"]) == 2


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
    shutil.rmtree(tmp_path / "runs")  # as on another machine
    arms.append(Arm("b", "c.py", ("--x={workdir}/a-seed0",)))
    assert table(arms) == 1 and (tmp_path / "runs" / "a-seed0").exists() is (code != 3)
    assert not (tmp_path / "runs" / "b-seed0").exists()


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


def test_an_old_folder_of_another_config_is_refused_although_its_start_notes_none(table, tmp_path, capfd):
    arms = [Arm("a", "c.py")]
    assert table(arms) == 0
    folder = tmp_path / "runs" / "a-seed0"
    start = json.loads((folder / "cell.json").read_text())
    del start["config"]
    (folder / "cell.json").write_text(json.dumps(start))
    (tmp_path / "results" / "a-seed0.json").unlink()
    assert table(arms) == 0
    (tmp_path / "results" / "a-seed0.json").unlink()
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"batch_size": 4', '"batch_size": 2'))
    assert table(arms) == 2 and "batch_size was 2, is 4 now" in capfd.readouterr().err


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
    third = Arm("third", "c.py", ("--x={workdir}/first-seed0",))
    assert table([*arms, third], "--only=third") == 0 and len(calls(tmp_path, "first-seed0")) == 1
    assert "1 of 3 cells have a record that counts; 2 to run." in capfd.readouterr().out
    assert table(arms, "--only=secnd") == 2
    assert "Did you mean 'second'?" in capfd.readouterr().err


def test_overrides_reach_every_cell_and_leave_the_committed_records_alone(tmp_path):
    (tmp_path / "stub.py").write_text(STUB)
    argv = [f"--workdir={tmp_path / 'runs'}", "--override=--config.steps=7"]
    code = runner.main("tiny.py", "Tiny", [Arm("a", "c.py")], argv, command=(sys.executable, str(tmp_path / "stub.py")))
    assert code == 0 and "--config.steps=7 --config.seed=0" in calls(tmp_path, "a-seed0")[0]
    assert (tmp_path / "runs" / "results" / "tiny" / "a-seed0.json").exists()


def test_the_full_profile_is_a_table_of_its_own(table, tmp_path, capfd):
    arms = [Arm("a", "c.py")]
    assert table(arms, "--profile=full") == 2
    assert "tiny.py has no arms for --profile=full." in capfd.readouterr().err
    (tmp_path / "stub.py").write_text(STUB)
    argv = [f"--workdir={tmp_path / 'full'}", "--override=--x=1", "--profile=full"]
    command = (sys.executable, str(tmp_path / "stub.py"))
    assert runner.main("tiny.py", "Tiny", arms, argv, command=command, full=[Arm("b", "c.py")]) == 0
    assert not (tmp_path / "full" / "a-seed0").exists()
    text = (tmp_path / "full" / "results" / "tiny_full" / "README.md").read_text()
    assert "`python experiments/tiny.py --profile=full`" in text and "| b | 1 | 0.5000 |" in text


@pytest.mark.parametrize("names", [("a", "a"), ("cgan:paper",), ("a/b",)])
def test_names_must_be_unique_file_names(table, names, capfd):
    assert table([Arm(name, "configs/a.py") for name in names]) == 2
    assert "needs a name of its own" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("do", "number"),
    [
        pytest.param("wait", signal.SIGTERM, marks=pytest.mark.slow),
        ("wait", signal.SIGINT),
        ("die", signal.SIGTERM),
    ],
)
def test_signals_reach_the_cell_once_and_are_waited_for(tmp_path, do, number):
    (tmp_path / "stub.py").write_text(STUB)
    script = tmp_path / "tiny.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(EXPERIMENTS)!r})\nimport runner\n"
        f"arms = [runner.Arm('a', 'c.py', ('--do={do}',), reference=''), runner.Arm('b', 'c.py', reference='a')]\n"
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
        code, _, _ = interrupts.run([sys.executable, "-c", "import time; time.sleep(30)"])
        assert interrupts.noted and code == -signal.SIGTERM and time.monotonic() - began < 20


def run_out_of_time(table, tmp_path, arms, waiting, *flags):
    """Run a table with so few minutes that the cells `waiting` have begun to wait when they are over."""
    minutes = 0.04
    while not all((tmp_path / "runs" / f"{name}-seed0" / "ready").exists() for name in waiting):
        assert table(arms, f"--minutes={minutes}", *flags) == 75
        minutes *= 2


def test_at_the_end_of_the_minutes_the_cell_saves_and_the_next_call_goes_on(table, tmp_path, capfd):
    arms = [Arm("a", "c.py", ("--do=wait",)), Arm("b", "c.py")]
    run_out_of_time(table, tmp_path, arms, "a")
    assert (tmp_path / "runs" / "a-seed0" / "saved").read_text() == "1"
    assert not (tmp_path / "runs" / "b-seed0").exists() and not (tmp_path / "results" / "a-seed0.json").exists()
    assert "Interrupted; the same command continues." in capfd.readouterr().err
    assert (tmp_path / "results" / "README.md").exists()
    assert table(arms, "--minutes=1") == 0
    assert len(record_of(tmp_path, "a-seed0")["resumed"]) == 1
    out = capfd.readouterr().out
    assert "0 of 2 cells are finished, 2 to run" in out and "1 of 2 cells are finished, 1 to run" in out


def test_minutes_may_be_many_and_an_ignored_end_of_children_changes_nothing(table, tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert table([Arm("a", "c.py", ("--do=exit:1",))], "--minutes=1e9") == 1
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert record_of(tmp_path, "a-seed0")["exit_code"] == 1


@pytest.mark.parametrize("flag", ["--minutes=0", "--minutes=nan", "--jobs=0", "--jobs=two"])
def test_minutes_and_jobs_are_above_nothing(table, flag):
    with pytest.raises(SystemExit):
        table([Arm("a", "c.py")], flag)


def test_cells_run_beside_each_other_and_all_are_interrupted(table, tmp_path, capfd):
    arms = [
        Arm("a", "c.py", ("--do=wait",)),
        Arm("b", "c.py", ("--do=wait",)),
        Arm("c", "c.py", ("--x={workdir}/a-seed0", "--y={workdir}/b-seed0")),
    ]
    run_out_of_time(table, tmp_path, arms, "ab", "--jobs=3")
    assert [(tmp_path / "runs" / f"{name}-seed0" / "saved").read_text() for name in "ab"] == ["1", "1"]
    assert not (tmp_path / "runs" / "c-seed0").exists()  # it starts from what they leave
    assert table([*arms, Arm("d", "c.py", ("--do=exit:1",))], "--jobs=3") == 1
    assert all(record_of(tmp_path, f"{name}-seed0")["status"] == "finished" for name in "abc")
    assert record_of(tmp_path, "a-seed0")["load"][-1]["jobs"] == 3
    assert "d-seed0: error: " in capfd.readouterr().err  # whose line it is


def cell(name, *arguments):
    return Cell(name.partition("-")[0], int(name[-1]), arguments, {}, picture=False)


def test_cells_wait_for_those_that_they_start_from():
    due = [cell("b-seed1", "--x={workdir}/a-seed1"), cell("a-seed1"), cell("a-seed10"), cell("c-seed0")]
    order = []
    with runner.Interrupts() as interrupts:
        codes = schedule.run_all(due, lambda one: order.append(one.name) or 0, interrupts)
    assert order == ["a-seed1", "b-seed1", "a-seed0", "c-seed0"] and set(codes.values()) == {0}
    round_about = [cell("a-seed0", "{workdir}/b-seed0"), cell("b-seed0", "{workdir}/a-seed0")]
    with runner.Interrupts() as interrupts:
        assert len(schedule.run_all(round_about, lambda one: 1, interrupts)) == 2


def test_an_error_of_one_cell_interrupts_the_others():
    def run(one):
        if one.arm == "b":
            raise OSError("disk full")
        return interrupts.run([sys.executable, "-c", "import time; time.sleep(30)"])[0]

    began = time.monotonic()
    with runner.Interrupts() as interrupts, pytest.raises(OSError, match="disk full"):
        schedule.run_all([cell("a-seed0"), cell("b-seed0")], run, interrupts, jobs=2)
    assert time.monotonic() - began < 20


def test_time_left_is_that_of_like_cells():
    due = [cell("a-seed1"), cell("a-seed2"), cell("b-seed0"), cell("kmeans-seed0")]
    steps = {"a": 100, "b": 300, "kmeans": 0}
    found = {"a-seed0": {"arm": "a", "seconds": 50.0, "then": [{"seconds": 10.0}]}}
    assert schedule.seconds_left(due, [], found, steps, 1) == 60 + 60 + 180
    assert schedule.seconds_left(due, ["a-seed1"], found, steps, 2) == 180  # no cell is split
    assert schedule.seconds_left(due, [], {}, steps, 1) is None
    classical = {"kmeans-seed1": {"arm": "kmeans", "seconds": 7.0}, "b-seed1": {"arm": "b", "seconds": None}}
    assert schedule.seconds_left(due, [], {**found, **classical}, steps, 1) == 60 + 60 + 180 + 7
    assert schedule.seconds_left(due, [one.name for one in due], {}, steps, 1) == 0
    assert [schedule.duration(time) for time in (40, 720, 11_100)] == ["40 s", "12 min", "3:05 h"]


# What may differ between arms


def test_an_arm_that_differs_in_more_than_the_table_says_is_refused_before_the_first_cell(table, tmp_path, capfd):
    arms = [Arm("plain", "a.py"), Arm("other", "a.py", ("--l1=2",), reference="plain")]
    assert table(arms) == 2
    error = capfd.readouterr().err
    assert error == (
        "error: The arm 'other' differs from its reference 'plain' in config.losses.l1: 2.0 where the reference has "
        "0.0; make them equal, or name the field in what the table varies.\n"
    )
    assert not (tmp_path / "runs").exists() and not (tmp_path / "results").exists()
    assert table(arms, varies=("losses.*",)) == 0
    listed = json.loads((tmp_path / "results" / "table.json").read_text())["arms"]
    assert [arm["reference"] for arm in listed] == ["", "plain"]
    assert [arm["differs"] for arm in listed] == [{}, {"losses.l1": [0.0, 2.0]}]
    assert table([arms[0], Arm("third", "a.py", ("--l1=2",), reference="plain", varies=("losses.l1",))]) == 0


@pytest.mark.parametrize("reference", ["nobody", "b"])
def test_a_reference_is_another_arm(table, capfd, reference):
    assert table([Arm("a", "a.py"), Arm("b", "a.py", reference=reference)]) == 2
    assert f"The arm 'b' has the reference {reference!r}, which is no other arm." in capfd.readouterr().err


def test_references_that_lead_round_in_a_circle_are_refused(table, capfd):
    arms = [Arm("a", "a.py"), Arm("b", "a.py", reference="c"), Arm("c", "a.py", reference="b")]
    assert table(arms) == 2
    assert "The references of b, c lead round in a circle" in capfd.readouterr().err


def test_no_arm_with_a_network_stands_in_a_table_without_a_comparison():
    arms = [Arm("a", "a.py"), Arm("b", "a.py"), Arm("kmeans", "a.py")]
    configs = {"a": {"networks": {"s": {}}}, "b": {"networks": {"s": {}}}, "kmeans": {"networks": {}}}
    with pytest.raises(comparison.ComparisonError, match="'b' is compared with no other, and no other with it"):
        comparison.check_references(arms, configs)
    comparison.check_references([*arms, Arm("c", "a.py", reference="b")], configs)  # a second group, as with a DCGAN
    comparison.check_references([arms[0], arms[2]], configs)


def test_every_arm_says_what_it_is_compared_with():
    with pytest.raises(TypeError, match="reference"):
        runner.Arm("a", "a.py")


def test_a_config_that_the_command_refuses_is_named_before_the_first_cell(table, capfd):
    assert table([Arm("a", "a.py"), Arm("b", "a.py", ("--do=refused",))]) == 2
    assert "The arm 'b' cannot run: config.steps is 0; expected more." in capfd.readouterr().err


def test_drawn_data_follow_the_seed_or_the_table_says_so(table, tmp_path, capfd):
    flags = ("--config.labelled.fraction=0.5",)
    assert table([Arm("a", "a.py", flags)]) == 2
    assert "In the arm 'a' config.labelled.seed is 0 for every seed" in capfd.readouterr().err
    assert table([Arm("a", "a.py", (*flags, "--config.labelled.seed=7{seed}"))]) == 0
    assert table([Arm("b", "a.py", flags)], fixed=("labelled.seed",)) == 0
    assert json.loads((tmp_path / "results" / "table.json").read_text())["fixed"] == ["labelled.seed"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"labelled": {"fraction": 0.5, "seed": 3, "index_file": ""}}, "labelled.seed"),
        ({"dataset": "scenes"}, "scenes.seed"),
        ({"source": {"dataset": "scenes", "seed": 1}}, "source.seed"),
    ],
)
def test_seeds_of_drawn_data_are_found(changed, field):
    config = {
        "dataset": "camvid",
        "labelled": {"fraction": 1.0, "seed": 0, "index_file": ""},
        "scenes": {"seed": 0},
        "source": {"dataset": "", "seed": 1},
    }
    comparison.check_seeds("a", config, ())
    config |= changed
    with pytest.raises(comparison.ComparisonError, match=f"config.{field} is "):
        comparison.check_seeds("a", config, ())
    comparison.check_seeds("a", config, (field,))
    group, name = field.split(".")
    config[group] = {**config[group], name: int(f"1{comparison.PROBE}")}
    comparison.check_seeds("a", config, ())


def test_acting_networks_are_compared_under_one_name():
    def config(roles, phases):
        optimizers = {role: {"beta1": 0.5 if role == "discriminator" else 0.9} for role in roles}
        return {
            "networks": {role: {"name": "unet"} for role in roles},
            "optimizers": optimizers,
            "init": {},
            "pretrained": {},
            "phases": phases,
            "dataset": "camvid",
            "source": {"dataset": ""},
            "scenes": {"seed": 0},
        }

    alone = comparison.flat(config(["segmenter"], [[1, [["segmenter"]]]]), "segmenter")
    gan = comparison.flat(
        config(["generator", "discriminator"], [[1, [["discriminator"], ["generator"]]]]), "generator"
    )
    found = comparison.differences(alone, gan)
    assert set(found) == {"phases", "networks.discriminator.name", "optimizers.discriminator.beta1"}
    assert found["phases"] == ([[1, [["ACTING"]]]], [[1, [["discriminator"], ["ACTING"]]]])
    assert found["networks.discriminator.name"] == ("(absent)", "unet")
    assert comparison.differences(alone, {**alone, "optimizers.ACTING.beta1": 0.5}) == {
        "optimizers.ACTING.beta1": (0.9, 0.5)
    }
    # Phases are a game's own, but in them the acting network moves as often as in those of the reference.
    rests = [[3, [["discriminator"], ["generator"]]], [1, [["discriminator"]]]]
    twice = [[1, [["discriminator"], ["generator"], ["generator"]]]]
    for phases, updates in ((rests, 0.75), (twice, 2.0)):
        other = comparison.flat(config(["generator", "discriminator"], phases), "generator")
        found = comparison.differences(alone, other)
        assert found[comparison.UPDATES] == (1.0, updates)
        with pytest.raises(comparison.ComparisonError, match="config.updates.ACTING"):
            comparison.check_difference("rests", "alone", found, comparison.GAME)


def test_the_acting_role_is_one_that_the_config_has():
    arm = Arm("a", "a.py", acts="generator")
    config = {"networks": {"segmenter": {}}}
    with pytest.raises(
        comparison.ComparisonError, match="'a' says that 'generator' acts, but its networks are segmenter"
    ):
        comparison.compare([arm], {"a": config}, (), ())


def test_load_tells_cells_that_ran_beside_other_work():
    start, end = load.Snapshot(0.0, (0.0,) * 3, 100.0), load.Snapshot(10.0, (2.5, 1.0, 0.5), 118.0)
    cores = os.cpu_count()
    stretch = load.between(start, end, own=10.0)
    assert stretch["cpu_share"] == pytest.approx(1 / cores, abs=1e-3)
    assert stretch["other_cpu_share"] == pytest.approx(0.8 / cores, abs=1e-3) and stretch["load_end"] == [2.5, 1.0, 0.5]
    alone, beside, silent = ({"other_cpu_share": share} for share in (0.02, 0.3, None))
    assert load.beside_other_work([alone]) is False and load.beside_other_work([alone, beside], 2) is True
    assert load.beside_other_work([{**alone, **load.between(start, start, own=0.0, jobs=2)}]) is True
    assert load.beside_other_work([load.between(start, start, own=0.0)]) is False
    assert load.beside_other_work(None) is load.beside_other_work([silent]) is None
    assert load.beside_other_work([alone], starts=2) is None and load.beside_other_work([beside], starts=2) is True


def test_counts_of_images_pack_small_and_come_back():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 40_000, (233, 11, 3)) * (rng.random((233, 11, 1)) < 0.5)
    packed = json.dumps(records.pack_counts(counts))
    assert len(packed) < 40_000
    assert np.array_equal(records.unpack_counts(json.loads(packed)), counts)


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


@pytest.mark.slow
def test_a_real_cell(tmp_path):
    arms = [Arm("cgan", "configs/cgan_seg.py:smoke", ("--config.scenes.seed={seed}",), acts="generator")]
    argv = [f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}", "--keep_pictures"]
    assert runner.main("smoke.py", "Smoke", arms, argv) == 0
    record = record_of(tmp_path, "cgan-seed0")
    assert record["status"] == "finished" and record["seconds"] > record["compile_seconds"] > 0
    assert (
        record["scores"]["test"]["miou"] is not None and {"kmeans", "majority"} <= record["scores"]["baselines"].keys()
    )
    assert "| kmeans | 1 | " in (tmp_path / "results" / "README.md").read_text()
    assert (tmp_path / "results" / "cgan-seed0.png").exists()

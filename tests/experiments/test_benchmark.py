"""The benchmark's arithmetic and tables on made-up records, its order of work, and our side on a tiny network."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.benchmark import cases, compare, ours, parts, photographs, report, sides, targets, within
from gan_seg_jax import config as configs
from gan_seg_jax.postprocess.crf import CRFParameters
from tests import tiny_runs


def side(seconds, *, flops=2e9, product=0.5, parameters=100, cold=9.0):
    return {
        "parameters": {"generator": parameters},
        "flops": {"step": flops, "product": 10e9},
        "versions": {"made": "1.0"},
        "device": "cpu",
        "first_cold": {"step": cold},
        "first_warm": {"step": 3.0},
        "seconds": {"step": seconds, "product": [product, 2 * product]},
        "memory": 3 * 2**20,
    }


def made_up():
    return {
        "title": "made up",
        "command": "command",
        "date": "today",
        "commit": "0123456789",
        "dirty": False,
        "dtype": "float32",
        "threads": 2,
        "rounds": 3,
        "images": {"step": 8},
        "sides": {
            "ours": side([1.0, 2.0, 4.0]),
            "torch-eager": side([3.0, 2.0, 3.0]),
            "torch-compile": side([1.5, 2.0, 6.0]),
        },
        "left_out": {"smp-eager": "it is not there"},
        "host": {"step": [2.0, 1.0, 3.0], "loop": [2.5, 2.0, 3.0]},
        "load": {"other_cpu_share": 0.02},
    }


def test_rows_are_of_the_fastest_side_and_ratios_of_each_round():
    mine, torch = report.rows(made_up(), "step")
    assert mine.side == "ours" and mine.seconds == (2.0, 1.0, 4.0) and mine.ratio is None
    assert torch.side == "torch-compile" and torch.ratio == (1.5, 1.0, 1.5)  # 1.5 / 1, 2 / 2, 6 / 4
    assert mine.share == pytest.approx(2e9 / 2.0 / (10e9 / 0.5))
    assert [row.side for row in report.every_row(made_up(), "step")] == ["ours", "torch-eager", "torch-compile"]
    assert report.host_share(made_up()) == pytest.approx((0.2, 0.0, 0.5))
    assert report.host_share({**made_up(), "host": None}) is None
    assert report.rows(made_up(), "inference") == []


def test_a_product_alone_takes_each_library_its_own_time():
    case = made_up()
    assert report.product_ratio(case) == 1.0
    case["sides"]["torch-eager"]["seconds"]["product"] = [0.3, 0.6]  # ours 0.5 and 1, as torch-compile
    assert report.product_ratio(case) == pytest.approx(0.8)  # of 0.6, 0.6, 1, 1
    assert report.product_ratio({"sides": {"ours": case["sides"]["ours"]}}) is None


def test_the_tables_of_a_case():
    text = report.case_text(made_up())
    assert "| ours | 2000 (1000 to 4000) | 4.0 |  | 2.0 | 5% | 9.0 / 3.0 | 3 |" in text
    assert "| torch-compile | 2000 (1500 to 6000) | 4.0 | 1.50 (1.00 to 1.50) |" in text
    assert "| torch-eager | 3000 (2000 to 3000) |" in text and "Left out: smp-eager: it is not there" in text
    assert "takes 2500 ms, of which 20% (0% to 50%) is not" in text
    assert "ours: generator 100; PyTorch: generator 100" in text


def test_records_of_a_processor_are_kept_case_by_case(tmp_path):
    options = argparse.Namespace(device="gpu", threads=2, dtype="bfloat16")
    case = {**made_up(), "dtype": "bfloat16"}
    case["sides"]["ours"]["device"] = "NVIDIA H200"
    for name in ("dcgan", "cgan", "dcgan"):
        compare.keep(tmp_path, options, name, case)
    (path,) = tmp_path.glob("*.json")
    assert path.name == "nvidia-h200-2-threads-bfloat16.json"
    assert list(json.loads(path.read_text())["cases"]) == ["cgan", "dcgan"]
    assert (tmp_path / "README.md").read_text() == report.page(tmp_path)
    short = report.summary(tmp_path)
    row = (
        "| made up | training step | 2000 (1000 to 4000) | 4.0 | 1.50 (1.00 to 1.50) | - | - | - | 5% | 20% (0% to 50%)"
    )
    assert short.count(row) == 2 and short.startswith("NVIDIA H200, beside ") and ", bfloat16:" in short
    assert "Not run yet there: `cgan-default`, `adversarial-resnet18`," in short
    assert report.summary(tmp_path / "none") == f"Not run yet: `{report.COMMAND}`."


def test_sides_work_in_turn_and_each_begins_a_round():
    done = []

    class Fake:
        def __init__(self, name, seconds):
            self.name, self.seconds, self.facts = name, seconds, {"first": {"step": 9.0}}

        def run(self, work, count):
            done.append((self.name, count))
            return self.seconds

    seconds = compare.measure({"a": Fake("a", 0.5), "b": Fake("b", 30.0)}, 3, 0)
    assert done == [("a", 1), ("b", 1), ("a", 4), ("b", 1), ("b", 1), ("a", 4), ("a", 4), ("b", 1)]
    assert seconds == {"a": {"step": [0.5] * 3}, "b": {"step": [30.0] * 3}}


def test_a_peer_of_another_size_is_left_out():
    compare.check_parameters("torch-eager", {"generator": 1000}, {"generator": 1000})
    compare.check_parameters("smp-eager", {"generator": 1010}, {"generator": 1000})
    for name, count in (("torch-eager", 1001), ("smp-eager", 1011)):
        with pytest.raises(sides.SideError, match=f"generator has {count:,} parameters, ours 1,000"):
            compare.check_parameters(name, {"generator": count}, {"generator": 1000})


class Fake:
    """A process that is made up: one cannot start, one is of another size, one ends before its time."""

    started: ClassVar[list] = []
    alive: ClassVar[list] = []  # at each start: how many there are

    def __init__(self, name, case, options, folder):
        Fake.started.append(name)
        if name == "torch-compile-channels_last":
            raise sides.SideError("no compiler")
        self.name, self.calls, count = name, 0, 2 if name == "torch-eager" else 1
        self.facts = {"parameters": {"generator": count}, "flops": {}, "versions": {}, "device": "cpu"}
        self.facts |= {"images": {"step": 8}, "first": {"step": 1.0}}
        self.there = True
        Fake.alive.append(Fake.alive[-1] + 1 if Fake.alive else 1)

    def run(self, work, count):
        self.calls += 1
        if self.name == "torch-compile" and self.calls == 3:
            raise sides.SideError("killed")
        return 0.5

    def end(self):
        self.stop()
        return 2**20

    def stop(self):
        if self.there:
            Fake.alive[-1] -= 1
        self.there = False


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_the_record_of_a_case(device, monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "Side", Fake)
    monkeypatch.setattr(Fake, "started", [])
    monkeypatch.setattr(Fake, "alive", [])
    monkeypatch.setattr(compare, "_loop_seconds", lambda name, options, folder, workdir: 0.625)
    flags = {"dtype": "float32", "threads": 2, "rounds": 2, "steps": 1, "no_host": False}
    options = argparse.Namespace(device=device, peers=("torch-eager", "torch-compile"), **flags)
    case = compare.run_case("cgan", options)
    assert case["left_out"] == {
        "torch-eager": "its generator has 2 parameters, ours 1: no equal step.",
        "torch-compile-channels_last": "no compiler",
        "torch-compile": "killed",
    }
    assert case["sides"].keys() == {"ours", "torch-eager-channels_last"}
    assert Fake.started.count("ours") == 2 + compare.HOST_ROUNDS  # cold, warm, and beside the loop
    assert Fake.started.count("torch-eager-channels_last") == 1
    assert "first_warm" not in case["sides"]["torch-eager-channels_last"]
    assert Fake.alive[-1] == 0 and (device == "cpu" or max(Fake.alive) <= 1)
    assert case["host"] == {"step": [0.5] * 3, "loop": [0.625] * 3}
    assert case["command"].endswith("--rounds=2 --steps=1 --peers torch-eager torch-compile")
    compare.keep(tmp_path, options, "cgan", case)
    text = (tmp_path / "README.md").read_text()
    assert "| ours | 500 (500 to 500) | 16.0 |  | - | - | 1.0 / 1.0 | 1 |" in text and "20% (20% to 20%)" in text
    assert compare.run_case("cgan", argparse.Namespace(device=device, peers=(), **flags))["left_out"] == dict.fromkeys(
        cases.TORCH, "not asked for (--peers)."
    )


def test_targets_say_what_the_records_hold(tmp_path):
    case = {**made_up(), "images": {"step": 8}}
    options = argparse.Namespace(device="cpu", threads=2, dtype="float32")
    compare.keep(tmp_path, options, "cgan", case)
    compare.keep(tmp_path, options, "adversarial-mobilenetv2", case | {"title": "other"})
    crf = {"ours": side([1.5])}
    crf["ours"]["seconds"] = {"image": [1.5, 2.5, 2.0]}
    compare.keep(tmp_path, options, "crf", {**case, "title": "crf", "sides": crf, "host": None, "images": {"image": 1}})
    text = targets.table(tmp_path)
    assert "| fully connected CRF | 1.0 s | 0.5 s | 2.00 s |" in text
    assert "| 30 s / 6 s | 15 s / 2 s | 9.0 s / 3.0 s |" in text
    assert "| 1.0 | 1.3 | 1.50 (made up) to 1.50 (made up), 2 cases |" in text
    assert "| 5% | 1% | 20% (made up) to 20% (made up) |" in text and "photographs" not in text
    assert targets.table(tmp_path / "none") == f"Not run yet: `{report.COMMAND}`."


WORKER = """
import sys
from experiments.benchmark import worker
def make(options):
    print("chatter")
    if options.side == "absent":
        raise worker.MissingError("pip install absent")
    return {"step": lambda count: None}, {"parameters": {"generator": 3}}
worker.serve(make)
"""


@pytest.mark.parametrize("name", ["there", "absent"])
def test_a_side_answers_in_lines_of_json(repository, name):
    flags = ["--case=tiny", f"--side={name}", "--device=cpu", "--dtype=float32", "--threads=1"]
    command = [sys.executable, "-c", WORKER, *flags]
    done = subprocess.run(command, input="step 2\n", capture_output=True, text=True, cwd=repository, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if name == "absent":
        assert answers == [{"missing": "pip install absent"}]
    else:
        assert answers[0]["parameters"] == {"generator": 3} and answers[0]["first"].keys() == {"step"}
        assert answers[1].keys() == {"seconds"} and answers[2]["memory"] > 2**20
    assert "chatter" in done.stderr


@pytest.mark.slow
def test_the_loop_of_a_run_is_timed_between_two_checkpoints(monkeypatch, tmp_path):
    monkeypatch.delenv("XLA_FLAGS")  # which give the tests four devices
    options = argparse.Namespace(device="cpu", dtype="float32", threads=2)
    assert 0 < compare._loop_seconds("tiny", options, tmp_path, tmp_path / "run") < 60


def test_photographs_become_masks_of_their_size(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cases, "PHOTOGRAPHS", 2)
    monkeypatch.setattr(cases, "PHOTOGRAPH", (40, 50))
    small = {**cases.CASES["predict"].fields, "canvas_size": (32, 48), "crop_size": (32, 48)}
    small |= {"networks.segmenter.backbone_width": 0.125, "networks.segmenter.aspp_channels": 4}
    monkeypatch.setitem(cases.ALL, "predict", cases.CASES["predict"]._replace(fields=small))
    works, facts = parts.make(argparse.Namespace(case="predict", device="cpu", dtype="float32"))
    works["masks"](1)
    assert facts["images"] == {"masks": 2}
    masks = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("*/*.png"))]
    assert [mask.shape for mask in masks] == [(40, 50)] * 2 and max(mask.max() for mask in masks) < cases.CLASSES


def test_our_side_steps_and_labels(monkeypatch):
    monkeypatch.setitem(ours.PRODUCT, "cpu", 16)
    works, facts = ours.make(argparse.Namespace(case="tiny", side="ours", device="cpu", dtype="float32"))
    for work in works.values():
        work(2)
    assert facts["flops"].keys() == works.keys() == {"step", "inference", "product"}
    assert min(facts["flops"].values()) > 0 and facts["images"] == {"step": 2, "inference": 2}
    assert facts["parameters"].keys() == {"generator", "discriminator"}


def test_the_pipeline_alone_reads_what_peers_read(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cases, "IMAGES", {"train": 9, "val": 1})
    works, facts = parts.make(argparse.Namespace(case="data", device="cpu", dtype="float32"))
    works["batch"](2)
    assert facts["images"] == {"batch": 8} and len(list(tmp_path.glob("*/train/masks/*.png"))) == 9
    assert photographs.CRF == CRFParameters()  # those of the peer, which does without JAX


@pytest.mark.parametrize("name", cases.ALL)
def test_main_trains_what_is_timed(name, monkeypatch, repository):
    config = cases.load(name)
    configs.check(config)
    if not cases.ALL[name].host:
        return
    monkeypatch.chdir(repository)
    shown = tiny_runs.command("main", *cases.flags(name, "float32"), "--show_config")
    assert shown.code == 0, shown.err
    differences = configs.differences(configs.to_json(config), json.loads(shown.out))
    assert {path for path, *_ in differences} <= {"num_classes", "class_names", "class_colors"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name, case in cases.CASES.items() if "torch-eager" in case.peers and not case.part]
)
def test_twins_have_as_many_parameters(name):
    pytest.importorskip("torch", reason="twins need PyTorch")
    pytest.importorskip("timm", reason="twins of DeepLab need timm")
    from experiments.benchmark.peers import torch_game
    from gan_seg_jax.methods import get_method
    from gan_seg_jax.training import start

    config = cases.load(name)
    shapes = start.state_shapes(get_method(config), config)
    mine = {role: sum(p.size for p in jax.tree.leaves(net.params)) for role, net in shapes.networks.items()}
    options = argparse.Namespace(case=name, side="torch-eager", device="cpu", dtype="float32", threads=1)
    twins = torch_game.Game(options).networks
    assert {role: sum(p.numel() for p in net.parameters()) for role, net in twins.items()} == mine


def test_works_of_ours_run_in_turn_and_their_ratios_are_of_each_round(monkeypatch, tmp_path):
    done = []
    works = {"two": lambda: done.append("two"), "one": within._Scaled(lambda: done.append("one"), 0.5)}
    monkeypatch.setattr(compare, "STRETCH", 0.0)
    seconds = within.in_turn(works, 2)
    assert done == ["two", "two", "one", "one", "one", "two", "two", "one"]  # twice to see how long, then in turn
    assert {name: len(found) for name, found in seconds.items()} == {"two": 2, "one": 2}
    record = {"date": "today", "seconds": {"a case": {"two": [3.0, 2.0, 4.0], "one": [2.0, 2.0, 2.0]}}}
    within.keep(tmp_path, {"cpu": "Made Up", "cores": 2}, "fused", record)
    within.keep(tmp_path, {"cpu": "Made Up", "cores": 2}, "kernel", record)
    several = {"seconds": {"a case": {"1 device": [1.0, 1.0], "2 devices": [1.1, 1.2], "4 devices": [1.0, 2.0]}}}
    within.keep(tmp_path, {"cpu": "Made Up", "cores": 2}, "devices", several)
    text = report.within(tmp_path)
    assert "| a case | 3000 | 2000 | 1.50 (1.00 to 2.00) | at least 1.2" in text
    assert "| 67% (50% to 100%) | at least 40%" in text
    assert "| a case: 4 devices | 1500 | 1000 | 1.50 (1.00 to 2.00) | at most 1.15" in text
    assert report.within(tmp_path / "none") == "Not run yet: `python -m experiments.benchmark.within`."


@pytest.mark.parametrize(
    "make",
    [
        within.fused,
        *(
            pytest.param(make, marks=pytest.mark.slow)
            for make in (within.adversarial, within.forms, within.compiler_options)
        ),
    ],
)
def test_our_works_step(make):
    works = make("tiny")
    assert len(works) == 2
    for work in works.values():
        before = int(work().step)
        assert int(work().step) == before + (2 if work is works.get("two updates") else 1)


def test_virtual_devices_of_a_side():
    assert [sides.devices_of(side) for side in ("ours", "ours-4-devices", "torch-eager")] == [1, 4, 1]
    options = argparse.Namespace(threads=2, device="cpu")
    flags = sides.environment(options, Path("cache"), 8)["XLA_FLAGS"]
    assert flags.endswith(" --xla_force_host_platform_device_count=8")

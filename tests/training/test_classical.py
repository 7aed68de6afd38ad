"""The run of a classical baseline: the same files and keys as a trained run, finished runs, other configs, signals."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from configs import classical as config_file
from gan_seg_jax import config as config_lib
from gan_seg_jax.baselines import BASELINES, kmeans
from gan_seg_jax.data import pipeline
from gan_seg_jax.errors import InputError, PreemptedError
from gan_seg_jax.inference.load import load_run
from gan_seg_jax.training import classical
from tests import tiny_runs

SCORES = {"miou", "pixel_accuracy", "mean_accuracy", "boundary_f1", "iou_per_class", "confusion"}
EDGE_SCORES = {"edge_f1", "edge_precision", "edge_recall"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_runs.write_set(tmp_path_factory.mktemp("classical") / "data")


def make_config(data, words="sobel"):
    config = config_file.get_config(words)
    config.dataset, config.data_dir = "folder", str(data)
    return config.lock()


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def contents(workdir):
    return {path.name: path.read_bytes() for path in sorted(workdir.rglob("*")) if path.is_file()}


def test_the_configs_are_the_baselines():
    assert set(config_file.METHODS) == set(BASELINES)
    for name in config_file.METHODS:
        assert config_file.get_config(name).method == config_file.get_config(f"{name},smoke").method == name
        config_lib.check(config_file.get_config(f"{name},smoke"))
    for words in (None, "smoke", "slic,canny"):
        with pytest.raises(InputError, match="expected one of sobel"):
            config_file.get_config(words)
    with pytest.raises(InputError, match="Did you mean 'dbscan'"):
        config_file.get_config("dbscann")


@pytest.mark.parametrize("name", ["sobel", "slic"])
def test_the_files_of_a_run(name, data, tmp_path, tiny, capsys):
    returned = classical.fit_and_evaluate(make_config(data, name), tmp_path)
    summary = summary_of(tmp_path)
    assert summary == returned
    trained = summary_of(tiny.cgan)
    assert set(summary) == set(trained)
    expected = SCORES | (EDGE_SCORES if name == "sobel" else set())
    for split in ("val", "test"):
        assert set(summary[split]) == expected
        assert set(summary[split]["iou_per_class"]) == set(trained["test"]["iou_per_class"])
    assert summary["steps"] == 0 and summary["best_step"] is None and summary["parameters"] == {}
    assert {"scikit-image", "scikit-learn", "numpy"} <= set(summary["versions"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["split"]) for line in lines] == [(0, "val"), (0, "test")]
    assert lines[1]["miou"] == summary["test"]["miou"] and set(lines[1]) == {"step", "split"} | expected - {
        "iou_per_class",
        "confusion",
    }
    assert json.loads((tmp_path / "config.json").read_text())["class_names"] == ["sky", "road", "car"]
    files = [*(tmp_path / "samples").glob("*.png")]
    pictures = {path.name for path in files}
    wanted = {"val-0000000.png", "test-0000000.png"}
    assert pictures == wanted | ({f"boundaries-{file}" for file in wanted} if name == "sobel" else set())
    assert all(np.asarray(Image.open(path)).std() > 10 for path in files)
    printed = capsys.readouterr().out
    assert f"{summary['test']['miou']:.4f}" in printed and str(tmp_path) in printed
    assert ("Edges as boundaries" in printed) == (name == "sobel")


def test_the_command(data, tmp_path):
    arguments = ("--config.dataset=folder", f"--config.data_dir={data}", f"--workdir={tmp_path / 'run'}")
    start = lambda words, *more: tiny_runs.command(
        "main", f"--config={tiny_runs.ROOT}/configs/classical.py:{words}", *arguments, *more
    )
    assert start("majority").code == 0
    again = start("majority")
    assert again.code == 0 and "is finished" in again.out
    for words, more, named in (
        ("slic", (), "config.method was 'majority', now 'slic'"),
        ("majority", ("--config.seed=3",), "config.seed was 0, now 3"),
        ("majority", ("--config.steps=5",), "config.steps is 5"),
        ("majorty", (), "Did you mean 'majority'"),
    ):
        outcome = start(words, *more)
        assert outcome.code == 2 and named in outcome.err, outcome


def test_scores_are_those_of_the_predictions(data, tmp_path):
    """The mIoU by hand, from the baseline's own functions."""
    config = make_config(data, "kmeans")
    summary = classical.fit_and_evaluate(config, tmp_path)
    splits = pipeline.open_dataset(config).splits
    model = kmeans.fit(splits["train"], num_classes=3, seed=0)
    confusion = np.zeros((3, 3))
    for index in range(len(splits["test"])):
        example = splits["test"][index]
        known = example["label"] < 3
        np.add.at(confusion, (example["label"][known], kmeans.predict(model, example["image"])[known]), 1)
    hits = np.diag(confusion)
    assert summary["test"]["miou"] == pytest.approx(np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits)))


def test_a_finished_run_is_printed_again_and_another_config_refused(data, tmp_path, capsys):
    config = make_config(data, "majority")
    first = classical.fit_and_evaluate(config, tmp_path)
    before = contents(tmp_path)
    capsys.readouterr()
    assert classical.fit_and_evaluate(make_config(data, "majority"), tmp_path) == first
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(InputError, match="config.method was 'majority', now 'slic'"):
        classical.fit_and_evaluate(make_config(data, "slic"), tmp_path)
    assert contents(tmp_path) == before


def test_a_run_that_was_interrupted_starts_again(data, tmp_path, monkeypatch):
    calls = []

    def predict(model, image):
        calls.append(image.shape)
        if len(calls) == 8:  # within the test split
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(model, image)

    plain = BASELINES["majority"].predict
    monkeypatch.setattr(BASELINES["majority"], "predict", predict)
    config = make_config(data, "majority")
    mask = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PreemptedError, match="starts again"):
        classical.fit_and_evaluate(config, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == mask
    assert not (tmp_path / "summary.json").exists() and (tmp_path / "config.json").exists()
    summary = classical.fit_and_evaluate(config, tmp_path)
    lines = [json.loads(line)["split"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == ["val", "test"]
    whole = classical.fit_and_evaluate(config, tmp_path / "whole")
    assert {name: summary[name] for name in ("val", "test")} == {name: whole[name] for name in ("val", "test")}


def test_without_a_test_split_val_is_shown(data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test")
    config = make_config(tmp_path / "data", "majority")
    with config.unlocked():
        config.baselines = ("majority",)
    summary = classical.fit_and_evaluate(config, tmp_path / "run")
    assert summary["test"] is None and summary["baselines"]["majority"] == summary["val"]
    assert "no test split" in capsys.readouterr().out


def test_other_commands_say_that_such_a_run_has_no_checkpoint(data, tmp_path):
    classical.fit_and_evaluate(make_config(data, "majority"), tmp_path / "run")
    with pytest.raises(InputError, match="majority, a classical method: it has no checkpoint"):
        load_run(tmp_path / "run")


def test_a_misspelt_baseline_is_answered(data, tmp_path):
    config = make_config(data, "majority")
    with config.unlocked():
        config.baselines = ("kmean",)
    with pytest.raises(InputError, match="Did you mean 'kmeans'"):
        classical.fit_and_evaluate(config, tmp_path)
    assert not (tmp_path / "config.json").exists()

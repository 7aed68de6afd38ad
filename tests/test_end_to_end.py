"""Whole runs on a tiny set: what they leave, and that kills, signals and several processes change nothing."""

import contextlib
import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gan_seg_jax import config as config_lib
from gan_seg_jax import parallel, train
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.data import pipeline
from gan_seg_jax.pictures import panels
from gan_seg_jax.runs import checkpoint
from gan_seg_jax.tasks import TASKS
from gan_seg_jax.training import report
from gan_seg_jax.training.run import TrainingRun
from tests import tiny_runs

SCORES = {"miou", "pixel_accuracy", "mean_accuracy", "boundary_f1", "iou_per_class", "confusion"}
# What people look at; only the shared run has it, and runs whose test is about it.
PLAIN = ("--config.tensorboard=False", "--config.samples_every=0")


@pytest.fixture(autouse=True, scope="module")
def short_endings(tiny):
    """Fit k-means to the tiny set once and draw no curves; the shared run, made before, has done both itself."""
    kmeans, models = BASELINES["kmeans"], []
    fit = kmeans.fit

    def fit_once(*args, **options):
        models.extend([] if models else [fit(*args, **options)])
        return models[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "fit", fit_once)
        patch.setattr(panels, "plot_curves", lambda metrics, picture: None)
        yield


_compiled = {}


@pytest.fixture
def compile_once(monkeypatch):
    """Trace and lower equal steps once, for tests that start a run many times; the others compile at every start."""
    compile_step = parallel.compile_step

    def compiled_step(step, state, batch, mesh, **more):
        options = dict(step.keywords)
        key = (config_lib.digest(options.pop("config")), repr(options), repr(more))
        if key not in _compiled:
            _compiled[key] = compile_step(step, state, batch, mesh, **more), jax.tree.structure(state)
        compiled, tree = _compiled[key]

        def run(state, *inputs):  # whose optimizers are other objects than those of the first
            leaves, own = jax.tree.flatten(state)
            after, metrics = compiled(tree.unflatten(leaves), *inputs)
            return own.unflatten(jax.tree.leaves(after)), metrics

        run.cost_analysis = compiled.cost_analysis
        return run

    monkeypatch.setattr(parallel, "compile_step", compiled_step)


@pytest.fixture(scope="module")
def supervised(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("supervised") / "run"
    outcome = tiny_runs.command("main", *tiny_runs.supervised_args(tiny.data), *PLAIN, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    return workdir


def lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def contents(workdir: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(workdir.rglob("*")) if path.is_file()}


def assert_same_end(workdir, other):
    """Check that two finished runs have the same bits: states, scores, and losses wherever both have a line."""
    assert tiny_runs.digests(workdir) == tiny_runs.digests(other)
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (workdir, other))
    for name in ("test", "val", "best_step", "steps", "skipped_steps", "flops"):
        assert one[name] == two[name], name

    def losses(folder):
        wanted = ("loss/", "miou", "boundary_f1", "l1")
        return {
            (line["step"], line["split"]): {name: value for name, value in line.items() if name.startswith(wanted)}
            for line in lines(folder)
        }

    some, others = losses(workdir), losses(other)
    validations = {key for key in others if key[1] != "train"}
    assert validations == {key for key in some if key[1] != "train"}
    for key in validations:
        assert some[key] == others[key]


# What a run leaves


def test_the_files_of_a_run(tiny):
    summary = json.loads((tiny.cgan / "summary.json").read_text())
    assert set(summary) >= {
        "test",
        "val",
        "best_step",
        "steps",
        "seconds",
        "compile_seconds",
        "images_per_second",
        "parameters",
        "skipped_steps",
        "devices",
        "versions",
        "last",
        "selected_by",
    }
    for split in ("test", "val"):
        assert set(summary[split]) == SCORES
        assert set(summary[split]["iou_per_class"]) == {"sky", "road", "car"}
    assert set(summary["baselines"]) == {"kmeans", "majority"}
    assert summary["steps"] == 6 and summary["best_step"] in (3, 6) and summary["skipped_steps"] == 0
    assert set(summary["parameters"]) == {"generator", "discriminator"}
    assert 0 < summary["compile_seconds"] < summary["seconds"] and summary["images_per_second"] > 0
    assert len(summary["devices"]) == 4 and all(device.startswith("cpu") for device in summary["devices"])
    assert {"jax", "flax", "optax", "orbax-checkpoint", "grain"} <= set(summary["versions"])

    found = {(line["step"], line["split"]) for line in lines(tiny.cgan)}
    assert {(2, "train"), (4, "train"), (6, "train"), (3, "val"), (6, "val"), (summary["best_step"], "test")} <= found
    for line in lines(tiny.cgan):
        if line["split"] == "train":
            assert set(line) >= {
                f"{kind}/{role}" for kind in ("loss", "grad_norm") for role in ("generator", "discriminator")
            }
        else:
            assert set(line) == {"step", "split"} | SCORES - {"iou_per_class", "confusion"}
    best = next(line for line in lines(tiny.cgan) if line["split"] == "val" and line["step"] == summary["best_step"])
    assert best["miou"] == summary["val"]["miou"]
    last = next(line for line in lines(tiny.cgan) if line["split"] == "val" and line["step"] == 6)
    assert summary["last"]["step"] == 6 and summary["last"]["val"]["miou"] == last["miou"]
    assert summary["selected_by"] == "miou"

    per_image = json.loads((tiny.cgan / "image_counts-test.json").read_text())
    hits, alarms, misses = (
        report.gathered(
            {row: [image.get(str(c), [0, 0, 0]) for c in range(3)] for row, image in enumerate(per_image["images"])},
            6,
            3,
        )
        .sum(axis=0)
        .T
    )
    assert list(summary["test"]["iou_per_class"].values()) == pytest.approx(hits / (hits + alarms + misses))
    assert np.diag(summary["test"]["confusion"]).tolist() == hits.tolist()
    assert np.sum(summary["val"]["confusion"]) > np.trace(summary["val"]["confusion"]) > 0
    # A generator of a few thousand parameters on 8 images of 16 x 16 or so, forth and back, six times.
    assert 1e6 < summary["flops"] < 1e12
    ids = sorted(path.stem for path in (tiny.data / "train" / "images").iterdir())
    digest = hashlib.sha256("".join(f"{name}\n" for name in ids).encode()).hexdigest()
    assert summary["labelled"] == {"images": len(ids), "sha256": digest}

    names = {path.name for path in tiny.cgan.iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "samples", "curves.png"} <= names
    assert any(name.startswith("events.") for name in names)
    assert json.loads((tiny.cgan / "PREPARED.json").read_text()) == tiny_runs.PREPARED
    assert {"val-0000003.png", "val-0000006.png"} <= {path.name for path in (tiny.cgan / "samples").iterdir()}
    assert json.loads((tiny.cgan / "config.json").read_text())["class_names"] == ["sky", "road", "car"]
    kept = {int(path.name) for path in (tiny.cgan / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {4, 6, summary["best_step"]}


def test_a_finished_run_prints_its_scores_again(tiny):
    before = contents(tiny.cgan)
    outcome = tiny_runs.command("main", *tiny.args, f"--workdir={tiny.cgan}")
    miou = json.loads((tiny.cgan / "summary.json").read_text())["test"]["miou"]
    assert outcome.code == 0 and "finished" in outcome.out and f"{miou:.4f}" in outcome.out
    assert contents(tiny.cgan) == before


# Kills

BEFORE = "before a checkpoint is written"
WHILE = "while a checkpoint is written"
KILLS = {
    "in a step": """
def batches(*args, start, **options):
    for number, batch in enumerate(make(*args, start=start, **options), start):
        if number == 5: die()
        yield batch
make = pipeline.train_batches
pipeline.train_batches = batches
""",
    BEFORE: """
def save(self, step, *args):
    if step == 4: self.wait(); die()
    return make(self, step, *args)
make = checkpoint.Checkpoints.save
checkpoint.Checkpoints.save = save
""",
    WHILE: """
def save(self, step, *args):
    make(self, step, *args)
    if step == 4: die()
make = checkpoint.Checkpoints.save
checkpoint.Checkpoints.save = save
""",
    "in the final scores": """
report.baseline_scores = lambda *args: die()
""",
}
KILL = """
import os, signal
from gan_seg_jax.runs import checkpoint
from gan_seg_jax.training import report
from gan_seg_jax.data import pipeline
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
"""


def kill(tiny, args, workdir, where):
    process = tiny_runs.start("main", *args, f"--workdir={workdir}", cache=tiny.cache, code=KILL + KILLS[where])
    _, err = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, err
    assert not (workdir / "summary.json").exists()


@pytest.mark.parametrize(
    "where", [WHILE, *(pytest.param(name, marks=pytest.mark.slow) for name in KILLS if name != WHILE)]
)
def test_a_killed_run_ends_in_the_same_bits(tiny, tmp_path, where):
    kill(tiny, (*tiny.args, *PLAIN), tmp_path / "run", where)
    outcome = tiny_runs.command("main", *tiny.args, *PLAIN, f"--workdir={tmp_path / 'run'}")
    assert outcome.code == 0 and "Continuing from step" in outcome.out, outcome.err
    assert_same_end(tmp_path / "run", tiny.cgan)


@pytest.mark.slow
@pytest.mark.parametrize("where", KILLS)
def test_a_killed_supervised_run_ends_in_the_same_bits(tiny, supervised, tmp_path, where):
    kill(tiny, tiny_runs.supervised_args(tiny.data), tmp_path / "run", where)
    outcome = tiny_runs.command("main", *tiny_runs.supervised_args(tiny.data), f"--workdir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    assert_same_end(tmp_path / "run", supervised)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in a step", WHILE])
def test_a_run_that_is_killed_while_its_backbone_is_frozen_ends_in_the_same_bits(tiny, tmp_path, where):
    size = [f"--config.{name}=(32, 32)" for name in ("canvas_size", "crop_size")]
    args = ("--config=configs/supervised_seg.py:fcn32s,smoke", *tiny_runs.TINY, f"--config.data_dir={tiny.data}", *size)
    args += ("--config.optimizers.segmenter.backbone_frozen_steps=5", "--config.optimizers.segmenter.layer_decay=0.8")
    whole = tiny_runs.command("main", *args, f"--workdir={tmp_path / 'whole'}")
    assert whole.code == 0 and whole.out.count("Compiling the step") == 2, whole.err
    kill(tiny, args, tmp_path / "run", where)
    outcome = tiny_runs.command("main", *args, f"--workdir={tmp_path / 'run'}")
    assert outcome.code == 0 and "Continuing from step" in outcome.out, outcome.err
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_kills_at_random_times_change_nothing(tiny, tmp_path):
    rng, workdir, kills = np.random.default_rng(0), tmp_path / "run", 0
    lock = workdir / ".lock-0"
    for _ in range(12):
        before = lock.stat().st_mtime_ns if lock.exists() else 0
        process = tiny_runs.start("main", *tiny.args, f"--workdir={workdir}", cache=tiny.cache)
        while process.poll() is None and not (lock.exists() and lock.stat().st_mtime_ns != before):
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0.0, 3.0)))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert kills >= 2
    outcome = tiny_runs.command("main", *tiny.args, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    assert_same_end(workdir, tiny.cgan)


def test_resuming_never_removes_the_checkpoint_it_came_from(tiny, tmp_path, monkeypatch):
    """A run that is killed again and again right after its start keeps what it has."""
    workdir = tmp_path / "run"
    shutil.copytree(tiny.cgan, workdir)
    (workdir / "summary.json").unlink()
    removed = []
    monkeypatch.setattr(checkpoint.Checkpoints, "save", lambda self, step, *_: removed.append(step))
    assert tiny_runs.command("main", *tiny.args, *PLAIN, f"--workdir={workdir}").code == 0
    assert removed == []
    assert_same_end(workdir, tiny.cgan)


@pytest.mark.parametrize("committed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_kill_while_a_checkpoint_is_replaced_loses_nothing(tiny, tmp_path, committed):
    workdir = tmp_path / "run"
    shutil.copytree(tiny.cgan, workdir)
    (workdir / "summary.json").unlink()
    newest, aside = workdir / "checkpoints" / "6", workdir / "checkpoints" / "replaced-6"
    shutil.copytree(newest, aside)
    if not committed:
        shutil.rmtree(newest)
    assert tiny_runs.command("main", *tiny.args, *PLAIN, f"--workdir={workdir}").code == 0
    assert not aside.exists()
    assert_same_end(workdir, tiny.cgan)


# Signals


def signal_once(number):
    """Return a function that sends this process a signal the first time it is called."""
    sent = []

    def send():
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    return send


def before_call(function, action, *, calls: int = 1):
    """Return `function` with `action` run before its call number `calls`."""
    count = []

    def wrapped(*args, **options):
        count.append(1)
        if len(count) == calls:
            action()
        return function(*args, **options)

    return wrapped


def interrupt(monkeypatch, where, number):
    send = signal_once(number)
    if where == "compiling":
        monkeypatch.setattr(parallel, "compile_step", before_call(parallel.compile_step, send))
    elif where == "training":
        monkeypatch.setattr(TrainingRun, "poll", before_call(TrainingRun.poll, send, calls=8))
    elif where == "validation":
        monkeypatch.setattr(pipeline, "eval_example", before_call(pipeline.eval_example, send, calls=11))
    elif where == "validation at the end":
        monkeypatch.setattr(train, "_validate", before_call(train._validate, send, calls=2))
    elif where == "final scores":
        monkeypatch.setattr(report, "baseline_scores", before_call(report.baseline_scores, send))
    elif where == "baselines":
        monkeypatch.setattr(report, "score_labelling", before_call(report.score_labelling, send))


PLACES = ("compiling", "training", "validation", "validation at the end", "final scores", "baselines")
QUICK = (("training", signal.SIGTERM),)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        pytest.param(where, number, marks=() if (where, number) in QUICK else pytest.mark.slow)
        for where in PLACES
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ],
)
def test_signals_save_and_exit_75(tiny, tmp_path, compile_once, where, number):
    workdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, where, number)
        outcome = tiny_runs.command("main", *tiny.args, PLAIN[0], f"--workdir={workdir}")
    assert outcome.code == 75, outcome
    assert "Interrupted" in outcome.err and "same command" in outcome.err
    steps = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    expected = {"compiling": 1, "training": 5, "validation": 3}
    assert max(steps) == expected.get(where, 6)
    outcome = tiny_runs.command("main", *tiny.args, *PLAIN, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    assert_same_end(workdir, tiny.cgan)


@pytest.mark.slow
def test_signals_at_any_moment_are_answered(tiny, tmp_path):
    """From the first moment to the last, once or twice: 75 and a sentence, or 0 where all is done."""

    def run(name, moment=None, number=None, times=1):
        command = [sys.executable, "-m", "gan_seg_jax.main", *tiny.args, f"--workdir={tmp_path / name}"]
        environment = tiny_runs.environment(tiny.cache)
        process = subprocess.Popen(
            command, cwd=tiny_runs.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(times if moment else 0):
            time.sleep(moment)
            process.send_signal(number)
            moment = 0.05
        _, err = process.communicate(timeout=400)
        return process.returncode, err

    began = time.monotonic()
    assert run("whole")[0] == 0
    moments = np.linspace(0.3, 1.05 * (time.monotonic() - began), 16)
    wrong, interrupted = [], None
    for k, moment in enumerate(moments):
        number, times = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[k % 3], 1 + k % 2
        code, err = run(str(k), moment, number, times)
        done = (tmp_path / str(k) / "summary.json").exists()
        print(f"{moment:.2f} s, {number.name} x{times}: {code} {err.strip().splitlines()[-1:]}")
        if "Traceback" in err or not ((code == 75 and "Interrupted" in err) or (code == 0 and done)):
            wrong.append((moment, number, code, err))
        interrupted = tmp_path / str(k) if code == 75 else interrupted
    assert not wrong, f"{len(wrong)} of {len(moments)}: {wrong}"
    assert run(interrupted.name)[0] == 0
    assert_same_end(interrupted, tmp_path / "whole")


@pytest.mark.slow
def test_control_c_reaches_the_whole_group_of_processes(tiny, tmp_path):
    """A terminal sends SIGINT to the worker processes too."""
    code = """
import os, signal
os.setsid()
from gan_seg_jax.training.run import TrainingRun
poll, count = TrainingRun.poll, []
def send(*args):
    count.append(1)
    if len(count) == 4: os.killpg(0, signal.SIGINT)
    poll(*args)
TrainingRun.poll = send
"""
    workdir = tmp_path / "run"
    args = (*tiny.args, f"--workdir={workdir}", "--config.num_workers=2")
    process = tiny_runs.start("main", *args, cache=tiny.cache, code=code)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 75, err
    assert tiny_runs.command("main", *tiny.args, f"--workdir={workdir}").code == 0
    assert_same_end(workdir, tiny.cgan)


# Resuming with other fields


@pytest.mark.slow
def test_a_finished_run_is_extended_at_its_last_rates(tiny, tmp_path, compile_once):
    """It ends in the bits of a run that was planned so, also when it is killed and resumed on the way."""
    workdir, whole = tmp_path / "run", tmp_path / "whole"
    shutil.copytree(tiny.cgan, workdir)
    changed = ("--config.steps=8", "--config.eval_every=4", "--config.log_every=1", *PLAIN)
    before = contents(workdir)
    outcome = tiny_runs.command("main", *tiny.args, *changed, f"--workdir={workdir}")
    assert outcome.code == 2 and "config.steps is 8 and was 6" in outcome.err, outcome
    assert "--config.extend=constant" in outcome.err and f"--config.init.generator={workdir}" in outcome.err
    assert contents(workdir) == before
    extend = (*tiny.args, *changed, "--config.extend=constant", f"--workdir={workdir}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "poll", before_call(TrainingRun.poll, signal_once(signal.SIGTERM), calls=2))
        assert tiny_runs.command("main", *extend).code == 75
    outcome = tiny_runs.command("main", *extend)
    assert outcome.code == 0 and "Continuing from step 7 of 8" in outcome.out, outcome.err
    assert json.loads((workdir / "summary.json").read_text())["steps"] == 8
    assert [line["step"] for line in lines(workdir) if line["split"] == "train"] == [2, 4, 6, 7, 8]
    config = json.loads((workdir / "config.json").read_text())
    assert (config["steps"], config["planned_steps"]) == (8, 6)
    outcome = tiny_runs.command("main", *tiny.args, *changed, "--config.planned_steps=6", f"--workdir={whole}")
    assert outcome.code == 0, outcome.err
    assert tiny_runs.digests(workdir) == tiny_runs.digests(whole)


def test_training_stops_when_validation_is_no_better(tiny, tmp_path, compile_once, monkeypatch):
    """It stays stopped when it is killed in its final scores, and more patience continues it, in the same bits."""
    task = TASKS["segmentation"]
    monkeypatch.setattr(type(task), "is_better", lambda self, scores, best: best is None)
    flags = (*tiny.args, *PLAIN, "--config.eval_every=1", "--config.log_every=4", "--config.baselines=()")
    workdir, whole = tmp_path / "run", tmp_path / "whole"
    patient = (*flags, "--config.patience=2", f"--workdir={workdir}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "stop", before_call(TrainingRun.stop, signal_once(signal.SIGTERM)))
        assert tiny_runs.command("main", *patient).code == 75
    outcome = tiny_runs.command("main", *patient)
    assert outcome.code == 0, outcome.err
    assert "Stopped at step 3 of 6: 2 validations in a row were no better than that of step 1" in outcome.out
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["steps"], summary["best_step"], summary["unimproved"]) == (3, 1, 2)
    assert summary["last"]["step"] == 3 and summary["last"]["val"] != summary["val"]
    assert [line["step"] for line in lines(workdir) if line["split"] == "train"] == [3]
    assert "is finished" in tiny_runs.command("main", *patient).out
    assert tiny_runs.command("main", *patient, "--config.patience=4").code == 0
    assert tiny_runs.command("main", *flags, "--config.patience=4", f"--workdir={whole}").code == 0
    assert json.loads((workdir / "summary.json").read_text())["steps"] == 5
    assert tiny_runs.digests(workdir) == tiny_runs.digests(whole)


@pytest.mark.slow
def test_the_log_of_a_killed_run_is_that_of_an_undisturbed_one(tiny, supervised, tmp_path, compile_once):
    """Killed before the first checkpoint, between a line and its checkpoint, and interrupted between two lines."""

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    args = (*tiny_runs.supervised_args(tiny.data), *PLAIN, f"--workdir={tmp_path / 'run'}")
    for owner, name, calls in ((TrainingRun, "poll", 2), (train, "_log", 2), (TrainingRun, "save", 2)):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, before_call(getattr(owner, name), die, calls=calls))
            tiny_runs.command("main", *args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "poll", before_call(TrainingRun.poll, signal_once(signal.SIGTERM), calls=2))
        assert tiny_runs.command("main", *args).code == 75
    assert tiny_runs.command("main", *args).code == 0

    def without_times(workdir):
        return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines(workdir)]

    assert without_times(tmp_path / "run") == without_times(supervised)
    trained = [json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", supervised)]
    assert trained[0]["images_per_second"] > 0
    metas = [checkpoint.load_meta(folder, "latest") for folder in (tmp_path / "run", supervised)]
    assert metas[0]["images"] == metas[1]["images"] == 6 * 4


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_list_of_labelled_images(tiny, tmp_path):
    listed, workdir = tmp_path / "ids.txt", tmp_path / "run"
    listed.write_text("000\n003\n005\n007\n")
    labelled = f"--config.labelled.index_file={listed}"
    args = (*tiny_runs.supervised_args(tiny.data), labelled, "--config.extend=constant", f"--workdir={workdir}")
    assert tiny_runs.command("main", *args, "--config.steps=2").code == 0
    listed.write_text("007\n\n005\n003\n000\n")  # the same images
    assert tiny_runs.command("main", *args, "--config.steps=3").code == 0
    listed.write_text("000\n003\n005\n008\n")
    outcome = tiny_runs.command("main", *args, "--config.steps=4")
    assert outcome.code == 2 and str(listed) in outcome.err and "not the one" in outcome.err, outcome.err


def change_a_pixel(path):
    image = np.array(Image.open(path))
    image.flat[0] = 1 - min(image.flat[0], 1)
    Image.fromarray(image).save(path)


CHANGES = {
    "train": lambda data: change_a_pixel(data / "train/masks/003.png"),
    "val": lambda data: change_a_pixel(data / "val/images/001.png"),
    "test": lambda data: [path.rename(path.with_name("new.png")) for path in data.glob("test/*/002.png")],
}


def test_a_run_goes_on_with_the_data_that_it_began_with(tiny, tmp_path):
    """Wherever they lie now and whenever they were written; evaluation says that it is of others."""
    workdir, data = shutil.copytree(tiny.cgan, tmp_path / "run"), tmp_path / "data"
    (workdir / "summary.json").unlink()
    args = [arg for arg in (*tiny.args, *PLAIN) if "data_dir" not in arg]
    args += [f"--config.data_dir={data}", f"--workdir={workdir}"]
    before = contents(workdir / "checkpoints")
    for split in ("train", "test"):
        shutil.copytree(tiny.data, data, copy_function=shutil.copy)
        CHANGES[split](data)
        outcome = tiny_runs.command("main", *args)
        assert outcome.code == 2 and f"The images or labels of {split} are not the ones" in outcome.err, outcome
        assert "step 6" in outcome.err
        shutil.rmtree(data)
    assert contents(workdir / "checkpoints") == before
    shutil.copytree(tiny.data, data, copy_function=shutil.copy)  # new times
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 0, outcome.err
    for split, said in (("val", True), ("test", False)):
        if said:
            CHANGES[split](data)
        outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", f"--data_dir={data}", f"--split={split}")
        assert outcome.code == 0 and (f"images or labels of {split} are not those" in outcome.err) == said, outcome


# Data and numbers that go wrong in mid-run


@pytest.mark.slow
def test_a_file_that_vanishes_is_named_and_nothing_is_lost(tiny, tmp_path, compile_once):
    data, workdir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(tiny.data, data)
    long = ("--config.steps=30", "--config.eval_every=30")
    args = (*tiny_runs.supervised_args(data), *long, *PLAIN, f"--workdir={workdir}")
    files, away = data / "train" / "images", data / "away"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "poll", before_call(TrainingRun.poll, lambda: files.rename(away), calls=4))
        outcome = tiny_runs.command("main", *args)
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome.err
    assert "train/images/" in outcome.err and ".png" in outcome.err
    assert checkpoint.load_checkpoint(workdir, "latest")[1]["step"] >= 2
    away.rename(files)
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 0 and "Continuing from step" in outcome.out, outcome.err


@pytest.mark.parametrize(("gone", "calls"), [(".", 2), ("checkpoints", 5), ("checkpoints", 3)])
def test_a_folder_that_is_removed_under_a_run_is_said(tiny, tmp_path, compile_once, gone, calls):
    """Nobody takes a run for done whose config or weights are nowhere: before the first checkpoint, and behind one."""
    workdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        remove = lambda: (workdir / gone).resolve().rename(tmp_path / "away")  # at once, even while it is written
        patch.setattr(TrainingRun, "poll", before_call(TrainingRun.poll, remove, calls=calls))
        args = (*tiny_runs.supervised_args(tiny.data), *PLAIN, "--config.log_every=6")
        outcome = tiny_runs.command("main", *args, f"--workdir={workdir}")
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome
    assert str(workdir / "checkpoints") in outcome.err and "is gone" in outcome.err
    assert len(outcome.err.splitlines()) < 12 and not (workdir / "summary.json").exists()


@pytest.mark.slow
def test_a_file_that_vanishes_is_named_by_worker_processes(tiny, tmp_path):
    data, workdir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(tiny.data, data)
    args = (*tiny_runs.supervised_args(data), "--config.steps=60", "--config.num_workers=2", f"--workdir={workdir}")
    files = data / "train" / "images"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "poll", before_call(TrainingRun.poll, lambda: files.rename(data / "away"), calls=4))
        outcome = tiny_runs.command("main", *args)
    assert outcome.code == 2 and "train/images/" in outcome.err and "Traceback" not in outcome.err, outcome.err


def test_divergence_ends_with_code_3_and_the_last_good_weights(tiny, tmp_path, compile_once):
    workdir = tmp_path / "run"
    args = (
        *tiny_runs.supervised_args(tiny.data),
        "--config.steps=20",
        "--config.max_bad_steps=3",
        "--config.log_every=1",
        "--config.optimizers.segmenter.learning_rate=1e30",
        "--config.eval_every=20",
        *PLAIN,
        f"--workdir={workdir}",
    )
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 3 and "Traceback" not in outcome.err, outcome.err
    assert "loss/segmenter" in outcome.err and "step" in outcome.err
    arrays, meta = checkpoint.load_checkpoint(workdir, "latest")
    assert f"step {meta['step']} " in outcome.err
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert arrays["bad_steps"] == 3
    assert tiny_runs.command("main", *args).code == 3  # it does not go on as if nothing had been


# The position of the data


def test_the_next_batches_of_a_checkpoint_are_those_of_an_uninterrupted_run(tiny):
    def digests(start, count):
        batches = pipeline.train_batches(dataset, config, ("labelled",), start=start)
        found = []
        for batch in itertools.islice(batches, count):
            content = b"".join(batch["labelled"][name].tobytes() for name in sorted(batch["labelled"]))
            found.append(hashlib.sha256(content).hexdigest())
        batches.close()
        return found

    config = checkpoint.read_config(tiny.cgan)
    dataset = pipeline.open_dataset(config)
    _, meta = checkpoint.load_checkpoint(tiny.cgan, "latest")
    assert meta["step"] > 0
    assert digests(meta["step"], 5) == digests(0, meta["step"] + 5)[meta["step"] :]


# Roles from other runs


def test_training_starts_from_another_run(tiny, supervised, tmp_path):
    args = (*tiny_runs.supervised_args(tiny.data), f"--config.init.segmenter={supervised}", "--config.steps=1", *PLAIN)
    outcome = tiny_runs.command(
        "main", *args, "--config.optimizers.segmenter.learning_rate=1e-30", f"--workdir={tmp_path / 'run'}"
    )
    assert outcome.code == 0, outcome.err
    source, _ = checkpoint.load_checkpoint(supervised, "best")
    found, _ = checkpoint.load_checkpoint(tmp_path / "run", "latest")
    names = [name for name in source if "/params/" in name]
    assert names
    for name in names:
        np.testing.assert_array_equal(found[name], source[name])


def test_a_frozen_role_takes_its_architecture_and_weights_from_another_run(tiny, tmp_path):
    args = (
        *tiny.args,
        "--config.networks.generator.channels=(8, 8)",
        f"--config.init.generator={tiny.cgan}",
        "--config.phases=((1, (('discriminator',),)),)",
        "--config.steps=2",
        *PLAIN,
        f"--workdir={tmp_path / 'run'}",
    )
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 0, outcome.err
    source, _ = checkpoint.load_checkpoint(tiny.cgan, "best")
    found, _ = checkpoint.load_checkpoint(tmp_path / "run", "latest")
    names = [name for name in found if name.startswith("networks/generator/params/")]
    assert names
    for name in names:
        np.testing.assert_array_equal(found[name], source[name.replace("/params/", "/ema_params/")])
    assert not any(name.startswith("networks/generator/opt_state") for name in found)


# Leaks


@pytest.mark.slow
def test_nothing_is_left_behind_in_the_process(tiny, tmp_path):
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(multiprocessing.active_children())

    args = (*tiny_runs.supervised_args(tiny.data), "--config.steps=2", "--config.num_workers=2")
    found = []
    for number in range(3):
        assert tiny_runs.command("main", *args, f"--workdir={tmp_path / str(number)}").code == 0
        for _ in range(50):
            if count()[2] == 0:
                break
            time.sleep(0.1)
        found.append(count())
    assert found[-1][2] == 0, "worker processes are gone"
    assert found[2][0] <= found[1][0] and found[2][1] <= found[1][1], (
        f"(files, threads, workers) after each run: {found}"
    )


# Several processes


def test_two_processes_train_as_one(tiny, supervised, tmp_path):
    workdir = tmp_path / "run"
    args = (*tiny_runs.supervised_args(tiny.data), *PLAIN, f"--workdir={workdir}")
    ends = tiny_runs.run_processes(tiny, args)
    assert "mIoU" in ends[0][0] and "mIoU" not in ends[1][0], "the first process alone prints"
    one, two = ({(line["step"], line["split"]): line for line in lines(folder)} for folder in (supervised, workdir))
    assert one.keys() == two.keys()
    for key, line in one.items():
        for name, value in line.items():
            if name.startswith("loss/"):
                np.testing.assert_allclose(two[key][name], value, rtol=1e-5)
            elif name in SCORES:
                np.testing.assert_allclose(two[key][name], value, atol=2e-3)
    # One process goes on with what two have saved.
    outcome = tiny_runs.command("main", *args, "--config.steps=7", "--config.extend=constant")
    assert outcome.code == 0 and "Continuing from step 6 of 7" in outcome.out, outcome.err


@pytest.mark.slow
def test_two_processes_resume_in_the_same_bits(tiny, tmp_path):
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    constant = "--config.optimizers.segmenter.schedule=constant"  # the same at step 2 of 2 as of 4
    args = (*tiny_runs.supervised_args(tiny.data), constant, "--config.steps=4")
    tiny_runs.run_processes(tiny, (*args, "--config.steps=2", f"--workdir={parts}"))
    tiny_runs.run_processes(tiny, (*args, f"--workdir={parts}"))
    tiny_runs.run_processes(tiny, (*args, f"--workdir={whole}"))
    assert tiny_runs.digests(parts) == tiny_runs.digests(whole)


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_of_them(tiny, supervised, tmp_path):
    code = """
import os, signal
from gan_seg_jax.runs import preemption
from gan_seg_jax.training.run import TrainingRun
preemption.POLL_EVERY = 2
poll, count = TrainingRun.poll, []
def send(*args):
    count.append(1)
    if len(count) == 2 and os.environ["JAX_PROCESS_ID"] == "1": os.kill(os.getpid(), signal.SIGTERM)
    poll(*args)
TrainingRun.poll = send
"""
    args = (*tiny_runs.supervised_args(tiny.data), f"--workdir={tmp_path / 'run'}")
    ends = tiny_runs.run_processes(tiny, args, codes=(75,), code=code)
    steps = {re.search(r"Interrupted at step (\d+)", err).group(1) for _, err in ends}
    assert len(steps) == 1
    ends = tiny_runs.run_processes(tiny, args)
    assert f"Continuing from step {steps.pop()} " in ends[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(tiny, tmp_path, killed):
    code = f"""
import os, signal
from gan_seg_jax.training.run import TrainingRun
poll, count = TrainingRun.poll, []
def die(*args):
    count.append(1)
    if len(count) == 4 and os.environ["JAX_PROCESS_ID"] == "{killed}": os.kill(os.getpid(), signal.SIGKILL)
    poll(*args)
TrainingRun.poll = die
"""
    args = (*tiny_runs.supervised_args(tiny.data), "--config.steps=100000", f"--workdir={tmp_path / 'run'}")
    ends = tiny_runs.run_processes(tiny, args, codes=(75, -signal.SIGKILL), code=code)
    err = ends[1 - killed][1]
    assert "Another process of this run has died" in err and "Traceback" not in err, err
    assert checkpoint.load_checkpoint(tmp_path / "run", "latest")[1]["step"] == 2


@pytest.mark.slow
def test_without_a_workdir_the_run_is_named_after_its_config(tiny, tmp_path, compile_once):
    args = (*tiny_runs.supervised_args(tiny.data), "--config.steps=1", *PLAIN)
    with contextlib.chdir(tmp_path):
        for _ in range(2):
            assert tiny_runs.command("main", *args).code == 0
        assert tiny_runs.command("main", *args, "--config.seed=1").code == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(names) == 2 and all(re.fullmatch("supervised_seg-[0-9a-f]{8}", name) for name in names)


def test_sums_over_one_process_are_exact():
    big = np.array([2**40 + 1, -(2**35), 7])
    np.testing.assert_array_equal(parallel.sum_over_processes({"a": big})["a"], big)
    assert parallel.local_rows(
        parallel.place(np.arange(8), parallel.batch_sharding(parallel.make_mesh()))
    ).tolist() == [*range(8)]


@pytest.mark.slow
def test_the_last_step_is_scored_beside_the_best(tiny, tmp_path, monkeypatch):
    """A run whose first validation is its best: its last step has other scores, on val those of its last validation."""
    task = TASKS["segmentation"]
    first = lambda scores, best: best is None
    monkeypatch.setattr(type(task), "is_better", lambda self, scores, best: first(scores, best))
    outcome = tiny_runs.command("main", *tiny.args, *PLAIN, "--config.baselines=()", f"--workdir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    summary, whole = (json.loads((run / "summary.json").read_text()) for run in (tmp_path / "run", tiny.cgan))
    assert summary["best_step"] == 3 and summary["last"]["step"] == 6
    assert summary["last"]["val"] == whole["last"]["val"] and summary["last"]["test"] == whole["last"]["test"]
    assert summary["test"] != summary["last"]["test"]

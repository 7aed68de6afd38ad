"""All that depends on a task is asked of it: another one is one object, and nobody else needs to know it."""

import types

import pytest
from ml_collections import ConfigDict

from gan_seg_jax import tasks, train
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import InputError
from gan_seg_jax.evaluate import evaluate_run
from gan_seg_jax.inference.load import Run
from gan_seg_jax.inference.options import Options
from gan_seg_jax.tasks import TASKS
from gan_seg_jax.tasks.task import COMMANDS, Task
from gan_seg_jax.training import checks, report
from gan_seg_jax.training.tracker import Progress
from tests import tiny_runs

METHOD = types.SimpleNamespace(TASK="depth", STREAMS=("labelled",), build=lambda config: {})


def refuse_few(config, val):
    if len(val) < 3:
        raise InputError(f"{config.method} needs 3 images to validate by, there are {len(val)}.")


DEPTH = Task(
    "depth",
    selected_by="error",
    lower_is_better=True,
    evaluator=lambda *args: lambda state, poll=None: {"error": 0.25},
    sheet=lambda *args: None,
    table=lambda rows: "\n".join(f"{name} is off by {scores['error']} m" for name, scores in rows),
    refusals={"judge": "measures depth: only segmentations are judged here"},
    check=refuse_few,
)


@pytest.fixture(autouse=True)
def depth(monkeypatch):
    monkeypatch.setitem(TASKS, "depth", DEPTH)


def test_its_own_score_chooses_the_best():
    task = tasks.of(METHOD)
    assert task is DEPTH
    assert task.is_better({"error": 2.0}, None) and task.is_better({"error": 1.0}, {"error": 2.0})
    assert not task.is_better({"error": 2.0}, {"error": 2.0}) and not task.is_better({"error": None}, {"error": 2.0})


def test_a_validation_without_score_is_no_better():
    phases = ((1, (("segmenter",),)),)
    config = ConfigDict({"steps": 9, "planned_steps": 0, "phases": phases, "patience": 2, "samples_every": 0})
    writer = types.SimpleNamespace(scalars=lambda *_: None, message=lambda _: None)
    run, progress, found = types.SimpleNamespace(config=config, task=DEPTH, writer=writer), Progress(), []
    tracker, values = types.SimpleNamespace(progress=progress), iter((None, None, 2.0, 3.0, None, 1.0))
    for progress.step in range(1, 7):
        train._validate(run, None, tracker, lambda *_, **__: {"error": next(values)}, None)
        found.append((progress.best_step, progress.unimproved))
        if len(found) == 2:
            assert "2 validations in a row had no score" in train._why_stopped(config, {**vars(progress), "steps": 2})
    assert found == [(1, 1), (2, 2), (3, 0), (3, 1), (3, 2), (6, 0)]


def test_its_own_table_is_printed():
    scores = {"error": 0.25}
    summary = {"method": "m", "task": "depth", "dataset": "d", "test": scores, "val": scores, "baselines": {}}
    text = report.summary_text({**summary, "best_step": 3, "seconds": 2.0, "images_per_second": None})
    assert text == "d, test split, checkpoint of step 3 (2 s in all):\n\nm is off by 0.25 m"


def test_it_checks_the_run_before_training():
    sizes = {"crop_size": (8, 8), "spatial_shards": 1}
    config = ConfigDict({"method": "m", "num_classes": 3, "losses": {"class_weights": ()}, **sizes})
    split = lambda count: tiny_runs.MemorySplit(tiny_runs.INFO, "val", (None,) * count, (None,) * count)
    dataset = lambda count: Dataset(tiny_runs.INFO, {"train": split(3), "val": split(count)})
    checks.check(METHOD, config, dataset(3))
    with pytest.raises(InputError, match="needs 3 images to validate by, there are 2"):
        checks.check(METHOD, config, dataset(2))
    config.spatial_shards = 3
    with pytest.raises(InputError, match="spatial_shards is 3; expected a divisor of the crops' height, 8"):
        checks.check(METHOD, config, dataset(3))


def test_it_says_which_commands_do_not_take_its_runs():
    tasks.of(METHOD).require("predict", "runs/x", "m")
    with pytest.raises(InputError, match="runs/x is a run of m, which measures depth: only segmentations are judged"):
        tasks.of(METHOD).require("judge", "runs/x", "m")


def test_options_of_inference_are_refused_where_they_have_no_meaning(tmp_path):
    run = Run(METHOD, ConfigDict(), None, 0)
    with pytest.raises(InputError, match="is a run of depth, for which flip has no meaning"):
        evaluate_run(run, "test", tmp_path, Options(flip=True))


@pytest.mark.parametrize("name", ["segmentation", "generation", "translation"])
def test_tasks_answer_by_their_name_and_refuse_commands_that_there_are(name):
    task = TASKS[name]
    assert task.name == name and set(task.refusals) < set(COMMANDS)
    assert (task.pictures is None) == ("predict" in task.refusals)
    assert (task.batches is None) == ("sample" in task.refusals)

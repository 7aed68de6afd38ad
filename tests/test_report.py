"""The command `report`: what is on its page, of runs of every kind, and what it says of damaged ones."""

import json
import shutil

import numpy as np
import pytest

from gan_seg_jax.cli import nearest
from gan_seg_jax.config import to_json
from gan_seg_jax.pictures import panels
from gan_seg_jax.reporting import looks, page, run_files, scores
from tests import pages, tiny_runs


@pytest.fixture
def run(tiny, tmp_path):
    """A copy of the tiny run, without arrays."""
    shutil.copytree(tiny.cgan, tmp_path / "run", ignore=shutil.ignore_patterns("events.*"))
    return tmp_path / "run"


def report(run, *args):
    return tiny_runs.command("report", f"--workdir={run}", *args)


def read(path):
    return pages.read(path.read_text())


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The report of the tiny run, and its outcome."""
    output = tmp_path_factory.mktemp("report") / "page.html"
    return report(tiny.cgan, f"--output={output}", "--count=2", "--explain"), read(output)


def test_all_parts_are_there(tiny, whole):
    outcome, found = whole
    assert outcome.code == 0 and "page.html" in outcome.out
    headings = [text for level, text in found.headings if level == "h2"]
    of = f"of {tiny_runs.COUNTS['test']} images of test, step"
    for part in ("Scores", "Classes", "Curves", "Confusion matrix", f"Worst {of}", f"Best {of}", "Calibration"):
        assert any(heading.startswith(part) for heading in headings), part
    assert {"Explanation", "Samples", "Config", "Data", "Training", "What next"} <= {*headings}
    summary = json.loads((tiny.cgan / "summary.json").read_text())
    for value in (summary["test"]["miou"], *summary["test"]["iou_per_class"].values()):
        assert f"{value:.4f}" in found.words
    assert sum("discriminator's doubt" in text for text in found.texts) == 4
    assert f"gan-seg evaluate --workdir={tiny.cgan}" in found.words
    assert f"gan-seg judge --workdir={tiny.cgan}" in found.words


def test_the_best_and_the_worst_are_those_of_the_counts(tiny, whole):
    counts = run_files.read(tiny.cgan).counts
    union = counts.sum(axis=-1)
    iou = np.nanmean(np.where(union > 0, counts[..., 0] / np.maximum(union, 1), np.nan), axis=1)
    order = [f"{place:03d}: mean IoU {iou[place]:.3f}" for place in np.argsort(iou)]
    shown = [text for level, text in whole[1].headings if level == "h3" and "mean IoU" in text]
    assert [text.split(": ")[1] for text in shown] == [order[n].split(": ")[1] for n in (0, 1, -1, -2)]


def test_nothing_needs_the_network(run):
    shutil.rmtree(run / "checkpoints")
    (run / "judging-test.json").write_text(json.dumps(JUDGED))
    assert report(run, "--noimages").code == 0
    found = read(run / "report.html")
    assert any("--noimages" in words for words in found.words)
    assert not any("doubt" in text for text in found.texts)
    assert {"with temperature 1.250", "0.0700", "1 - D"} <= {*found.words}


JUDGED = {
    "step": 6,
    "temperature": 1.25,
    "calibration": {name: {"ece": 0.07, "brier": 0.5, "nll": 1.0, "accuracy": 0.75} for name in ("before", "after")},
    "errors_found": {name: {"aupr": 0.5, "auc": None, "wrong_share": 0.25} for name in ("entropy", "discriminator")},
    "real_fake": {"by_image": {"soft": {"auc": 1.0, "accuracy": 0.5}}},
    "discriminator_ece": None,
    "image_scores": {"pearson": None, "spearman": 0.5},
}


def test_a_run_that_is_not_finished(run):
    (run / "summary.json").unlink()
    (run / "image_counts-test.json").unlink()
    (run / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss/generator": 1e999}\n{"step": "x", "split"')
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "samples")
    assert report(run).code == 0
    found = read(run / "report.html")
    words = " ".join(found.words)
    assert "not finished: nothing is saved yet" in words and "There is no checkpoint yet." in words
    assert "Scores" not in [text for _, text in found.headings]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"task": "segmentation"}'),
        ("summary.json", '{"task": "generation"}'),
        ("summary.json", {"selected_by": 3}),
        ("summary.json", {"baselines": {"kmeans": None}}),
        ("summary.json", {"test": {"miou": 0.5, "iou_per_class": {"other": 0.5}}}),
        ("summary.json", {"last": {"val": {"miou": "x"}}}),
        ("summary.json", {"test": {"miou": 0.5, "confusion": [[1, 2], [3, 4]]}}),
        ("image_counts-test.json", '{"num_classes": 3, "images": [{"9": [1, 2, 3]}]}'),
        ("image_counts-test.json", '{"num_classes": 2, "images": []}'),
        ("judging-test.json", '{"calibration": 3}'),
        ("evaluation-test.json", '{"step": 6, "per_image": {"unit": "mm"}}'),
        ("config.json", "{}"),
    ],
)
def test_a_damaged_file_is_one_sentence(run, file, content):
    if isinstance(content, dict):  # another value in a sound file
        content = json.dumps(json.loads((run / file).read_text()) | content)
    (run / file).write_text(content)
    outcome = report(run, "--noimages")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and file in outcome.err
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--workdir is missing"),
        (("--workdir=/nowhere",), "/nowhere is not the folder of a run"),
        (("--workdir=.", "--cuont=3"), "cuont"),
        (("--workdir=.", "--count=0"), "count"),
    ],
)
def test_bad_input_is_one_sentence(args, words):
    outcome = tiny_runs.command("report", *args)
    assert outcome.code == 2 and outcome.out == "" and outcome.err.count("\n") == 1 and words in outcome.err


def test_targets_and_data_that_are_not_there(run, tmp_path):
    assert "a folder" in report(run, f"--output={tmp_path}", "--noimages").err
    (tmp_path / "file").write_text("")
    assert "cannot be written" in report(run, f"--output={tmp_path}/file/x.html", "--noimages").err
    outcome = report(run, "--data_dir=/nowhere")
    assert outcome.code == 2 and "--noimages" in outcome.err and "--data_dir" in outcome.err
    assert "no split 'tset'" in report(run, "--split=tset").err


def test_what_evaluate_has_measured_of_single_images(run):
    names, values = tiny_runs.INFO.class_names, {"dice": 0.8125, "hd95": 3.5, "assd": None, "images": 6, "one_sided": 1}
    means = {f"{name}_per_class": dict.fromkeys(names, value) for name, value in values.items()}
    (run / "evaluation-test.json").write_text(json.dumps({"step": 6, "per_image": {"unit": "mm", **means}}))
    (run / "evaluation-val.json").write_text(json.dumps({"step": 6, "miou": 0.5}))
    assert report(run, "--noimages").code == 0
    found = read(run / "report.html").words
    assert "HD95, mm" in found and found.count("0.8125") == 3 and found.count("3.500") == 3
    counts = run_files.read(run).counts.sum(axis=0)
    hits, more, missed = counts[2].tolist()
    assert f"{2 * hits / (2 * hits + more + missed):.4f}" in found[found.index("Classes") :]


def test_a_run_that_goes_on(run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"steps": summary["steps"] - 1}))
    assert report(run, "--noimages").code == 0
    assert f"made longer since, to {summary['steps']} steps" in " ".join(read(run / "report.html").words)


def test_a_run_that_stopped_early(run):
    summary, config = (json.loads((run / name).read_text()) for name in ("summary.json", "config.json"))
    (run / "summary.json").write_text(json.dumps(summary | {"steps": summary["steps"] - 1, "unimproved": 3}))
    (run / "config.json").write_text(json.dumps(config | {"patience": 3}))
    origin = page.Origin("", (), ("--config=configs/cgan_seg.py", "--config.patience=3"))
    found = pages.read(page.page(run_files.read(run), origin, None, ""))
    text = " ".join(found.words)
    assert f"It stopped before step {summary['steps']}" in text
    assert "--config.patience=6" in text and "--config.steps" not in text


def test_text_of_others_is_escaped(run):
    summary = json.loads((run / "summary.json").read_text())
    summary["versions"]["<script>alert(1)</script>\x1b"] = "<b>"
    (run / "summary.json").write_text(json.dumps(summary))
    assert report(run, "--noimages").code == 0
    text = (run / "report.html").read_text()
    assert "<script" not in text and "<b>" not in text and "\x1b" not in text
    assert any("<script>alert(1)</script>\\x1b" in words for words in pages.read(text).words)


def test_damaged_samples_and_odd_logs_are_shown_as_what_they_are(run):
    for path in (run / "samples").glob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\nxx")
    lines = [{"step": n, "split": "val", "miou": value} for n, value in enumerate((True, "x", None, [1], 10**400))]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert report(run, "--noimages").code == 0
    assert any("is damaged" in words for words in read(run / "report.html").words)
    assert panels.curves(panels.read_records(run / "metrics.jsonl"))[:4] == b"\x89PNG"


def test_the_nearest_config_and_the_command_that_makes_the_run():
    config = nearest.config_files.project_config("semi_seg", "fixmatch,smoke")
    config.seed, config.dataset, config.data_dir = 3, "folder", "my data"
    config.optimizers.segmenter.learning_rate = 0.5
    config.num_classes, config.class_names = 2, ("a", "b")
    found = nearest.find(to_json(config))
    assert found.config == "configs/semi_seg.py:fixmatch,smoke"
    assert [row[0] for row in found.differences] == [
        "data_dir",
        "dataset",
        "optimizers.segmenter.learning_rate",
        "seed",
    ]
    assert "--config.seed=3" in found.arguments and "--config.data_dir=my data" in found.arguments
    assert nearest.find({**to_json(config), "method": "mine"}) is None


def test_the_confusion_matrix_in_shares_of_the_truth():
    matrix = np.array([[6, 2, 0], [0, 0, 0], [5, 0, 5]])
    found = pages.read(page.pages.page("x", scores.confusion(matrix, ("sky", "<i>", "car"))))
    place = found.words.index("sky", found.words.index("pixels"))
    assert found.words[place : place + 5] == ["sky", "75.0", "25.0", "0.0", "8"]
    assert found.words[-8:] == ["car", "sky", "50.0%", "5", "sky", "<i>", "25.0%", "2"]


def test_small_pictures_are_enlarged_and_large_ones_bounded():
    assert pages.picture(looks.picture(np.zeros((10, 40, 3), np.uint8))).size == (160, 40)
    assert pages.picture(looks.picture(np.zeros((2000, 500, 3), np.uint8))).size == (90, 360)

"""The command `compare`: scores and differences of runs, what it refuses, and its page."""

import json
import shutil

import numpy as np
import pytest

from gan_seg_jax.judging import bootstrap
from gan_seg_jax.reporting import comparison, run_files
from tests import pages, tiny_runs


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """The tiny run, and one that finds more: as if its network had labelled half of what was wrong right."""
    root = tmp_path_factory.mktemp("compare")
    for name in ("first", "better"):
        shutil.copytree(tiny.cgan, root / name, ignore=shutil.ignore_patterns("events.*"))
    path = root / "better" / "image_counts-test.json"
    found = json.loads(path.read_text())
    for image in found["images"]:
        for classes in image.values():
            classes[0], classes[1], classes[2] = (
                classes[0] + classes[2] // 2,
                classes[1] // 2,
                classes[2] - classes[2] // 2,
            )
    path.write_text(json.dumps(found))
    change(root / "better" / "summary.json", lambda summary: summary["test"].update(miou=0.75, boundary_f1=None))
    change(root / "better" / "config.json", lambda config: config.update(log_every=77))
    return root / "first", root / "better"


def change(path, edit):
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def compare(*args):
    return tiny_runs.command("compare", *args)


def test_differences_have_intervals_over_images(two, tmp_path):
    outcome = compare(*two, f"--output={tmp_path}/x.html", "--noimages")
    assert outcome.code == 0, outcome.err
    counts = [run_files.read(run).counts for run in two]
    low, high = bootstrap.bootstrap_difference({0: counts[0]}, {0: counts[1]})
    difference = float(np.diff([bootstrap.mean_iou(one.sum(axis=0)) for one in counts])[0])
    assert 0 < low < difference < high
    shown = f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"
    assert shown in outcome.out and "0.7500" in outcome.out
    found = pages.read((tmp_path / "x.html").read_text())
    assert shown in found.words and {"log_every", "77"} <= {*found.words}
    low, high = bootstrap.bootstrap_difference({0: counts[0]}, {0: counts[1]}, score=bootstrap.class_iou)
    assert sum(f"[{a:+.4f}, {b:+.4f}]" in words for a, b in zip(low, high, strict=True) for words in found.words) == 3


def test_the_same_images_side_by_side(two, tmp_path):
    assert compare(*two, f"--output={tmp_path}/x.html", "--count=2").code == 0
    found = pages.read((tmp_path / "x.html").read_text())
    counts = [bootstrap.mean_iou(run_files.read(run).counts) for run in two]
    places = np.argsort(-np.abs(counts[1] - counts[0]), kind="stable")[:2]
    assert [text for level, text in found.headings if level == "h3"] == [f"{place:03d}" for place in places]
    place = places[0]
    assert found.texts[:4] == [
        f"image of {place:03d}",
        f"truth of {place:03d}",
        f"first: {counts[0][place]:.3f} of {place:03d}",
        f"better: {counts[1][place]:.3f} of {place:03d}",
    ]
    assert len(found.pictures) == 8
    same = [np.asarray(found.pictures[number]) for number in (2, 3)]  # of one network
    np.testing.assert_array_equal(*same)


def test_a_run_that_is_not_finished_is_scored_by_its_network(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "killed")
    for name in ("summary.json", "image_counts-test.json"):
        (tmp_path / "killed" / name).unlink()
    refused = compare(two[0], tmp_path / "killed", f"--output={tmp_path}/x.html", "--noimages")
    assert refused.code == 2 and "killed is not finished" in refused.err and refused.err.count("\n") == 1
    outcome = compare(two[0], tmp_path / "killed", f"--output={tmp_path}/x.html")
    assert outcome.code == 0 and "+0.0000 [+0.0000, +0.0000]" in outcome.out


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("config.json", lambda config: config.update(dataset="camvid"), "the data sets differ"),
        ("summary.json", lambda summary: summary.update(test=None), "--split=val"),
        ("image_counts-test.json", lambda found: found["images"].pop(), "other images of test"),
        ("summary.json", lambda summary: summary.update(val=3), "summary.json is damaged"),
    ],
)
def test_runs_of_other_data_are_refused(two, tmp_path, file, edit, words):
    shutil.copytree(two[1], tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "checkpoints")  # which know the config, too
    change(tmp_path / "other" / file, edit)
    outcome = compare(two[0], tmp_path / "other", f"--output={tmp_path}/x.html", "--noimages")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and words in outcome.err and outcome.out == ""
    assert not (tmp_path / "x.html").exists()


def test_other_contents_of_the_split_are_refused(two):
    first, other = (run_files.read(run) for run in two)
    other = other._replace(data={**other.data, "test": "0" * 64})
    with pytest.raises(comparison.InputError, match="images or labels of test differ"):
        comparison.check({"a": first, "b": other}, "test")
    comparison.check({"a": first, "b": other}, "val")
    other.config.class_names = ("sky", "road", "bus")
    with pytest.raises(comparison.InputError, match="the classes differ, sky road car and sky road bus"):
        comparison.check({"a": first, "b": other}, "val")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "at least two"),
        (("a",), "at least two"),
        (("/nowhere", "b"), "/nowhere is not the folder of a run"),
        (("a", "b", "--split=train"), "split"),
        (("a", "b", "--output=."), "a folder"),
    ],
)
def test_bad_input_is_one_sentence(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = compare(*args)
    assert outcome.code == 2 and outcome.out == "" and outcome.err.count("\n") == 1 and words in outcome.err


def test_one_run_twice_is_refused(two):
    outcome = compare(two[0], f"{two[0]}/../first")
    assert outcome.code == 2 and "named twice" in outcome.err


def test_names_are_the_shortest_that_differ(two, tmp_path):
    for folder in ("a", "b"):
        shutil.copytree(two[0], tmp_path / folder / "run", ignore=shutil.ignore_patterns("checkpoints", "samples"))
    runs = [run_files.read(tmp_path / folder / "run") for folder in ("a", "b")]
    assert list(comparison.named(runs)) == ["a/run", "b/run"]
    assert list(comparison.named([runs[0], run_files.read(two[0])])) == ["run", "first"]

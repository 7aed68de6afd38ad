"""The collector on made-up records; the result tables of README.md and docs/."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))  # as for `python experiments/TABLE.py`

import answer
import collect
import costs
import intervals
import overview
import pages
import plans
import reading
import records
import tables
from reading import RecordsError, Table


def test_mean_interval_known_answers():
    mean, half = intervals.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0 and half == pytest.approx(1.9633, abs=1e-4)  # 2.7764 * sqrt(2.5 / 5)
    mean, half = intervals.mean_interval([0.4, None, 0.6])
    assert mean == pytest.approx(0.5) and half == pytest.approx(12.7062 * 0.1, abs=1e-4)
    assert intervals.mean_interval([0.4]) == (0.4, None)
    assert intervals.mean_interval([]) == intervals.mean_interval([None]) == (None, None)


def test_paired_differences_known_answers():
    pairs, mean, half = intervals.paired_differences({0: 0.1, 1: 0.5, 2: 0.3}, {0: 0.2, 1: 0.7, 2: None, 3: 0.9})
    assert pairs == 2 and mean == pytest.approx(0.15) and half == pytest.approx(12.7062 * 0.05, abs=1e-4)
    assert intervals.paired_differences({0: 0.25}, {0: 0.5}) == (1, 0.25, None)
    assert intervals.paired_differences({0: 0.25}, {1: 0.5}) == (0, None, None)


def test_paired_t_test_is_scipys():
    first, other = {0: 0.1, 1: 0.5, 2: 0.3, 3: None}, {0: 0.2, 1: 0.7, 2: 0.35, 3: 0.4}
    right = stats.ttest_rel([0.2, 0.7, 0.35], [0.1, 0.5, 0.3]).pvalue
    assert intervals.paired_p(first, other) == pytest.approx(right, rel=1e-9)
    assert intervals.paired_p(other, first) == pytest.approx(right, rel=1e-9)
    assert intervals.paired_p({0: 0.25}, {0: 0.5}) is None
    assert intervals.paired_p({0: 0.25, 1: 0.5}, {0: 0.25, 1: 0.5}) == 1
    # The same difference for every seed is no sample.
    assert intervals.paired_p({0: 0.41, 1: 0.31, 2: 0.21}, {0: 0.42, 1: 0.32, 2: 0.22}) is None
    assert intervals.paired_differences({0: 0.25, 1: 0.5}, {0: 0.5, 1: 0.75}) == (2, 0.25, None)


def test_holm_adjusts_for_the_family():
    # 4 * 0.005, 3 * 0.01, then 2 * 0.03 and, no smaller than that, 0.04
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.01, None, 0.005]) == pytest.approx([0.02, None, 0.015])  # one has not run yet
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0] and intervals.holm([]) == []


def listed(name, seeds, *, reference="", differs=None, arguments=None, source=""):
    """Return an arm as `table.json` lists it."""
    arguments = arguments or [f"--config={name}.py"]
    cells = [{"seed": seed, "arguments": arguments} for seed in seeds]
    return {"name": name, "reference": reference, "differs": differs or {}, "source": source, "cells": cells}


def write_table(folder, arms, **more):
    values = {"title": "Made up", "script": "made_up.py", "fixed": [], "arms": arms, **more}
    (folder / "table.json").write_text(json.dumps(values))


def made_up(folder, values, *, dataset="scenes", fixed=(), source="", **more):
    """Write records: `values` is arm -> seed -> mIoU, or None for a run without scores; `more` is in every record.

    All arms are compared with the first.
    """
    folder.mkdir(exist_ok=True)
    first = next(iter(values))
    arms = [
        listed(name, seeds, reference="" if name == first else first, source=source) for name, seeds in values.items()
    ]
    write_table(folder, arms, fixed=list(fixed))
    for arm, seeds in values.items():
        for seed, miou in seeds.items():
            scores = {"miou": miou, "iou_per_class": {"sky": miou, "car": None}}
            test = None if miou is None else scores
            config = {"dataset": dataset, "canvas_size": [8, 16], "crop_size": [8, 8], "resize": "fit", "batch_size": 4}
            record = {
                "arm": arm,
                "seed": seed,
                "status": "finished",
                "arguments": [f"--config={arm}.py"],
                "config": config,
                "date": "2020-01-02T03:04:05Z",
                "commit": "c" * 40,
                "dirty": seed == 1,
                "resumed": [],
                "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 7.7, "devices": ["cpu:0 cpu"]},
                "versions": {"jax": "0.0"},
                "seconds": 90.0,
                "images_per_second": 7.5,
                "steps": 30,
                "best_step": 30,
                "scores": {"val": None, "test": test, "baselines": {"majority": {"miou": 0.1}}},
            }
            record |= {name: values[arm][seed] for name, values in more.items()}
            (folder / f"{arm}-seed{seed}.json").write_text(json.dumps(record))


def test_table_of_several_seeds(tmp_path):
    made_up(tmp_path, {"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {0: 0.2, 1: 0.4, 2: 0.6}})
    text = collect.collect(tmp_path)
    # t(0.975, 2) = 4.3027; standard deviations 0.1 and 0.2, of the differences 0.1
    assert "| a | 3 | 0.2000 ± 0.2484 | - | - | - | 7.5 ± 0.0? | 1.5 ± 0.0? |" in text
    assert "| b | 3 | 0.4000 ± 0.4968 |" in text
    assert "| majority | 3 | 0.1000 ± 0.0000 | - | - | - | - | - |" in text
    assert "| b | a | 3 | +0.2000 ± 0.2484 | - | 0.074 | 0.074 | - | - | - |" in text
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
    assert "| b | a | 0 | - | - | - | - | - |" in text  # no pairs


def test_stale_and_unknown_records_are_named_not_shown(tmp_path):
    made_up(tmp_path, {"a": {0: 0.25}, "old": {0: 0.75}})
    write_table(tmp_path, [listed("a", (0,), arguments=["--config=new.py"])])
    text = collect.collect(tmp_path)
    assert "`a`, seed 0: its record is of other arguments (--config=a.py)." in text
    assert "`old-seed0.json`: of no arm." in text
    assert "0.2500" not in text and "0.7500" not in text and "No run is finished." in text


def test_a_damaged_record_is_named(tmp_path, capsys):
    made_up(tmp_path, {"a": {0: 0.25, 1: 0.5}})
    (tmp_path / "a-seed1.json").write_text('{"arm": "a", ')
    assert "`a`, seed 1: its record is damaged." in collect.collect(tmp_path)
    (tmp_path / "table.json").write_text("{")
    assert collect.main([str(tmp_path)]) == 2 and "or a damaged one" in capsys.readouterr().err


def test_a_record_of_a_field_that_was_renamed_since_counts(tmp_path):
    made_up(tmp_path, {"a": {0: 0.25}})
    record = json.loads((tmp_path / "a-seed0.json").read_text())
    record["arguments"] = ["--config=a.py", "--config.judge={workdir}/judge"]
    (tmp_path / "a-seed0.json").write_text(json.dumps(record))
    write_table(tmp_path, [listed("a", (0,), arguments=["--config=a.py", "--config.feature_network={workdir}/judge"])])
    assert "0.250" in collect.collect(tmp_path)
    write_table(tmp_path, [listed("a", (0,), arguments=["--config=a.py", "--config.feature_network={workdir}/other"])])
    assert "other arguments" in collect.collect(tmp_path)


def test_collect_refuses_what_is_no_table(tmp_path, capsys):
    assert collect.main([str(tmp_path)]) == 2
    assert "holds no table.json" in capsys.readouterr().err
    made_up(tmp_path, {"a": {0: 0.25}})
    made_up(tmp_path, {"b": {0: 0.25}}, dataset="camvid")
    write_table(tmp_path, [listed("a", (0,)), listed("b", (0,))])
    assert collect.main([str(tmp_path)]) == 2
    assert "runs on camvid, scenes" in capsys.readouterr().err


def test_each_arm_is_compared_with_its_own_reference(tmp_path):
    made_up(tmp_path, {"all": {0: 0.7}, "few": {0: 0.6, 1: 0.5}, "few-gan": {0: 0.65, 1: 0.55}})
    differs = {"labelled.fraction": [1.0, 0.05]}
    added = {"networks.ACTING.auxiliary": True, "networks.discriminator.layers": 3, "networks.discriminator.norm": "x"}
    game = {field: ["(absent)", value] for field, value in added.items()}
    write_table(
        tmp_path,
        [
            listed("all", (0,)),
            listed("few", (0, 1), reference="all", differs=differs),
            listed("few-gan", (0, 1), reference="few", differs=game),
        ],
    )
    text = collect.collect(tmp_path)
    assert "| few | all | 1 | -0.1000 | - | - | - | - |" in text
    assert "| few-gan | few | 2 | +0.0500 | - | - | - | - |" in text
    assert "\n| all |" not in text.split("## Differences to the reference")[1].split("##")[0]
    assert "- `few` from `all`: `labelled.fraction` 0.05 for 1.0." in text
    assert "- `few-gan` from `few`: `networks.ACTING.auxiliary` added, `networks.discriminator.*` added." in text


def random_counts(rng, quality, truth):
    """Return int [n, 2, 3]: of `truth` pixels of each class in each image, about a share `quality` is found."""
    hits = np.minimum(np.round(truth * np.clip(quality + 0.1 * rng.standard_normal(truth.shape), 0, 1)), truth)
    misses = truth - hits
    return np.stack([hits, misses[:, ::-1], misses], axis=-1).astype(np.int64)


def test_mean_iou_of_pooled_counts():
    counts = np.array([[[6, 2, 2], [0, 0, 0], [1, 1, 2]], [[0, 0, 0]] * 3])
    found = intervals.mean_iou(counts)
    assert found[0] == pytest.approx((0.6 + 0.25) / 2) and np.isnan(found[1])


def test_bootstrap_over_images_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(1)
    truth = rng.integers(200, 400, (150, 2))
    first = {0: random_counts(rng, 0.6, truth), 1: random_counts(rng, 0.6, truth)}
    other = {0: random_counts(rng, 0.7, truth), 1: random_counts(rng, 0.7, truth), 2: first[0]}
    low, high = intervals.bootstrap_difference(first, other)
    pooled = [np.mean([intervals.mean_iou(of[seed].sum(axis=0)) for seed in (0, 1)]) for of in (first, other)]
    difference = pooled[1] - pooled[0]

    def without(image):  # the jackknife gives the standard error in another way
        rows = np.arange(150) != image
        one, two = (
            np.mean([intervals.mean_iou(of[seed][rows].sum(axis=0)) for seed in (0, 1)]) for of in (first, other)
        )
        return two - one

    error = np.std([without(image) for image in range(150)]) * np.sqrt(149)
    assert low == pytest.approx(difference - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.15 * error)
    assert intervals.bootstrap_difference(first, other) == (low, high)  # the same draws every time


def test_the_bootstrap_is_paired_and_needs_the_same_images():
    rng = np.random.default_rng(2)
    truth = rng.integers(200, 400, (40, 2))
    counts = random_counts(rng, 0.6, truth)
    assert intervals.bootstrap_difference({0: counts}, {0: counts}) == (0.0, 0.0)
    assert intervals.bootstrap_difference({0: counts}, {1: counts}) is None
    assert intervals.bootstrap_difference({0: counts}, {0: counts[::-1]}) is None
    other = random_counts(rng, 0.6, rng.integers(200, 400, (50, 2)))  # every seed may have drawn its own images
    assert intervals.bootstrap_difference({0: counts, 1: other}, {0: counts, 1: other}) == (0.0, 0.0)


def test_the_interval_over_images_stands_in_the_table(tmp_path):
    rng = np.random.default_rng(3)
    truth = rng.integers(200, 400, (40, 2))
    counts = {"a": {0: random_counts(rng, 0.6, truth)}, "b": {0: random_counts(rng, 0.8, truth)}}
    packed = {arm: {seed: records.pack_counts(one) for seed, one in seeds.items()} for arm, seeds in counts.items()}
    edges = {
        arm: {0: {"val": None, "test": {"miou": miou, "edge_f1": 0.875}, "baselines": {}}}
        for arm, miou in (("a", 0.4), ("b", 0.6))
    }
    made_up(tmp_path, {"a": {0: 0.4}, "b": {0: 0.6}}, image_counts=packed, scores=edges)
    low, high = intervals.bootstrap_difference(counts["a"], counts["b"])
    assert f"| b | a | 1 | +0.2000 | [{low:+.4f}, {high:+.4f}] | - | - | - |" in collect.collect(tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["edge_f1"] for row in rows] == ["0.875", "0.875"] and rows[1]["images_seeds"] == "1"
    packed = {arm: {**seeds, 1: None} for arm, seeds in packed.items()}
    made_up(tmp_path, {"a": {0: 0.4, 1: 0.4}, "b": {0: 0.6, 1: 0.7}}, image_counts=packed)
    assert f" | [{low:+.4f}, {high:+.4f}] (n=1) | " in collect.collect(tmp_path)


@pytest.mark.parametrize(
    ("best", "validations", "stopped"),
    [
        (20, [[10, 0.1], [20, 0.3], [30, 0.2]], True),
        (30, [[10, 0.1], [30, 0.2]], False),
        (20, [], True),
        (30, [], False),
    ],
)
def test_validation_stopped_rising_where_the_best_step_is_not_the_last(best, validations, stopped):
    record = {"steps": 30, "best_step": best, "validations": validations}
    assert intervals.stopped_rising(record) is stopped


def test_compute_beside_that_of_the_reference(tmp_path):
    flops = {"a": {0: 2e15, 1: 4e15}, "b": {0: 6e15, 1: 6e15}, "old": {0: None}}
    labelled = {
        "a": {0: {"images": 5, "sha256": "x"}, 1: {"images": 5, "sha256": "y"}},
        "b": {0: {"images": 5, "sha256": "x"}, 1: {"images": 6, "sha256": "z"}},
        "old": {0: None},
    }
    made_up(tmp_path, {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.2, 1: 0.3}, "old": {0: 0.1}}, flops=flops, labelled=labelled)
    text = collect.collect(tmp_path)
    assert (
        "| a | 5 | 30 | 3 | - |" in text
        and "| b | 5 or 6 | 30 | 6 | 2.00 |" in text
        and "| old | - | 30 | - | - |" in text
    )
    assert "`b`, seed 1: its labelled images are not those of `a`." in text and "`b`, seed 0" not in text
    made_up(tmp_path, {"a": {0: 0.1}})
    assert "## Compute" not in collect.collect(tmp_path)


def test_a_table_for_other_programs(tmp_path):
    rng = np.random.default_rng(3)
    truth = rng.integers(200, 400, (40, 2))
    packed = {
        arm: {s: records.pack_counts(random_counts(rng, q, truth)) for s in (0, 1)}
        for arm, q in (("a_b", 0.6), ("c", 0.8))
    }
    packed["d"] = {0: None}
    values = {"a_b": {0: 0.4, 1: 0.41}, "c": {0: 0.6, 1: 0.62}, "d": {0: 0.45}}
    made_up(tmp_path, values, image_counts=packed)
    table = json.loads((tmp_path / "table.json").read_text())
    table["arms"][1]["published"] = {"value": 0.625, "source": "Author 2017, table 4"}
    (tmp_path / "table.json").write_text(json.dumps(table))
    text = collect.collect(tmp_path)
    assert "| c | 2 | 0.6100 ± 0.1271 | 0.625 | Author 2017, table 4 |" in text
    p = stats.ttest_rel([0.6, 0.62], [0.4, 0.41]).pvalue
    assert f"| {p:.3f} | {2 * p:.3f} |" in text and "adjusted for the 2 of this table, run or not" in text
    assert "![Differences with both intervals](differences.png)" in text and "[CSV](table.csv)" in text
    with Image.open(tmp_path / "differences.png") as picture:
        assert picture.width == 700 and len(picture.getcolors(2**20)) > 10
    rows = {row["arm"]: row for row in csv.DictReader((tmp_path / "table.csv").read_text().splitlines())}
    assert list(rows) == ["a_b", "c", "d", "majority"] and rows["majority"]["difference"] == ""
    assert float(rows["c"]["miou"]) == pytest.approx(0.61) and float(rows["c"]["miou_half"]) == pytest.approx(0.127062)
    low, high = (float(rows["c"][name]) for name in ("images_low", "images_high"))
    assert f"[{low:+.4f}, {high:+.4f}]" in text and rows["c"]["pairs"] == "2" and rows["d"]["p"] == ""
    assert (float(rows["c"]["p"]), rows["c"]["published"]) == (pytest.approx(p, rel=1e-5), "0.625")
    latex = (tmp_path / "table.tex").read_text()
    assert (
        rf"c & 2 & $0.6100 \pm 0.1271$ & a\_b & $+0.2050 \pm 0.0635$ & $[{low:+.4f}, {high:+.4f}]$ & ${2 * p:.3f}$ \\"
        in latex
    )
    assert latex.startswith("% Data: `scenes`") and latex.count("&") == 6 * 5
    # Without a finished run there is nothing to export.
    for path in tmp_path.glob("*-seed*.json"):
        path.unlink()
    collect.collect(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "table.json"}


def test_the_header_says_in_how_many_cells_validation_had_not_stopped_rising(tmp_path):
    made_up(tmp_path, {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.2}}, best_step={"a": {0: 30, 1: 20}, "b": {0: 30}})
    assert "In 2 of 3 cells the best step was the last; more steps" in collect.collect(tmp_path)
    found = [[10, 0.3], [20, None], [29, 0.1], [30, 0.14]]
    made_up(tmp_path, {"a": {0: 0.1}, "b": {0: 0.2}}, validations={"a": {0: found}, "b": {0: found}})
    text = "In 2 of 2 cells the best step was the last, the last validation +0.040 from the one before in the median"
    assert text in collect.collect(tmp_path)


def test_what_is_held_fixed_and_what_adaptation_chose_by_is_said(tmp_path):
    scored = {
        arm: {
            0: {
                "val": None,
                "test": {"miou": miou},
                "baselines": {},
                "last": {"step": 30, "val": None, "test": {"miou": miou - 0.1}},
            }
        }
        for arm, miou in (("a", 0.5), ("b", 0.7))
    }
    made_up(tmp_path, {"a": {0: 0.5}, "b": {0: 0.7}}, fixed=["scenes.seed"], source="scenes", scores=scored)
    text = collect.collect(tmp_path)
    assert "The same for all seeds, so no interval is over other draws: `scenes.seed`." in text
    assert "The step was chosen by labels of the target's val split" in text
    assert "## Scores of the last step" in text and "| b | 1 | 0.6000 | - | - | - | a | +0.2000 |" in text
    short = pages.summary(tmp_path)
    assert (
        "in 2 of 2 runs the best step was the last" in short and "| b | 1 | 0.700 | a | +0.2000 | - | 0.600 |" in short
    )
    made_up(tmp_path, {"a": {0: 0.5}, "b": {0: 0.7}})
    text = collect.collect(tmp_path)
    assert "The same for all seeds" not in text and "labels of the target" not in text and "last step\n" not in text


def test_speeds_beside_other_work_are_marked(tmp_path):
    def load(share):
        return None if share is None else [{"other_cpu_share": share}]

    made_up(
        tmp_path,
        {"alone": {0: 0.1}, "beside": {0: 0.1, 1: 0.1}, "unknown": {0: 0.1}},
        load={"alone": {0: load(0.01)}, "beside": {0: load(0.4), 1: load(0.0)}, "unknown": {0: load(None)}},
    )
    text = collect.collect(tmp_path)
    rows = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    marks = {row["arm"]: row["beside_other_work"] for row in rows}
    assert marks == {"alone": "no", "beside": "yes", "unknown": "unknown", "majority": ""}
    assert "| alone | 1 | 0.1000 | - | - | - | 7.5 | 1.5 |" in text
    assert "| 7.5 ± 0.0* | 1.5 ± 0.0* |" in text and "| unknown | 1 | 0.1000 | - | - | - | 7.5? | 1.5? |" in text
    assert (
        "\\*: measured beside other cells of the table, or work that" in text
        and "?: other work beside it was not noted" in text
    )


# README.md and docs/


def test_some_arms_of_a_table_and_no_others(tmp_path):
    values = {"gan": {0: 0.5}, "gan-longer": {0: 0.6}, "gandalf": {0: 0.7}, "alone": {0: 0.4}, "late": {}}
    made_up(tmp_path / "made", values)
    text = pages.with_results("<!-- results: made gan late -->\n\n<!-- end of results -->", tmp_path)
    assert "| gan | 1 | 0.500 |" in text and "| gan-longer | 1 | 0.600 |" in text
    assert "gandalf" not in text and "alone" not in text and "Not run yet: `late`." in text
    assert "in 2 of 2 runs" in text and pages.with_results(text, tmp_path) == text
    with pytest.raises(RecordsError, match="no arm gen; there are gan, gan-longer"):
        pages.summary(tmp_path / "made", ["gen"])


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_tables_of_the_pages_are_what_the_records_give(page):
    text = (pages.ROOT / page).read_text()
    blocks = pages.BLOCK.findall(text)
    assert len(blocks) == text.count("<!-- results: ") == text.count("<!-- end of results -->")
    assert blocks or "docs/methods" in page
    assert pages.with_results(text) == text, "run `python experiments/collect.py --readme`"


def test_every_table_of_the_records_is_on_the_page_of_results():
    shown = {name for _, name, _ in pages.BLOCK.findall((pages.ROOT / "docs" / "results.md").read_text())}
    assert shown - pages.OTHERS.keys() == {path.parent.name for path in pages.RESULTS.glob("*/table.json")}


@pytest.mark.parametrize("folder", sorted(path.parent for path in pages.RESULTS.glob("*/table.json")))
def test_the_tables_beside_the_records_are_what_the_records_give(folder):
    for name, text in collect.made(Table(folder)).items():
        path = folder / name
        assert path.exists() and path.read_text() == text, f"run `python experiments/collect.py {folder}`"


@pytest.mark.parametrize(("page", "heading"), [("README.md", "## Results"), ("docs/results.md", "# Results")])
def test_no_number_of_a_result_stands_outside_of_the_tables(page, heading):
    section = pages.BLOCK.sub("", (pages.ROOT / page).read_text()).split(heading)[1]
    if heading.startswith("##"):
        section = section.split("\n## ")[0]
    assert not re.findall(r"\b0\.\d+", section)


def test_a_short_table(tmp_path):
    made_up(tmp_path / "made", {"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {0: 0.2, 1: 0.4, 2: 0.6}, "c": {}})
    text = "before\n<!-- results: made -->\nold\n<!-- end of results -->\nafter\n"
    new = pages.with_results(text, tmp_path)
    assert "| b | 3 | 0.400 ± 0.497 | a | +0.2000 ± 0.2484 | - |" in new and "old" not in new
    assert "in 6 of 6 runs the best step was the last" in new and "Not run yet: `c`." in new
    assert new.startswith("before\n<!-- results: made -->\n") and new.endswith("<!-- end of results -->\nafter\n")
    assert pages.with_results(new, tmp_path) == new


def test_rare_classes_come_first_where_a_table_is_about_them(tmp_path):
    def scored(rare):
        confusion = ["970 0 0", "5 5 0", "0 0 0"]  # the second has a hundredth of the pixels, the third none
        return {"miou": 0.5, "iou_per_class": {"sky": 0.9, "pole": rare, "car": None}, "confusion": confusion}

    assert reading._rare_iou(scored(0.25)) == {"rare_miou": 0.25}
    assert reading._rare_iou({"miou": 0.5}) == {"rare_miou": None}
    rows = {"a": {0: scored(0.25) | reading._rare_iou(scored(0.25))}}
    assert next(iter(tables.columns(rows))) == "rare_miou" and next(iter(tables.columns({"a": {0: {}}}))) == "miou"
    # Over images: the rare class of each has an IoU of a half, and of 1 with the other arm; the common one is the same.
    counts = np.tile(np.int64([[990, 10, 0], [10, 0, 10]]), (8, 1, 1))
    better = np.tile(np.int64([[990, 10, 0], [20, 0, 0]]), (8, 1, 1))
    arms = [[{"seed": 0, "image_counts": records.pack_counts(one)}] for one in (better, counts)]
    assert tables.image_bounds(*arms, "rare_miou") == ((0.5, 0.5), 1)
    assert tables.image_bounds(*arms) == (pytest.approx((0.25, 0.25)), 1)
    assert tables.image_bounds(*arms, "frechet") == (None, 0)


def test_a_segmenter_in_a_table_of_generators_has_its_miou(tmp_path):
    rows = {"segmenter": {0: {"miou": 0.5}}, "gan": {0: {"frechet": 10.0}}}
    names = list(tables.shown_columns(rows))
    assert (names[0], names[-1]) == ("frechet", "miou")


def test_what_finds_wrong_pixels_is_a_table(tmp_path):
    def judged(entropy, discriminator):
        errors = {"entropy": {"aupr": entropy, "wrong_share": 0.1}}
        found = {"errors_found": errors, "calibration": {"before": {"ece": 0.02}}, "real_fake": None}
        if discriminator is not None:
            errors["discriminator"] = {"aupr": discriminator, "wrong_share": 0.1}
            found["real_fake"] = {"by_patch": {"soft": {"auc": 0.9}}}
        return {"judgings": {"test": found}}

    arms = {"control": [judged(0.5, None), judged(0.7, None)], "game": [judged(0.6, 0.2)], "not judged": [{}]}
    lines = tables.judgings_table(arms, "test").splitlines()
    assert lines[0].startswith(
        "| AUPR of wrong pixels | n | entropy | discriminator | discriminator - entropy | chance | ECE |"
    )
    assert lines[2] == "| control | 2 | 0.600 ± 1.271 | - | - | 0.100 ± 0.000 | 0.020 ± 0.000 | - |"
    assert lines[3] == "| game | 1 | 0.600 | 0.200 | -0.400 | 0.100 | 0.020 | 0.900 |" and len(lines) == 4


def test_scores_of_single_images_and_of_the_game_are_tables():
    def record(seed, dice, accuracy):
        means = {"unit": "pixels", "dice_per_class": {"sky": dice}, "hd95_per_class": {"sky": 10 * dice}}
        evaluations = {"test": {"split": "test", "miou": 0.5, "per_image": means}}
        return {"seed": seed, "evaluations": evaluations, "game": {"discriminator_accuracy": accuracy}}

    arms = {
        "control": [record(0, 0.5, 0.9), record(1, 0.6, 0.8)],
        "other": [record(1, 0.8, 0.5)],
        "plain": [{"seed": 0}],
    }
    lines = tables.per_image_table(arms, {"other": "control"}).splitlines()
    assert lines[0] == "|  | n | Dice, sky | difference | HD95 (pixels), sky | difference |"
    assert lines[2].startswith("| control | 2 | 0.5500 ± 0.6353 |  | 5.50 ± 6.35 |")
    assert lines[3] == "| other | 1 | 0.8000 | +0.2000 | 8.00 | +2.0000 |" and len(lines) == 4
    lines = tables.game_table(arms).splitlines()
    assert lines[0] == "|  | n | discriminator accuracy |" and lines[3] == "| other | 1 | 0.500 |" and len(lines) == 4
    none = {"plain": [{"seed": 0}]}
    assert tables.per_image_table(none, {}) == tables.game_table(none) == tables.evaluations_table(none) == ""


def test_gains_are_differences_to_the_same_path_without_the_discriminator(tmp_path):
    made_up(tmp_path / "made", {"lambda0": {0: 0.1, 1: 0.2}, "gan": {0: 0.2, 1: 0.4, 2: 0.9}, "late": {}})
    made_up(tmp_path / "other", {"supervised": {0: 0.1}, "gan": {0: 0.2}})
    text = pages.gains(tmp_path)
    # t(0.975, 1) = 12.7062; the third seed of `gan` has no partner
    assert "| gan (`made`) | 2 | 0.150 ± 0.635 | 0.300 ± 1.271 | +0.1500 ± 0.6353 | - |" in text
    assert "`other`" not in text and text.endswith("Not run yet: 1 of 2 such pairs.")


def test_plans_of_slices_are_a_table_with_those_that_do_not_fit(tmp_path):
    assert "Not run yet" in plans.summary(tmp_path)
    shared = {"config": "a.py:b", "dtype": "bfloat16", "crop_size": [64, 96], "classes": 5}
    memory = {"total": 3 * 2**30, "hbm": 4 * 2**30}
    fits = {"slice": "v5e-4", "batch": 8, "memory": memory, "seconds": {"step": 0.0125}, "bound": "traffic"}
    fits |= {"images_per_second": 1234.5, "share_of_peak": 0.25, "flops_per_chip": 5e11, "bytes_moved_per_chip": 3e9}
    fits["images_read_per_second_of_a_host"] = 617.25
    fits["collectives"] = {"all-reduce": {"count": 7, "bytes": 2e6}}
    large = {"slice": "v5e-8", "batch": 64, "memory": memory | {"total": 9 * 2**30}}
    crashed = {"slice": "v6e-8", "batch": 64, "crashed": True}
    record = shared | {"versions": {"jax": "1", "libtpu": "2"}, "slices": [fits, large, crashed]}
    (tmp_path / "a.json").write_text(json.dumps(record))
    text = plans.summary(tmp_path)
    assert text.startswith("By jax 1 and libtpu 2; 64x96, bfloat16, 5 classes:")
    row = "| 3.0 of 4.0 | 0.500 | 3.0 | 7 all-reduce of 2.0 MB | 12.5 | traffic | 1,234 | 617 | 25% |"
    assert f"| a.py:b | 2 | v5e-4 | 8 {row}" in text
    assert "| a.py:b | 2 | v5e-8 | 64 | 9.0 of 4.0 | does not fit |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_costs_name_arms_of_the_full_tables_and_follow_from_plans(tmp_path):
    for name, (_, dearest) in costs.TABLES.items():
        assert dearest in {arm.name for arm in importlib.import_module(name).FULL}, name
    assert "Not run yet" in costs.summary(tmp_path)
    # deeplab: 11 arms x 3 seeds x 30,000 steps; 0.04 s of a v5e chip, a hundredth of a second of an H200
    plan = {"seconds": {"step": 0.04}, "flops": costs.H200 * costs.SHARE * 0.01}
    (tmp_path / "deeplab.json").write_text(json.dumps({"control": plan, "dearest": {"flops": plan["flops"] * 4}}))
    text = costs.summary(tmp_path)
    assert "| `python experiments/deeplab.py --profile=full` | 33 | 990,000 | 11 to does not fit | 3 to 11 |" in text
    (tmp_path / "deeplab.json").write_text(json.dumps({"control": plan, "dearest": {"fits": False}}))  # nor an H200
    assert "| 11 to does not fit | 3 to does not fit |" in costs.summary(tmp_path)


def test_answer_says_of_each_kind_what_is_sure_and_where(tmp_path):
    assert "Not run yet" in answer.summary(tmp_path)
    values = {"all-scratch-supervised": [0.3, 0.4, 0.5], "all-scratch-cgan-lambda0": [0.3, 0.4, 0.5]}
    values["all-scratch-luc"] = [0.4, 0.501, 0.602]  # +0.101 ± 0.0025: p = 3e-5
    values["all-scratch-longer"] = [0.2, 0.5, 0.5]
    folder = tmp_path / "question_camvid"
    made_up(folder, {name: dict(enumerate(found)) for name, found in values.items()})
    text = answer.summary(tmp_path)
    told = "+0.101 (a discriminator of masks; CamVid, all labels, from scratch)"
    assert f"- **GANs**: {told}; 1 of 1 surely above zero, 0 surely below; no interval ends above +0.103." in text
    assert (
        "- **More steps**: 0.000 (longer training; CamVid, all labels, from scratch); 0 of 1 surely above zero" in text
    )
    assert "fewer than" not in text
    assert "| CamVid | all labels, from scratch |" in text and "nuclei" not in text and "rivals" not in text.lower()
    assert "| a discriminator of masks | **+0.101 ± 0.002** |" in text
    assert "| longer training | 0.000 ± 0.248 |" in text
    values |= {"all-scratch-cgan": [0.5, 0.6], "all-lite0-luc": [0.3, 0.3, 0.3]}  # all against the first arm
    made_up(folder, {name: dict(enumerate(found)) for name, found in values.items()})
    text = answer.summary(tmp_path)
    told = "0.000 in the mean, -0.100 (a discriminator of masks; CamVid, all labels, over"
    assert f"- **GANs**: 1 of 2 surely above zero, 0 surely below; no interval ends above +0.148; {told}" in text
    assert "- Not run yet, or in fewer than 3 seeds: 1 of 5 differences." in text and "conditional GAN |" not in text
    answer.plot(tmp_path, tmp_path / "answer.png")
    assert (tmp_path / "answer.png").stat().st_size > 1000


def test_answer_names_every_arm_of_the_question():
    for name in answer.TABLES:
        for arm in importlib.import_module(name).ARMS:
            labels, start, method = arm.name.split("-", 2)
            assert labels in answer.LABELS and start in answer.STARTS, arm.name
            assert method in answer.METHODS or method == "supervised", arm.name


def test_overview_has_every_table_with_what_is_run_of_it(tmp_path):
    scores = {"control": [0.3, 0.4, 0.35], "small": [0.31, 0.41, 0.36], "large": [0.1, 0.3, 0.2], "two": [0.9, 0.8]}
    made_up(tmp_path / "made", {name: dict(enumerate(found)) for name, found in scores.items()})
    made_up(tmp_path / "question_later", {"control": {}})
    rows = overview.summary(tmp_path).splitlines()[2:]
    assert rows[0].startswith("| [") and "(results/question_later/README.md)" in rows[0] and "| 0 of 0 |" in rows[0]
    assert "| 11 of 11 | 1.5" in rows[1]
    assert "control: mIoU 0.350 ± 0.124 | large: -0.150 ± 0.124 | 0 of 1 |" in rows[1]

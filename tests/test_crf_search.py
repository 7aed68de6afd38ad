"""The search of the CRF's widths and weights: that it finds what there is to find, and what the command leaves."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

from gan_seg_jax import crf_search, parallel
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import scoring
from gan_seg_jax.inference.options import CRF_FILE
from gan_seg_jax.postprocess.crf import CRFParameters
from tests import tiny_runs
from tests.red_channel import METHOD, STATE, coded_split, make_config


def hill(top):
    """Return a score that falls with the distance from `top`, each value as a ratio."""
    return lambda parameters, kept: -sum(math.log(x / y) ** 2 for x, y in zip(parameters, top, strict=True))


@pytest.mark.parametrize(
    "top",
    [
        CRFParameters(3.0, 1.0, 3.0, 30.0, 8.0),
        CRFParameters(5.0, 1.3, 2.0, 40.0, 15.0),
        CRFParameters(2.2, 0.7, 10.0, 8.0, 3.0),
        CRFParameters(),
    ],
)
def test_the_best_is_found_to_a_factor(top):
    tried = []
    best = crf_search.search(hill(top), [{}] * 8, tried.append)
    assert all(1 / 1.35 < x / y < 1.35 for x, y in zip(best, top, strict=True))
    assert hill(top)(best, []) == max(candidate["miou"] for candidate in tried if candidate["batches"] == 8)
    assert {candidate["batches"] for candidate in tried[:27]} == {2} and len(tried) <= 27 + 4 + 20


def test_nothing_better_than_deeplabs_settings_leaves_them():
    best = crf_search.search(lambda parameters, kept: float(parameters == CRFParameters()), [{}], lambda _: None)
    assert best == CRFParameters()


def test_images_are_spread_and_so_is_their_first_quarter():
    split = tiny_runs.memory_split(33)
    part = crf_search.spread(split, 9)
    assert sorted(part.rows) == list(range(0, 33, 4)) and part.rows[:3] == (0, 16, 32)
    assert part.sizes().tolist() == split.sizes()[:9].tolist() and len(part) == 9
    np.testing.assert_array_equal(part[1]["label"], split[16]["label"])
    assert sorted(crf_search.spread(split, 1000).rows) == list(range(33))
    assert crf_search.spread(split, 1).rows == (0,)


class Run:
    """What the search reads of a run."""

    method, state = METHOD, STATE

    def __init__(self, batch_size):
        self.config = make_config(batch_size=batch_size)


def scored(split, devices, batch_size, parameters):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    kept = crf_search.network_scores(Run(batch_size), split, mesh)
    miou = crf_search.make_miou(3, mesh)
    return [miou(candidate, kept) for candidate in parameters]


@pytest.fixture
def exact(monkeypatch):
    """The brute-force CRF, which compiles faster, and a list that grows whenever it is traced."""
    traced, plain = [], scoring.crf.mean_field
    monkeypatch.setattr(scoring.crf, "mean_field", lambda *a: traced.append(1) or plain(*a, method="exact"))
    return traced


def test_the_score_is_the_evaluation(exact):
    """mIoU without CRF of wrong pixels by hand; with it on any number of devices the same."""
    split, parameters = (
        coded_split(5, errors=0.3),
        CRFParameters(bilateral_weight=20.0, bilateral_xy=5.0, bilateral_rgb=80.0),
    )
    truth = np.concatenate([label.ravel() for label in split.labels])
    found = np.concatenate([image[..., 0].ravel() // 40 for image in split.images])
    found = found[truth != 255]
    truth = truth[truth != 255]
    iou = [np.sum((truth == k) & (found == k)) / np.sum((truth == k) | (found == k)) for k in range(3)]
    one = scored(split, 1, 2, (None, parameters))
    assert one[0] == pytest.approx(np.mean(iou), abs=1e-12)
    assert one[1] != one[0]
    assert scored(split, 4, 4, (None, parameters)) == one


def test_all_candidates_share_one_program(exact):
    scored(coded_split(2, errors=0.3), 1, 2, [CRFParameters(bilateral_xy=x) for x in (3.0, 5, 7.5)])
    assert len(exact) == 1


def test_images_without_labels_are_named():
    void, labelled = {"label": np.full((1, 2, 3), 255)}, {"label": np.array([[[255, 2, 255]]])}
    crf_search.check_labelled([void, labelled], 3)
    with pytest.raises(InputError, match="labelled pixel"):
        crf_search.check_labelled([void, labelled], 2)


# The command


@pytest.fixture
def workdir(tiny, tmp_path):
    return shutil.copytree(tiny.cgan, tmp_path / "run")


def test_the_command_writes_what_evaluate_uses(workdir, exact):
    outcome = tiny_runs.command("crf_search", f"--workdir={workdir}", "--images=3")
    assert outcome.code == 0, outcome.err
    found = json.loads((workdir / CRF_FILE).read_text())
    best = max(candidate["miou"] for candidate in found["candidates"])
    assert found["miou"] == best >= found["miou_deeplab"] and 0 <= found["miou_before"] <= 1
    assert found["split"] == "val" and found["images"] == 3 and set(found["parameters"]) == set(CRFParameters._fields)
    assert f"{found['miou']:.4f} with the best" in outcome.out
    scored = tiny_runs.command("evaluate", f"--workdir={workdir}", "--crf", "--split=val")
    assert scored.code == 0, scored.err
    written = json.loads((workdir / "evaluation-val-crf.json").read_text())
    assert written["options"]["crf"] == found["parameters"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--split=test",), "never on what is tested"),
        (("--images=0",), "--images is 0"),
        (("--workdir=",), "--workdir"),
        (("--checkpoint=99",), "99"),
        (("--data_dir=/nowhere",), "/nowhere"),
        (("--crf",), "crf"),
    ],
)
def test_bad_arguments(workdir, args, words):
    before = sorted(workdir.rglob("*"))
    outcome = tiny_runs.command("crf_search", f"--workdir={workdir}", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    assert sorted(workdir.rglob("*")) == before

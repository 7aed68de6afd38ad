"""Scores of a split: every image once at its own size, on any number of devices, equal to scikit-learn's numbers."""

import itertools
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from gan_seg_jax import parallel
from gan_seg_jax.augment import resample
from gan_seg_jax.data import pipeline
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import scoring
from gan_seg_jax.inference.options import CRF_FILE, PLAIN, Options
from gan_seg_jax.judging.counts import score_labelling
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.postprocess import morphology
from gan_seg_jax.postprocess.crf import CRFParameters
from gan_seg_jax.system.files import write_json
from gan_seg_jax.tasks import segmentation
from tests import tiny_runs
from tests.red_channel import METHOD, STATE, coded_split, make_config, read_class


def score(split, *, devices=4, options=PLAIN, **fields):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return segmentation.Evaluator(METHOD, make_config(**fields), split, mesh, options=options)(STATE)


def expected(split) -> dict:
    """Return scikit-learn's numbers for predictions read off the red channel."""
    truth = np.concatenate([label.ravel() for label in split.labels])
    found = np.concatenate([image[..., 0].ravel() // 40 for image in split.images])
    truth, found = truth[truth != IGNORE], found[truth != IGNORE]
    iou = sklearn_metrics.jaccard_score(truth, found, labels=[0, 1, 2], average=None)
    recall = sklearn_metrics.recall_score(truth, found, labels=[0, 1, 2], average=None)
    return {
        "iou_per_class": dict(zip(tiny_runs.INFO.class_names, iou, strict=True)),
        "miou": iou.mean(),
        "pixel_accuracy": sklearn_metrics.accuracy_score(truth, found),
        "mean_accuracy": recall.mean(),
    }


@pytest.mark.parametrize("count", [1, 9])
def test_scores_are_scikit_learns(count):
    split = coded_split(count, errors=0.3)
    found, right = score(split), expected(split)
    for name in ("miou", "pixel_accuracy", "mean_accuracy"):
        assert found[name] == pytest.approx(right[name], abs=1e-12), name
    assert found["iou_per_class"] == pytest.approx(right["iou_per_class"], abs=1e-12)
    assert 0 < found["boundary_f1"] < 1
    truth = np.concatenate([label.ravel() for label in split.labels])
    predicted = np.concatenate([image[..., 0].ravel() // 40 for image in split.images])[truth != IGNORE]
    matrix = sklearn_metrics.confusion_matrix(truth[truth != IGNORE], predicted, labels=[0, 1, 2])
    assert found["confusion"] == matrix.tolist()


def test_a_perfect_labelling_scores_one():
    found = score(coded_split(5, errors=0.0))
    assert (found["miou"], found["pixel_accuracy"], found["mean_accuracy"], found["boundary_f1"]) == (
        1.0,
        1.0,
        1.0,
        1.0,
    )


def test_scores_do_not_depend_on_batches_and_devices():
    split = coded_split(9, errors=0.3)
    kinds = [(1, 1), (1, 4), (4, 4), (2, 8), (4, 12)]
    found = [score(split, devices=devices, batch_size=batch_size) for devices, batch_size in kinds]
    assert all(scores == found[0] for scores in found)


def test_the_same_counts_come_from_score_labelling():
    split = coded_split(7, errors=0.2)
    assert score_labelling(lambda image: image[..., 0] // 40, split, tiny_runs.INFO.class_names) == score(split)


def test_counts_of_single_images_add_up_to_the_split():
    split, counts = coded_split(9, errors=0.3), {}
    evaluator = segmentation.Evaluator(METHOD, make_config(), split, parallel.make_mesh())
    scores = evaluator(STATE, image_counts=counts)
    hits, alarms, misses = sum(counts.values()).T
    assert sorted(counts) == list(range(9))
    assert list(scores["iou_per_class"].values()) == pytest.approx(hits / (hits + alarms + misses), abs=1e-12)


def test_evaluation_compiles_once_and_polls_between_batches():
    split, polls = coded_split(9, errors=0.2), []
    evaluator = segmentation.Evaluator(METHOD, make_config(), split, parallel.make_mesh())
    for _ in range(2):
        evaluator(STATE, poll=lambda: polls.append(1))
    assert evaluator._label._look._cache_size() == evaluator._label._choose._cache_size() == 1
    assert len(polls) == 6
    other = coded_split(5, errors=0.4)
    assert evaluator.on(other)(STATE) == score(other) != evaluator(STATE) == score(split)
    assert evaluator._label._look._cache_size() == 1


def test_the_sheet_compiles_the_network_once_for_images_of_many_sizes():
    calls = []

    def predict(nets, batch, rng, config):
        calls.append(batch["labelled"]["image"].shape)
        return read_class(nets, batch, rng, config)

    method = types.SimpleNamespace(**{**vars(METHOD), "predict": predict})
    split = coded_split(4, errors=0.0)
    config = make_config(resize="fit", canvas_size=(16, 24), crop_size=(16, 24))
    sheet = segmentation.SampleSheet(method, config, split)
    assert len({label.shape for label in split.labels}) == 4
    assert sheet(STATE).dtype == np.uint8 and len(calls) == 1
    other = coded_split(9, errors=0.3)
    moved, fresh = sheet.on(other)(STATE), segmentation.SampleSheet(METHOD, config, other)(STATE)
    assert len(calls) == 1 and np.array_equal(moved, fresh) and not np.array_equal(moved, sheet(STATE))


def test_a_poll_that_raises_ends_the_evaluation():
    def poll():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segmentation.Evaluator(METHOD, make_config(), coded_split(9, errors=0.2), parallel.make_mesh())(
            STATE, poll=poll
        )


def test_an_absent_class_is_null_and_a_void_split_has_no_scores():
    split = coded_split(3, errors=0.0)
    void = tiny_runs.MemorySplit(
        split.info, "val", split.images, tuple(np.full_like(label, IGNORE) for label in split.labels)
    )
    scores = score(void)
    assert scores["miou"] is None and scores["pixel_accuracy"] is None
    flat = tuple(np.zeros_like(label) for label in split.labels)
    images = tuple(np.zeros_like(image) for image in split.images)
    scores = score(tiny_runs.MemorySplit(split.info, "val", images, flat))
    assert scores["iou_per_class"] == {"sky": 1.0, "road": None, "car": None} and scores["miou"] == 1.0
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize("target", [(12, 20), (5, 7), (30, 9), (1, 1)])
def test_logits_are_resized_to_the_label_as_jax_does(target):
    logits = jax.random.normal(jax.random.key(0), (2, 10, 14, 3))
    contents, out_size = np.array([(10, 14), (7, 9)], np.int32), (30, 20)
    found = resample.resize_bilinear(logits, jnp.array(contents), jnp.array([target] * 2, jnp.int32), out_size=out_size)
    for row, (height, width) in enumerate(contents):
        right = jax.image.resize(logits[row, :height, :width], (*target, 3), "bilinear")
        np.testing.assert_allclose(found[row, : target[0], : target[1]], right, atol=2e-6)


def test_predictions_are_made_at_the_labels_own_size():
    """Scaled to the canvas and back: the whole path equals each image's by itself."""
    split, config = coded_split(4, errors=0.0), make_config(resize="fit", canvas_size=(10, 14), crop_size=(10, 14))
    batch = next(iter(pipeline.eval_batches(split, config)))
    label = scoring.Labeller(METHOD, config, PLAIN, parallel.make_mesh())
    size = batch.pop("label").shape[1:]
    chosen, confidence = label(STATE, batch, size)
    for row, (height, width) in enumerate(batch["size"]):
        rows, columns = batch["content"][row]
        image = jnp.asarray(batch["image"][row : row + 1, :rows, :columns], jnp.float32) / 127.5 - 1.0
        logits = read_class(None, {"labelled": {"image": image}}, None, config)[0]
        logits = jax.image.resize(logits, (height, width, 3), "bilinear")
        agreement = np.mean(np.asarray(jnp.argmax(logits, axis=-1)) == chosen[row, :height, :width])
        assert agreement > 0.995
        right = jnp.max(jax.nn.softmax(logits), axis=-1)
        np.testing.assert_allclose(confidence[row, :height, :width], right, atol=1e-4)


# Options


ALL = Options(scales=(0.5, 1.0, 1.5), flip=True, window=(8, 16), crf=CRFParameters(bilateral_xy=4.0), min_region=3)


def test_options_do_not_depend_on_batches_and_devices(exact_crf):
    split = coded_split(6, errors=0.2)
    found = [score(split, options=ALL, devices=devices, batch_size=size) for devices, size in ((1, 3), (4, 4), (2, 8))]
    assert all(scores == found[0] for scores in found)
    assert found[0] != score(split)


@pytest.mark.parametrize("options", [{"flip": True}, {"window": (8, 16)}, {"flip": True, "window": (5, 7)}])
def test_where_every_pixel_stands_alone_flips_and_windows_change_nothing(options):
    split = coded_split(6, errors=0.3)
    assert score(split, options=Options(**options)) == score(split)


def test_cleaned_maps_are_scored_like_any_others():
    split = coded_split(6, errors=0.1)

    def predict(image):
        return morphology.clean(image[..., 0] // 40, opening=1, min_region=20, num_classes=3)

    right = score_labelling(predict, split, tiny_runs.INFO.class_names)
    assert score(split, options=Options(opening=1, min_region=20)) == right
    assert right["miou"] > score(split)["miou"] + 0.02  # single wrong pixels are gone


# The command


@pytest.fixture
def workdir(tiny, tmp_path):
    return shutil.copytree(tiny.cgan, tmp_path / "run")


def test_the_command_finds_the_scores_of_the_training(workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    for split in ("test", "val"):
        outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", f"--split={split}")
        count = tiny_runs.COUNTS[split]
        assert outcome.code == 0 and f"image {count}/{count}" in outcome.err, outcome.err
        written = json.loads((workdir / f"evaluation-{split}.json").read_text())
        assert {name: written[name] for name in summary[split]} == summary[split]
        assert written["step"] == summary["best_step"] and written["split"] == split
        assert f"{summary[split]['miou']:.4f}" in outcome.out


def test_any_checkpoint_and_another_place_of_the_data(tiny, workdir, tmp_path):
    moved = shutil.copytree(tiny.data, tmp_path / "moved")
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", "--checkpoint=4", f"--data_dir={moved}")
    assert outcome.code == 0, outcome.err
    assert json.loads((workdir / "evaluation-test.json").read_text())["step"] == 4


def test_options_are_scored_into_a_file_of_their_own(workdir):
    workdir.joinpath(CRF_FILE).write_text(
        json.dumps({"parameters": {**CRFParameters()._asdict(), "bilateral_xy": 5.0}})
    )
    args = ("--scales=0.75,1", "--flip", "--window=12,16", "--crf", "--opening=1")
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", *args)
    assert outcome.code == 0, outcome.err
    assert not (workdir / "evaluation-test.json").exists()
    written = json.loads((workdir / "evaluation-test-scales0.75-1+flip+window12x16-0.5+crf+opening1.json").read_text())
    assert written["options"] == {
        "scales": [0.75, 1.0],
        "flip": True,
        "window": [12, 16],
        "overlap": 0.5,
        "min_region": 0,
        "max_hole": 0,
        "opening": 1,
        "closing": 0,
        "crf": {**CRFParameters()._asdict(), "bilateral_xy": 5.0},
    }
    assert 0 < written["miou"] < 1 and written["seconds"] > 0 and f"{written['miou']:.4f}" in outcome.out


def test_flags_that_ask_for_nothing_are_the_plain_evaluation(workdir):
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", "--scales=1.0", "--noflip", "--min_region=0")
    assert outcome.code == 0, outcome.err
    written = json.loads((workdir / "evaluation-test.json").read_text())
    summary = json.loads((workdir / "summary.json").read_text())
    assert written.pop("seconds") > 0
    assert written == {"step": summary["best_step"], "split": "test", **summary["test"]}


def test_the_help_lists_the_flags_of_the_options():
    outcome = tiny_runs.command("evaluate", "--help")
    assert outcome.code == 0
    for name in ("workdir", "scales", "flip", "window", "overlap", "crf", "min_region", "closing"):
        assert f"--{name}:" in outcome.out or f"--[no]{name}:" in outcome.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--scales=1,big",), "--scales is '1,big'"),
        (("--scales=0,1",), "--scales is 0.0,1.0"),
        (("--scales=1,1.0",), "each scale once"),
        (("--scales=inf",), "--scales"),
        (("--scales=",), "--scales"),
        (("--window=64",), "HEIGHT,WIDTH"),
        (("--window=0,64",), "HEIGHT,WIDTH"),
        (("--window=6.4,2",), "whole"),
        (("--overlap=1",), "--overlap is 1.0"),
        (("--min_region=-1",), "--min_region is -1"),
        (("--flop",), "flop"),
        (("--split=tset",), "tset"),
        (("--checkpoint=5",), "step 5"),
        (("--checkpoint=worst",), "worst"),
        (("--data_dir=/nowhere",), "/nowhere"),
        (("--workdir=/nowhere",), "/nowhere"),
        (("--workdir=",), "--workdir"),
    ],
)
def test_bad_arguments(workdir, args, words):
    before = sorted(workdir.rglob("*"))
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"parameters": {}}',
        '{"parameters": {"width": 1}}',
        '{"parameters": {"bilateral_xy": 0}}',
        '{"parameters": 3}',
    ],
)
def test_a_damaged_crf_file_is_named(workdir, text):
    workdir.joinpath(CRF_FILE).write_text(text)
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", "--crf")
    assert outcome.code == 2 and CRF_FILE in outcome.err and "Traceback" not in outcome.err


def test_a_set_with_other_classes_is_refused(tiny, workdir, tmp_path):
    moved = shutil.copytree(tiny.data, tmp_path / "moved")
    (moved / "classes.txt").write_text("0 sky 1 1 1\n1 road 2 2 2\n2 bus 3 3 3\n")
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", f"--data_dir={moved}")
    assert outcome.code == 2 and "bus" in outcome.err


def test_writing_json_is_all_or_nothing(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1, "b": None})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1, "b": None}
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "missing" / "a.json", {})
    assert list(itertools.islice(tmp_path.iterdir(), 3)) == [tmp_path / "a.json"]

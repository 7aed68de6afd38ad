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

from configs import common
from gan_seg_jax import evaluate, inference, parallel, resample
from gan_seg_jax.data.catalog import IGNORE
from gan_seg_jax.errors import InputError
from gan_seg_jax.state import AdversarialState
from tests import tiny_runs

SIZES = ((12, 20), (16, 24), (9, 31), (7, 5))


def read_class(nets, batch, rng, config):
    """A method's `predict` whose logits follow the red channel of the image: no network is needed."""
    del nets, rng
    red = batch["labelled"]["image"][..., 0]
    return -jnp.square(red[..., None] * 127.5 + 127.5 - 40.0 * jnp.arange(config.num_classes)) / 200.0


METHOD = types.SimpleNamespace(predict=read_class)
STATE = AdversarialState(jnp.int32(0), jnp.uint32(0), jnp.int32(0), jnp.int32(0), {})


def coded_split(count: int, *, errors: float) -> tiny_runs.MemorySplit:
    """Return a split whose red channel is 40 times the label, but for a share of the pixels."""
    plain = tiny_runs.memory_split(count, sizes=SIZES)
    rng, images = np.random.default_rng(5), []
    for label in plain.labels:
        shown = np.where((rng.random(label.shape) < errors) | (label == IGNORE), rng.integers(0, 3, label.shape), label)
        images.append(np.repeat((40 * shown).astype(np.uint8)[..., None], 3, axis=2))
    return tiny_runs.MemorySplit(plain.info, plain.name, tuple(images), plain.labels)


def make_config(**fields):
    config = common.get_config()
    names = {"num_classes": 3, "class_names": tiny_runs.INFO.class_names, "class_colors": tiny_runs.INFO.class_colors}
    config.update({"batch_size": 4, "resize": "none", **names, **fields})
    return config


def score(split, *, devices=4, **fields):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return evaluate.Evaluator(METHOD, make_config(**fields), split, mesh)(STATE)


def expected(split) -> dict:
    """Return scikit-learn's numbers for predictions read off the red channel."""
    truth = np.concatenate([label.ravel() for label in split.labels])
    found = np.concatenate([image[..., 0].ravel() // 40 for image in split.images])
    truth, found = truth[truth != IGNORE], found[truth != IGNORE]
    iou = sklearn_metrics.jaccard_score(truth, found, labels=[0, 1, 2], average=None)
    recall = sklearn_metrics.recall_score(truth, found, labels=[0, 1, 2], average=None)
    return {
        "iou_per_class": dict(zip(tiny_runs.INFO.class_names, iou, strict=True)), "miou": iou.mean(),
        "pixel_accuracy": sklearn_metrics.accuracy_score(truth, found), "mean_accuracy": recall.mean(),
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 9])
def test_scores_are_scikit_learns(count):
    split = coded_split(count, errors=0.3)
    found, right = score(split), expected(split)
    for name in ("miou", "pixel_accuracy", "mean_accuracy"):
        assert found[name] == pytest.approx(right[name], abs=1e-12), name
    assert found["iou_per_class"] == pytest.approx(right["iou_per_class"], abs=1e-12)
    assert 0 < found["boundary_f1"] < 1


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
    assert evaluate.score_labelling(lambda image: image[..., 0] // 40, split, tiny_runs.INFO.class_names) == score(
        split
    )


def test_evaluation_compiles_once_and_polls_between_batches():
    split, polls = coded_split(9, errors=0.2), []
    evaluator = evaluate.Evaluator(METHOD, make_config(), split, parallel.make_mesh())
    for _ in range(2):
        evaluator(STATE, poll=lambda: polls.append(1))
    assert evaluator._step._cache_size() == 1
    assert len(polls) == 6


def test_a_poll_that_raises_ends_the_evaluation():
    def poll():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate.Evaluator(METHOD, make_config(), coded_split(9, errors=0.2), parallel.make_mesh())(STATE, poll=poll)


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
    from gan_seg_jax.data import pipeline

    batch = next(iter(pipeline.eval_batches(split, config)))
    chosen, confidence = inference.make_predictor(METHOD, config)(STATE, batch, batch["label"].shape[1:])
    for row, (height, width) in enumerate(batch["size"]):
        rows, columns = batch["content"][row]
        image = jnp.asarray(batch["image"][row : row + 1, :rows, :columns], jnp.float32) / 127.5 - 1.0
        logits = read_class(None, {"labelled": {"image": image}}, None, config)[0]
        logits = jax.image.resize(logits, (height, width, 3), "bilinear")
        agreement = np.mean(np.asarray(jnp.argmax(logits, axis=-1)) == chosen[row, :height, :width])
        assert agreement > 0.995
        right = jnp.max(jax.nn.softmax(logits), axis=-1)
        np.testing.assert_allclose(confidence[row, :height, :width], right, atol=1e-4)


# The command


@pytest.fixture
def workdir(tiny, tmp_path):
    return shutil.copytree(tiny.cgan, tmp_path / "run")


def test_the_command_finds_the_scores_of_the_training(workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    for split in ("test", "val"):
        outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", f"--split={split}")
        assert outcome.code == 0, outcome.err
        written = json.loads((workdir / f"evaluation-{split}.json").read_text())
        assert {name: written[name] for name in summary[split]} == summary[split]
        assert written["step"] == summary["best_step"] and written["split"] == split
        assert f"{summary[split]['miou']:.4f}" in outcome.out


def test_any_checkpoint_and_another_place_of_the_data(tiny, workdir, tmp_path):
    moved = shutil.copytree(tiny.data, tmp_path / "moved")
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", "--checkpoint=4", f"--data_dir={moved}")
    assert outcome.code == 0, outcome.err
    assert json.loads((workdir / "evaluation-test.json").read_text())["step"] == 4


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--split=tset",), "tset"), (("--checkpoint=5",), "step 5"), (("--checkpoint=worst",), "worst"),
        (("--data_dir=/nowhere",), "/nowhere"), (("--workdir=/nowhere",), "/nowhere"), (("--workdir=",), "--workdir"),
    ],
)  # fmt: skip
def test_bad_arguments(workdir, args, words):
    before = sorted(workdir.rglob("*"))
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    assert sorted(workdir.rglob("*")) == before


def test_a_set_with_other_classes_is_refused(tiny, workdir, tmp_path):
    moved = shutil.copytree(tiny.data, tmp_path / "moved")
    (moved / "classes.txt").write_text("0 sky 1 1 1\n1 road 2 2 2\n2 bus 3 3 3\n")
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}", f"--data_dir={moved}")
    assert outcome.code == 2 and "bus" in outcome.err


def test_writing_json_is_all_or_nothing(tmp_path):
    evaluate.write_json(tmp_path / "a.json", {"a": 1, "b": None})
    with pytest.raises(ValueError, match="JSON"):
        evaluate.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1, "b": None}
    with pytest.raises(InputError, match="cannot be written"):
        evaluate.write_json(tmp_path / "missing" / "a.json", {})
    assert list(itertools.islice(tmp_path.iterdir(), 3)) == [tmp_path / "a.json"]

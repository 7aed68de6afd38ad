"""The judging command: its scores against independent ones, on discriminators whose views are known."""

import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax, softmax
from sklearn.metrics import average_precision_score

from configs import adversarial_seg, cgan_seg, classical
from gan_seg_jax import judge, parallel
from gan_seg_jax.config import to_json
from gan_seg_jax.data.canvas import fit_to_canvas, pad
from gan_seg_jax.errors import InputError
from gan_seg_jax.judging import views
from gan_seg_jax.methods import METHODS, cgan
from gan_seg_jax.state import Networks
from tests import by_hand, tiny_runs
from tests.red_channel import METHOD, STATE, coded_split, make_config, read_class

COLORS = 40.0 * np.arange(3)


def crispness(nets, image, mask, config):
    """A discriminator that sees how sure a map is, pixel by pixel, and is real above 0.8."""
    del nets, image, config
    return jax.nn.sigmoid(5 * (jnp.max(mask, axis=-1) - 0.8))


def critic(nets, image, mask, config):
    """The same without a threshold: relative to the mean of the batch."""
    del nets, image, config
    scores = 5 * jnp.max(mask, axis=-1)
    return jax.nn.sigmoid(scores - jnp.mean(scores))


def make_run(score_map=None, *, adversarial="non_saturating", **fields):
    hooks = {"score_map": score_map, "discriminator_inputs": None}
    method = types.SimpleNamespace(predict=read_class, TASK="segmentation", **hooks)
    config = make_config(**fields)
    config.losses.adversarial = adversarial
    return types.SimpleNamespace(method=method, state=STATE, config=config)


def judged(run, split, *, devices=1, temperature=2.0):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    rows = list(views.rows_of(judge.make_step(run), run, split, mesh, np.float32(temperature)))
    judgement = judge.Judgement(run.config, discriminator=run.method.score_map is not None)
    for row in rows:
        judgement.add(row)
    return judgement, rows


def reference(split):
    """Yield the label [n] and the logits [n, 3] of all labelled pixels of each image."""
    for image, label in zip(split.images, split.labels, strict=True):
        logits = -np.square(image[..., :1].astype(np.float64) - COLORS) / 200
        yield label[label < 3], logits[label < 3]


@pytest.fixture(scope="module")
def crisp_run():
    split = coded_split(6, errors=0.3)
    return split, *judged(make_run(crispness), split)


def test_calibration_is_that_of_all_labelled_pixels(crisp_run):
    split, judgement, _ = crisp_run
    label, logits = (np.concatenate(each) for each in zip(*reference(split), strict=True))
    found = judgement.scores()["calibration"]
    for name, temperature in (("before", 1), ("after", 2)):
        truth = log_softmax(logits / temperature, axis=1)[np.arange(len(label)), label]
        assert found[name]["nll"] == pytest.approx(-truth.mean(), rel=1e-5)
        brier = np.square(softmax(logits / temperature, axis=1) - np.eye(3)[label]).sum(axis=1).mean()
        assert found[name]["brier"] == pytest.approx(brier, rel=1e-5)
        assert found[name]["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == label), abs=1e-12)


def test_the_temperature_is_the_best_of_a_grid():
    split, run = coded_split(6, errors=0.3), make_run()
    fitted = judge.fit_temperature(run, split, parallel.make_mesh(jax.devices()[:1]))
    label, logits = (np.concatenate(each) for each in zip(*reference(split), strict=True))
    grid = np.geomspace(0.5, 50, 400)
    nll = [-log_softmax(logits / t, axis=1)[np.arange(len(label)), label].mean() for t in grid]
    assert fitted == pytest.approx(grid[np.argmin(nll)], rel=0.02)


def test_a_discriminator_of_crispness_is_found_out(crisp_run):
    """It tells the truth from any softmax, and not at all from an arg max, where ignored pixels are zero in both."""
    _, judgement, rows = crisp_run
    found = judgement.scores()["real_fake"]
    for kind in ("by_image", "by_patch"):
        soft, crisp = found[kind]["soft"], found[kind]["crisp"]
        assert soft["auc"] > 0.5 and soft["real_accuracy"] == 1
        assert crisp["auc"] == pytest.approx(0.5) and crisp["accuracy"] == 0.5
    assert found["by_image"]["soft"]["auc"] == 1
    for row in rows:
        height, width = row["label"].shape
        np.testing.assert_array_equal(row["counted"][:height, :width], row["label"] < 3)
        assert not row["counted"][height:].any() and not row["counted"][:, width:].any()
        np.testing.assert_array_equal(row["soft"][~row["counted"]], row["real_soft"][~row["counted"]])


def test_wrong_pixels_are_found_by_doubt_as_by_the_softmax(crisp_run):
    """Where D is a function of the largest softmax, 1 - D and 1 - max softmax are one detector."""
    split, judgement, rows = crisp_run
    found = judgement.scores()["errors_found"]
    label, logits = (np.concatenate(each) for each in zip(*reference(split), strict=True))
    wrong = logits.argmax(axis=1) != label
    expected = average_precision_score(wrong, 1 - softmax(logits, axis=1).max(axis=1))
    assert found["max_softmax"]["wrong_share"] == pytest.approx(wrong.mean(), abs=1e-12)
    assert found["max_softmax"]["aupr"] == pytest.approx(expected, abs=0.01)
    assert found["discriminator"]["aupr"] == pytest.approx(expected, abs=0.01)
    assert rows[0]["doubt"].shape == split.labels[0].shape
    # A network that sees single pixels labels the mirror image alike.
    assert all(np.abs(row["mirror"]).max() < 1e-6 and row["mirror"].shape == row["label"].shape for row in rows)


def test_the_distance_to_the_mirror_image_is_that_of_probabilities():
    """Of a network that knows left from right: half the sum of |p - q| over the classes, at the labels' own size."""
    seen = []

    def predict(nets, batch, rng, config):
        shape = batch["labelled"]["image"].shape[:3]
        seen.append(np.linspace(0, 4, shape[2]))
        right = jnp.broadcast_to(jnp.asarray(seen[-1], jnp.float32), shape)
        return jnp.stack([right, jnp.zeros(shape), jnp.zeros(shape)], axis=-1)

    run = make_run()
    run.method.predict = predict
    _, (row, *_) = judged(run, coded_split(1, errors=0.3))
    first = np.exp(seen[-1]) / (np.exp(seen[-1]) + 2)  # its probability, in each column of the canvas
    expected = np.abs(first - first[::-1])[: row["label"].shape[1]]
    np.testing.assert_allclose(row["mirror"], np.broadcast_to(expected, row["label"].shape), rtol=0, atol=1e-6)
    assert expected.max() > 0.3


def test_the_discriminators_map_is_calibrated_as_a_probability_of_being_right(crisp_run):
    _, judgement, rows = crisp_run
    parts = [(1 - row["doubt"], row["before"].argmax(axis=-1) == row["label"], row["label"] < 3) for row in rows]
    confidence, right = (np.concatenate([part[n][part[2]] for part in parts]) for n in (0, 1))
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    expected = sum(abs(right[bins == n].sum() - confidence[bins == n].sum()) for n in range(15)) / len(right)
    found = {**judgement.scores(), "temperature": 2.0}
    assert found["discriminator_ece"] == pytest.approx(expected, rel=1e-5)
    assert 0 < expected < 1 and f"its map has an ECE of {expected:.4f}" in judge.tables(found)


@pytest.mark.parametrize("adversarial", ["hinge", "wasserstein", "relativistic"])
def test_scores_that_are_no_probability_have_no_calibration(adversarial, tmp_path, monkeypatch):
    split, drawn = coded_split(3, errors=0.3), {}
    judgement, rows = judged(make_run(critic, adversarial=adversarial), split)
    found = {**judgement.scores(), "temperature": 2.0}
    assert found["discriminator_ece"] is None and found["real_fake"] is not None
    assert "discriminator: truth against" in judge.tables(found) and "ECE of" not in judge.tables(found)
    monkeypatch.setattr(judge, "judging_sheet", lambda path, **parts: drawn.update(parts))
    judge.draw(tmp_path / "sheet.png", judgement, rows[0], split.images[0], title="three images")
    assert [title.split(":")[0] for title in drawn["diagrams"]] == ["as trained", "with temperature"]
    assert drawn["histograms"]


def test_images_have_their_own_scores(crisp_run):
    split, judgement, _ = crisp_run
    found = judgement.scores()
    assert [image["id"] for image in found["images"]] == list(range(6))
    mious, means = [], []
    for label, logits in reference(split):
        predicted = logits.argmax(axis=1)
        seen = [k for k in range(3) if (label == k).any() or (predicted == k).any()]
        both = [np.sum((label == k) & (predicted == k)) / np.sum((label == k) | (predicted == k)) for k in seen]
        mious.append(np.mean(both))
        means.append(np.mean(1 / (1 + np.exp(-5 * (softmax(logits, axis=1).max(axis=1) - 0.8)))))
    np.testing.assert_allclose([image["miou"] for image in found["images"]], mious, rtol=1e-9)
    np.testing.assert_allclose([image["soft"] for image in found["images"]], means, rtol=1e-4)
    assert found["image_scores"]["pearson"] == pytest.approx(np.corrcoef(mious, means)[0, 1], abs=1e-3)


def test_any_number_of_devices_and_a_critic(crisp_run):
    """Devices change nothing. A critic's scores are centred on truth and fake together, which keeps their order."""
    split, judgement, _ = crisp_run
    spread, _ = judged(make_run(crispness), split, devices=4)
    leaves, others = (jax.tree.leaves(each.scores()) for each in (judgement, spread))
    np.testing.assert_allclose(leaves, others, rtol=1e-5)
    run = make_run(critic, adversarial="wasserstein", batch_size=8)
    found = judged(run, split, devices=2)[0].scores()["real_fake"]["by_image"]
    assert found["soft"]["auc"] == 1 and found["crisp"]["auc"] == pytest.approx(0.5)


def played_config(name):
    """Return a tiny config of a method whose discriminator sees other maps than one-hot truth and softmax."""
    config = {"adversarial": adversarial_seg, "cgan": cgan_seg}[name].get_config("smoke" + ",colors" * (name == "cgan"))
    config.num_classes, config.class_colors = 3, tiny_runs.INFO.class_colors
    config.canvas_size = config.crop_size = (12, 16)
    network = config.networks.generator if name == "cgan" else config.networks.segmenter
    network.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,), norm="none")
    config.networks.discriminator.update(channels=4, layers=1)
    if name == "adversarial":
        config.losses.truth_softness = 0.9
    return config.lock()


@pytest.mark.parametrize("name", ["adversarial", "cgan"])
def test_the_discriminator_is_judged_by_what_it_was_trained_on(name, monkeypatch):
    """Softened truths stay soft, and maps of colours are those of the generator; the arg max stays crisp."""
    config, seen, original = played_config(name), [], Networks.apply
    method, state, key = METHODS[name], by_hand.make_state(config), jax.random.key(0)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (2, 12, 16)).astype(np.uint8)
    label[:, :4] = 255
    stream = by_hand.host_stream(rng.integers(0, 256, (2, 12, 16, 3), np.uint8), label)

    def apply(self, role, *inputs, **options):
        if role == "discriminator":
            seen.append(inputs)
        return original(self, role, *inputs, **options)

    monkeypatch.setattr(Networks, "apply", apply)
    batch = by_hand.prepared({"labelled": stream})

    @jax.jit
    def compute(state, stream, batch):
        views.score_discriminator(method, config, state, stream, (12, 16))
        outputs, nets = method.forward(by_hand.view(state), batch, key, config)
        method.losses(nets, outputs, batch, key, config)
        return seen, outputs, method.predict(nets, batch, key, config)

    (judged, crisp, *trained), outputs, logits = compute(state, {**stream, "size": stream["content"]}, batch)
    for found, *expected in zip(judged, *trained, strict=True):
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)
    known, hard = label != 255, np.eye(3)[np.argmax(logits, axis=-1)]
    if name == "cgan":
        palette = np.array(config.class_colors) / 127.5 - 1
        np.testing.assert_allclose(judged[-1][2:], np.tanh(outputs) * known[..., None], atol=1e-5)
        np.testing.assert_allclose(crisp[-1][2:][known], (hard @ palette)[known], atol=1e-5)
    else:
        true = np.take_along_axis(softmax(logits, axis=-1), np.minimum(label, 2)[..., None], axis=-1)[..., 0]
        shown = np.take_along_axis(np.asarray(judged[-1][:2]), np.minimum(label, 2)[..., None], axis=-1)[..., 0]
        np.testing.assert_allclose(shown[known], np.maximum(0.9, true)[known], rtol=1e-5)
        expected = np.concatenate([np.eye(3)[label % 255], hard]) * np.concatenate([known, known])[..., None]
        np.testing.assert_array_equal(crisp[-1], expected)


@pytest.mark.parametrize("resize", ["fit", "none"])
def test_labels_on_the_canvas_are_those_of_training(resize):
    sizes = ((12, 20), (16, 24), (9, 31), (48, 17))
    labels = tiny_runs.memory_split(4, sizes=sizes).labels
    canvas = (24, 32) if resize == "fit" else (48, 32)
    blank = lambda label: np.zeros((*label.shape, 3), np.uint8)
    fitted = [fit_to_canvas(blank(label), label, canvas, resize=resize, rng=None) for label in labels]
    stream = {
        "label": np.stack([pad(label, (48, 31), 255) for label in labels]),
        "size": np.array(sizes, np.int32),
        "content": np.stack([each["content"] for each in fitted]),
    }
    found = np.asarray(views.label_on_canvas(jax.tree.map(jnp.asarray, stream), canvas))
    np.testing.assert_array_equal(found, np.stack([each["label"] for each in fitted]))


def test_what_cannot_be_judged_ends_in_a_sentence():
    void = coded_split(2, errors=0.0)
    for label in void.labels:
        label[:] = 255
    with pytest.raises(InputError, match="None of the images has a labelled pixel"):
        judged(make_run(crispness), void)[0].scores()
    with pytest.raises(InputError, match="at least 2 real scores, found 1"):
        judged(make_run(crispness), coded_split(1, errors=0.3))[0].scores()
    assert judge.correlation(np.ones(4), np.arange(4.0)) == {"pearson": None, "spearman": None}


def test_without_a_discriminator_there_is_the_rest(tmp_path):
    split, run = coded_split(3, errors=0.3), make_run()
    judgement, rows = judged(run, split)
    found = {**judgement.scores(), "temperature": 2.0}
    assert found["real_fake"] is None and set(found["errors_found"]) == {"max_softmax", "entropy", "mirror"}
    assert "as trained" in judge.tables(found) and "discriminator" not in judge.tables(found)
    judge.draw(tmp_path / "sheet.png", judgement, rows[0], split.images[0], title="three images")
    assert Image.open(tmp_path / "sheet.png").size[0] == 1540
    assert METHOD.predict is run.method.predict


# The command


@pytest.fixture
def workdir(tiny, tmp_path):
    return shutil.copytree(tiny.cgan, tmp_path / "run")


def test_the_command_agrees_with_the_summary(workdir):
    outcome = tiny_runs.command("judge", f"--workdir={workdir}")
    assert outcome.code == 0 and "image 6/6" in outcome.err, outcome.err
    found, summary = (json.loads((workdir / name).read_text()) for name in ("judging-test.json", "summary.json"))
    assert found["step"] == summary["best_step"] and len(found["images"]) == tiny_runs.COUNTS["test"]
    accuracy = summary["test"]["pixel_accuracy"]
    assert found["calibration"]["before"]["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert found["errors_found"]["discriminator"]["wrong_share"] == pytest.approx(1 - accuracy, abs=1e-9)
    assert f"{found['real_fake']['by_patch']['crisp']['auc']:.4f}" in outcome.out
    assert "1 - D" in outcome.out and "no test split" not in outcome.out
    pixels = np.asarray(Image.open(workdir / "judging-test.png").convert("RGB"))
    assert pixels.shape[1] == 1540 and pixels.std() > 20


def test_without_a_test_split_val_is_judged_and_said_so(workdir, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data", ignore=shutil.ignore_patterns("test"))
    outcome = tiny_runs.command("judge", f"--workdir={workdir}", f"--data_dir={data}")
    assert outcome.code == 0, outcome.err
    assert "no test split" in outcome.out and "gain is too large" in outcome.out
    found = json.loads((workdir / "judging-val.json").read_text())
    nll = {name: scores["nll"] for name, scores in found["calibration"].items()}
    assert found["split"] == "val" and nll["after"] <= nll["before"] and not (workdir / "judging-test.json").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--split=nothing",), "no split 'nothing'"),
        (("--workdir=",), "--workdir"),
        (("--checkpoint=99",), "99"),
        (("--data_dir=/nowhere",), "/nowhere"),
        (("--workdir=/nowhere",), "not the folder of a run"),
        (("--temperature=2",), "temperature"),
    ],
)
def test_bad_arguments(workdir, args, words):
    refused(workdir, words, *args)


def test_runs_that_cannot_be_judged(workdir, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cgan, "TASK", "generation")
        refused(workdir, "only segmentations are judged")
    shutil.rmtree(workdir / "checkpoints")
    refused(workdir, "holds no checkpoints yet")
    (workdir / "config.json").write_text(json.dumps(to_json(classical.get_config("slic"))))
    refused(workdir, "a classical method")


def refused(workdir, words, *args):
    before = sorted(workdir.rglob("*"))
    outcome = tiny_runs.command("judge", f"--workdir={workdir}", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err, outcome.err
    assert sorted(workdir.rglob("*")) == before

"""Scores of translated images, from one pair of pixels to a whole command."""

import json
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity

from configs import common
from gan_seg_jax import parallel
from gan_seg_jax.methods import translation
from gan_seg_jax.state import create_state
from gan_seg_jax.tasks import translation as task
from tests import tiny_runs


def structural(x, y):
    """Return Wang et al.'s index of two channels [h, w], equation 13, where the 11 x 11 window lies inside."""
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    mean = lambda z: ndimage.correlate(z, kernel)[5:-5, 5:-5]
    mx, my = mean(x), mean(y)
    vx, vy, covariance = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))


def noisy(seed, size=(20, 24), deviation=30):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.uniform(0, 255, (*size, 3)), (2, 2, 0))
    return image.astype(np.uint8), np.clip(image + rng.normal(0, deviation, image.shape), 0, 255).astype(np.uint8)


def test_known_answers():
    target = np.full((16, 18, 3), 100, np.uint8)
    known = np.ones((16, 18), bool)
    found = task.image_scores(target + np.uint8(51), target, known)
    assert found["l1"] == pytest.approx(0.2) and found["psnr"] == pytest.approx(20 * np.log10(5))
    c1 = (0.01 * 255) ** 2
    assert found["ssim"] == pytest.approx((2 * 100 * 151 + c1) / (100**2 + 151**2 + c1))
    perfect = task.image_scores(target, target, known)
    assert perfect == {"l1": 0.0, "psnr": pytest.approx(10 * np.log10(12 * 255**2)), "ssim": pytest.approx(1.0)}


def test_similarity_is_that_of_the_paper():
    target, made = noisy(0)
    found = task.image_scores(made, target, np.ones(target.shape[:2], bool))["ssim"]
    x, y = made.astype(float), target.astype(float)
    np.testing.assert_allclose(found, np.mean([structural(x[..., c], y[..., c]) for c in range(3)]), rtol=1e-6)
    whole = structural_similarity(
        made, target, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    np.testing.assert_allclose(found, whole, rtol=1e-6)


def test_what_does_not_count_does_not_matter():
    target, made = noisy(1)
    known = np.ones(target.shape[:2], bool)
    known[:9, :11] = False
    found = task.image_scores(made, target, known)
    assert task.image_scores(np.where(known[..., None], made, 7), target, known) == found
    difference = (made.astype(float) - target)[known]
    assert found["l1"] == pytest.approx(np.abs(difference).mean() / 255)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)))
    nothing = task.image_scores(made, target, np.zeros_like(known))
    assert nothing == dict.fromkeys(task.SCORES)
    assert task.image_scores(made[:8], target[:8], known[:8] | True)["ssim"] is None


def make_config():
    config = common.get_config()
    config.update(batch_size=4, canvas_size=(24, 32), crop_size=(24, 32), num_classes=3)
    config.class_colors = tiny_runs.INFO.class_colors
    config.input, config.target = "grey", "image"
    return config


def darker(nets, batch, rng, config):
    """A translator that makes everything darker, and padding red."""
    image = batch["labelled"]["image"]
    return {"image": jnp.where((batch["labelled"]["label"] == 255)[..., None], 1.0, image - 0.25)}


def test_a_split_counts_every_image_once():
    config, split = make_config(), tiny_runs.memory_split(6, sizes=((24, 20), (24, 32)))  # at the canvas' scale
    method = types.SimpleNamespace(view=translation.view, known=translation.known, predict=darker)
    state, other = create_state({}, {}, {}, seed=0), tiny_runs.memory_split(3, sizes=((24, 32),))
    evaluator = task.Evaluator(method, config, split, parallel.make_mesh())
    found = evaluator(state)
    assert evaluator.on(other)(state) == task.Evaluator(method, config, other, parallel.make_mesh())(state) != found
    each = []
    for index in range(len(split)):
        image, label = split[index]["image"], split[index]["label"]
        made = np.clip(np.rint(image - 0.25 * 127.5), 0, 255).astype(np.uint8)
        each.append(task.image_scores(made, image, label != 255))
    for name in task.SCORES:
        assert found[name] == pytest.approx(np.mean([scores[name] for scores in each]), rel=1e-6)


def test_the_sheet_shows_input_output_and_target():
    config, split = make_config(), tiny_runs.memory_split(2, sizes=((24, 32),))
    method = types.SimpleNamespace(view=translation.view, known=translation.known, predict=darker)
    draw, state = task.SampleSheet(method, config, split), create_state({}, {}, {}, seed=0)
    sheet = draw(state)
    other = tiny_runs.memory_split(1, sizes=((24, 32),))
    np.testing.assert_array_equal(draw.on(other)(state), task.SampleSheet(method, config, other)(state))
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    shown = split[0]["image"].repeat(4, axis=0).repeat(4, axis=1)  # small cells are enlarged by a whole factor
    windows = np.lib.stride_tricks.sliding_window_view(sheet, shown.shape)[:60, :, 0]
    assert any(np.array_equal(window, shown) for row in windows for window in row)


CONFIG = """
from configs import common, translation

def get_config(arg=None):
    config = translation.get_config(arg)
    config.networks.generator = common.unet(channels=(4, 8), encoder_convs=1, decoder_convs=1, dropout=0.2)
    config.networks.discriminator = common.patchgan(channels=4, layers=1)
    config.canvas_size = config.crop_size = (16, 24)
    config.batch_size, config.steps, config.ema_decay = 4, 4, 0.9
    config.eval_every = config.checkpoint_every = config.log_every = config.samples_every = 2
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("translation")
    (root / "tiny_translation.py").write_text(CONFIG)
    for split, count in (("train", 9), ("val", 5), ("test", 3)):
        for number in range(count):
            image, _ = tiny_runs.draw(number, ((16, 24), (12, 20), (30, 31))[number % 3])
            for kind, pixels in (("images", image), ("targets", 255 - image)):
                path = root / "data" / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.mark.slow
def test_pairs_are_trained_on_scored_and_translated(folder, tmp_path):
    workdir = tmp_path / "run"
    args = (f"--config={folder}/tiny_translation.py:pairs", f"--config.data_dir={folder}/data", f"--workdir={workdir}")
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 0, outcome.err
    summary = json.loads((workdir / "summary.json").read_text())
    assert set(summary["test"]) == set(task.SCORES) and 0 < summary["test"]["l1"] < 1
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    validated = {line["step"]: line["l1"] for line in lines if line["split"] == "val"}
    assert summary["best_step"] == min(validated, key=validated.get)  # the lowest l1
    assert Image.open(workdir / "samples" / "val-0000004.png").size[0] > 100

    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    scored = json.loads((workdir / "evaluation-test.json").read_text())
    assert {name: scored[name] for name in task.SCORES} == pytest.approx(summary["test"])

    source, output = folder / "data" / "test" / "images", tmp_path / "out"
    predict = ("predict", f"--workdir={workdir}", f"--input={source}")
    outcome = tiny_runs.command(*predict, f"--output={output}")
    assert outcome.code == 0 and "3 of 3 images translated" in outcome.out, outcome.err
    assert outcome.err.startswith("image ") and "image 3/3" in outcome.err
    made = {path.stem: np.asarray(Image.open(path)) for path in (output / "images").iterdir()}
    assert {name: image.shape for name, image in made.items()} == {"0": (16, 24, 3), "1": (12, 20, 3), "2": (30, 31, 3)}
    for flags, words in (
        ((f"--output={folder}/data/test",), "written over"),
        ((f"--output={output}", "--flip"), "translation"),
    ):
        outcome = tiny_runs.command(*predict, *flags)
        assert outcome.code == 2 and words in outcome.err


@pytest.mark.slow
def test_labels_are_read_as_masks_of_class_ids(tiny, folder, tmp_path):
    workdir = tmp_path / "run"
    data = ("--config.dataset=folder", f"--config.data_dir={tiny.data}")
    outcome = tiny_runs.command("main", f"--config={folder}/tiny_translation.py", *data, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    for kind, code in (("masks", 0), ("images", 2)):
        source = tiny.data / "test" / kind
        outcome = tiny_runs.command(
            "predict", f"--workdir={workdir}", f"--input={source}", f"--output={tmp_path / kind}"
        )
        assert outcome.code == code, outcome.err
    assert len(list((tmp_path / "masks" / "images").iterdir())) == tiny_runs.COUNTS["test"]

"""Every image by itself: its labels and scores follow neither from other images nor from how many are done at once."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gan_seg_jax import evaluate, parallel, state
from gan_seg_jax.data import canvas, pipeline
from gan_seg_jax.inference import scoring
from gan_seg_jax.inference.options import PLAIN, Options
from gan_seg_jax.judging.counts import Counts
from gan_seg_jax.methods import get_method
from gan_seg_jax.tasks import generation, segmentation
from tests import red_channel, tiny_runs
from tests.test_methods import load

SIZES = ((64, 70), (12, 20), (40, 33), (100, 30))


class Smear:
    """A method whose logits depend on the whole canvas, so that padding tells; no two are ever equal."""

    TASK = "segmentation"

    @staticmethod
    def predict(nets, batch, rng, config):
        image = batch["labelled"]["image"]
        rows, columns = jnp.arange(image.shape[1])[:, None, None], jnp.arange(image.shape[2])[:, None]
        mean = jnp.mean(image, axis=(1, 2, 3))[:, None, None, None]
        return jnp.sin(0.37 * rows + 0.71 * columns + jnp.arange(3) * (2 + image[..., :1] + 40 * mean))


def split_of(sizes):
    plain = tiny_runs.memory_split(len(sizes), sizes=sizes)
    return tiny_runs.MemorySplit(plain.info, "val", plain.images, plain.labels)


@pytest.mark.parametrize("options", [PLAIN, Options(scales=(0.5, 1.0), flip=True)], ids=["plain", "views"])
@pytest.mark.parametrize("resize", ["fit", "none"])
def test_bands_give_the_labels_of_the_whole(resize, options, monkeypatch):
    config = red_channel.make_config(resize=resize, canvas_size=(24, 40), crop_size=(24, 40))
    split, mesh, found = split_of(SIZES[1:]), parallel.make_mesh(jax.devices()[:1]), []
    for numbers in (2**26, 3 * 96 * 10):  # 32 rows at once; 10 of the widest
        monkeypatch.setattr(scoring, "SCORES_AT_ONCE", numbers)
        label, got = scoring.Labeller(Smear, config, options, mesh), []
        for batch in pipeline.eval_batches(split, config, scales=options.scales):
            size = batch.pop("label").shape[1:]
            rows = jax.device_get(label(red_channel.STATE, parallel.place(batch, parallel.batch_sharding(mesh)), size))
            got += [(int(batch["id"][n]), *(x[n] for x in rows)) for n in np.flatnonzero(batch["valid"])]
        found.append(sorted(got, key=lambda row: row[0]))
    for whole, bands in zip(*found, strict=True):
        np.testing.assert_array_equal(whole[1], bands[1])
        np.testing.assert_allclose(whole[2], bands[2], rtol=1e-6)


@pytest.mark.parametrize("resize", ["fit", "none"])
def test_no_image_changes_the_score_of_another(resize):
    def counts(sizes, rows, **fields):
        whole = split_of(SIZES)
        pick = lambda arrays: tuple(arrays[row] for row in rows)
        split = tiny_runs.MemorySplit(whole.info, "val", pick(whole.images), pick(whole.labels))
        config, found = red_channel.make_config(resize=resize, **fields), {}
        evaluator = segmentation.Evaluator(Smear, config, split, parallel.make_mesh(jax.devices()[:1]))
        evaluator(red_channel.STATE, image_counts=found)
        return {row: found[place] for place, row in enumerate(rows)}

    together = counts(SIZES, (0, 1, 2, 3))
    for row in range(4):
        np.testing.assert_array_equal(counts(SIZES, (row,), batch_size=1)[row], together[row])


def test_a_wide_and_a_high_image_share_no_square():
    sizes = ((40, 600), (600, 40), (41, 601))
    config = red_channel.make_config(resize="none")
    batches = list(pipeline.eval_batches(split_of(sizes), config, at_once=lambda size: 2))
    assert [batch["image"].shape[1:3] for batch in batches] == [(64, 640), (640, 64)]
    assert [batch["label"].shape for batch in batches] == [(2, 64, 640), (2, 640, 64)]
    assert [batch["id"].tolist() for batch in batches] == [[0, 2], [1, 1]]
    assert [batch["valid"].tolist() for batch in batches] == [[True, True], [True, False]]


def test_large_images_are_few_at_once():
    mesh, config = parallel.make_mesh(jax.devices()[:1]), red_channel.make_config(batch_size=8)
    at_once = lambda size, options=PLAIN: scoring.images_at_once(config, options, canvas.bucket(size), mesh)
    assert (at_once((96, 128)), at_once((724, 724)), at_once((3000, 4000))) == (8, 4, 1)
    assert at_once((256, 256), Options(scales=(0.5, 1.0, 2.0), flip=True)) == 4


def test_evaluate_and_predict_give_the_same_labels(tiny, tmp_path, monkeypatch):
    """Images keep their scale, and the sizes of the split differ: each has its own canvas, in both commands."""
    run = shutil.copytree(tiny.cgan, tmp_path / "run")
    loaded = evaluate.load_run

    def load_unscaled(*args):
        found = loaded(*args)
        found.config.resize = "none"
        return found

    seen = {}

    def noting(self, label, prediction):
        seen[label.tobytes()] = prediction.copy()
        return add(self, label, prediction)

    add = Counts.add
    monkeypatch.setattr("gan_seg_jax.inference.load.load_run", load_unscaled)
    monkeypatch.setattr("gan_seg_jax.judging.counts.Counts.add", noting)
    scored = evaluate.evaluate_run(load_unscaled(run, "best"), "test", run)
    outcome = tiny_runs.command(
        "predict", f"--workdir={run}", f"--input={tiny.data / 'test' / 'images'}", f"--output={tmp_path / 'out'}"
    )
    assert outcome.code == 0 and json.dumps(scored["miou"]), outcome.err
    masks = sorted((tiny.data / "test" / "masks").iterdir())
    assert len(seen) == len(masks)
    for path in masks:
        predicted = np.array(Image.open(tmp_path / "out" / "masks" / path.name))
        np.testing.assert_array_equal(predicted, seen[np.array(Image.open(path)).tobytes()])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pix2pix", "oasis"])
def test_a_made_image_is_the_same_alone_in_a_batch_and_on_several_devices(form):
    config = load(f"synthesis:{form}").unlock()
    config.crop_size = config.canvas_size = (32, 32)
    if form == "pix2pix":
        config.networks.generator.update(channels=(4, 8, 8), encoder_convs=(0, 0, 0), decoder_convs=(0, 0))
    else:
        config.networks.generator.update(channels=2, widths=(2, 1), doublings=(1, 1), hidden=4)
    method = get_method(config)
    method_state = red_channel.STATE.replace(networks=generator_state(method, config))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(4, 32, 32, 3)).astype(np.float32),
        "label": rng.integers(0, 4, (4, 32, 32)),
        "inside": np.ones((4, 32, 32), bool),
        "valid": np.ones(4, bool),
        "id": np.array([3, 1, 7, 2], np.int32),
    }

    def make(rows, devices):
        mesh = parallel.make_mesh(jax.devices()[:devices])
        shardings = (parallel.replicated(mesh), parallel.batch_sharding(mesh))
        step = lambda state, batch: generation.make(method, state, batch, jax.random.key(5), config)["image"]
        compiled = jax.jit(step, in_shardings=shardings, out_shardings=shardings[1])
        return np.asarray(compiled(method_state, {name: value[rows] for name, value in batch.items()}))

    whole = make(np.arange(4), 1)
    np.testing.assert_allclose(make(np.array([2]), 1)[0], whole[2], atol=2e-5)
    np.testing.assert_allclose(make(np.array([2, 0, 1, 3]), 4)[0], whole[2], atol=2e-5)
    assert np.abs(whole[2] - whole[1]).max() > 1e-3
    batch["id"] = np.array([3, 1, 8, 2], np.int32)
    assert np.abs(make(np.array([2]), 1)[0] - whole[2]).max() > 1e-3  # noise or dropout of its own


def generator_state(method, config):
    """Return the generator's state, its running statistics far from those of an image."""
    module = method.build(config)["generator"]
    inputs = [jnp.zeros((1, 32, 32, 4))] + [jnp.zeros((1, config.noise.size))] * (config.noise.size > 0)
    variables = jax.jit(lambda key: module.init(key, *inputs, train=False))(jax.random.key(0))
    return state.create_state({"generator": variables}, {"generator": module}, {}, seed=0).networks

"""What is suggested for made-up sets on made-up machines, that configs/auto.py takes it, and what measuring finds."""

import contextlib
import json

import numpy as np
import pytest

from gan_seg_jax import config as config_lib
from gan_seg_jax import models
from gan_seg_jax.cli import auto, commands
from gan_seg_jax.inspection import suggestion
from gan_seg_jax.inspection.suggestion import Machine
from gan_seg_jax.models import pip_weights
from gan_seg_jax.training import measure
from tests import tiny_runs

LAPTOP, GPU, SLICE = Machine("cpu", 1, 2), Machine("gpu", 1, 16), Machine("tpu", 24, 96)


class Split:
    """A split of `count` images of one size and colour."""

    def __init__(self, count, size, *, colour=True, pixels=(10, 10)):
        self.count, self.size, self.colour, self.pixels = count, size, colour, pixels

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = np.zeros((4, 4, 3), np.uint8)
        image[..., 0] = 50 * self.colour
        return {"image": image}

    def sizes(self):
        return np.array([self.size] * self.count)

    def class_pixels(self):
        return np.array([self.pixels] * self.count)


class Set:
    def __init__(self, *args, **kwargs):
        self.splits = {"train": Split(*args, **kwargs)}


def suggested(there, *args, pretrained=True, **kwargs):
    found = suggestion.suggest(Set(*args, **kwargs), there, pretrained=pretrained)
    assert all(choice.reason for choice in found.choices) and found.why_words
    assert set(found.fields) == set(auto.FIELDS)
    return found


@pytest.mark.parametrize(
    ("there", "args", "canvas", "batch", "steps"),
    [
        (LAPTOP, (367, (360, 480)), (224, 288), 8, 600),
        (LAPTOP, (20, (512, 512)), (256, 256), 8, 500),
        (LAPTOP, (5, (100, 90)), (128, 96), 5, 500),
        (LAPTOP, (100, (20, 500)), (64, 512), 8, 1200),
        (GPU, (367, (360, 480)), (384, 480), 16, 2200),
        (GPU, (50_000, (1024, 2048)), (352, 736), 16, 10_000),
        (SLICE, (400, (256, 256)), (256, 256), 24, 1600),
        (SLICE, (10, (256, 256)), (256, 256), 24, 1000),
    ],
)
def test_sizes_batch_and_steps(there, args, canvas, batch, steps):
    fields = suggested(there, *args).fields
    assert (fields["canvas_size"], fields["batch_size"], fields["steps"]) == (canvas, batch, steps)
    assert fields["crop_size"] == canvas and fields["batch_size"] % there.devices == 0
    assert fields["eval_every"] <= fields["steps"]


def test_network_weights_and_policy_follow_from_the_data():
    plain = suggested(LAPTOP, 100, (96, 96), pretrained=False)
    assert plain.words == "unet" and "pip install" in plain.why_words
    assert plain.fields["augment.policy"] == "light" and plain.fields["losses.class_weighting"] == ""
    rich = suggested(LAPTOP, 100, (96, 96), pixels=(990, 10, 0))
    assert rich.words == "unet_lite0,recipe" and rich.fields["augment.policy"] == "light"
    assert rich.fields["losses.class_weighting"] == "fourth_root_median_frequency"
    assert suggested(LAPTOP, 100, (96, 96), colour=False).fields["augment.policy"] == "medical"
    assert suggested(GPU, 50_000, (64, 64)).fields["augment.policy"] == ""
    (canvas,) = [choice for choice in suggested(LAPTOP, 9, (3000, 4000)).choices if choice.field == "canvas_size"]
    assert "scaled by 0.07" in canvas.reason and "resize=none" in canvas.reason


def test_weights_that_are_missing_are_said(monkeypatch):
    assert pip_weights.is_there("pip:efficientnet_lite0") == (suggested_words() == "unet_lite0,recipe")
    monkeypatch.setattr(pip_weights, "is_there", lambda source: False)
    assert suggested_words() == "unet"


def suggested_words():
    return suggestion.suggest(Set(9, (64, 64)), LAPTOP, pretrained=pip_weights.is_there("pip:efficientnet_lite0")).words


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_runs.write_set(tmp_path_factory.mktemp("auto") / "data")


@pytest.fixture(autouse=True)
def fixed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pip_weights, "is_there", lambda source: False)
    monkeypatch.setattr(suggestion, "machine", lambda: Machine("cpu", 4, 2))


def config_of(*words):
    with contextlib.chdir(tiny_runs.ROOT):
        return commands.load_config(["--config=configs/auto.py", *words])


def test_auto_is_concrete_and_given_fields_hold(data):
    config = config_of(f"--config.data_dir={data}", "--config.batch_size=12", "--config.augment.rotation=33.0")
    config_lib.check(config)
    models.check(config)
    assert (config.dataset, config.canvas_size, config.batch_size, config.steps) == ("folder", (64, 64), 12, 500)
    assert config.augment.policy == "light" and config.augment.rotation == 33.0 and config.augment.hue == 0.02
    assert config.networks.segmenter.name == "unet" and config.losses.class_weighting == "fourth_root_median_frequency"


def test_what_goes_with_a_given_field_follows_it(data):
    config = config_of(f"--config.data_dir={data}", "--config.canvas_size=(32, 48)", "--config.steps=100000")
    assert config.canvas_size == config.crop_size == (32, 48)
    assert (config.eval_every, config.checkpoint_every) == (250, 250)  # the defaults


def test_words_hold_and_smoke_stays_small(data):
    with contextlib.chdir(tiny_runs.ROOT):
        named = commands.load_config(["--config=configs/auto.py:segnet", f"--config.data_dir={data}"])
        small = commands.load_config(["--config=configs/auto.py:smoke", f"--config.data_dir={data}"])
    assert named.networks.segmenter.name == "segnet" and named.canvas_size == (64, 64)
    assert small.steps < 500 and small.canvas_size != (64, 64)


def test_without_data_it_is_supervised_seg():
    with contextlib.chdir(tiny_runs.ROOT):
        plain = commands.load_config(["--config=configs/supervised_seg.py"])
    assert config_lib.to_json(config_of()) == config_lib.to_json(plain)


def test_show_config_prints_what_is_chosen_and_bad_data_are_refused(data, tmp_path):
    with contextlib.chdir(tiny_runs.ROOT):
        shown = tiny_runs.command("main", "--config=configs/auto.py", f"--config.data_dir={data}", "--show_config")
        gone = tiny_runs.command("main", "--config=configs/auto.py", f"--config.data_dir={tmp_path}/gone")
        pairs = tiny_runs.command(
            "main", "--config=configs/auto.py", f"--config.data_dir={data}", "--config.dataset=pairs"
        )
    assert shown.code == 0 and json.loads(shown.out)["canvas_size"] == [64, 64]
    assert gone.code == 2 and "does not exist" in gone.err and gone.err.count("\n") == 1
    assert pairs.code == 2 and "configs/auto.py is for folders" in pairs.err


def test_a_run_that_has_begun_keeps_what_was_chosen(data, tmp_path, monkeypatch):
    words = f"--config.data_dir={data}", f"--workdir={tmp_path}"
    config = config_of(words[0])
    (tmp_path / "config.json").write_text(json.dumps(config_lib.to_json(config)))
    monkeypatch.setattr(suggestion, "machine", lambda: GPU)
    monkeypatch.setattr(pip_weights, "is_there", lambda source: True)
    chosen, fields = auto.chosen([*words])
    assert chosen == "unet" and fields["batch_size"] == config.batch_size and fields["steps"] == config.steps
    (tmp_path / "config.json").write_text("{}")
    assert auto.chosen([*words])[0] == "unet_lite0,recipe"


@pytest.mark.slow  # compiles a step
def test_measuring_finds_memory_and_minutes(data):
    config = config_of(f"--config.data_dir={data}", "--config.batch_size=4", "--config.steps=60")
    with config.unlocked():
        config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,))
    config.canvas_size = config.crop_size = (16, 16)
    before = config_lib.to_json(config)
    cost = measure.measure(config)
    assert 4 * 16 * 16 * 3 < cost.step_bytes < 2**28 and cost.compile_seconds > 0
    assert cost.minutes == pytest.approx((cost.compile_seconds + 60 * cost.step_seconds) / 60)
    assert config_lib.to_json(config) == before
    assert [name for name, _, _ in measure.rows(cost)] == ["memory", "minutes"]

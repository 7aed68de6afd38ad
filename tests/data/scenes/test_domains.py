"""The other domains of the scenes, and two domains of one config: which images come with labels, and from where."""

import itertools
import shutil

import numpy as np
import pytest

from configs import adapt_seg, common
from gan_seg_jax.data import fields, pipeline
from gan_seg_jax.data.catalog import Dataset, DatasetInfo
from gan_seg_jax.data.domains import from_source
from gan_seg_jax.data.scenes import builder, encoding
from gan_seg_jax.data.scenes.canvas import ROAD, SKY
from gan_seg_jax.data.scenes.domains import DOMAINS, _blur, change_domain
from gan_seg_jax.data.scenes.drawing import draw_scene
from gan_seg_jax.errors import InputError
from tests import tiny_runs

OTHERS = ("night", "rain", "camera")


@pytest.fixture(scope="module")
def drawn():
    """Scenes as (image, label)."""
    return [draw_scene(np.random.default_rng((3, i)), 48, 64) for i in range(12)]


def drawn_in(domain, scene, seed=0):
    return change_domain(domain, *scene, np.random.default_rng(seed))


def test_the_config_knows_every_domain():
    assert tuple(DOMAINS) == fields.DOMAINS == ("day", *OTHERS) == ("day", *adapt_seg.DOMAINS)


def test_the_day_is_what_is_drawn(drawn):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert change_domain("day", *drawn[0], rng) is drawn[0][0]
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("domain", OTHERS)
def test_a_domain_is_a_function_of_its_arguments(drawn, domain):
    image, label = drawn[0]
    kept = image.copy(), label.copy()
    found = drawn_in(domain, drawn[0])
    assert found.shape == image.shape and found.dtype == np.uint8
    np.testing.assert_array_equal(found, drawn_in(domain, drawn[0]))
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(label, kept[1])
    assert np.mean(np.abs(found.astype(float) - image)) > 15
    assert np.any(found != drawn_in(domain, drawn[0], seed=1))


@pytest.mark.parametrize("domain", OTHERS)
def test_the_geometry_stays(drawn, domain):
    """A change of one place shows in that place alone; on a wet road it is mirrored, in the same columns."""
    image, label = drawn[1]
    label = label.copy()
    label[8:16, 20:28] = SKY  # where no lamp and no window hangs on the colour
    other = image.copy()
    other[8:16, 20:28] = 255 - other[8:16, 20:28] // 2
    changed = np.any(drawn_in(domain, (image, label)) != drawn_in(domain, (other, label)), axis=-1)
    inside = np.zeros_like(changed)
    inside[4:20, 16:32] = True
    if domain == "rain":
        inside |= (label == ROAD) | (label == 3)
        inside[:, :12] = inside[:, 36:] = False
    assert changed[8:16, 20:28].mean() > 0.9
    assert not (changed & ~inside).any()


def means(domain, drawn):
    """Return the mean colour 0..255, the mean spread of the channels, and the mean of sky and road."""
    images = np.stack([drawn_in(domain, scene, i) for i, scene in enumerate(drawn)]).astype(float)
    labels = np.stack([label for _, label in drawn])
    spread = np.mean(images.max(-1) - images.min(-1))
    return images.mean((0, 1, 2)), spread, images[labels == SKY].mean(0), images[labels == ROAD].mean(0)


def test_night_is_dark_and_its_sky_bluish(drawn):
    day, night = means("day", drawn), means("night", drawn)
    assert night[0].mean() < 0.6 * day[0].mean()
    assert night[2].mean() < 0.5 * day[2].mean()
    dark = [drawn_in("night", scene, i)[scene[1] == SKY] for i, scene in enumerate(drawn)]
    assert np.mean([np.median(sky[:, 2]) > np.median(sky[:, 0]) for sky in dark if len(sky)]) > 0.7


def test_night_has_lights(drawn):
    brightest = [drawn_in("night", scene, i).max() for i, scene in enumerate(drawn)]
    assert min(brightest) > 200


def test_rain_takes_colour_and_contrast(drawn):
    day, rain = means("day", drawn), means("rain", drawn)
    assert rain[1] < 0.6 * day[1]
    spread = lambda domain: np.mean([np.std(drawn_in(domain, scene, i)) for i, scene in enumerate(drawn)])
    assert spread("rain") < 0.8 * spread("day")


def test_the_camera_has_a_cast_and_dark_corners(drawn):
    day, camera = means("day", drawn), means("camera", drawn)
    assert camera[0][0] - camera[0][2] > day[0][0] - day[0][2] + 20
    flat = (np.full((48, 64, 3), 128, np.uint8), np.zeros((48, 64), np.uint8))
    shot = drawn_in("camera", flat).astype(float)
    assert shot[:6, :6].mean() < 0.75 * shot[20:28, 28:36].mean()


def test_blur_keeps_the_mean_and_spreads_by_sigma():
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    found = _blur(point, 2.0)[..., 0]
    rows = np.arange(41) - 20
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert (found.sum(1) * rows**2).sum() == pytest.approx(4.0, rel=0.05)
    np.testing.assert_allclose(_blur(np.full((5, 7, 3), 0.3, np.float32), 1.5), 0.3, rtol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (33, 71), (96, 128)])
@pytest.mark.parametrize("domain", OTHERS)
def test_any_size_has_every_domain(domain, size):
    assert drawn_in(domain, draw_scene(np.random.default_rng(0), *size)).shape == (*size, 3)


def test_workers_draw_the_same_domain(monkeypatch):
    alone = [encoding.encode_scene(2, 0, i, (16, 24), "night") for i in range(3)]
    monkeypatch.setattr(encoding, "_FEW_PIXELS", 0)
    assert list(encoding.encode_scenes(2, 0, 3, (16, 24), "night")) == alone
    by_day = [encoding.encode_scene(2, 0, i, (16, 24)) for i in range(3)]
    assert [label for _, label in alone] == [label for _, label in by_day]
    assert all(a[0] != b[0] for a, b in zip(alone, by_day, strict=True))


def test_the_cache_tells_the_domain_and_the_day_keeps_its_name(tmp_path):
    for domain in ("day", "rain"):
        builder.open_scenes(tmp_path, size=(16, 16), counts=(2, 1, 0), seed=5, domain=domain)
    names = sorted(path.name for path in (tmp_path / "scenes").iterdir())
    assert names == ["16x16-2-1-0-seed5", "16x16-2-1-0-seed5-rain"]


def test_an_unknown_domain_is_named(tmp_path):
    with pytest.raises(InputError, match="domain of the scenes 'nigth'.*night"):
        builder.open_scenes(tmp_path, size=(16, 16), counts=(2, 1, 0), seed=0, domain="nigth")


def make_config(tmp_path, **source):
    config = common.get_config()
    config.data_dir, config.canvas_size, config.batch_size = str(tmp_path), (16, 24), 2
    config.scenes.update(size=(16, 24), counts=(3, 2, 1), look="night")
    config.source.update(dataset="scenes", **source)
    return config


def test_labels_come_from_the_source_and_the_rest_is_the_targets(tmp_path):
    dataset = pipeline.open_dataset(make_config(tmp_path))
    target = builder.open_scenes(tmp_path, size=(16, 24), counts=(3, 2, 1), seed=0, domain="night")
    source = builder.open_scenes(tmp_path, size=(16, 24), counts=(3, 2, 1), seed=1)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 3,
        "target": 3,
        "val": 2,
        "test": 1,
    }
    for index in range(3):
        for name in ("image", "label"):
            np.testing.assert_array_equal(dataset.splits["train"][index][name], source.splits["train"][index][name])
        own = dataset.splits["target"][index]
        np.testing.assert_array_equal(own["image"], target.splits["train"][index]["image"])
        assert (own["label"] == 255).all()
    for name in ("val", "test"):
        np.testing.assert_array_equal(dataset.splits[name][0]["image"], target.splits[name][0]["image"])
        np.testing.assert_array_equal(dataset.splits[name][0]["label"], target.splits[name][0]["label"])


def test_both_domains_are_streams(tmp_path):
    config = make_config(tmp_path)
    batches = pipeline.train_batches(pipeline.open_dataset(config), config, ("labelled", "target"))
    seen = list(itertools.islice(batches, 3))
    batches.close()
    assert all((batch["target"]["label"] == 255).all() and (batch["labelled"]["label"] < 10).all() for batch in seen)
    brightness = {name: np.mean([batch[name]["image"] for batch in seen]) for name in seen[0]}
    assert brightness["target"] < 0.6 * brightness["labelled"]


def test_the_source_may_lose_labels_too(tmp_path):
    config = make_config(tmp_path)
    config.labelled.fraction = 0.34
    splits = pipeline.open_dataset(config).splits
    assert {name: len(splits[name]) for name in ("train", "unlabelled", "target")} == {
        "train": 1,
        "unlabelled": 2,
        "target": 3,
    }


def test_without_a_source_there_is_no_target(tmp_path):
    config = make_config(tmp_path)
    config.source.dataset = ""
    dataset = pipeline.open_dataset(config)
    assert "target" not in dataset.splits
    with pytest.raises(InputError, match=r"reads target images.*config\.source\.dataset"):
        next(pipeline.train_batches(dataset, config, ("labelled", "target")))


def test_a_source_that_is_the_target_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.source\.seed is 0"):
        pipeline.open_dataset(make_config(tmp_path, seed=0))
    config = make_config(tmp_path, data_dir=str(tmp_path))
    config.dataset = config.source.dataset = "folder"
    with pytest.raises(InputError, match="the data set itself"):
        pipeline.open_dataset(config)
    config.source.data_dir = ""
    with pytest.raises(InputError, match=r"config\.source\.dataset is 'folder'.*config\.source\.data_dir"):
        pipeline._open_source(config)


def test_a_source_of_other_classes_is_refused():
    target = tiny_runs.memory_set(train=2, val=1)
    info = DatasetInfo("other", ("road", "sky", "car"), tiny_runs.INFO.class_colors)
    with pytest.raises(InputError, match=r"classes road, sky, car.*tiny has sky, road, car"):
        from_source(Dataset(info, target.splits), target)


@pytest.mark.parametrize("split", ["train", "unlabeled"])
def test_the_target_may_be_a_folder_without_labels(tmp_path, split):
    source, target = (tiny_runs.write_set(tmp_path / name) for name in ("source", "target"))
    shutil.rmtree(target / "train" / "masks")
    (target / "train").rename(target / split)
    config = make_config(tmp_path, data_dir=str(source))
    config.update(dataset="folder", data_dir=str(target))
    config.source.dataset = "folder"
    dataset = pipeline.open_dataset(config)
    counts = {name: len(part) for name, part in dataset.splits.items()}
    assert counts == {"train": 13, "target": 13, "val": 5, "test": 6}
    pipeline.check_streams(dataset, ("labelled", "target"))


def test_images_without_labels_are_part_of_the_target():
    target = tiny_runs.memory_set(train=2, val=1, unlabelled=3)
    splits = from_source(tiny_runs.memory_set(train=4, val=1), target).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 4, "val": 1, "target": 5}

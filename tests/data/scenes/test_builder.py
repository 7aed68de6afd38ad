"""The embedded data set: what is drawn, and the cache it is kept in."""

import hashlib
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data.scenes import builder, encoding
from gan_seg_jax.data.scenes.canvas import BUILDING, CAR, POLE, ROAD, SKY, Camera, Canvas, Light
from gan_seg_jax.data.scenes.drawing import _halve_label, draw_scene
from gan_seg_jax.data.scenes.objects import paint_pole
from gan_seg_jax.data.scenes.traffic import paint_car
from gan_seg_jax.errors import InputError
from tests import tiny_runs

NOON = Light((0.0, 1.0, 0.0), (0.8, 0.8, 0.8), (0.4, 0.4, 0.4), (200.0, 200.0, 200.0), 300.0)


def draw(seed, height=96, width=128):
    return draw_scene(np.random.default_rng(seed), height, width)


def straight_camera(height=96, width=128):
    return Camera(height, width, focal=100.0, x0=64.0, y0=48.0, eye=1.5, roll=0.0, bend=0.0)


def blank_canvas(camera):
    shape = (camera.height, camera.width)
    return Canvas(camera, NOON, np.zeros((*shape, 4), np.uint8), np.full(shape, ROAD, np.uint8))


def test_projection_has_known_answers():
    camera = straight_camera()
    pixels = camera.project(np.array([(0.0, 1.5, 10.0), (2.0, 0.0, 10.0), (-1.0, 3.5, 20.0)]))
    np.testing.assert_allclose(pixels, [(64, 48), (84, 63), (59, 38)])
    np.testing.assert_allclose(camera.pixel(2.0, 0.0, 10.0), (84, 63))


def test_rays_invert_the_projection_with_roll():
    camera = Camera(96, 128, focal=100.0, x0=50.0, y0=40.0, eye=1.5, roll=0.1, bend=0.0)
    right, down = camera.rays
    x, z = right[80, 30] * 9.0, 9.0
    np.testing.assert_allclose(camera.pixel(x, 1.5 - down[80, 30] * z, z), (30.5, 80.5), rtol=1e-5)


def test_a_bend_moves_the_distance_sideways_by_its_square():
    near, far = (Camera(96, 128, 100.0, 64.0, 48.0, 1.5, 0.0, bend=0.001).pixel(0.0, 0.0, z)[0] for z in (10.0, 40.0))
    np.testing.assert_allclose((near - 64, far - 64), (1.0, 4.0))  # 0.001 z^2 metres at z, times focal / z


def test_light_follows_the_cosine_and_haze_hides_the_distance():
    assert NOON.shade((100, 50, 20), (0.0, 1.0, 0.0), 0.0) == (120, 60, 24)
    assert NOON.shade((100, 50, 20), (1.0, 0.0, 0.0), 0.0) == (40, 20, 8)
    assert NOON.shade((100, 50, 20), (0.0, 1.0, 0.0), 1e5) == (200, 200, 200)


def test_halving_a_label_takes_the_majority_and_keeps_thin_things():
    four = np.array([[2, 2, 2, 7, 0, 1, 9, 0], [2, 7, 2, 7, 2, 7, 0, 0]], np.uint8)
    np.testing.assert_array_equal(_halve_label(four), [[2, 7, 7, 0]])


def test_a_distant_pole_stays_a_pixel_wide():
    camera = straight_camera(192, 256)
    canvas = blank_canvas(camera)
    paint_pole(canvas, np.random.default_rng(0), 0.0, 70.0, kind="bare")
    label = _halve_label(np.array(canvas.label))
    rows = np.nonzero((label == POLE).any(axis=1))[0]
    assert len(rows) >= 2 and ((label[rows] == POLE).sum(axis=1) >= 1).all()


@pytest.mark.parametrize("heading", ["away", "towards", "across"])
def test_a_car_is_labelled_where_it_is_painted(heading):
    canvas = blank_canvas(straight_camera())
    paint_car(canvas, np.random.default_rng(3), 1.0, 6.0, heading=heading)
    car = np.array(canvas.label) == CAR
    painted = np.array(canvas.picture)[..., :3].any(axis=-1)
    assert car.sum() > 300
    assert painted[car].mean() > 0.99
    assert (painted & ~car).sum() < 0.5 * car.sum()  # its own shadow on the road


def test_a_scene_is_a_function_of_its_generator_alone():
    digests = [[hashlib.sha256(a.tobytes()).hexdigest() for a in draw(seed)] for seed in (7, 8, 7)]
    assert digests[0] == digests[2]
    assert digests[0][0] != digests[1][0]


@pytest.mark.parametrize("size", [(8, 8), (33, 71), (96, 128), (128, 64)])
def test_any_size_can_be_drawn(size):
    image, label = draw(1, *size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert label.shape == size and label.dtype == np.uint8
    assert label.max() < len(builder.INFO.class_names)


def test_too_small_a_scene_is_refused():
    with pytest.raises(ValueError, match="at least 8 x 8"):
        draw(0, 4, 100)


def test_scenes_have_every_class_and_the_usual_shares():
    labels = np.stack([draw((5, i))[1] for i in range(40)])
    shares = np.bincount(labels.ravel(), minlength=builder.INFO.num_classes) / labels.size
    assert (shares > 0.001).all(), shares
    assert shares[[SKY, BUILDING, ROAD]].min() > 0.08
    assert shares[ROAD] < 0.5
    horizon = [np.argmax((label == ROAD).any(axis=1)) for label in labels]
    assert np.std(horizon) > 4  # its height varies, so position alone does not separate sky from road


def test_names_and_colors_fit():
    assert len(set(builder.INFO.class_colors)) == builder.INFO.num_classes == 10
    assert {"sky", "building", "road", "pavement", "tree", "car", "person", "pole", "sign"} <= set(
        builder.INFO.class_names
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    return root, builder.open_scenes(root, size=(24, 32), counts=(6, 3, 2), seed=4)


def test_the_cache_holds_what_is_drawn(opened):
    _, dataset = opened
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "val": 3, "test": 2}
    for number, (name, split) in enumerate(dataset.splits.items()):
        for i in range(len(split)):
            image, label = draw_scene(np.random.default_rng((4, number, i)), 24, 32)
            example = split[i]
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(example["label"], label)
            assert example["id"] == f"{name}-{i:06d}"
        np.testing.assert_array_equal(split.sizes(), np.tile([24, 32], (len(split), 1)))
        np.testing.assert_array_equal(split.class_pixels(), tiny_runs.count_by_reading(split))


def test_a_prepared_set_is_not_drawn_again(opened, monkeypatch):
    root, dataset = opened
    monkeypatch.setattr(builder, "encode_scenes", None)
    again = builder.open_scenes(root, size=(24, 32), counts=(6, 3, 2), seed=4)
    np.testing.assert_array_equal(again.splits["val"][1]["image"], dataset.splits["val"][1]["image"])


def test_sets_of_other_sizes_lie_side_by_side_and_test_may_be_absent(opened):
    root, dataset = opened
    other = builder.open_scenes(root, size=(16, 16), counts=(2, 1, 0), seed=4)
    assert list(other.splits) == ["train", "val"]
    assert other.splits["train"][0]["image"].shape == (16, 16, 3)
    assert dataset.splits["train"][0]["image"].shape == (24, 32, 3)


def test_preparing_prints_one_line_and_never_touches_the_network(tmp_path):
    code = (
        "import socket, sys, warnings\n"
        "def deny(*args, **kwargs): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = deny\n"
        "from absl import logging; logging.set_verbosity(logging.INFO)\n"
        "from gan_seg_jax.data.scenes.builder import open_scenes\n"
        "d = open_scenes(sys.argv[1], size=(16, 16), counts=(2, 1, 1), seed=0)\n"
        "d.splits['train'][0]\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith("drawing 4 scenes of 16 x 16")
    assert len(done.stderr.splitlines()) == 1


def test_what_a_killed_preparation_leaves_is_not_taken_for_a_set(tmp_path, monkeypatch):
    def fail(*args):
        yield encoding.encode_scene(0, 0, 0, (16, 16))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder, "encode_scenes", fail)
        with pytest.raises(KeyboardInterrupt):
            builder.open_scenes(tmp_path, size=(16, 16), counts=(2, 1, 0), seed=0)
    left = tmp_path / "scenes" / "16x16-2-1-0-seed0" / "incomplete.ABCDEF_1.0.0"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    assert len(builder.open_scenes(tmp_path, size=(16, 16), counts=(2, 1, 0), seed=0).splits["train"]) == 2
    assert not left.exists()


def test_two_at_once_do_not_break_each_other(tmp_path):
    code = (
        "import sys; from gan_seg_jax.data.scenes.builder import open_scenes\n"
        "print(open_scenes(sys.argv[1], size=(16, 16), counts=(30, 1, 1), seed=0).splits['train'][29]['label'].sum())"
    )
    command = [sys.executable, "-c", code, tmp_path]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert said[0][0] == said[1][0]


def test_workers_draw_the_same_as_one_process(monkeypatch):
    alone = [encoding.encode_scene(2, 0, i, (24, 32)) for i in range(5)]
    monkeypatch.setattr(encoding, "_FEW_PIXELS", 0)
    assert list(encoding.encode_scenes(2, 0, 5, (24, 32))) == alone


def test_a_worker_that_dies_costs_no_scene(monkeypatch):
    monkeypatch.setattr(encoding, "_FEW_PIXELS", 0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    drawn = list(encoding.encode_scenes(2, 0, 3, (16, 16)))
    assert drawn == [encoding.encode_scene(2, 0, i, (16, 16)) for i in range(3)]


def test_a_cache_that_cannot_be_written_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written to .*give another folder"):
        builder.open_scenes(tmp_path / "file", size=(16, 16), counts=(1, 1, 0), seed=0)


def test_a_damaged_cache_is_bad_input(tmp_path):
    builder.open_scenes(tmp_path, size=(16, 16), counts=(1, 1, 0), seed=0)
    (record,) = tmp_path.glob("scenes/*/*/scenes-train*")
    record.write_bytes(b"")
    with pytest.raises(InputError, match=r"damaged or incomplete.*delete this folder"):
        builder.open_scenes(tmp_path, size=(16, 16), counts=(1, 1, 0), seed=0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": (4, 16)}, "size"),
        ({"counts": (0, 1, 1)}, "counts"),
        ({"counts": (1, 1)}, "counts"),
        ({"seed": -1}, "seed"),
    ],
)
def test_numbers_out_of_range_are_bad_input(tmp_path, change, named):
    with pytest.raises(InputError, match=f"scenes.{named} is"):
        builder.open_scenes(tmp_path, **{"size": (16, 16), "counts": (1, 1, 0), "seed": 0, **change})


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert builder.default_data_dir() == tmp_path / "gan_seg_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(builder.default_data_dir()) == "/somewhere/.cache/gan_seg_jax"


def test_threads_may_share_a_split(opened):
    split = opened[1].splits["train"]
    expected = [split[i]["image"].sum() for i in range(6)]
    found = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: split[i % 6]["image"].sum()})) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(24)] == expected * 4


def test_labels_are_png_of_ids():
    image, label = encoding.encode_scene(0, 1, 0, (16, 16))
    assert Image.open(io.BytesIO(image)).mode == "RGB"
    assert Image.open(io.BytesIO(label)).mode == "L"

"""A run as a function of images: what it takes, what it returns, and that `predict` returns the same."""

import concurrent.futures
import doctest
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gan_seg_jax as gs
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import labelling, scoring, segmenter
from tests import tiny_runs, traces

SIZES = ((12, 20), (40, 33), (16, 24), (7, 90))
ALL = {"scales": (0.5, 1), "flip": True, "window": (12, 16), "min_region": 4}
ALL_FLAGS = ("--scales=0.5,1", "--flip", "--window=12,16", "--min_region=4")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    for number, size in enumerate(SIZES):
        Image.fromarray(tiny_runs.draw(number, size)[0]).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def picture(path):
    return np.array(Image.open(path))


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        pytest.param({}, (), id="plain"),
        pytest.param(ALL, ALL_FLAGS, id="all", marks=pytest.mark.slow),
        pytest.param({"crf": True}, ("--crf",), id="crf", marks=pytest.mark.slow),
    ],
)
def test_results_are_those_of_predict(tiny, source, tmp_path, monkeypatch, options, flags):
    monkeypatch.setattr(scoring, "CRF_PIXELS", 64 * 96)  # of which the last image has more
    out = tmp_path / "out"
    outcome = tiny_runs.command("predict", f"--workdir={tiny.cgan}", f"--input={source}", f"--output={out}", *flags)
    assert outcome.code == 0, outcome.err
    files = sorted(source.iterdir())
    for path, size, result in zip(files, SIZES, gs.load(tiny.cgan, **options)(files), strict=True):
        assert result.labels.dtype == np.uint8 and result.confidence.dtype == result.probabilities.dtype == "f4"
        np.testing.assert_array_equal(result.labels, picture(out / "masks" / path.name))
        np.testing.assert_array_equal(np.round(255 * result.confidence), picture(out / "confidence" / path.name))
        np.testing.assert_array_equal(np.array(result.overlay()), picture(out / "overlays" / path.name))
        assert result.probabilities.shape == (*size, 3)
        np.testing.assert_allclose(result.probabilities.sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_allclose(result.probabilities.max(axis=-1), result.confidence, atol=2e-6)
        if not options:
            np.testing.assert_array_equal(result.probabilities.argmax(axis=-1), result.labels)


def test_arrays_paths_and_pil_images_alone_and_in_lists(tiny, source):
    label, files = gs.load(str(tiny.cgan), 4), sorted(source.iterdir())
    right = [result.labels for result in label([str(path) for path in files])]
    arrays = [picture(path) for path in files]
    for images in (arrays, tuple(map(Image.open, files)), [files[0], arrays[1], Image.open(files[2]), files[3]]):
        for found, labels in zip(label(images), right, strict=True):
            np.testing.assert_array_equal(found.labels, labels)
    for one in (files[1], arrays[1], Image.open(files[1])):
        np.testing.assert_array_equal(label(one).labels, right[1])
    stacked = label(np.stack([arrays[0]] * 3))
    assert len(stacked) == 3 and label([]) == []
    np.testing.assert_array_equal(stacked[2].labels, right[0])
    assert label.step == 4 and repr(stacked[0]) == "Result(class_names=('sky', 'road', 'car'))"


def test_a_pil_image_is_read_as_its_file(tiny, tmp_path):
    image = Image.fromarray(tiny_runs.draw(1, (14, 22))[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("P").save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(np.arange(14 * 22, dtype=np.uint16).reshape(14, 22) * 200).save(tmp_path / "deep.png")
    label = gs.load(tiny.cgan)
    for path in tmp_path.iterdir():
        opened = Image.open(path)
        np.testing.assert_array_equal(label(opened).image, label(path).image)
        assert path.suffix != ".png" or path.stem != "palette" or "transparency" in opened.info


def test_areas(tiny):
    result = gs.load(tiny.cgan)(tiny_runs.draw(0, (12, 20))[0])
    areas = result.areas((0.5, 2.0))
    assert list(areas) == ["sky", "road", "car"] and sum(area["pixels"] for area in areas.values()) == 240
    for number, area in enumerate(areas.values()):
        count = int((result.labels == number).sum())
        assert area == {"pixels": count, "share": count / 240, "mm2": count * 1.0}
    assert "mm2" not in result.areas()["sky"]


@pytest.mark.parametrize("resize", ["fit", "none"])
def test_probabilities_are_the_same_whether_scores_were_kept(tiny, monkeypatch, resize):
    loaded = segmenter.load_run

    def load(*args):
        run = loaded(*args)
        run.config.resize = resize
        return run

    monkeypatch.setattr(segmenter, "load_run", load)
    image = tiny_runs.draw(3, (40, 33))[0]
    given = image.copy()
    kept = gs.load(tiny.cgan)(given)
    given[:], kept.labels[0, 0] = 0, kept.labels[0, 0]  # the arrays of a result are its own
    assert kept.labels.base is None
    monkeypatch.setattr(labelling, "KEPT_BYTES", 0)
    monkeypatch.setattr(scoring, "SCORES_AT_ONCE", 3 * 64 * 7)  # bands of 7 rows
    again = gs.load(tiny.cgan)(image).probabilities
    np.testing.assert_allclose(again, kept.probabilities, atol=1e-6)
    np.testing.assert_array_equal(again.argmax(axis=-1), kept.labels)


def test_threads_share_what_is_compiled(tiny, monkeypatch):
    looks, choices = traces.note(monkeypatch)
    label = gs.load(tiny.cgan)
    images = [tiny_runs.draw(number, SIZES[number % 4])[0] for number in range(12)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(label, images))
    label.warm_up((12, 20), (70, 90))
    assert len(looks) == 1 and sorted(choices) == [(32, 32), (32, 96), (64, 64), (96, 96)]
    for image, result in zip(images, found, strict=True):
        np.testing.assert_array_equal(label(image).labels, result.labels)
    assert len(choices) == 4


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 5), np.uint8), r"uint8 \[4, 5\]; expected uint8 \[height, width, 3\]"),
        (np.zeros((4, 5, 4), np.uint8), r"\[4, 5, 4\]"),
        (np.zeros((4, 5, 3)), r"float64 \[4, 5, 3\]"),
        (np.zeros((0, 5, 3), np.uint8), r"\[0, 5, 3\]"),
        (None, "NoneType"),
        ("/nowhere.png", "/nowhere.png"),
        (Image.new("F", (4, 5)), "32 bits a pixel"),
        (np.zeros((5, 5, 3), np.uint8), "at most 24 pixels"),
        (Image.new("RGB", (5, 5)), "5 x 5 pixels"),
    ],
)
def test_what_is_no_image_is_named(tiny, image, words):
    label = gs.load(tiny.cgan)
    label._config.max_pixels = 24
    with pytest.raises(InputError, match=words):
        label([np.zeros((4, 5, 3), np.uint8), image])


def test_bad_arguments_of_load(tiny, tmp_path):
    cases = {"'flip'": {"flips": True}, "batch_size": {"batch_size": 0}, "--min_region": {"min_region": -1}}
    cases["scales"] = {"scales": 1}
    for word, options in cases.items():
        with pytest.raises(InputError, match=word):
            gs.load(tiny.cgan, **options)
    with pytest.raises(InputError, match="nowhere"):
        gs.load(tmp_path / "nowhere")


def test_importing_the_package_loads_nothing_heavy(repository):
    code = "import sys, gan_seg_jax; print({'jax', 'numpy', 'PIL', 'absl'} & set(sys.modules), gan_seg_jax.load)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("set() <function load")


@pytest.mark.parametrize("page", ["README.md", "docs/README.zh-CN.md"])
def test_the_example_of_the_readme_runs(tiny, tmp_path, monkeypatch, repository, page):
    shutil.copytree(tiny.cgan, tmp_path / "runs" / "mydata")
    (tmp_path / "new_images").mkdir()
    Image.fromarray(tiny_runs.draw(5, (480, 640))[0]).save(tmp_path / "new_images" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest((repository / page).read_text(), {}, page, page, 0)
    assert len(test.examples) > 5
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    printed = []
    runner.run(test, out=printed.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(printed)

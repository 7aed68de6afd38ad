"""Labelling a folder of images: names, sizes, kinds of files, and what happens to damaged ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import gan_seg_jax as gs
from gan_seg_jax import predict
from gan_seg_jax.data import canvas
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import file_batches, finding, scoring
from gan_seg_jax.postprocess import morphology, polygons
from gan_seg_jax.tasks import TASKS, segmentation
from tests import tiny_runs, traces

FOLDERS = {"masks", "colors", "overlays", "confidence"}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def save(path, size=(12, 20), *, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(tiny_runs.draw(len(path.name), size)[0])
    image.convert(mode).save(path, **options)


def run(tiny, source, output, *args):
    return tiny_runs.command("predict", f"--workdir={tiny.cgan}", f"--input={source}", f"--output={output}", *args)


def written(output):
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def test_every_image_gets_its_four_pictures_at_its_own_size(tiny, source, tmp_path):
    sizes = {"a.png": (12, 20), "deep/er/b.jpg": (40, 33), "deep/c.JPEG": (7, 90), "d.e.png": (16, 24)}
    for name, size in sizes.items():
        save(source / name, size)
    (source / "notes.txt").write_text("no image")
    save(source / ".hidden.png")
    save(source / ".thumbnails" / "x.png")
    outcome = run(tiny, source, tmp_path / "out")
    assert outcome.code == 0 and "4 of 4" in outcome.out, outcome.err
    assert outcome.err.splitlines()[-1].startswith("image 4/4")
    names = {"a.png": "a.png", "deep/er/b.jpg": "deep/er/b.png", "deep/c.JPEG": "deep/c.png", "d.e.png": "d.e.png"}
    assert written(tmp_path / "out") == {f"{folder}/{name}" for folder in FOLDERS for name in names.values()}
    colors = np.array(tiny_runs.INFO.class_colors, np.uint8)
    for name, size in sizes.items():
        pictures = {folder: np.array(Image.open(tmp_path / "out" / folder / names[name])) for folder in FOLDERS}
        mask, confidence = pictures["masks"], pictures["confidence"]
        assert mask.dtype == confidence.dtype == np.uint8 and mask.shape == confidence.shape == size
        assert mask.max() < 3
        assert confidence.min() >= np.floor(255 / 3) and confidence.max() <= 255  # the chosen of three classes
        np.testing.assert_array_equal(pictures["colors"], colors[mask])
        assert pictures["overlays"].shape == (*size, 3)


def test_a_clash_keeps_full_names(tiny, source, tmp_path):
    for name in ("a.jpg", "a.png", "b.png", "a.jpg.png", "sub/a.png"):
        save(source / name)
    outcome = run(tiny, source, tmp_path / "out")
    assert outcome.code == 0 and "5 of 5" in outcome.out
    names = {path.removeprefix("masks/") for path in written(tmp_path / "out") if path.startswith("masks/")}
    assert names == {"a.jpg.png", "a.png.png", "a.jpg.png.png", "b.png", "sub/a.png"}


def test_a_damaged_file_is_reported_and_skipped(tiny, source, tmp_path):
    save(source / "good.png")
    save(source / "cut.png")
    (source / "cut.png").write_bytes((source / "cut.png").read_bytes()[:200])
    (source / "text.jpg").write_text("no image")
    (source / "empty.png").touch()
    outcome = run(tiny, source, tmp_path / "out")
    assert outcome.code == 0 and "1 of 4" in outcome.out
    for name in ("cut.png", "text.jpg", "empty.png"):
        assert f"{name}" in outcome.err
    assert "Traceback" not in outcome.err
    assert written(tmp_path / "out") == {f"{folder}/good.png" for folder in FOLDERS}


def test_nothing_readable_is_bad_input(tiny, source, tmp_path):
    (source / "text.jpg").write_text("no image")
    outcome = run(tiny, source, tmp_path / "out")
    assert outcome.code == 2 and "None of the 1 images" in outcome.err
    outcome = run(tiny, source / "text.jpg", tmp_path / "out")
    assert outcome.code == 2 and "Traceback" not in outcome.err


def test_a_single_image(tiny, source, tmp_path):
    save(source / "one.jpeg", (50, 31))
    outcome = run(tiny, source / "one.jpeg", tmp_path / "out", "--checkpoint=4")
    assert outcome.code == 0, outcome.err
    assert written(tmp_path / "out") == {f"{folder}/one.png" for folder in FOLDERS}


def test_all_kinds_of_images(tiny, source, tmp_path):
    for mode in ("L", "RGBA", "P", "1", "LA", "CMYK"):
        save(source / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}", (14, 22), mode=mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    save(source / "turned.jpg", (14, 22), exif=exif)
    assert run(tiny, source, tmp_path / "out").code == 0
    for path in (tmp_path / "out" / "masks").iterdir():
        assert np.array(Image.open(path)).shape == ((22, 14) if path.stem == "turned" else (14, 22)), path


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--input=/nowhere",), "/nowhere"),
        (("--input=",), "--input"),
        (("--output=",), "--output"),
        (("--workdir=/nowhere",), "/nowhere"),
        (("--checkpoint=99",), "99"),
        (("--imput=x",), "imput"),
        (("--scales=1,2,",), "--scales"),
        (("--window=8",), "--window"),
        (("--closing=-1",), "--closing"),
    ],
)
def test_bad_arguments(tiny, source, tmp_path, args, words):
    save(source / "a.png")
    outcome = run(tiny, source, tmp_path / "out", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["segmentation", "translation"])
def test_images_of_few_bits_are_read_as_in_training(source, task):
    Image.fromarray(np.full((4, 6), 4095, np.uint16)).save(source / "a.png")
    config = ConfigDict({"image_bits": 12, "max_pixels": 24, "input": "target"})
    pictures = TASKS[task].pictures
    read = file_batches.reader(config, masks=pictures.takes_masks(config))
    np.testing.assert_array_equal(read(source / "a.png"), np.full((4, 6, 3), 255))
    config.max_pixels = 23
    with pytest.raises(InputError, match="has 4 x 6 pixels"):
        file_batches.reader(config, masks=pictures.takes_masks(config))(source / "a.png")


def test_linked_folders_are_followed_and_what_is_left_out_is_counted(source, tmp_path, capsys):
    for name in ("a.png", "b.tif", "c.BMP", "d.webp", "e.jfif", ".hidden.png"):
        (source / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.jpe").touch()
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(source)
    (source / "loop").symlink_to("loop")
    (source / "g.gif").touch()
    found = finding.find_images(source, tmp_path / "out")
    names = ["a.png", "b.tif", "c.BMP", "d.webp", "e.jfif", "link/f.jpe"]
    assert [str(path.relative_to(source)) for path, _ in found] == names
    assert "left out, being no images by their ending: 2 (g.gif, loop)" in capsys.readouterr().err


def test_a_folder_without_images_and_an_output_that_is_a_file(tiny, source, tmp_path):
    outcome = run(tiny, source, tmp_path / "out")
    assert outcome.code == 2 and "holds no images" in outcome.err
    save(source / "a.png")
    (tmp_path / "out").write_text("in the way")
    outcome = run(tiny, source, tmp_path / "out")
    assert outcome.code == 2 and "cannot be written" in outcome.err
    assert (tmp_path / "out").read_text() == "in the way"


def test_pictures_of_an_earlier_call_are_no_input(tiny, source):
    """The output may lie inside the input folder."""
    save(source / "a.png")
    for _ in range(2):
        outcome = run(tiny, source, source / "out")
        assert outcome.code == 0 and "1 of 1" in outcome.out
    assert written(source / "out") == {f"{folder}/a.png" for folder in FOLDERS}


@pytest.mark.parametrize(
    ("options", "heights", "programs"),
    [
        ((), (10, 33, 64, 65, 90), 12),
        pytest.param(("--scales=0.5,1", "--flip", "--window=12,16"), (10, 33, 50, 64), 8, marks=pytest.mark.slow),
    ],
)
def test_few_programs_serve_many_sizes(tiny, source, monkeypatch, options, heights, programs):
    sizes = [(height, width) for height in heights for width in (12, 50, 91, 120, 128)]
    for number, size in enumerate(sizes):
        save(source / f"{number}.png", size)
    looks, choices = traces.note(monkeypatch)
    outcome = run(tiny, source, source.parent / "out", *options)
    assert outcome.code == 0, outcome.err
    assert len(written(source.parent / "out")) == 4 * len(sizes)
    assert len(looks) == 1  # the network, which is what takes long to compile
    assert len(choices) == len(set(choices)) == programs  # heights times widths of buckets


@pytest.mark.slow
def test_images_too_large_for_the_crf_are_labelled_at_a_smaller_size(tiny, source, monkeypatch):
    monkeypatch.setattr(scoring, "CRF_PIXELS", 64 * 64)
    save(source / "large.png", (100, 80))
    save(source / "long.png", (20, 300))
    outcome = run(tiny, source, source.parent / "out", "--crf", "--min_region=2")
    assert outcome.code == 0, outcome.err
    for name, size in (("large", (100, 80)), ("long", (20, 300))):
        for folder in ("masks", "confidence"):
            assert np.array(Image.open(source.parent / "out" / folder / f"{name}.png")).shape == size


def test_buckets_hold_what_they_are_for():
    for length in [*range(1, 300), 4000, 8192]:
        size, other = canvas.bucket((length, 33))
        assert size >= length and size % 32 == 0 and other == 64 and (length <= 128 or size / length < 1.25)
    assert [canvas.bucket((n, 1))[0] for n in (1, 32, 96, 256, 257, 480, 3000, 6000)] == [
        32,
        32,
        96,
        256,
        320,
        512,
        3072,
        6144,
    ]
    assert len({canvas.bucket((length, 1))[0] for length in range(1, 4097)}) == 24


def test_labels_do_not_depend_on_the_company(tiny, source, tmp_path):
    for number in range(5):
        save(source / f"{number}.png", (12 + number, 20))
    run(tiny, source, tmp_path / "all")
    shutil.copy(source / "3.png", tmp_path / "3.png")
    run(tiny, tmp_path / "3.png", tmp_path / "one")
    together, alone = (np.array(Image.open(tmp_path / name / "masks" / "3.png")) for name in ("all", "one"))
    np.testing.assert_array_equal(together, alone)


def masks(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted((folder / "masks").iterdir())}


def test_options_change_the_labels_and_clean_up_comes_last(tiny, source, tmp_path, exact_crf):
    for number, size in enumerate([(12, 20), (40, 33), (60, 50)]):
        save(source / f"{number}.png", size)
    clean = ("--min_region=20", "--closing=1")
    cases = {"plain": (), "better": ("--scales=0.5,1.5", "--flip"), "crf": ("--crf",), "clean": clean}
    for name, options in cases.items():
        outcome = run(tiny, source, tmp_path / name, *options)
        assert outcome.code == 0, outcome.err
    found = {name: masks(tmp_path / name) for name in cases}
    for name in ("better", "crf", "clean"):
        assert any((found[name][file] != found["plain"][file]).any() for file in found["plain"]), name
    for file, mask in found["plain"].items():
        right = morphology.clean(mask, min_region=20, closing=1, num_classes=3)
        np.testing.assert_array_equal(found["clean"][file], right)
        confidence = [Image.open(tmp_path / name / "confidence" / file) for name in ("plain", "clean")]
        np.testing.assert_array_equal(*map(np.array, confidence))


def test_pictures_take_the_place_of_links(tmp_path):
    outside, output = tmp_path / "outside", tmp_path / "out"
    outside.write_bytes(b"precious")
    for folder in FOLDERS:
        (output / folder).mkdir(parents=True)
        (output / folder / "a.png").symlink_to(outside)
    mask = np.array([[0, 1]], np.uint8)
    pictures = segmentation.pictures(np.zeros((1, 2, 3), np.uint8), mask, np.ones((1, 2)), ((0, 0, 0), (9, 9, 9)))
    predict.write(output, Path("a.png"), pictures)
    assert outside.read_bytes() == b"precious"
    np.testing.assert_array_equal(np.array(Image.open(output / "masks" / "a.png")), mask)


def test_areas_and_polygons_of_each_image(tiny, source, tmp_path, monkeypatch):
    for name, size in (("b.png", (12, 20)), ("deep/a.jpg", (16, 24))):
        save(source / name, size)
    (source / "spacing.csv").write_text("id,row_mm,column_mm\ndeep/a,0.5,0.5\n")
    out = tmp_path / "out"
    assert run(tiny, source, out, "--areas", "--polygons=geojson").code == 0
    lines = (out / "areas.csv").read_text().splitlines()
    assert lines[0] == "image,class_id,class,pixels,share,mm2" and len(lines) == 7
    first, after = np.array(Image.open(out / "masks" / "b.png")), np.array(Image.open(out / "masks" / "deep" / "a.png"))
    pixels = [int((first == 2).sum()), int((after == 1).sum())]
    assert lines[3] == f"b.png,2,car,{pixels[0]},{pixels[0] / 240:.6f},"
    assert lines[5] == f"deep/a.jpg,1,road,{pixels[1]},{pixels[1] / 384:.6f},{pixels[1] / 4:.9g}"
    found = json.loads((out / "polygons" / "deep" / "a.geojson").read_text())
    assert sum(part["properties"]["pixels"] for part in found["features"]) == 384
    areas = (out / "areas.csv").read_text()
    # A killed command goes on: what is there is not made again, and its table is whole.
    (out / "areas.csv").unlink()
    (out / "colors" / "b.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    outcome = run(tiny, source, out, "--areas", "--polygons=coco", "--skip_existing")
    assert outcome.code == 0 and "1 of 1 images labelled, 1 were there" in outcome.out, outcome.err
    assert (out / "areas.csv").read_text() == areas
    changed = {path.relative_to(out).as_posix() for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {f"{folder}/b.png" for folder in FOLDERS - {"colors"}}
    coco = json.loads((out / "polygons.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["b.png", "deep/a.jpg"]
    monkeypatch.setattr(polygons, "MOST_REGIONS", 0)
    outcome = run(tiny, source, out, "--skip_existing", "--polygons=coco")
    assert "no polygons of deep/a.jpg: its mask has" in outcome.err
    assert outcome.code == 0 and "0 of 0 images labelled, 2 were there" in outcome.out, outcome.err


def test_explanations_are_made_of_images_alone(tiny, source, tmp_path):
    out = tmp_path / "out"
    save(source / "a.png")
    outcome = run(tiny, source, out, "--explain")
    assert outcome.code == 0 and "explained" in outcome.out, outcome.err
    (sheet,) = (out / "explained").rglob("*.png")
    assert min(Image.open(sheet).size) > 320 and (out / "masks" / sheet.relative_to(out / "explained")).is_file()
    before = sheet.stat().st_mtime_ns
    assert "1 were there" in run(tiny, source, out, "--explain", "--skip_existing").out
    assert sheet.stat().st_mtime_ns == before


def test_maps_of_entropy_and_doubt(tiny, source, tmp_path):
    for number, size in enumerate([(12, 20), (40, 33)]):
        save(source / f"{number}.png", size)
    (tmp_path / "list.txt").write_text("in/0.png\nin/1.png\nin/gone.png\n")
    out = tmp_path / "out"
    outcome = run(tiny, tmp_path / "list.txt", out, "--entropy", "--doubt")
    assert outcome.code == 0 and "gone.png: does not exist" in outcome.err, outcome.err
    assert written(out) == {f"{folder}/{n}.png" for folder in (*FOLDERS, "entropy", "doubt") for n in (0, 1)}
    for number, result in enumerate(gs.load(tiny.cgan)([source / "0.png", source / "1.png"])):
        entropy = -(result.probabilities * np.log(result.probabilities)).sum(axis=-1) / np.log(3)
        found, doubt = (np.array(Image.open(out / name / f"{number}.png")) for name in ("entropy", "doubt"))
        assert np.abs(found.astype(float) - 255 * entropy).max() <= 0.51
        assert doubt.shape == found.shape and doubt.dtype == np.uint8
    alone = tmp_path / "alone"
    assert run(tiny, source / "0.png", alone, "--doubt").code == 0
    np.testing.assert_array_equal(*(np.array(Image.open(place / "doubt" / "0.png")) for place in (out, alone)))


def test_an_output_without_permission_is_said_first(tiny, source, monkeypatch):
    save(source / "a.png")
    monkeypatch.setattr(segmentation, "ImageLabeller", None)  # nothing is labelled before
    (source.parent / "out").mkdir()
    (source.parent / "out" / "colors").write_text("in the way")
    for place, named in (("/proc/out", "/proc/out"), (source.parent / "out", "out/colors")):
        outcome = run(tiny, source, place)
        assert outcome.code == 2 and f"{named} cannot be written" in outcome.err and "Traceback" not in outcome.err

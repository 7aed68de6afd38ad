"""metrics.jsonl, TensorBoard, console, panels and curves."""

import contextlib
import json
import os
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from gan_seg_jax.errors import InputError
from gan_seg_jax.pictures import judgement, panels, png
from gan_seg_jax.runs import tables, writer
from gan_seg_jax.runs.writer import Writer
from gan_seg_jax.system import files
from tests import pages

COLORS = ((128, 128, 128), (128, 0, 0), (0, 0, 192))
NAMES = ("sky", "building", "car")


def open_writer(folder, **options):
    return Writer(folder, total_steps=100, **{"tensorboard": False, **options})


def read_lines(folder):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def read_events(folder):
    events = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:  # a record: length, its checksum, bytes, their checksum
            (length,) = struct.unpack("<Q", data[:8])
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_scalars_are_strict_json_lines(tmp_path):
    with open_writer(tmp_path / "new" / "run") as out:
        out.scalars(10, "train", {"loss/generator": np.float32(1.5), "skipped_steps": np.int64(3)})
        assert len(read_lines(tmp_path / "new" / "run")) == 1  # on disk at once
        out.scalars(20, "val", {"miou": None, "a": float("nan"), "b": np.inf})
    assert read_lines(tmp_path / "new" / "run") == [
        {"step": 10, "split": "train", "loss/generator": 1.5, "skipped_steps": 3},
        {"step": 20, "split": "val", "miou": None, "a": None, "b": None},
    ]


def test_names_that_cannot_be_written(tmp_path):
    with open_writer(tmp_path) as out:
        with pytest.raises(ValueError, match="train, val, test"):
            out.scalars(1, "validation", {})
        with pytest.raises(ValueError, match="step"):
            out.scalars(1, "val", {"step": 3})


def test_rewind_drops_later_lines_and_damage(tmp_path):
    with open_writer(tmp_path) as out:
        for step in (10, 20, 30):
            out.scalars(step, "train", {"loss/generator": step})
        out.scalars(20, "val", {"miou": 0.5})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('not json\n{"step": "x"}\n[1]\n{"step": 20, "split": "tr')  # the last one half-written
    with open_writer(tmp_path) as out:
        out.rewind(20)
        out.scalars(40, "train", {"loss/generator": 40})
    assert [(line["step"], line["split"]) for line in read_lines(tmp_path)] == [
        (10, "train"),
        (20, "train"),
        (20, "val"),
        (40, "train"),
    ]


def test_rewind_drops_a_validation_that_was_not_saved(tmp_path):
    with open_writer(tmp_path) as out:
        for split in ("train", "val"):
            for step in (10, 20):
                out.scalars(step, split, {})
        out.scalars(20, "test", {})
        out.rewind(20, validated=10)
    assert [(line["step"], line["split"]) for line in read_lines(tmp_path)] == [
        (10, "train"),
        (20, "train"),
        (10, "val"),
    ]


def test_a_half_written_line_does_not_spoil_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n{"step": 2, "sp')
    with open_writer(tmp_path) as out:
        out.scalars(2, "train", {})
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 2]


def test_tensorboard_events_without_tensorflow(tmp_path):
    picture = np.full((4, 5, 3), 7, np.uint8)
    with open_writer(tmp_path, tensorboard=True) as out:
        out.scalars(10, "val", {"miou": 0.25, "boundary_f1": None})
        out.images(10, "val/sample", picture)
    with open_writer(tmp_path, tensorboard=True) as out:  # the same second: must not overwrite the first file
        out.rewind(5)
        out.scalars(6, "train", {"loss/generator": 2.0})
    events = read_events(tmp_path)
    scalars = {(e.step, v.tag): v.simple_value for e in events for v in e.summary.value if not v.HasField("image")}
    assert scalars == {(10, "val/miou"): 0.25, (6, "train/loss/generator"): 2.0}
    (image,) = [v.image for e in events for v in e.summary.value if v.HasField("image")]
    assert (image.height, image.width) == (4, 5)
    assert [e.step for e in events if e.session_log.status == event_pb2.SessionLog.START] == [6]


def test_hparams_are_read_by_the_plugin_s_own_format(tmp_path):
    with open_writer(tmp_path, tensorboard=True) as out:
        values = {"batch_size": 4, "dtype": "float32", "crop_size": [96, 128], "share": True, "data_dir": "a\udcff"}
        out.hparams(values, ["test/miou"])
    found = {v.tag: v.metadata.plugin_data for e in read_events(tmp_path) for v in e.summary.value}
    assert {data.plugin_name for data in found.values()} == {"hparams"}
    start = HParamsPluginData.FromString(found["_hparams_/session_start_info"].content).session_start_info.hparams
    assert (start["batch_size"].number_value, start["share"].bool_value) == (4, True)
    assert (start["dtype"].string_value, start["crop_size"].string_value) == ("float32", "[96, 128]")
    assert start["data_dir"].string_value == "a\\xff"
    table = HParamsPluginData.FromString(found["_hparams_/experiment"].content).experiment
    assert [metric.name.tag for metric in table.metric_infos] == ["test/miou"]


def test_images_are_png_files(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    with open_writer(tmp_path) as out:
        out.images(1200, "val/sample", picture)
        out.images(None, "augmented", picture)
        with pytest.raises(ValueError, match="uint8"):
            out.images(1200, "val", picture / 255)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samples/val-sample-0001200.png")), picture)
    assert set(os.listdir(tmp_path / "samples")) == {"augmented.png", "val-sample-0001200.png", "index.html"}


def test_pictures_are_on_a_page_the_newest_first(tmp_path):
    run = tmp_path / "<b>run"
    picture = np.zeros((6, 8, 3), np.uint8)
    with open_writer(run) as out:
        out.images(None, "augmented", picture)
        for step in (20, 100, 12345678):
            out.images(step, "val", picture)
    (run / "samples" / "of somebody else.png").write_bytes(b"")
    with open_writer(run) as out:
        out.images(100, "test", picture)
    page = pages.Page((run / "samples" / "index.html").read_text())
    assert page.sources == [
        "augmented.png",
        "test-0000100.png",
        "val-12345678.png",
        "val-0000100.png",
        "val-0000020.png",
    ]
    assert [text for level, text in page.headings] == ["Samples of <b>run", "augmented", "test", "val"]
    assert "step 12345678" in page.words and "before the first step" in page.words
    assert all((run / "samples" / source).is_file() for source in page.sources)


def test_plain_lines_come_at_most_every_ten_seconds(tmp_path, monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(writer.time, "monotonic", lambda: clock[0])
    with open_writer(tmp_path, progress=False) as out:
        for step in range(0, 101, 5):
            out.progress(
                step, images_per_second=18.25, images=2, losses={"loss/generator": 1.23456, "loss/discriminator": None}
            )
            clock[0] += 4.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 0/100  18.2 images/s  loss/generator 1.235  loss/discriminator -  left 0:10"
    assert lines[1].startswith("step 15/100") and lines[1].endswith("left 1:08")
    assert lines[-1].startswith("step 100/100") and lines[-1].endswith("left 0:00")
    assert len(lines) == 8


def test_bar_and_messages(tmp_path, capsys):
    with open_writer(tmp_path, progress=True) as out:
        out.message("before")
        out.progress(50, images_per_second=None, images=2, losses={"loss/generator": 1.0})
        out.message("between")
        out.progress(100, images_per_second=20.0, images=2, losses={"loss/generator": 0.5})
    printed = capsys.readouterr()
    assert printed.out.split() == ["before", "between"]
    assert "step 100/100" in printed.err and "20.0 images/s" in printed.err and "loss/generator 0.5" in printed.err


def test_inactive_writer_does_nothing(tmp_path, capsys):
    with Writer(tmp_path / "run", total_steps=10, active=False) as out:
        out.scalars(1, "train", {"a": 1.0})
        out.rewind(0)
        out.images(1, "a", np.zeros((2, 2, 3), np.uint8))
        out.progress(10, images_per_second=1.0, images=2, losses={})
        out.message("nobody reads this")
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr() == ("", "")


def test_close_twice(tmp_path):
    out = open_writer(tmp_path, tensorboard=True)
    out.scalars(1, "train", {"a": 1.0})
    out.close()
    out.close()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match=r"run: .*--workdir"):
        open_writer(tmp_path / "run")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open_in_place", lambda path, flags: (path.touch(), os.open("/dev/full", flags))[1])
    with open_writer(tmp_path) as out, pytest.raises(InputError, match=r"metrics.jsonl: No space left"):
        out.scalars(1, "train", {"a": 1.0})


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: open_writer(folder).scalars(1, "train", {"a": 1.0}),
        lambda folder: files.write_json(folder / "summary.json", {"a": 1}),
        lambda folder: panels.plot_curves(folder / "nothing", folder / "curves.png"),
        lambda folder: png.write_picture(folder / "closest.png", np.zeros((2, 3), np.uint8)),
        lambda folder: judgement.judging_sheet(
            folder / "judging-test.png",
            title="",
            diagrams={},
            histograms={"real": np.ones(1)},
            edges=np.array([0.0, 1.0]),
            maps=[judgement.Map("", np.zeros((2, 3, 3), np.uint8))],
        ),
    ],
    ids=["metrics.jsonl", "summary.json", "curves.png", "closest.png", "judging-test.png"],
)
def test_planted_links_lead_nowhere(tmp_path, write):
    """Neither the name of a file nor that of its temporary form of old is written through."""
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.write_bytes(b"precious")
    folder.mkdir()
    for name in (
        "metrics.jsonl",
        "summary.json",
        "summary.partial",
        "curves.png",
        "closest.png",
        "judging-test.png",
    ):
        (folder / name).symlink_to(outside)
    with contextlib.suppress(InputError):  # a log is refused, other files take the link's place
        write(folder)
    assert outside.read_bytes() == b"precious"


SCORES = {
    "miou": 0.5,
    "pixel_accuracy": 0.91234,
    "mean_accuracy": None,
    "boundary_f1": 1.0,
    "iou_per_class": {"sky": 1.0, "building": 0.0, "car": None},
}


def test_scores_table():
    assert tables.scores_table([("cgan", SCORES), ("majority class", {"miou": 0.1})]).splitlines() == [
        "                  mIoU  pixel accuracy  mean accuracy  boundary F1",
        "--------------  ------  --------------  -------------  -----------",
        "cgan            0.5000          0.9123              -       1.0000",
        "majority class  0.1000               -              -            -",
    ]


def test_per_class_table():
    assert tables.per_class_table(NAMES, [("val", SCORES), ("test set", SCORES)]).splitlines() == [
        "IoU          val  test set",
        "--------  ------  --------",
        "sky       1.0000    1.0000",
        "building  0.0000    0.0000",
        "car            -         -",
        "mean      0.5000    0.5000",
    ]


def test_colorize_and_overlay():
    label = np.array([[0, 2], [255, 1]])
    colored = panels.colorize(label, COLORS, ignore_color=(1, 2, 3))
    np.testing.assert_array_equal(colored, [[COLORS[0], COLORS[2]], [(1, 2, 3), COLORS[1]]])
    image = np.full((2, 2, 3), 100, np.uint8)
    blend = panels.overlay(image, label, COLORS, alpha=0.25)
    np.testing.assert_array_equal(blend[1, 1], [107, 75, 75])
    np.testing.assert_array_equal(blend[1, 0], [100, 100, 100])
    assert colored.dtype == blend.dtype == np.uint8


def test_error_map_marks_wrong_and_ignored_pixels():
    image = np.full((1, 3, 3), 128, np.uint8)
    right, wrong, ignored = panels.error_map(image, np.array([[0, 1, 255]]), np.array([[0, 0, 0]]), num_classes=2)[
        0
    ].astype(int)
    assert right[0] == right[1] == right[2]
    assert wrong[0] > wrong[1] + 80
    assert ignored[2] > ignored[0] + 20


@pytest.mark.parametrize("size", [(24, 32), (300, 400), (700, 20), (1000, 2000)])
def test_sample_panel_fits_images_of_any_size(size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (2, *size))
    options = {"class_colors": COLORS, "class_names": NAMES}
    plain = panels.sample_panel(images, labels, labels, **options)
    full = panels.sample_panel(images, labels, labels, score_maps=rng.random((2, 6, 8)), titles=["a", "b"], **options)
    assert plain.dtype == full.dtype == np.uint8
    assert full.shape[1] * 4 == pytest.approx(plain.shape[1] * 5, rel=0.02)
    assert full.shape[0] > plain.shape[0]
    assert plain.shape[1] < 4 * 660
    assert all((plain == color).all(axis=-1).any() for color in COLORS)


def test_legend_of_many_classes_names_those_present():
    labels = np.full((1, 8, 8), 7)
    assert panels._shown_classes(labels, labels + 248, num_classes=150) == [7]
    assert panels._shown_classes(labels, labels, num_classes=11) == list(range(11))


@pytest.mark.parametrize("steps", [0, 1, 30, 200])
def test_curves_of_runs_of_any_length(tmp_path, steps):
    metrics_path, picture = tmp_path / "metrics.jsonl", tmp_path / "curves.png"
    with open_writer(tmp_path) as out:
        for step in range(steps):
            out.scalars(step, "train", {"loss/generator": 1.0, "grad_norm/generator": None, "lr": 0.1})
            out.scalars(step, "val", {"miou": 0.5, "boundary_f1": None})
    with open(metrics_path, "a") as file:
        file.write('{"step": 1')
    panels.plot_curves(metrics_path, picture)
    assert Image.open(picture).size[0] > 1000


def test_curves_without_a_file(tmp_path):
    panels.plot_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_legends_hide_no_curve(tmp_path, monkeypatch):
    """They stand inside the picture, below the axes."""
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *to, **how: drawn.append(self) or save(self, *to, **how))
    with open_writer(tmp_path) as out:
        for step in range(9):
            roles = ("generator", "discriminator", "discriminator_aux", "segmenter", "teacher", "refiner")
            out.scalars(step, "train", {f"{kind}/{role}": 1.0 for role in roles for kind in ("loss", "grad_norm")})
            out.scalars(step, "val", dict.fromkeys(panels.SCORES, 0.5))
    panels.plot_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    ((figure,), paper) = drawn, drawn[0].bbox
    assert len(figure.axes) == 3
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        assert not legend.overlaps(axes.get_window_extent())
        assert paper.x0 <= legend.x0 < legend.x1 <= paper.x1 and paper.y0 <= legend.y0 < legend.y1 <= paper.y1

"""Labelling videos: a mask of each frame, the overlay video, killed commands, and files that are no whole videos."""

import csv
import fractions
import os
import sys
import types

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.inference import frames, load, videos
from gan_seg_jax.pictures import panels
from tests import red_channel, tiny_runs

av = pytest.importorskip("av", reason="the extra video is not installed")

RATE = fractions.Fraction(30000, 1001)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with an empty input folder and a run that reads classes off the grey of frames."""
    red_channel.take_place(monkeypatch)
    (tmp_path / "in").mkdir()
    return tmp_path


def predict(work, *args):
    places = (f"--workdir={work / 'run'}", f"--input={work / 'in'}", f"--output={work / 'out'}")
    return tiny_runs.command("predict", *places, *args)


def label_of(number: int, size) -> np.ndarray:
    """Return the label of a frame: its number in the columns, and in the rows which way is up."""
    label = np.zeros(size, np.uint8)
    label[:, 8:] = 1 + number % 2
    label[:8, : 8 * (1 + number % 3)] = 2
    return label


def film(path, count, *, size=(32, 48), codec="libx264", rotation=0, times=None, aspect=None, options=None):
    """Write frames whose grey is 40 times their label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for number in range(count):
            grey = np.repeat(40 * label_of(number, size)[:, :, None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def seen(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = [
            (float(frame.time), frame.rotation, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)
        ]
        return shown, stream.average_rate, stream.sample_aspect_ratio, stream.codec_context.name


def masks(work, name):
    paths = sorted((work / "out" / "masks" / name).iterdir())
    assert [path.name for path in paths] == [f"{number:06d}.png" for number in range(len(paths))]
    return [np.array(Image.open(path)) for path in paths]


def test_every_frame_gets_its_mask_and_the_overlay_its_times(work):
    film(work / "in" / "a.mp4", 7, rotation=-90, aspect=fractions.Fraction(4, 3))
    film(work / "in" / "deep" / "b.MKV", 5, codec="ffv1", size=(33, 47), times=[0, 40, 90, 200, 240])
    film(work / "in" / "c.avi", 3, codec="mpeg4", size=(32, 32))
    Image.fromarray(np.full((4, 6), 80, np.uint8)).save(work / "in" / "a.png")
    outcome = predict(work, "--areas", "--entropy")
    assert outcome.code == 0 and "4 of 4 files labelled" in outcome.out, outcome.err
    colors = tiny_runs.INFO.class_colors
    for name, count, size, turns in (
        ("a.mp4", 7, (32, 48), -1),
        ("deep/b.MKV", 5, (33, 47), 0),
        ("c.avi", 3, (32, 32), 0),
    ):
        right = [np.rot90(label_of(number, size), turns) for number in range(count)]
        np.testing.assert_array_equal(masks(work, name), right)
        assert len(list((work / "out" / "entropy" / name).iterdir())) == count
        (path,) = (work / "out" / "overlays" / name).iterdir()
        shown, rate, aspect, codec = seen(path)
        given, given_rate, given_aspect, _ = seen(work / "in" / name)
        assert path.name == f"{(work / name).stem}.mp4" and codec == "h264"
        assert [time for time, _, _ in shown] == pytest.approx([time for time, _, _ in given], abs=1e-4)
        assert {rotation for _, rotation, _ in shown} == {0}
        assert turns == 0 or (rate, aspect) == (given_rate, 1 / given_aspect)
        for (_, _, found), (_, _, pixels), label in zip(shown, given, right, strict=True):
            drawn = panels.overlay(np.ascontiguousarray(np.rot90(pixels, turns)), label, colors)
            assert found.shape == drawn.shape and np.abs(found.astype(int) - drawn).mean() < 6
    assert (work / "out" / "masks" / "a.png").is_file() and not (work / "out" / "confidence" / "c.avi").exists()
    rows = {(row["image"], row["class"]): row for row in csv.DictReader((work / "out" / "areas.csv").open())}
    assert len(rows) == 3 * (7 + 5 + 3 + 1)
    assert rows["deep/b.MKV/000004", "car"]["pixels"] == str(int((label_of(4, (33, 47)) == 2).sum()))


def test_a_killed_command_goes_on(work):
    film(work / "in" / "a.mp4", 9)
    assert predict(work).code == 0
    overlay, folder = work / "out" / "overlays" / "a.mp4" / "a.mp4", work / "out" / "masks" / "a.mp4"
    first, _, _, _ = seen(overlay)
    outcome = predict(work, "--skip_existing")
    assert "0 of 0 files labelled, 1 were there" in outcome.out, outcome.err
    overlay.unlink()
    (overlay.parent / f".{'0f' * 16}.tmp").touch()
    gone = {f"{number:06d}.png" for number in (2, 7, 8)}
    for name in gone:
        (folder / name).unlink()
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert predict(work, "--skip_existing").code == 0
    assert {path.name for path in folder.iterdir() if times.get(path.name) != path.stat().st_mtime_ns} == gone
    np.testing.assert_array_equal(masks(work, "a.mp4"), [label_of(number, (32, 48)) for number in range(9)])
    for (_, _, one), (_, _, other) in zip(first, seen(overlay)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert [path.name for path in overlay.parent.iterdir()] == ["a.mp4"]
    film(work / "in" / "a.mp4", 4, size=(16, 16))
    outcome = predict(work, "--skip_existing", "--entropy")
    assert outcome.code == 0 and len(masks(work, "a.mp4")) == 4, outcome.err
    assert seen(overlay)[0][0][2].shape == (16, 16, 3)


def test_no_more_than_a_few_batches_are_in_memory(work, monkeypatch):
    film(work / "in" / "a.mp4", 40)
    read, written, lead = [0], [0], []
    original, write = frames.Video.frames, videos.write_picture

    def counted(self):
        for frame in original(self):
            read[0] += 1
            lead.append(read[0] - written[0])
            yield frame

    def noted(*args):
        written[0] += 1
        write(*args)

    monkeypatch.setattr(frames.Video, "frames", counted)
    monkeypatch.setattr(videos, "write_picture", noted)
    assert predict(work).code == 0
    assert written == [40] and max(lead[:40]) < 16


def test_what_is_no_whole_video_is_said_in_a_sentence(work):
    film(work / "in" / "good.mp4", 2)
    whole = film(work / "whole.mp4", 40, options={"movflags": "faststart"}).read_bytes()
    (work / "in" / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    (work / "in" / "end.mp4").write_bytes(whole[:100])
    content = film(work / "whole.mkv", 40).read_bytes()
    (work / "in" / "short.mkv").write_bytes(content[: len(content) // 2])
    (work / "in" / "text.mp4").write_text("no video\n" * 100)
    (work / "in" / "list.mov").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\ngood.mp4\n#EXT-X-ENDLIST\n")
    (work / "in" / "empty.webm").touch()
    os.mkfifo(work / "in" / "pipe.avi")
    with av.open(str(work / "in" / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    outcome = predict(work)
    assert outcome.code == 0 and "2 of 9 files labelled" in outcome.out and "Traceback" not in outcome.err, outcome.err
    place = work / "in"
    for name in ("text.mp4", "list.mov", "empty.webm"):
        assert f"not done: {place / name}: is no video that can be read (" in outcome.err
    assert f"not done: {place / 'pipe.avi'}: does not exist, or is no regular file" in outcome.err
    for name in ("sound.mp4", "end.mp4"):
        assert f"not done: {place / name}: holds no pictures" in outcome.err
    assert f"{place / 'short.mkv'}: ends after" in outcome.err
    count = len(masks(work, "cut.mp4"))
    assert 0 < count < 40 and f"The masks of the {count} frames before are there." in outcome.err
    assert f"not done: {place / 'cut.mp4'}: is damaged or cut short at frame {count} (" in outcome.err
    assert {path.name for path in (work / "out" / "overlays").iterdir()} == {"good.mp4", "short.mkv"}


def test_what_cannot_be_done_is_said_first(work, monkeypatch):
    film(work / "in" / "a.mp4", 2)
    load.load_run().config.max_pixels = 32 * 48 - 1
    outcome = predict(work)
    assert outcome.code == 2 and "has frames of 32 x 48 pixels" in outcome.err and "None of the 1 files" in outcome.err
    run = load.load_run()
    with run.config.unlocked():
        run.config.input = "target"
    method = types.SimpleNamespace(**{**vars(run.method), "TASK": "translation"})
    with monkeypatch.context() as patch:
        patch.setattr(load, "load_run", lambda *args: run.__class__(method, run.config, run.state, 0))
        places = (f"--workdir={work / 'run'}", f"--input={work / 'in' / 'a.mp4'}", f"--output={work / 'out'}")
        outcome = tiny_runs.command("predict", *places)
    assert outcome.code == 2 and "which makes no masks; a.mp4 is no image" in outcome.err
    monkeypatch.setitem(sys.modules, "av", None)
    outcome = predict(work)
    assert outcome.code == 2 and 'pip install "gan_seg_jax[video]"' in outcome.err


def test_a_machine_without_x264_writes_mpeg_4(work, monkeypatch):
    film(work / "in" / "a.mp4", 5)
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    assert predict(work).code == 0
    shown, rate, _, codec = seen(work / "out" / "overlays" / "a.mp4" / "a.mp4")
    given, given_rate, _, _ = seen(work / "in" / "a.mp4")
    assert codec == "mpeg4" and len(shown) == 5 and float(rate) == pytest.approx(float(given_rate), rel=0.02)
    assert [time for time, _, _ in shown] == pytest.approx([time for time, _, _ in given], abs=1e-3)

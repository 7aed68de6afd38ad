"""The command `inspect`: what it prints and writes, and its exit codes."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.inspection import survey, thumbnails
from tests import pages, tiny_runs


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_runs.write_set(tmp_path_factory.mktemp("inspect") / "data")


def listing(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def run(data, output, *args):
    return tiny_runs.command("inspect", f"--data_dir={data}", f"--output={output}", *args)


def test_a_sound_set(data, tmp_path):
    before = listing(data)
    outcome = run(data, tmp_path / "out")
    assert outcome.code == 0 and "error" not in outcome.out.lower()
    assert listing(data) == before
    rows = {line.split()[0]: line.split() for line in outcome.out.splitlines() if line.strip()}
    assert rows["train"][1:3] == ["13", "13"] and rows["test"][1:3] == ["6", "6"]
    assert "few-in-val" in {
        problem["name"] for problem in json.loads((tmp_path / "out/inspect.json").read_text())["problems"]
    }


def test_errors_end_with_2_and_odd_names_are_escaped(data, tmp_path):
    copy = tmp_path / "a 'set'"
    shutil.copytree(data, copy)
    odd = os.fsencode(copy) + b"/train/images/\xff\x1b[31m\n'.png"
    with open(odd, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\nxx")
    outcome = run(copy, tmp_path / "out")
    assert outcome.code == 2 and outcome.err.splitlines()[-1].startswith("error: ")
    assert "\x1b" not in outcome.out + outcome.err and "\\xff\\x1b[31m\\n'.png" in outcome.out
    assert (tmp_path / "out" / "lists" / "damaged-images.lst").read_bytes() == b"train/images/\xff\x1b[31m\n'.png\0"
    command = next(line for line in outcome.out.splitlines() if "xargs" in line).strip().removeprefix("$ ")
    assert os.system(command) == 0 and not os.path.exists(odd)
    assert run(copy, tmp_path / "out").code == 0


def test_what_training_alone_refuses_is_an_error(data, tmp_path):
    outcome = run(data, tmp_path / "out", "--dataset=camvid")
    assert outcome.code == 2 and "camvid has the classes" in outcome.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--output=x",), ("--data_dir is missing",)),
        (("--data_dir=/nowhere",), ("/nowhere", "does not exist")),
        (("--data_dir=.", "--output=x"), ("train/images",)),
        (("--data_dir=.", "--output=x", "--dataset=camvd"), ("camvd", "camvid")),
        (("--data_dir=.", "--outptu=x"), ("outptu",)),
    ],
)
def test_bad_input_is_one_sentence(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = tiny_runs.command("inspect", *args)
    assert not (tmp_path / "x").exists()
    assert outcome.code == 2 and outcome.out == "" and outcome.err.count("\n") == 1
    assert all(word in outcome.err for word in words)


def test_a_target_that_cannot_be_made_is_said_at_once(data, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = run(data, tmp_path / "file" / "out")
    assert outcome.code == 2 and outcome.out == "" and "file/out cannot be made" in outcome.err


def test_the_data_folder_is_not_written_to_unless_told(data, monkeypatch):
    monkeypatch.chdir(data)
    before = listing(data)
    outcome = tiny_runs.command("inspect", "--data_dir=.")
    assert outcome.code == 2 and "--output=FOLDER" in outcome.err and listing(data) == before


def test_help_says_the_exit_codes():
    outcome = tiny_runs.command("inspect", "--help")
    assert outcome.code == 0 and "exit code" in outcome.out and "--max_pixels" in outcome.out


def test_the_page_needs_nothing_else_and_shows_pictures(data, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(data, copy)
    (copy / "classes.txt").write_text((copy / "classes.txt").read_text().replace("road", "<b>road</b>"))
    os.rename(copy / "train/images/000.png", copy / "train/images/<script>x.png")
    Image.fromarray(np.full((12, 20), 900, np.uint16)).save(copy / "train/masks/001.png")
    assert run(copy, tmp_path / "out").code == 2
    text = (tmp_path / "out" / "inspect.html").read_text()
    page = pages.read(text)
    assert "<b>road</b>" not in text and any("<b>road</b>" in words for words in page.words)
    assert any("<script>x.png" in words for words in page.words)
    assert len(page.pictures) > 10 and all(max(picture.size) <= 240 for picture in page.pictures)


def test_a_class_is_shown_where_it_is(tmp_path):
    root = tmp_path / "set"
    for number in range(2):
        for kind, value in (("images", 100 + number), ("masks", 0)):
            array = np.full((40, 40), value, np.uint8)
            if kind == "masks":
                array[:20] = 1
            (root / "train" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / "train" / kind / f"{number}.png")
    (root / "classes.txt").write_text("0 sky 0 0 0\n1 car 255 0 0\n")
    found = survey.survey(root)
    source = thumbnails.of_class(found, "train/images/0.png", "train/masks/0.png", 1)
    pixels = np.asarray(pages.picture(source)).astype(int)
    assert np.abs(pixels[5, 20] - (198, 72, 132)).max() < 12  # 0.45 of the pale image, 0.55 of the bright colour
    assert np.ptp(pixels[35, 20]) < 12 and pixels[35, 20].mean() > 140  # pale and grey

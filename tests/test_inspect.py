"""The command `inspect`: what it prints and writes, and its exit codes."""

import json
import os
import shutil

import pytest

from tests import tiny_runs


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

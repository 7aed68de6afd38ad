"""Files that others may have planted: pipes, devices, links and bombs in the place of plain files."""

import os

import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files


def plant_pipe(path):
    os.mkfifo(path)


def plant_device(path):
    path.symlink_to("/dev/zero")


def plant_folder(path):
    path.mkdir()


PLANTED = {"a named pipe": plant_pipe, "a device": plant_device, "a folder": plant_folder}


@pytest.mark.parametrize("kind", PLANTED)
def test_only_regular_files_are_read(tmp_path, kind):
    PLANTED[kind](tmp_path / "config.json")
    with pytest.raises(InputError, match=f"config.json is {kind}; expected a regular file"):
        files.read_bytes(tmp_path / "config.json")


def test_a_link_to_a_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").symlink_to("a")
    assert files.read_bytes(tmp_path / "b") == b"content"


def test_reading_is_bounded(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "a", limit=5) == b"12345"
    with pytest.raises(InputError, match="more than 4 bytes"):
        files.read_bytes(tmp_path / "a", limit=4)


def test_a_bound_beyond_all_memory_costs_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "a", limit=2**70) == b"12345"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000])
def test_what_is_not_json_is_said(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(InputError, match="a.json cannot be read"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "b.json")


def test_writing_replaces_a_link_and_not_what_it_names(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").symlink_to(outside)
    files.write_bytes(folder / "summary.json", b"new")
    assert outside.read_bytes() == b"precious"
    assert (folder / "summary.json").read_bytes() == b"new" and not (folder / "summary.json").is_symlink()
    assert [path.name for path in folder.iterdir()] == ["summary.json"]


def test_the_longest_name_can_be_written(tmp_path):
    files.write_bytes(tmp_path / ("a" * 255), b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_what_is_written_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    files.write_bytes(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        files.write_bytes(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_new_folder_that_fails_takes_with_it_the_folders_made_for_it(tmp_path):
    (tmp_path / "there").mkdir()
    for name, others in (("there/a/b/c", {"there"}), ("x/y/z", {"there", "x", "x/other"})):
        with pytest.raises(KeyError), files.new_folder(tmp_path / name) as folder:
            (folder / "file").touch()
            if name.startswith("x"):
                (tmp_path / "x" / "other").mkdir()
            raise KeyError
        assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == others
    with files.new_folder(tmp_path / "there/a/b") as folder:
        (folder / "file").touch()
    assert [path.name for path in (tmp_path / "there/a").rglob("*")] == ["b", "file"]


@pytest.mark.parametrize("plant", [plant_pipe, plant_device, plant_folder], ids=lambda f: f.__name__)
def test_files_that_stay_are_regular(tmp_path, plant):
    plant(tmp_path / "lock")
    with pytest.raises(InputError, match="lock is .*expected a regular file"):
        files.open_in_place(tmp_path / "lock", os.O_RDWR)


def test_files_that_stay_are_no_links(tmp_path):
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "lock").symlink_to("outside")
    with pytest.raises(InputError, match="lock is a link"):
        files.open_in_place(tmp_path / "lock", os.O_RDWR | os.O_TRUNC)
    assert (tmp_path / "outside").read_bytes() == b"precious"


def test_paths_in_messages_have_no_control_characters(tmp_path):
    assert files.shown("a\x1b[31m\nb\udcff") == r"a\x1b[31m\nb\xff"
    assert files.shown("größe/круг 正方形\u202e\ud800") == r"größe/круг 正方形\u202e\ud800"

"""Lists of images: whose names the outputs get."""

import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.finding import find_images


def test_a_list_names_files_from_their_common_folder(tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    listed = lists / "some.txt"
    outside = tmp_path / "elsewhere" / "c.tif"
    listed.write_text(f"../data/a.png\n\n  ../data/deep/a.jpg\r\n../data/./a.png\n../data/a.webp\n{outside}\n")
    found = {file.relative_to(tmp_path).as_posix(): name.as_posix() for file, name in find_images(listed, tmp_path)}
    assert found == {
        "data/a.png": "data/a.png.png",
        "data/deep/a.jpg": "data/deep/a.png",
        "data/a.webp": "data/a.webp.png",
        "elsewhere/c.tif": "elsewhere/c.png",
    }
    listed.write_text("b.png")
    assert [(file, name.as_posix()) for file, name in find_images(listed, tmp_path)] == [(lists / "b.png", "b.png")]


@pytest.mark.parametrize("content", [b"", b" \n\n", b"a\0b.png", b"\xff.png"])
def test_a_list_that_cannot_be_used(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"list\.txt"):
        find_images(tmp_path / "list.txt", tmp_path)

"""spacing.csv: where it is looked for, and what is refused."""

import pytest

from gan_seg_jax.data import spacing
from gan_seg_jax.errors import InputError


def test_beside_the_images_and_beside_the_splits(tmp_path):
    images = tmp_path / "test" / "images"
    images.mkdir(parents=True)
    assert spacing.of_folder(images) == {}
    lines = "split,id,row_mm,column_mm,slice_mm\ntest,p1/s3,0.5,0.25,4\ntrain,p1/s3,1,1,4\nunlabelled,x,2,2,2\n"
    (tmp_path / "spacing.csv").write_text(lines)
    assert spacing.of_folder(images) == {"p1/s3": (0.5, 0.25)}
    assert spacing.of_folder(tmp_path / "unlabeled" / "images") == {"x": (2, 2)}
    assert spacing.of_folder(tmp_path / "test") == {}
    (images / "spacing.csv").write_text("\ufeffid,row_mm,column_mm\r\na,0.1,0.2\r\n")
    assert spacing.of_folder(images) == {"a": (0.1, 0.2)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,mm\na,1\n", "no columns id, row_mm, column_mm"),
        ("id,row_mm,column_mm\na,1,x\n", "line 2: row_mm and column_mm must be millimetres"),
        ("id,row_mm,column_mm\na,1,1\nb,0,1\n", "line 3"),
        ("id,row_mm,column_mm\na,inf,1\n", "line 2"),
        ("id,row_mm,column_mm\na,1\n", "line 2"),
        ("id,row_mm,column_mm\na,1,1\na,1,1\n", "line 3: a is there twice"),
        (b"id,row_mm,column_mm\n\xff,1,1\n", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, text, words):
    (tmp_path / "spacing.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words):
        spacing.of_folder(tmp_path)
    (tmp_path / "spacing.csv").unlink()
    (tmp_path / "spacing.csv").mkdir()
    with pytest.raises(InputError, match="folder"):
        spacing.of_folder(tmp_path)

"""Reading of images and masks: known pixels from every kind of file, and errors that name the file."""

import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import images
from gan_seg_jax.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows, *, width: int, bits: int = 8, color: int = 0, extra: bytes = b"", late: bytes = b"") -> bytes:
    """Write a PNG by hand; `rows` are the packed bytes of each row, `extra` and `late` chunks around the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", pixels), late, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, kind, **options)
        return buffer.getvalue()


@pytest.fixture
def write(tmp_path):
    def write_file(content: bytes, name: str = "it.png"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


@pytest.mark.parametrize("name", ["it.png", "it.jpg"])
def test_rgb_comes_back_as_it_is_whatever_the_name(write, name):
    pixels = noise(3, 5)
    image = images.read_image(write(encode(Image.fromarray(pixels), "PNG"), name))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)
    image[0, 0] = 0  # writable


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png([[0, 128, 255]], width=3), [0, 128, 255]),
        (png([[0b10100000]], width=3, bits=1), [255, 0, 255]),
        (png([[0b00011000]], width=3, bits=2), [0, 85, 170]),
        (png([[0x0F, 0x10]], width=3, bits=4), [0, 255, 17]),
        (png([[0, 0, 0x80, 0x7F, 0xFF, 0xFF]], width=3, bits=16), [0, 128, 255]),
        (png([[0, 9, 128, 9, 255, 0]], width=3, color=4), [0, 128, 255]),
    ],
    ids=["8 bits", "1 bit", "2 bits", "4 bits", "16 bits", "with alpha"],
)
def test_grey_is_repeated_to_three_channels(write, content, expected):
    np.testing.assert_array_equal(
        images.read_image(write(content)), np.repeat(np.array([expected])[..., None], 3, axis=2)
    )


@pytest.mark.parametrize(
    "content",
    [
        png([[1, 0, 2]], width=3, color=3, extra=chunk(b"PLTE", bytes(GREEN + RED + BLUE))),
        png([[1, 0, 2]], width=3, color=3, extra=chunk(b"PLTE", bytes(GREEN + RED + BLUE)) + chunk(b"tRNS", b"\0\0\0")),
        png([[0b01001000]], width=3, bits=2, color=3, extra=chunk(b"PLTE", bytes(GREEN + RED + BLUE))),
        png([[*RED, 255, *GREEN, 0, *BLUE, 1]], width=3, color=6),
        png([[byte for value in RED + GREEN + BLUE for byte in (value, value)]], width=3, bits=16, color=2),
    ],
    ids=["palette", "transparent palette", "2-bit palette", "alpha", "16 bits"],
)
def test_colour_is_read_as_stored(write, content):
    np.testing.assert_array_equal(images.read_image(write(content)), [[RED, GREEN, BLUE]])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_near_the_original(write, mode):
    original = Image.new("RGB", (16, 16), (90, 90, 90)).convert(mode)
    image = images.read_image(write(encode(original, "JPEG", quality=95), "it.jpg"))
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - 90).max() <= 2


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
    8: lambda a: np.rot90(a),
    9: lambda a: a,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation_is_applied_to_images_masks_and_sizes(write, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = noise(3, 5)
    path = write(encode(Image.fromarray(pixels), "PNG", exif=exif.tobytes()))
    expected = TURNS[orientation](pixels)
    np.testing.assert_array_equal(images.read_image(path), expected)
    assert images.image_size(path) == expected.shape[:2]
    path = write(encode(Image.fromarray(pixels[..., 0]), "PNG", exif=exif.tobytes()), "mask.png")
    np.testing.assert_array_equal(images.read_mask(path), expected[..., 0])
    path = write(encode(Image.fromarray(pixels), "JPEG", exif=exif.tobytes()), "it.jpg")
    assert images.read_image(path).shape == expected.shape
    assert images.image_size(path) == expected.shape[:2]


def test_rotation_behind_the_pixels_and_of_16_bits_counts(write):
    exif = Image.Exif()
    exif[0x0112] = 6
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path = write(png([[1, 0, 2, 0, 3, 0]], width=3, bits=16, late=late))
    assert images.image_size(path) == (3, 1)
    np.testing.assert_array_equal(images.read_image(path)[:, :, 0], [[1], [2], [3]])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_do_not_spoil_sound_pixels(write):
    path = write(encode(Image.fromarray(noise(3, 5)), "JPEG", exif=b"Exif\0\0II*\0garbage"), "it.jpg")
    assert images.read_image(path).shape == (3, 5, 3)
    assert images.image_size(path) == (3, 5)


def test_phone_pictures_with_a_second_picture_behind_are_jpeg(write):
    first, second = Image.fromarray(noise(4, 6)), Image.fromarray(noise(2, 2))
    path = write(encode(first, "MPO", save_all=True, append_images=[second]), "it.jpg")
    assert images.read_image(path).shape == (4, 6, 3)
    assert images.image_size(path) == (4, 6)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png([[0, 7, 255]], width=3), [0, 7, 255]),
        (png([[1, 0, 2]], width=3, color=3, extra=chunk(b"PLTE", bytes(GREEN + RED + BLUE))), [1, 0, 2]),
        (png([[0b10100000]], width=3, bits=1), [1, 0, 1]),
        (png([[0b00011000]], width=3, bits=2), [0, 1, 2]),
        (png([[0x0F, 0x10]], width=3, bits=4), [0, 15, 1]),
        (png([[0b00011000]], width=3, bits=2, color=3, extra=chunk(b"PLTE", bytes(9))), [0, 1, 2]),
    ],
    ids=["grey", "palette", "1 bit", "2 bits", "4 bits", "2-bit palette"],
)
def test_masks_are_the_stored_numbers(write, content, expected):
    mask = images.read_mask(write(content))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, [expected])
    facts = images.inspect_mask(write(content))
    assert (facts.height, facts.width, facts.values) == (1, 3, tuple(sorted(set(expected))))


def test_inspection_gives_the_palette_colours_in_use(write):
    content = png([[2, 0, 2]], width=3, color=3, extra=chunk(b"PLTE", bytes(GREEN + RED + BLUE)))
    assert images.inspect_mask(write(content)).colors == (GREEN, BLUE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png([[*RED]], width=1, color=2), "colour image .RGB.; .*classes.txt"),
        (png([[*RED, 255]], width=1, color=6), "colour image .RGB. with an alpha"),
        (png([[1, 255]], width=1, color=4), "alpha channel"),
        (png([[0, 1]], width=1, bits=16), "16 bits"),
        (encode(Image.new("L", (4, 4)), "JPEG"), "JPEG, which alters"),
    ],
    ids=["RGB", "RGBA", "grey with alpha", "16 bits", "JPEG"],
)
def test_masks_of_other_kinds_are_refused(write, content, words):
    with pytest.raises(InputError, match=f"it.png: .*{words}"):
        images.read_mask(write(content))


PNG = encode(Image.fromarray(noise(40, 40)), "PNG")
JPEG = encode(Image.fromarray(noise(40, 40)), "JPEG")
LARGE_JPEG = JPEG.replace(struct.pack(">HH", 40, 40), struct.pack(">HH", 65500, 65500), 1)
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"no image", "something else"),
    "GIF": (encode(Image.new("L", (2, 2)), "GIF"), "holds GIF"),
    "TIFF": (encode(Image.new("L", (2, 2)), "TIFF"), "holds TIFF"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "NumPy": (b"\x93NUMPY\x01\0", "NumPy"),
    "bomb": (png([[0]], width=1).replace(struct.pack(">I", 1), struct.pack(">I", 2**30), 1), "checksum|pixels"),
    "wide": (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
             + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), "30000 x 30000 pixels"),
    "JPEG bomb": (LARGE_JPEG, "65500 x 65500 pixels"),
    "no pixels": (png([], width=3), "damaged|pixels"),
    "animation": (encode(Image.new("L", (2, 2)), "PNG", save_all=True, append_images=[Image.new("L", (2, 2), 9)]),
                  "animation"),
    "too few rows": (png([[0, 0, 0]], width=9), "damaged"),
    "flipped bit": (PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:], "checksum"),
    "ICC bomb": (png([[0]], width=1, extra=chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**21)))), "damaged"),
    **{f"PNG cut at {percent}%": (PNG[: len(PNG) * percent // 100], "cut short") for percent in (1, 25, 50, 90, 99)},
    **{f"JPEG cut at {percent}%": (JPEG[: len(JPEG) * percent // 100], "cut short") for percent in (1, 25, 50, 90, 99)},
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_damaged_and_hostile_files_are_named(write, content, words):
    path = write(content)
    with pytest.raises(InputError, match=f"it.png: .*({words})") as caught:
        images.read_image(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="it.png: "):
        images.read_mask(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sound", [PNG, JPEG], ids=["PNG", "JPEG"])
def test_random_damage_gives_pixels_or_a_named_error(write, sound):
    rng = np.random.default_rng(0)
    for _ in range(200):
        content = bytearray(sound)
        for position in rng.integers(0, len(content), rng.integers(1, 5)):
            content[position] = rng.integers(256)
        path = write(bytes(content))
        for read in (images.read_image, images.image_size):
            try:
                assert 0 < np.size(read(path))
            except InputError as error:
                assert "it.png: " in str(error)


@pytest.mark.parametrize("name", ["empty", "text", "wide", "JPEG bomb", "PNG cut at 1%", "JPEG cut at 1%", "animation"])
def test_size_refuses_what_the_header_shows(write, name):
    with pytest.raises(InputError, match="it.png"):
        images.image_size(write(BAD[name][0]))


@pytest.mark.parametrize("pixels", [png([[0]], width=1), png([[0] * 65500], width=65500)], ids=["1x1", "1x65500"])
def test_extreme_shapes_are_read(write, pixels):
    assert images.read_image(write(pixels)).shape[:2] == images.image_size(write(pixels))


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "link.png").symlink_to("nowhere")
    for name in ("pipe.png", "folder.png", "loop.png", "link.png", "gone.png"):
        with pytest.raises(InputError, match=name):
            images.read_image(tmp_path / name)


def test_missing_permission_is_named(write):
    path = write(PNG)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user (root) may read every file")
    with pytest.raises(InputError, match="it.png: may not be read"):
        images.read_image(path)


def test_errors_survive_the_way_out_of_a_worker_process(tmp_path):
    with pytest.raises(InputError) as caught:
        images.read_image(tmp_path / "gone.png")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.reason) == (str(caught.value), caught.value.reason)


def test_names_that_are_no_utf8_can_be_shown(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with pytest.raises(InputError, match=r"\\xff.png") as caught:
        images.read_image(os.fsdecode(path))
    str(caught.value).encode()

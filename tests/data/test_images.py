"""Reading of images and masks: known pixels from every kind of file, and errors that name the file."""

import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import decoding, images
from gan_seg_jax.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    rows, *, width: int, bits: int = 8, color: int = 0, extra: bytes = b"", late: bytes = b"", height=0, adam7=False
) -> bytes:
    """Write a PNG by hand; `rows` are the packed bytes of each row, `extra` and `late` chunks around the pixels."""
    header = struct.pack(">IIBBBBB", width, height or len(rows), bits, color, 0, 0, int(adam7))
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
    path = write(encode(Image.fromarray(pixels[..., 0]), "PNG", exif=exif.tobytes()), "mask.png")
    np.testing.assert_array_equal(images.read_mask(path), expected[..., 0])
    path = write(encode(Image.fromarray(pixels), "JPEG", exif=exif.tobytes()), "it.jpg")
    assert images.read_image(path).shape == expected.shape
    path = write(encode(Image.fromarray(pixels), "TIFF", exif=exif), "it.tif")
    np.testing.assert_array_equal(images.read_image(path), expected)
    assert images.inspect_image(path).orientation == (orientation if orientation < 9 else 1)


def test_a_second_header_does_not_hide_missing_rows(write):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    path = write(png([[1, 1], [1, 1]], width=2, height=4, late=header))
    with pytest.raises(images.ImageError, match="it has two headers"):
        images.read_mask(path)


def test_rotation_behind_the_pixels_and_of_16_bits_counts(write):
    exif = Image.Exif()
    exif[0x0112] = 6
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path = write(png([[1, 0, 2, 0, 3, 0]], width=3, bits=16, late=late))
    np.testing.assert_array_equal(images.read_image(path)[:, :, 0], [[1], [2], [3]])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_do_not_spoil_sound_pixels(write):
    path = write(encode(Image.fromarray(noise(3, 5)), "JPEG", exif=b"Exif\0\0II*\0garbage"), "it.jpg")
    assert images.read_image(path).shape == (3, 5, 3)


def test_phone_pictures_with_a_second_picture_behind_are_jpeg(write):
    first, second = Image.fromarray(noise(4, 6)), Image.fromarray(noise(2, 2))
    path = write(encode(first, "MPO", save_all=True, append_images=[second]), "it.jpg")
    assert images.read_image(path).shape == (4, 6, 3)


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
    assert facts.counts == tuple(expected.count(value) for value in facts.values)


def test_inspection_gives_the_palette_colours_in_use(write):
    content = png([[2, 0, 2]], width=3, color=3, extra=chunk(b"PLTE", bytes(GREEN + RED + BLUE)))
    assert images.inspect_mask(write(content)).colors == (GREEN, BLUE)


def test_twelve_bits_are_scaled_where_the_set_says_so(write):
    path = write(png([[0x00, 0x10, 0x08, 0x00, 0x0F, 0xFF]], width=3, bits=16))  # 16, 2048, 4095
    assert images.inspect_image(path).top == 4095
    assert images.read_image(path)[0, :, 0].tolist() == [0, 8, 15]
    assert images.read_image(path, bits=12)[0, :, 0].tolist() == [1, 128, 255]
    with pytest.raises(InputError, match="up to 4095, beyond the 10 bits"):
        images.read_image(path, bits=10)


def test_colour_of_which_only_low_bits_are_used_is_no_black_picture(write):
    path = write(png([[0x0F, 0xFF] * 3], width=1, bits=16, color=2))
    assert (images.inspect_image(path).top, images.inspect_image(path).deep_colour) == (4095, True)
    with pytest.raises(InputError, match="in colour with 16 bits, of which the set uses the lower 12"):
        images.read_image(path, bits=12)


def test_bits_of_a_set_are_those_of_its_brightest_image():
    assert images.expect_bits("SET", 0, []) == 16
    assert images.expect_bits("SET", 0, [(300, False), (4000, False)]) == 12
    assert images.expect_bits("SET", 16, [(300, False), (0xFFFF, True)]) == 16
    with pytest.raises(InputError, match="in colour with 16 bits, of which the set uses the lower 12"):
        images.expect_bits("SET", 0, [(0x0FFF, True)])


def test_bits_in_use_are_those_of_a_camera():
    tops = {0: 16, 1: 8, 255: 8, 256: 10, 2000: 12, 4095: 12, 4096: 14, 16384: 16, 65535: 16}
    assert {top: images.bits_in_use(top) for top in tops} == tops


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("BMP", {}),
        ("WebP", {"lossless": True}),
    ],
)
def test_other_kinds_without_losses_are_read(write, kind, options):
    pixels = noise(30, 20)
    np.testing.assert_array_equal(images.read_image(write(encode(Image.fromarray(pixels), kind, **options))), pixels)
    if kind == "WebP":
        return
    ids = pixels[:, :, 0] % 5
    palette = Image.fromarray(ids)
    palette.putpalette(list(range(15)))
    for mask in (Image.fromarray(ids), palette, Image.fromarray(np.repeat(ids[:, :, None], 3, axis=2))):
        np.testing.assert_array_equal(images.read_mask(write(encode(mask, kind, **options))), ids)
    bits = ids > 2
    np.testing.assert_array_equal(images.read_mask(write(encode(Image.fromarray(bits), kind, **options))), bits)


def test_a_turned_tiff_is_turned_once(write):
    pixels = noise(3, 5)
    path = write(encode(Image.fromarray(pixels), "TIFF", tiffinfo={0x0112: 6}))
    np.testing.assert_array_equal(images.read_image(path), TURNS[6](pixels))
    facts = images.inspect_image(path)
    assert (facts.height, facts.width, facts.orientation) == (5, 3, 6)


@pytest.mark.parametrize(
    "mask",
    [
        png([[0, 0, 0, 7, 0, 255]], width=3, bits=16),
        png([[0, 0, 0, 7, 7, 7, 255, 255, 255]], width=3, color=2),
        encode(Image.fromarray(np.array([[0, 7, 255]], np.uint16)), "TIFF"),
        encode(Image.fromarray(np.array([[0, 7, 255]], np.int32)), "TIFF"),
    ],
    ids=["16 bits", "RGB", "16-bit TIFF", "32-bit TIFF"],
)
def test_small_ids_are_read_however_many_bits_hold_them(write, mask):
    label = images.read_mask(write(mask))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, [[0, 7, 255]])


def patched(tiff: bytes, tag: int, old: int, new: int) -> bytes:
    """Return a TIFF with another number in one of its tags."""
    for kind, form in ((3, "<HHIHH"), (4, "<HHII")):
        entries = [struct.pack(form, tag, kind, 1, value, *([0] if kind == 3 else [])) for value in (old, new)]
        tiff = tiff.replace(*entries)
    return tiff


SHORT = {
    "grey": png([[1] * 5] * 3, width=5, height=4),
    "RGB": png([[1, 2, 3] * 5] * 3, width=5, height=4, color=2),
    "palette": png([[1] * 5] * 3, width=5, height=4, color=3, extra=chunk(b"PLTE", bytes(9))),
    "1 bit": png([[255, 128]] * 3, width=9, bits=1, height=4),
    "16 bits": png([[0, 1] * 5] * 3, width=5, bits=16, height=4),
    "half a row": png([[1] * 5] * 3 + [[1, 1]], width=5),
    "no row": png([], width=5, height=4),
    "interlaced": png([[1] * 5] * 4, width=5, height=4, adam7=True),
    "TIFF": patched(encode(Image.fromarray(noise(40, 30)[:, :, 0]), "TIFF"), 257, 40, 400),
}


@pytest.mark.parametrize("content", SHORT.values(), ids=SHORT)
def test_files_that_lack_rows_of_pixels_are_refused(write, content):
    for read in (images.read_image, images.read_mask, images.inspect_image, images.inspect_mask):
        with pytest.raises(InputError, match="its pixels end after|lacks rows of pixels"):
            read(write(content))
    for decode in (images.decode_image, images.decode_mask):
        with pytest.raises(InputError, match="record 7: is damaged or cut short"):
            decode("record 7", content)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (3, 5), (8, 8), (13, 17)])
@pytest.mark.parametrize("bits", [1, 8])
def test_sound_interlaced_files_are_read(write, height, width, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (height, width), np.uint8)
    rows = []
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        part = pixels[top::down, left::right]
        rows += [] if part.shape[1] == 0 else list(np.packbits(part, axis=1) if bits == 1 else part)
    path = write(png(rows, width=width, height=height, bits=bits, adam7=True))
    np.testing.assert_array_equal(images.read_mask(path), pixels)


def test_the_number_of_pixels_is_bounded_before_memory_is_taken(write):
    path = write(png([[0] * 20] * 10, width=20))
    assert images.read_image(path, max_pixels=200).shape == (10, 20, 3)
    for read in (images.read_image, images.read_mask):
        with pytest.raises(InputError, match=r"has 10 x 20 pixels, 0.0 GiB in memory; .*config.max_pixels"):
            read(path, max_pixels=199)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png([[*RED]], width=1, color=2), "colour image .RGB.; .*classes.txt"),
        (png([[*RED, 255]], width=1, color=6), "colour image .RGB. with an alpha"),
        (png([[1, 255]], width=1, color=4), "alpha channel"),
        (png([[1, 0]], width=1, bits=16), "from 256 to 256 .16 bits"),
        (encode(Image.new("L", (4, 4)), "JPEG"), "JPEG, which alters"),
        (encode(Image.new("RGB", (4, 4)), "WebP", lossless=True), "WebP, which alters"),
        (encode(Image.new("L", (16, 16)), "TIFF", compression="jpeg"), "TIFF, which alters"),
        (patched(encode(Image.new("L", (4, 4)), "TIFF"), 262, 1, 0), "counts from white"),
        (encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "numbers with a fraction"),
        (png([[0, 1] * 3], width=1, bits=16, color=2), "colour image .RGB."),
    ],
    ids=[
        "RGB",
        "RGBA",
        "grey with alpha",
        "16 bits",
        "JPEG",
        "WebP",
        "JPEG in TIFF",
        "from white",
        "fractions",
        "16-bit RGB",
    ],
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
    "pages": (
        encode(Image.new("L", (2, 2)), "TIFF", save_all=True, append_images=[Image.new("L", (2, 2))]),
        "holds 2 pictures",
    ),
    "32 bits": (encode(Image.fromarray(np.full((2, 2), 256, np.int32)), "TIFF"), "32 bits"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "NumPy": (b"\x93NUMPY\x01\0", "NumPy"),
    "bomb": (png([[0]], width=1).replace(struct.pack(">I", 1), struct.pack(">I", 2**30), 1), "checksum|pixels"),
    "wide": (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b""),
        "30000 x 30000 pixels",
    ),
    "JPEG bomb": (LARGE_JPEG, "65500 x 65500 pixels"),
    "no pixels": (png([], width=3), "damaged|pixels"),
    "animation": (
        encode(Image.new("L", (2, 2)), "PNG", save_all=True, append_images=[Image.new("L", (2, 2), 9)]),
        "animation",
    ),
    "too few rows": (png([[0, 0, 0]], width=9), "damaged"),
    "flipped bit": (PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:], "checksum"),
    "ICC bomb": (png([[0]], width=1, extra=chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**21)))), "damaged"),
    **{f"PNG cut at {percent}%": (PNG[: len(PNG) * percent // 100], "cut short") for percent in (1, 25, 50, 90, 99)},
    **{f"JPEG cut at {percent}%": (JPEG[: len(JPEG) * percent // 100], "cut short") for percent in (1, 25, 50, 90, 99)},
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_damaged_and_hostile_files_are_named(write, content, words):
    path = write(content)
    with pytest.raises(InputError, match=f"it.png: .*({words})") as caught:
        images.read_image(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="it.png: "):
        images.read_mask(path)


def test_a_known_png_is_inflated_once_and_its_checksums_are_compared(write, monkeypatch):
    path = write(PNG)
    expected = images.read_image(path)
    monkeypatch.setattr(decoding, "_STEP", "counting would fail")
    np.testing.assert_array_equal(images.read_image(path, known=True), expected)
    with pytest.raises(InputError, match="damaged"):
        images.read_image(path)
    for name in ("flipped bit", "PNG cut at 90%", "animation"):
        content, words = BAD[name]
        with pytest.raises(InputError, match=words):
            images.read_image(write(content), known=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sound", [PNG, JPEG], ids=["PNG", "JPEG"])
def test_random_damage_gives_pixels_or_a_named_error(write, sound):
    rng = np.random.default_rng(0)
    for _ in range(200):
        content = bytearray(sound)
        for position in rng.integers(0, len(content), rng.integers(1, 5)):
            content[position] = rng.integers(256)
        path = write(bytes(content))
        try:
            assert 0 < np.size(images.read_image(path))
        except InputError as error:
            assert "it.png: " in str(error)


@pytest.mark.parametrize("pixels", [png([[0]], width=1), png([[0] * 65500], width=65500)], ids=["1x1", "1x65500"])
def test_extreme_shapes_are_read(write, pixels):
    assert images.read_image(write(pixels)).shape[:2] in ((1, 1), (1, 65500))


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

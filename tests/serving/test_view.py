"""What the page shows of an image, with known answers; and its address. Nothing here needs Gradio."""

import re
import socket

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import images
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.segmenter import Result
from gan_seg_jax.serving import address, view

COLORS = ((10, 20, 200), (90, 90, 90), (200, 30, 30))
LABELS = np.array([[0, 0, 1, 1], [0, 0, 1, 0]], np.uint8)


def make_viewer(*, names=("sky", "road", "car"), labels=LABELS, seen=None):
    """Return a viewer whose network finds `labels` with confidence 0.8, whatever the image; `seen` gets each."""

    def segmenter(path):
        if seen is not None:
            seen.append(path)
        image = images.read_image(path, max_pixels=10_000)
        confidence = np.full(labels.shape, 0.8, np.float32)
        return Result(image, labels, confidence, names, COLORS, lambda: None)

    return view.Viewer(segmenter)


@pytest.fixture
def upload(tmp_path):
    Image.new("RGB", (4, 2), (100, 100, 100)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def test_classes_are_drawn_counted_and_given(upload, tmp_path):
    found = make_viewer().show(upload, [0, 1, 2], 0.25)
    assert found.message == "<p>a.png: 4 x 2 pixels, mean confidence 0.80.</p>"
    np.testing.assert_array_equal(found.mask, np.array(COLORS, np.uint8)[LABELS])
    assert tuple(found.overlay[0, 0]) == (78, 80, 125) and tuple(found.overlay[0, 3]) == (98, 98, 98)
    assert found.confidence.shape == (2, 4) and np.all(found.confidence == 204)
    rows = re.findall(r"background:rgb\(([\d,]+)\).*?</span>(\w+)</th><td>(\d+)</td><td>([\d.]+)%", found.areas)
    assert rows == [("10,20,200", "sky", "5", "62.5"), ("90,90,90", "road", "3", "37.5")]
    assert found.download == str(tmp_path / "a_mask.png")
    np.testing.assert_array_equal(images.read_mask(found.download), LABELS)


def test_a_class_that_is_switched_off_is_only_not_drawn(upload):
    seen = []
    viewer = make_viewer(seen=seen)
    whole = viewer.show(upload, [0, 1, 2], 1.0)
    part = viewer.show(upload, [0], 1.0)
    assert len(seen) == 1, "a switch does not label again"
    off = LABELS == 1
    assert np.all(part.overlay[off] == 100) and np.all(part.overlay[~off] == COLORS[0])
    assert not np.any(np.all(part.mask[off] == COLORS[1], axis=-1))
    assert (part.areas, part.download) == (whole.areas, whole.download)
    np.testing.assert_array_equal(images.read_mask(part.download), LABELS)
    assert np.all(viewer.show(upload, [], 1.0).overlay == 100)
    assert np.all(viewer.show(upload, [0, 1, 2], 0).overlay == 100)


def test_what_is_large_is_shown_smaller_and_given_whole(upload, monkeypatch):
    monkeypatch.setattr(view, "SIDE", 3)
    found = make_viewer().show(upload, [0, 1, 2], 0.5)
    assert found.overlay.shape == found.mask.shape == (1, 2, 3) and found.confidence.shape == (1, 2)
    assert images.read_mask(found.download).shape == (2, 4)


def test_names_are_text_and_no_part_of_the_page(tmp_path):
    path = tmp_path / "<b>&.png"
    Image.new("RGB", (4, 2)).save(path)
    found = make_viewer(names=("<script>", "road", "car")).show(str(path), [0], 0.5)
    assert "&lt;b&gt;&amp;.png" in found.message and "<b>" not in found.message
    assert "&lt;script&gt;" in found.areas and "<script" not in found.areas


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7", "holds PDF; expected"),
        (b"\x89PNG\r\n\x1a\nxx", "is damaged or cut short"),
        (None, "200 x 200"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(tmp_path, content, words):
    path = tmp_path / "deep" / "x.png"
    path.parent.mkdir()
    if content is None:
        Image.new("RGB", (200, 200)).save(path)
    else:
        path.write_bytes(content)
    found = make_viewer().show(str(path), [0], 0.5)
    assert found.message.startswith('<div class="wrong" role="alert">x.png') and words in found.message, found.message
    assert "Traceback" not in found.message and "deep" not in found.message
    assert found[1:] == view.View("")[1:] and list(path.parent.iterdir()) == [path]


def test_without_an_image_and_without_memory(upload):
    assert make_viewer().show(None, [0], 0.5) == view.View(view.WELCOME)

    def broken(error):
        def segmenter(path):
            raise error

        return view.Viewer(segmenter)

    assert "Out of memory" in broken(MemoryError()).show(upload, [0], 0.5).message
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not called the image's
        broken(ZeroDivisionError()).show(upload, [0], 0.5)


def test_an_address_is_taken_once():
    with address.taken("127.0.0.1", 0) as first:
        host, port = address.place(first)
        assert host == "127.0.0.1" and address.url(host, port) == f"http://127.0.0.1:{port}/"
        with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port} cannot be served: Address already in use; give"):
            address.taken("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "is_open", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:80/"),
        ("[::1]", False, "http://[::1]:80/"),
        ("0.0.0.0", True, "http://127.0.0.1:80/"),
        ("[::]", True, "http://[::1]:80/"),
        ("192.168.0.7", True, "http://192.168.0.7:80/"),
        ("[fe80::1%eth0]", True, "http://[fe80::1%eth0]:80/"),
    ],
)
def test_who_may_reach_an_address(host, is_open, url):
    assert (address.is_open(host), address.url(host, 80)) == (is_open, url)


@pytest.mark.parametrize("host", ["no such host", "a" * 70, "..", "300.1.1.1"])
def test_what_is_no_address_is_refused(host, monkeypatch):
    def unknown(*args, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # nothing is asked of a name server
    with pytest.raises(InputError, match="which is no address; expected one such as 127"):
        address.taken(host, 7860)

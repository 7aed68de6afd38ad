"""The served page: asked over HTTP, used in a browser, and what cannot be served."""

import importlib.util
import json
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

import gan_seg_jax as gs
from gan_seg_jax.data import images
from tests import tiny_runs
from tests.browser import Browser

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """The address of the page of exported weights, which a signal ends without a trace."""
    exported, temporary = tmp_path_factory.mktemp("served") / "weights", tmp_path_factory.mktemp("temporary")
    outcome = tiny_runs.command("export", f"--workdir={tiny.cgan}", "--format=safetensors", f"--output={exported}")
    assert outcome.code == 0, outcome.err
    flags = (f"--workdir={exported}", f"--port={free_port()}")
    process = tiny_runs.start("serve", *flags, cache=tiny.cache, TMPDIR=str(temporary))
    line = process.stdout.readline()
    found = re.fullmatch(r"The page is at (http://127\.0\.0\.1:\d+/); Ctrl\+C ends it\.\n", line)
    assert found, (line, process.communicate())
    yield found[1]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err
    assert not list(temporary.glob("gan_seg_serve_*")), "uploads are deleted"


@pytest.fixture
def photograph(tmp_path):
    Image.fromarray(tiny_runs.draw(5, (30, 40))[0]).save(tmp_path / "photograph.png")
    return tmp_path / "photograph.png"


@pytest.mark.slow
@needs_gradio
def test_an_image_is_labelled_over_http(tiny, served, photograph, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(served, verbose=False, download_files=tmp_path / "got")
    show = lambda file, *ids: client.predict(file and handle_file(file), list(ids), 0.5, api_name="/show")
    message, overlay, mask, confidence, areas, download = show(photograph, 0, 1, 2)
    expected = gs.load(tiny.cgan, batch_size=1)(photograph)
    assert "photograph.png: 40 x 30 pixels" in message and "%</td>" in areas
    assert download["value"].endswith("photograph_mask.png") and download["interactive"]
    np.testing.assert_array_equal(images.read_mask(download["value"]), expected.labels)
    np.testing.assert_array_equal(images.read_image(overlay), np.asarray(expected.overlay(0.5)))
    np.testing.assert_array_equal(images.read_image(mask), np.array(expected.class_colors)[expected.labels])
    np.testing.assert_array_equal(np.array(Image.open(confidence)), np.rint(255 * expected.confidence))
    bad = tmp_path / "bad.png"
    bad.write_bytes(photograph.read_bytes()[:-40])
    message, *rest, download = show(bad, 0)
    assert "bad.png: is damaged or cut short" in message and "Traceback" not in message and not any(rest)
    assert not download["interactive"]


@pytest.mark.slow
@needs_gradio
def test_files_of_the_machine_are_not_given_away(served, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{served}gradio_api/file={tmp_path}/secret.png", timeout=60)
    assert refused.value.code in (403, 404)
    body = {"data": [{"path": f"{tmp_path}/secret.png", "meta": {"_type": "gradio.FileData"}}, [0], 0.5]}
    asked = urllib.request.Request(f"{served}gradio_api/call/show", json.dumps(body).encode())
    asked.add_header("Content-Type", "application/json")
    event = json.load(urllib.request.urlopen(asked, timeout=60))["event_id"]
    answer = urllib.request.urlopen(f"{served}gradio_api/call/show/{event}", timeout=60).read().decode()
    assert answer.startswith("event: error") and "secret" not in answer


@pytest.mark.slow
@needs_gradio
def test_the_page_in_a_browser(served, photograph, tmp_path):
    """An image is given, a class switched off, an image damaged; nothing is asked of another machine."""
    with Browser(tmp_path / "profile") as browser:
        browser.open(served)
        browser.wait("document.querySelector('input[type=file]') != null")
        browser.choose_file("input[type=file]", photograph)
        browser.wait("document.body.innerText.includes('photograph.png: 40 x 30 pixels')")
        shown = "[...document.images].map(image => image.naturalWidth)"
        browser.wait(f"{shown}.join() == '40,40,40'")
        colors = "[...document.querySelectorAll('#classes [data-testid] > label')].map("
        colors += "label => label.innerText.trim() + getComputedStyle(label, '::before').backgroundColor)"
        assert browser.value(colors) == ["skyrgb(10, 20, 200)", "roadrgb(90, 90, 90)", "carrgb(200, 30, 30)"]
        address = browser.value("document.images[0].src")
        browser.value("document.querySelector('#classes [data-testid] > label').click()")
        browser.wait(f"document.images[0].src != {address!r} && {shown}.join() == '40,40,40'")
        browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
        button = "[...document.querySelectorAll('button')].find(each => each.innerText.includes('Download'))"
        browser.value(f"{button}.click()")
        mask = tmp_path / "downloads" / "photograph_mask.png"
        end = time.monotonic() + 30
        while not mask.exists() and time.monotonic() < end:
            time.sleep(0.2)
        assert images.read_mask(mask).shape == (30, 40)
        browser.value("document.querySelector('button[aria-label=\"Clear\"]').click()")
        browser.wait("document.querySelector('input[type=file]') != null")
        photograph.write_bytes(photograph.read_bytes()[:-40])
        browser.choose_file("input[type=file]", photograph)
        wrong = browser.wait("document.querySelector('.wrong')?.innerText")
        assert wrong.startswith("photograph.png: is damaged or cut short")
        assert browser.value("document.images.length") == 0
        assert all(asked.startswith((served, "data:", "blob:")) for asked in browser.asked_for), browser.asked_for


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--port=99999",), "[1, 65535]"),
        (("--port=http",), "'http'"),
        (("--host=",), "--host is missing"),
        (("--workdir=",), "--workdir is missing"),
    ],
)
def test_flags_are_answered_in_a_sentence(flags, words):
    outcome = tiny_runs.command("serve", "--workdir=x", *flags)
    assert outcome.code == 2 and outcome.err.startswith("error: ") and words in outcome.err, outcome
    assert outcome.err.count("\n") == 1


def test_without_gradio_the_command_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gradio" else find(name, *more)
    )
    outcome = tiny_runs.command("serve", "--workdir=x", f"--port={free_port()}")
    assert (outcome.code, outcome.err) == (
        2,
        'error: The page needs gradio, which is not installed: pip install "gan_seg_jax[serve]".\n',
    )

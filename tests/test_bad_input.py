"""Bad input: exit code 2, a sentence that names the thing, no traceback, and nothing lost."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.runs import workdirs
from tests import tiny_runs


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_refused(outcome, *words):
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ") and "Traceback" not in outcome.err
    assert outcome.err.count(". ") <= 4 and len(outcome.err) < 1200
    for word in words:
        assert word in outcome.err, outcome.err


# Config

PLAIN = (
    # The command line itself.
    (("--config=configs/cgan_seg.py", "--config.stepz=3"), ("stepz", "steps")),
    (("--config=configs/cgan_seg.py", "--config.losses.advers_weight=3"), ("advers_weight", "adversarial_weight")),
    (("--config=configs/cgan_seg.py:smok",), ("smok", "smoke")),
    (("--config=configs/cgan_seg.py:smoke,papr",), ("papr", "paper")),
    (("--config=configs/cgan_sge.py",), ("configs/cgan_sge.py", "configs/cgan_seg.py")),
    (("--config=configs/cgan_sge.py", "--config.steps=3"), ("configs/cgan_sge.py",)),
    (("--config=nowhere/cgan_seg.py",), ("nowhere/cgan_seg.py",)),
    (("--config=configs",), ("configs",)),
    ((), ("--config",)),
    (("--confg=configs/cgan_seg.py",), ("confg", "config")),
    (("--config=configs/cgan_seg.py", "stray"), ("stray",)),
)

FIELDS = (
    # Wrong types.
    ("steps=abc", "steps"),
    ("steps=1.5", "steps"),
    ("optimizers.segmenter.learning_rate=fast", "learning_rate"),
    ("canvas_size=16", "canvas_size"),
    ("canvas_size=('a', 'b')", "canvas_size"),
    ("canvas_size=(16", "canvas_size"),
    ("augment.scale=('a', 'b')", "augment.scale"),
    ("networks.segmenter.channels=('a', 8)", "networks.segmenter.channels"),
    # Sizes, counts and rates out of range.
    ("steps=0", "steps"),
    ("steps=-4", "steps"),
    ("batch_size=0", "batch_size"),
    ("batch_size=-8", "batch_size"),
    ("rounds=0", "rounds"),
    ("canvas_size=(0, 16)", "canvas_size"),
    ("canvas_size=(16,)", "canvas_size"),
    ("canvas_size=(8, 8, 8)", "canvas_size"),
    ("crop_size=(-1, 16)", "crop_size"),
    ("seed=-1", "seed"),
    ("seed=4294967296", "seed"),
    ("num_workers=-1", "num_workers"),
    ("ema_decay=1.0", "ema_decay"),
    ("ema_decay=-0.1", "ema_decay"),
    ("ema_decay=nan", "ema_decay"),
    ("eval_every=0", "eval_every"),
    ("checkpoint_every=0", "checkpoint_every"),
    ("keep_checkpoints=0", "keep_checkpoints"),
    ("log_every=0", "log_every"),
    ("max_bad_steps=0", "max_bad_steps"),
    ("penalty_every=-1", "penalty_every"),
    ("augment.scale=(0.0, 1.0)", "augment.scale"),
    ("augment.scale=(2.0, 1.0)", "augment.scale"),
    ("augment.scale=(1.0,)", "augment.scale"),
    ("augment.brightness=-1.0", "brightness"),
    ("augment.contrast=nan", "contrast"),
    ("optimizers.segmenter.learning_rate=0.0", "learning_rate"),
    ("optimizers.segmenter.learning_rate=-1e-3", "learning_rate"),
    ("optimizers.segmenter.learning_rate=nan", "learning_rate"),
    ("optimizers.segmenter.learning_rate=inf", "learning_rate"),
    ("optimizers.segmenter.beta1=1.5", "beta1"),
    ("optimizers.segmenter.beta2=-0.1", "beta2"),
    ("optimizers.segmenter.weight_decay=-0.1", "weight_decay"),
    ("optimizers.segmenter.clip_norm=-1.0", "clip_norm"),
    ("optimizers.segmenter.warmup_steps=-1", "warmup_steps"),
    ("networks.segmenter.channels=(0, 8)", "channels"),
    ("networks.segmenter.channels=(-4, 8)", "channels"),
    ("networks.segmenter.channels=()", "channels"),
    ("networks.segmenter.dropout=1.5", "dropout"),
    ("networks.segmenter.encoder_convs=-1", "encoder_convs"),
    ("losses.label_smoothing=2.0", "label_smoothing"),
    ("losses.label_smoothing=nan", "label_smoothing"),
    # Unknown names.
    ("dtype=float16", "float32"),
    ("resize=stretch", "fit"),
    ("method=supervized", "supervised"),
    ("dataset=camvit", "camvid"),
    ("optimizers.segmenter.name=adma", "adam"),
    ("optimizers.segmenter.schedule=polly", "poly"),
    ("networks.segmenter.name=unett", "unet"),
    ("baselines=('kmean',)", "kmeans"),
    # Phases.
    ("phases=()", "phases"),
    ("phases=(1, (('segmenter',),))", "phases"),
    ("phases=((1, ('segmenter',)),)", "phases"),
    ("phases=((1, (('generator',),)),)", "segmenter"),
    ("phases=((0, (('segmenter',),)),)", "phases"),
    ("phases=((1,),)", "phases"),
    ("phases=((1, 5),)", "phases"),
    ("phases=((1, ((1,),)),)", "phases"),
    # What does not fit together.
    ("batch_size=6", "4 devices"),
    ("num_classes=5", "num_classes"),
    ("class_names=('a', 'b')", "class_names"),
    ("augment.transpose=True", "square"),
    ("init.segmenter=/nowhere", "/nowhere"),
    ("dataset=tfds:nothing", "tfds:nothing"),
)

GAN_FIELDS = (
    ("networks.discriminator.layers=6", "layers"),
    ("networks.discriminator.layers=-1", "layers"),
    ("networks.discriminator.channels=0", "channels"),
    ("networks.discriminator.norm=bach", "batch"),
    ("losses.adversarial=hing", "hinge"),
    ("losses.adversarial_weight=-1.0", "adversarial_weight"),
    ("losses.weights.l1=nan", "losses.weights.l1"),
)


@pytest.mark.parametrize(("args", "words"), PLAIN, ids=lambda value: " ".join(value))
def test_the_command_line(tiny, tmp_path, args, words):
    assert_refused(tiny_runs.command("main", *args, f"--workdir={tmp_path / 'run'}"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "word", "arguments"),
    [(*case, tiny_runs.supervised_args) for case in FIELDS] + [(*case, tiny_runs.cgan_args) for case in GAN_FIELDS],
    ids=[field for field, _ in FIELDS + GAN_FIELDS],
)
def test_config_fields(tiny, tmp_path, field, word, arguments):
    outcome = tiny_runs.command("main", *arguments(tiny.data), f"--config.{field}", f"--workdir={tmp_path / 'run'}")
    assert_refused(outcome, word)
    assert set(contents(tmp_path)) <= {"run/.lock-0"}


def test_a_canvas_that_the_network_cannot_take_is_named_before_training(tiny, tmp_path):
    args = [arg for arg in tiny_runs.supervised_args(tiny.data) if not arg.startswith("--config=")]
    args += ["--config.canvas_size=(24, 40)", "--config.crop_size=(32, 32)", "--config.augment.scale=(1.0, 2.0)"]
    config = "--config=configs/supervised_seg.py:fcn32s,smoke"
    outcome = tiny_runs.command("main", config, *args, f"--workdir={tmp_path / 'run'}")
    assert_refused(outcome, "FCN", "24x40", "canvas_size")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(:\n", ("line 1", "SyntaxError")),
        ("x = 1\n", ("get_config",)),
        ("raise KeyError('thing')\n", ("KeyError", "thing")),
        ("import nothing_of_the_kind\n", ("nothing_of_the_kind",)),
        ("def get_config():\n    return 1 // 0\n", ("ZeroDivisionError",)),
    ],
)
def test_a_config_file_that_is_no_config(tmp_path, tiny, text, words):
    (tmp_path / "my_seg.py").write_text(text)
    outcome = tiny_runs.command("main", f"--config={tmp_path / 'my_seg.py'}", f"--workdir={tmp_path / 'run'}")
    assert_refused(outcome, str(tmp_path / "my_seg.py"), *words)
    assert not (tmp_path / "run").exists()


# Folders


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def edit_masks(change, folder="train"):
    def edit(data):
        for path in sorted((data / folder / "masks").iterdir()):
            mask = np.array(Image.open(path))
            Image.fromarray(change(mask)).save(path)

    return edit


def remove(name):
    def edit(data):
        path = data / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


def cut(name, length):
    def edit(data):
        (data / name).write_bytes((data / name).read_bytes()[:length])

    return edit


def flip_a_byte(data):
    path = data / "train/images/003.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def empty_folder(data):
    shutil.rmtree(data)
    data.mkdir()


def color_code(mask):
    return np.array(tiny_runs.INFO.class_colors, np.uint8)[np.minimum(mask, 2)]


FOLDERS = {
    "missing": (shutil.rmtree, ("does not exist",)),
    "empty": (empty_folder, ("empty",)),
    "a file": (lambda data: (shutil.rmtree(data), data.write_text("x")), ("not a folder",)),
    "without classes.txt": (remove("classes.txt"), ("classes.txt",)),
    "a bad line in classes.txt": (
        lambda data: (data / "classes.txt").write_text("0 sky 1 2\n"),
        ("classes.txt", "line 1"),
    ),
    "without images": (lambda data: [path.unlink() for path in (data / "train/images").iterdir()], ("train/images",)),
    "without train": (remove("train"), ("train/images",)),
    "an image without a mask": (remove("train/masks/003.png"), ("train/images/003.png", "mask")),
    "a mask of another size": (
        lambda data: save(data / "val/masks/001.png", np.zeros((5, 7))),
        ("val/masks/001.png", "5 x 7"),
    ),
    "0/255 masks": (edit_masks(lambda mask: np.where(mask == 2, 255, 0).astype(np.uint8)), ("0/255", "train/masks/")),
    "one mask value too many": (
        edit_masks(lambda mask: np.where(mask == 2, 3, mask).astype(np.uint8)),
        ("value 3", "train/masks/"),
    ),
    "grey colour codes": (
        edit_masks(lambda mask: np.array(Image.fromarray(color_code(mask)).convert("L"))),
        ("colour-coded", "train/masks/"),
    ),
    "RGB masks": (edit_masks(color_code), ("RGB", "train/masks/")),
    "an empty image": (cut("train/images/003.png", 0), ("train/images/003.png",)),
    "an image cut short": (cut("test/images/002.png", 300), ("test/images/002.png",)),
    "a mask cut short": (cut("train/masks/003.png", 60), ("train/masks/003.png",)),
    "a damaged image": (flip_a_byte, ("train/images/003.png",)),
    "no image": (lambda data: (data / "train/images/003.png").write_text("text"), ("train/images/003.png",)),
    "two images of one name": (lambda data: save(data / "train/images/003.jpg", np.zeros((9, 9, 3))), ("003.jpg",)),
}


@pytest.mark.parametrize(("edit", "words"), FOLDERS.values(), ids=FOLDERS)
def test_folders(tiny, tmp_path, edit, words):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    edit(data)
    args = [arg for arg in tiny_runs.supervised_args(tiny.data) if "data_dir" not in arg]
    outcome = tiny_runs.command("main", *args, f"--config.data_dir={data}", f"--workdir={tmp_path / 'run'}")
    assert_refused(outcome, *words)


def test_a_folder_set_needs_its_folder(tiny, tmp_path):
    args = [arg for arg in tiny_runs.supervised_args(tiny.data) if "data_dir" not in arg]
    assert_refused(tiny_runs.command("main", *args, f"--workdir={tmp_path / 'run'}"), "config.data_dir")


# Workdirs


@pytest.fixture
def finished(tiny, tmp_path):
    return shutil.copytree(tiny.cgan, tmp_path / "finished")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("seed=1", ("config.seed", "0", "1")),
        ("batch_size=8", ("config.batch_size", "4", "8")),
        ("networks.generator.channels=(8, 8)", ("config.networks.generator.channels", "[4, 8]", "[8, 8]")),
        ("losses.weights.l1=7.0", ("config.losses.weights.l1", "7.0")),
        ("optimizers.generator.learning_rate=0.5", ("config.optimizers.generator.learning_rate", "0.5")),
        ("augment.flip_vertical=True", ("config.augment.flip_vertical", "False", "True")),
    ],
)
@pytest.mark.parametrize("steps", [6, 9])
def test_a_workdir_of_another_config(tiny, finished, field, words, steps):
    before = contents(finished)
    outcome = tiny_runs.command(
        "main", *tiny.args, f"--config.{field}", f"--config.steps={steps}", f"--workdir={finished}"
    )
    assert_refused(outcome, str(finished), *words)
    assert contents(finished) == before


def test_a_workdir_of_another_method(tiny, finished):
    before = contents(finished)
    outcome = tiny_runs.command("main", *tiny_runs.supervised_args(tiny.data), f"--workdir={finished}")
    assert_refused(outcome, "more fields differ")
    assert contents(finished) == before


def test_a_workdir_of_another_architecture(tiny, finished):
    """The config fits, the arrays do not: another version of the code made them."""
    (finished / "summary.json").unlink()
    config = json.loads((finished / "config.json").read_text())
    config["networks"]["generator"]["channels"] = [8, 8]
    (finished / "config.json").write_text(json.dumps(config))
    tiny_runs.change_meta(finished, config=config)
    saved = contents(finished / "checkpoints")
    args = (*tiny.args, "--config.networks.generator.channels=(8, 8)", f"--workdir={finished}")
    assert_refused(tiny_runs.command("main", *args), "another architecture", "networks/generator")
    assert contents(finished / "checkpoints") == saved


@pytest.mark.parametrize("kept", ["checkpoints", "summary.json"])
def test_a_workdir_whose_config_is_missing_is_taken_over_by_nobody(tiny, finished, kept):
    (finished / "config.json").unlink()
    other = finished / ("summary.json" if kept == "checkpoints" else "checkpoints")
    shutil.rmtree(other) if other.is_dir() else other.unlink()
    before = contents(finished)
    args = (*tiny_runs.supervised_args(tiny.data), f"--workdir={finished}")
    assert_refused(tiny_runs.command("main", *args), str(finished), "config.json is missing")
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("main", ()),
        ("evaluate", ()),
        ("predict", ("--input=INPUT", "--output=OUTPUT")),
        ("judge", ()),
        ("sample", ("--output=OUTPUT", "--count=1")),
        ("main", ("--config.init.generator=WORKDIR", "--workdir=OUTPUT")),
    ],
)
def test_a_config_that_was_edited_is_not_believed(tiny, finished, tmp_path, module, more):
    """It is not the one that the checkpoints were saved with, also where the command line agrees with it."""
    config = json.loads((finished / "config.json").read_text())
    config["augment"]["flip_vertical"] = True
    (finished / "config.json").write_text(json.dumps(config))
    (tmp_path / "images").mkdir()
    places = {"INPUT": str(tmp_path / "images"), "OUTPUT": str(tmp_path / "output"), "WORKDIR": str(finished)}
    args = [functools.reduce(lambda text, name: text.replace(name, places[name]), places, arg) for arg in more]
    if module == "main":
        args = [*tiny.args, *args] if more else [*tiny.args, "--config.augment.flip_vertical=True"]
    if not any("--workdir" in arg for arg in args):
        args.append(f"--workdir={finished}")
    outcome = tiny_runs.command(module, *args)
    assert_refused(outcome, "config.json has been changed: config.augment.flip_vertical is True", "with False")


STRANGE = [  # fields of a config.json, what they hold, and a word of the sentence
    ("networks.generator.channels", [60_000] * 12, "GB"),
    ("networks.generator.channels", "wide", "channels"),
    ("networks.generator.nonsense", 3, "nonsense"),
    ("networks.generator.norm", "?", "norm"),
    ("networks.generator.kernel_init", "?", "standard deviation"),
    ("networks.generator.skip", "?", "concat"),
    ("networks", {}, "networks"),
    ("crop_size", [8000, 8000], ""),
    ("crop_size", [1, 1], ""),
    ("losses.adversarial", "?", "adversarial"),
    ("output", "?", "output"),
    ("num_classes", 0, "class"),
    ("method", "?", "method"),
    ("method", "refinement", "refinement"),
    ("dataset", "tfds:?", "tfds"),
    ("data_dir", "/dev/zero", "/dev/zero"),
    ("stepz", 3, "steps"),
    ("batch_size", 10**9, "batch_size"),
]


@pytest.mark.parametrize(("field", "value", "word"), STRANGE, ids=lambda value: str(value)[:30])
def test_the_config_of_a_stranger_is_used_or_refused(tiny, finished, field, value, word):
    """Its author has written the checkpoints, too, so that all of their digests agree."""
    config = json.loads((finished / "config.json").read_text())
    *groups, name = field.split(".")
    functools.reduce(lambda group, key: group[key], groups, config)[name] = value
    (finished / "config.json").write_text(json.dumps(config))
    tiny_runs.change_meta(finished, config=config)
    outcome = tiny_runs.command("evaluate", f"--workdir={finished}")
    if outcome.code != 0:
        assert_refused(outcome, word)


def test_the_config_in_a_checkpoint_of_a_stranger_is_checked(tiny, finished):
    for config in (None, {"phases": 3}, {}):
        tiny_runs.change_meta(finished, config=config)
        for module, args in (("evaluate", ()), ("main", tiny.args)):
            outcome = tiny_runs.command(module, *args, f"--workdir={finished}")
            assert_refused(outcome, "holds another config than this version")


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run"])
def test_a_workdir_elsewhere_is_refused(tiny, tmp_path, workdir):
    args = tiny_runs.supervised_args(tiny.data)
    with contextlib.chdir(tmp_path):
        commands = [
            ("main", *args, f"--workdir={workdir}"),
            ("main", *args, f"--config.init.segmenter={workdir}"),
            ("evaluate", f"--workdir={workdir}"),
            ("predict", f"--workdir={workdir}", "--input=x", "--output=y"),
            ("sample", f"--workdir={workdir}", "--output=y", "--count=1"),
            ("judge", f"--workdir={workdir}"),
        ]
        for command in commands:
            scheme = workdir.partition("://")[0]
            assert_refused(tiny_runs.command(*command), f"address of {scheme}://", "folder of this machine")
        assert set(contents(tmp_path)) <= {f"runs/{path.name}/.lock-0" for path in (tmp_path / "runs").glob("*")}


def test_a_workdir_that_cannot_be_used(tiny, tmp_path):
    args = tiny_runs.supervised_args(tiny.data)
    (tmp_path / "file").write_text("in the way")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run", "/proc/nothing/run"):
        assert_refused(tiny_runs.command("main", *args, f"--workdir={workdir}"), str(workdir), "cannot be written")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_workdir_that_is_read_only(tiny, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    outcome = tiny_runs.command("main", *tiny_runs.supervised_args(tiny.data), f"--workdir={tmp_path / 'run'}")
    assert_refused(outcome, "cannot be written")


def test_a_workdir_in_use(tiny, tmp_path):
    holder = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    workdir = tmp_path / "run"
    workdir.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(workdir / ".lock-0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        outcome = tiny_runs.command("main", *tiny_runs.supervised_args(tiny.data), f"--workdir={workdir}")
        other.communicate()
    assert_refused(outcome, "Another process", str(workdir))
    with workdirs.lock(workdir):  # the lock went with the process
        pass


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", '{"steps": '])
def test_a_damaged_file_in_a_workdir(tiny, finished, name, text):
    (finished / name).write_text(text)
    before = contents(finished)
    assert_refused(tiny_runs.command("main", *tiny.args, f"--workdir={finished}"), name)
    assert contents(finished) == before


def test_a_frozen_role_without_weights(tiny, tmp_path):
    args = (*tiny.args, "--config.phases=((1, (('discriminator',),)),)", f"--workdir={tmp_path / 'run'}")
    assert_refused(tiny_runs.command("main", *args), "generator", "config.init.generator")


def test_weights_of_another_kind_of_run(tiny, tmp_path):
    args = (
        *tiny_runs.supervised_args(tiny.data),
        f"--config.init.segmenter={tiny.cgan}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert_refused(tiny_runs.command("main", *args), "segmenter", "generator")


def test_no_thread_outlives_a_refusal(tiny, tmp_path):
    before = threading.active_count()
    for _ in range(3):
        args = (*tiny_runs.supervised_args(tiny.data), "--config.num_classes=5", f"--workdir={tmp_path / 'run'}")
        assert_refused(tiny_runs.command("main", *args), "num_classes")
    assert threading.active_count() <= before


def test_a_run_without_a_test_split_scores_val(tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    shutil.rmtree(data / "test")
    shutil.rmtree(data / "val")
    args = [arg for arg in tiny_runs.supervised_args(tiny.data) if "data_dir" not in arg]
    outcome = tiny_runs.command(
        "main", *args, f"--config.data_dir={data}", "--config.steps=1", f"--workdir={tmp_path / 'run'}"
    )
    assert outcome.code == 0 and "no test split" in outcome.out, outcome.err


# Planted files


def plant(path, kind):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        outside = path.parent.parent / "outside"
        outside.write_text("precious")
        path.symlink_to(outside)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl", ".lock-0"])
def test_pipes_and_devices_in_a_workdir(tiny, finished, name, kind):
    if name == "metrics.jsonl":
        (finished / "summary.json").unlink()
    plant(finished / name, kind)
    assert_refused(tiny_runs.command("main", *tiny.args, f"--workdir={finished}"), name)


def test_a_link_in_the_place_of_the_lock_empties_nothing(tiny, finished):
    plant(finished / ".lock-0", "link")
    assert_refused(tiny_runs.command("main", *tiny.args, f"--workdir={finished}"), ".lock-0", "link")
    assert (finished.parent / "outside").read_text() == "precious"

"""From data to made pairs and on to a segmenter that uses them, as commands: the judge is trained first."""

import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.tasks import generation
from tests import tiny_runs

SMALL = (
    "--config.canvas_size=(16,24)",
    "--config.crop_size=(16,24)",
    "--config.steps=2",
    "--config.eval_every=2",
    "--config.checkpoint_every=2",
    "--config.samples_every=2",
    "--config.log_every=1",
    "--config.tensorboard=False",
)
TINY_JUDGE = (
    "--config.prior_runs.judge.networks.segmenter.channels=(4,8)",
    "--config.prior_runs.judge.networks.segmenter.encoder_convs=(0,0)",
    "--config.prior_runs.judge.networks.segmenter.decoder_convs=(0,)",
    "--config.prior_runs.judge.canvas_size=(16,24)",
    "--config.prior_runs.judge.crop_size=(16,24)",
    "--config.prior_runs.judge.steps=2",
    "--config.prior_runs.judge.eval_every=2",
    "--config.prior_runs.judge.checkpoint_every=2",
)


def arguments(tiny, workdir):
    return (
        "--config=configs/dcgan.py:joint,dense,smoke",
        *SMALL,
        *TINY_JUDGE,
        f"--workdir={workdir}",
        "--config.dataset=folder",
        f"--config.data_dir={tiny.data}",
        "--config.networks.generator.hidden=(8,8)",
    )


@pytest.fixture(scope="module")
def generator(tiny, tmp_path_factory):
    """A finished run that makes pairs of noise."""
    workdir = tmp_path_factory.mktemp("generator") / "run"
    outcome = tiny_runs.command("main", *arguments(tiny, workdir))
    assert outcome.code == 0, outcome.err
    assert f"First, for judge: a supervised run of 2 steps in {workdir / 'prior' / 'judge'}" in outcome.out
    return workdir


def sample(generator, output, *more):
    outcome = tiny_runs.command("sample", f"--workdir={generator}", f"--output={output}", "--count=5", *more)
    assert outcome.code == 0 and "image 5/5" in outcome.err, outcome.err
    return sorted((output / "train" / "images").iterdir())


def test_the_judge_is_a_run_of_its_own(generator):
    judge = json.loads((generator / "prior" / "judge" / "summary.json").read_text())
    assert judge["task"] == "segmentation" and judge["steps"] == 2
    summary = json.loads((generator / "summary.json").read_text())
    assert summary["task"] == "generation" and summary["test"]["frechet"] > 0
    assert 0 <= summary["test"]["judge_miou_real"] <= 1


def test_made_pairs_train_a_segmenter(generator, tiny, tmp_path):
    made = tmp_path / "made"
    images = sample(generator, made)
    masks = sorted((made / "train" / "masks").iterdir())
    assert [path.name for path in images] == [path.name for path in masks] and len(images) == 5
    assert all(Image.open(path).size == (24, 16) for path in (*images, *masks))
    assert {value for path in masks for value in np.unique(Image.open(path))} <= {0, 1, 2, 255}
    assert (made / "samples.png").exists() and "road" in (made / "classes.txt").read_text()
    args = (*tiny_runs.supervised_args(tiny.data), "--config.steps=2", f"--config.synthetic.folder={made}")
    outcome = tiny_runs.command("main", *args, "--config.synthetic.share=0.5", f"--workdir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err


def test_made_pairs_bring_nothing_into_a_generator_that_may_not_see_it(generator, tiny, tmp_path):
    made = tmp_path / "made"
    sample(generator, made)
    outcome = tiny_runs.command(
        "main",
        *arguments(tiny, tmp_path / "run"),
        f"--config.judge={generator / 'prior' / 'judge'}",
        "--config.labelled.fraction=0.5",
        f"--config.synthetic.folder={made}",
        "--config.synthetic.share=0.5",
    )
    assert outcome.code == 2 and "of unlabelled" in outcome.err, outcome.err


def test_images_without_masks_need_a_judge_of_others(generator, tiny, tmp_path):
    for split in tiny_runs.COUNTS:
        shutil.copytree(tiny.data / split / "images", tmp_path / "set" / split / "images")
    args = (
        "--config=configs/dcgan.py:dense,smoke",
        *SMALL,
        f"--workdir={tmp_path / 'run'}",
        "--config.dataset=pairs",
        f"--config.data_dir={tmp_path / 'set'}",
        "--config.networks.generator.hidden=(8,8)",
    )
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 2 and "--config.judge=WORKDIR" in outcome.err, outcome.err
    assert not (tmp_path / "run").exists()
    outcome = tiny_runs.command("main", *args, f"--config.judge={generator / 'prior' / 'judge'}")
    assert outcome.code == 0, outcome.err
    scores = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    assert scores["frechet"] > 0 and scores["judge_miou_real"] is None


def augment_arguments(generator, workdir):
    return (
        "--config=configs/augment_seg.py:joint,smoke",
        *SMALL,
        f"--workdir={workdir}",
        f"--config.init.generator={generator}",
        "--config.baselines=()",
        "--config.dataset=folder",
        "--config.networks.segmenter.channels=(4,8)",
        "--config.networks.segmenter.encoder_convs=(0,0)",
        "--config.networks.segmenter.decoder_convs=(0,)",
    )


def test_a_generator_of_another_size_is_named(generator, tiny, tmp_path):
    args = (*augment_arguments(generator, tmp_path / "run"), f"--config.data_dir={tiny.data}")
    outcome = tiny_runs.command("main", *args, "--config.crop_size=(32,48)", "--config.canvas_size=(32,48)")
    words = 'crop_size of (16, 24), and config.crop_size is (32, 48); give --config.crop_size="(16, 24)"'
    assert outcome.code == 2 and words in outcome.err, outcome.err


@pytest.mark.slow
def test_a_run_with_made_pairs_does_not_go_on_with_other_training_images(generator, tiny, tmp_path):
    args = (*augment_arguments(generator, tmp_path / "run"), "--config.extend=constant")
    outcome = tiny_runs.command("main", *args, f"--config.data_dir={tiny.data}")
    assert outcome.code == 0, outcome.err
    moved = shutil.copytree(tiny.data, tmp_path / "moved")
    outcome = tiny_runs.command("main", *args, f"--config.data_dir={moved}", "--config.steps=3")
    assert outcome.code == 0, outcome.err
    for kind in ("images", "masks"):
        (moved / "train" / kind / "000.png").rename(moved / "test" / kind / "seen.png")
    outcome = tiny_runs.command("main", *args, f"--config.data_dir={moved}", "--config.steps=4")
    assert outcome.code == 2 and "The set of training images" in outcome.err, outcome.err


def test_made_images_as_the_data_set_are_not_scored_by_what_their_generator_has_seen(generator, tiny, tmp_path):
    made = tmp_path / "made"
    sample(generator, made)
    shutil.copytree(tiny.data / "train", made / "test")
    for name, args in (
        ("data_dir", tiny_runs.supervised_args(made)),
        ("classical", ("--config=configs/classical.py:kmeans", "--config.dataset=folder", f"--config.data_dir={made}")),
    ):
        outcome = tiny_runs.command("main", *args, f"--workdir={tmp_path / name}")
        assert outcome.code == 2 and "13 of test (000, 001, 002, 003, 004, ...)" in outcome.err, outcome.err


def test_a_finished_prior_run_of_another_config_is_not_taken(generator, tiny, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(generator / "prior", workdir / "prior")
    outcome = tiny_runs.command("main", *arguments(tiny, workdir), "--config.labelled.fraction=0.5")
    assert outcome.code == 2 and "labelled.fraction was 1.0, now 0.5" in outcome.err, outcome.err


def test_the_same_seed_makes_the_same_images(generator, tmp_path):
    first, again, other = (
        sample(generator, tmp_path / name, f"--seed={seed}") for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    same = lambda one, two: [a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True)]
    assert all(same(first, again)) and not any(same(first, other))


def test_images_made_twice_are_counted(generator, monkeypatch, tmp_path):
    batch = {"image": np.stack([np.full((16, 24, 3), value, np.uint8) for value in (0, 90)])}
    monkeypatch.setattr(generation, "batches", lambda *args: itertools.repeat(batch))
    outcome = tiny_runs.command("sample", f"--workdir={generator}", f"--output={tmp_path / 'made'}", "--count=5")
    assert outcome.code == 0 and "Only 2 of them differ" in outcome.out


def test_what_is_wrong_is_said_before_prior_runs_train(tiny, tmp_path):
    for wrong, message in (
        ("--config.noise.size=0", "noise.size is 0"),
        ("--config.crop_size=(24,24)", "every image would be padded"),
    ):
        outcome = tiny_runs.command("main", *arguments(tiny, tmp_path / "run"), wrong)
        assert outcome.code == 2 and message in outcome.err and "First, for" not in outcome.out


def test_what_cannot_be_sampled(generator, tiny, tmp_path):
    for arguments, message in (
        ((f"--workdir={tiny.cgan}", f"--output={tmp_path / 'x'}"), "makes no images"),
        ((f"--workdir={generator}", f"--output={tmp_path / 'x'}", "--count=0"), "--count is 0"),
        ((f"--workdir={generator}",), "--output"),
    ):
        outcome = tiny_runs.command("sample", *arguments)
        assert outcome.code == 2 and message in outcome.err
    sample(generator, tmp_path / "made")
    outcome = tiny_runs.command("sample", f"--workdir={generator}", f"--output={tmp_path / 'made'}")
    assert outcome.code == 2 and "holds images already" in outcome.err


@pytest.mark.slow
def test_two_processes_train_and_judge_a_generator_as_one(generator, tiny, tmp_path):
    workdir = tmp_path / "run"
    tiny_runs.run_processes(tiny, arguments(tiny, workdir))
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (generator, workdir))
    for split in ("val", "test"):
        assert one[split].keys() == two[split].keys()
        for name, value in one[split].items():  # None where there are too few images
            assert two[split][name] == (value and pytest.approx(value, rel=1e-3, abs=1e-5)), (split, name)
    names = [path.name for path in sorted((workdir / "prior" / "judge").iterdir())]
    assert "summary.json" in names and (workdir / "training_data.json").exists()

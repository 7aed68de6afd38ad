"""From data to generated pairs and a segmenter that uses them, as commands: the feature network is trained first."""

import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.tasks import TASKS
from tests import tiny_runs

SMALL = (
    "--config.canvas_size=(16,24)",
    "--config.crop_size=(16,24)",
    "--config.steps=2",
    "--config.eval_every=2",
    "--config.checkpoint_every=2",
    "--config.samples_every=0",
    "--config.log_every=1",
    "--config.tensorboard=False",
)
TINY_NETWORK = (
    "--config.prior_runs.feature_network.networks.segmenter.channels=(4,8)",
    "--config.prior_runs.feature_network.networks.segmenter.encoder_convs=(0,0)",
    "--config.prior_runs.feature_network.networks.segmenter.decoder_convs=(0,)",
    "--config.prior_runs.feature_network.canvas_size=(16,24)",
    "--config.prior_runs.feature_network.crop_size=(16,24)",
    "--config.prior_runs.feature_network.steps=2",
    "--config.prior_runs.feature_network.eval_every=2",
    "--config.prior_runs.feature_network.checkpoint_every=2",
)


def arguments(tiny, workdir):
    return (
        "--config=configs/dcgan.py:joint,dense,smoke",
        *SMALL,
        *TINY_NETWORK,
        f"--workdir={workdir}",
        "--config.dataset=folder",
        f"--config.data_dir={tiny.data}",
        "--config.networks.generator.hidden=(8,8)",
        "--config.networks.discriminator.hidden=(8,)",
    )


@pytest.fixture(scope="module")
def generator(tiny, tmp_path_factory):
    """A finished run that makes pairs of noise."""
    workdir = tmp_path_factory.mktemp("generator") / "run"
    outcome = tiny_runs.command("main", *arguments(tiny, workdir))
    assert outcome.code == 0, outcome.err
    prior = workdir / "prior" / "feature_network"
    assert f"First, for feature_network: a supervised run of 2 steps in {prior}" in outcome.out
    return workdir


def sample(generator, output, *more):
    outcome = tiny_runs.command("sample", f"--workdir={generator}", f"--output={output}", "--count=5", *more)
    assert outcome.code == 0 and "image 5/5" in outcome.err, outcome.err
    return sorted((output / "train" / "images").iterdir())


@pytest.mark.slow
def test_the_feature_network_is_a_run_of_its_own(generator):
    network = json.loads((generator / "prior" / "feature_network" / "summary.json").read_text())
    assert network["task"] == "segmentation" and network["steps"] == 2
    summary = json.loads((generator / "summary.json").read_text())
    assert summary["task"] == "generation" and summary["test"]["frechet"] > 0
    assert 0 <= summary["test"]["judge_miou_real"] <= 1


def before_the_renaming(values):
    """Return a stored config as earlier versions wrote it."""
    name = lambda field: "judge" if field == "feature_network" else field
    priors = {name(field): before_the_renaming(prior) for field, prior in values["prior_runs"].items()}
    return {**{name(field): value for field, value in values.items()}, "prior_runs": priors}


@pytest.fixture
def former(generator, tmp_path):
    """The same run with the names of earlier versions, in which the feature network was a judge."""
    run = shutil.copytree(generator, tmp_path / "former")
    (run / "prior" / "feature_network").rename(run / "prior" / "judge")
    for folder in (run, run / "prior" / "judge"):
        values = before_the_renaming(json.loads((folder / "config.json").read_text()))
        assert "judge" in values and "feature_network" not in values
        (folder / "config.json").write_text(json.dumps(values))
        tiny_runs.change_meta(folder, config=values)
    return run


def test_runs_of_earlier_versions_are_known_by_their_names(former, tiny):
    args = [word.replace("prior_runs.feature_network", "prior_runs.judge") for word in arguments(tiny, former)]
    outcome = tiny_runs.command("main", *args)
    assert outcome.code == 0 and "is finished" in outcome.out, outcome.err
    outcome = tiny_runs.command("evaluate", f"--workdir={former}")
    assert outcome.code == 0, outcome.err
    found, summary = (json.loads((former / name).read_text()) for name in ("evaluation-test.json", "summary.json"))
    assert found["frechet"] == pytest.approx(summary["test"]["frechet"], rel=1e-4)
    assert not (former / "prior" / "feature_network").exists()


@pytest.mark.slow
def test_runs_of_earlier_versions_go_on(former, tiny):
    outcome = tiny_runs.command("main", *arguments(tiny, former), "--config.steps=4", "--config.extend=constant")
    assert outcome.code == 0 and "Continuing from step 2 of 4" in outcome.out + outcome.err, outcome.err
    assert "First, for" not in outcome.out and not (former / "prior" / "feature_network").exists()
    assert "judge" not in json.loads((former / "config.json").read_text())


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
        f"--config.feature_network={generator / 'prior' / 'feature_network'}",
        "--config.labelled.fraction=0.5",
        f"--config.synthetic.folder={made}",
        "--config.synthetic.share=0.5",
    )
    assert outcome.code == 2 and "of unlabelled" in outcome.err, outcome.err


@pytest.mark.slow
def test_images_without_masks_need_a_network_of_others(generator, tiny, tmp_path):
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
    assert outcome.code == 2 and "--config.feature_network=WORKDIR" in outcome.err, outcome.err
    assert not (tmp_path / "run").exists()
    outcome = tiny_runs.command("main", *args, f"--config.feature_network={generator / 'prior' / 'feature_network'}")
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
    task = TASKS["generation"]._replace(batches=lambda *args: itertools.repeat(batch))
    monkeypatch.setitem(TASKS, "generation", task)
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
def test_two_processes_train_and_score_a_generator_as_one(generator, tiny, tmp_path):
    workdir = tmp_path / "run"
    tiny_runs.run_processes(tiny, arguments(tiny, workdir))
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (generator, workdir))
    for split in ("val", "test"):
        assert one[split].keys() == two[split].keys()
        for name, value in one[split].items():  # None where there are too few images
            assert two[split][name] == (value and pytest.approx(value, rel=1e-3, abs=1e-5)), (split, name)
    names = [path.name for path in sorted((workdir / "prior" / "feature_network").iterdir())]
    assert "summary.json" in names and (workdir / "training_data.json").exists()

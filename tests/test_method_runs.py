"""Every method as a command: trained, killed without a word, continued to the same bits, and put to use."""

import contextlib
import json

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.methods import get_method
from gan_seg_jax.training.run import TrainingRun
from tests import tiny_runs
from tests.test_methods import CONFIGS, load

TINY = (
    "--config.scenes.counts=(12, 4, 4)",
    "--config.steps=6",
    "--config.eval_every=3",
    "--config.checkpoint_every=2",
    "--config.log_every=2",
    "--config.samples_every=3",
    "--config.tensorboard=False",
    "--config.baselines=()",
)
MORE = ("refine_seg:frozen", "adapt_seg:rain", "augment_seg:geometric", "augment_seg:repeat", "cgan_seg:lambda0")


class Killed(BaseException):
    """What a killed process does: nothing more."""


def arguments(name, workdir):
    file, _, words = name.partition(":")
    return (f"--config=configs/{file}.py:{words},smoke".replace(":,", ":"), *TINY, f"--workdir={workdir}")


def kill_at(patch, workdir, step):
    poll = TrainingRun.poll

    def killed(run, state, tracker):
        if run.workdir == workdir and tracker.progress.step == step:
            raise Killed
        poll(run, state, tracker)

    patch.setattr(TrainingRun, "poll", killed)


def run(name, workdir):
    outcome = tiny_runs.command("main", *arguments(name, workdir))
    assert outcome.code == 0, outcome.err
    return outcome


def use(name, workdir, folder):
    """Predict, sample and score with a finished run."""
    config = load(name)
    task = get_method(config).TASK
    if task == "generation":
        made = folder / "made"
        outcome = tiny_runs.command("sample", f"--workdir={workdir}", f"--output={made}", "--count=3")
        assert outcome.code == 0, outcome.err
        written = sorted((made / "train" / "images").glob("*.png"))
    else:
        inputs = folder / "inputs"
        inputs.mkdir()
        for number in range(3):
            masks = config.method == "translation" and config.input == "labels"
            values, shape = (10, (48, 64)) if masks else (256, (48, 64, 3))
            pixels = np.random.default_rng(number).integers(0, values, shape, np.uint8)
            Image.fromarray(pixels).save(inputs / f"{number}.png")
        outcome = tiny_runs.command(
            "predict", f"--workdir={workdir}", f"--input={inputs}", f"--output={folder / 'labelled'}"
        )
        assert outcome.code == 0, outcome.err
        kind = "masks" if task == "segmentation" else "images"
        written = sorted((folder / "labelled" / kind).glob("*.png"))
    assert len(written) == 3
    assert len({Image.open(path).tobytes() for path in written}) > 1 or task == "segmentation"
    outcome = tiny_runs.command("evaluate", f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    found = json.loads((workdir / "evaluation-test.json").read_text())
    summary = json.loads((workdir / "summary.json").read_text())
    for score, value in summary["test"].items():
        if isinstance(value, float):
            assert found[score] == pytest.approx(value, rel=1e-3, abs=1e-5), score


@pytest.mark.slow
@pytest.mark.parametrize("name", (*CONFIGS, *MORE))
def test_a_killed_run_goes_on_to_the_same_bits(name, tmp_path, tmp_path_factory):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with tiny_runs.compile_cache(tmp_path), contextlib.chdir(tiny_runs.ROOT):
        run(name, whole)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, killed, 5)
            tiny_runs.command("main", *arguments(name, killed))
        assert not (killed / "summary.json").exists()
        outcome = run(name, killed)
        assert "Continuing from step" in outcome.out + outcome.err
        assert tiny_runs.digests(killed) == tiny_runs.digests(whole)
        use(name, killed, tmp_path)

"""A discriminator that is good for nothing must not ruin a segmenter that has labels to learn from."""

import json
import os
import subprocess
import sys

import pytest

from tests.tiny_runs import ROOT

METHODS = {  # config and words -> words of its supervised yardstick, and fields that both share
    "adversarial_seg": ("supervised_seg", ()),
    "cgan_seg": ("supervised_seg", ("--config.losses.weights.l1=1.0",)),
    "semi_seg:advsemiseg": ("supervised_seg", ("--config.labelled.fraction=0.5",)),
    "semi_seg:s4gan": ("supervised_seg", ("--config.labelled.fraction=0.5",)),
    "refine_seg:unet": ("supervised_seg", ()),
    "adapt_seg": ("supervised_seg", ("--config.scenes.look=rain", "--config.source.dataset=scenes")),
}
SHORT = (
    "--config.scenes.size=(48, 64)", "--config.scenes.counts=(200, 20, 60)", "--config.canvas_size=(48, 64)",
    "--config.crop_size=(48, 64)", "--config.steps=300", "--config.eval_every=100", "--config.checkpoint_every=100",
    "--config.samples_every=0", "--config.tensorboard=False", "--config.baselines=()",
)  # fmt: skip


def miou(kind, config, workdir, *fields):
    """Return the test mIoU of a run; compiled with optimisation, unlike in other tests."""
    file, _, words = config.partition(":")
    words = ",".join(filter(None, (words, "random_discriminator" if kind == "random" else "")))
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable, "tests/bad_discriminators.py", f"--kind={kind}", f"--config=configs/{file}.py:{words}",
        f"--workdir={workdir}", *SHORT, *fields,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])["miou"]


@pytest.fixture(scope="module")
def yardsticks(tmp_path_factory):
    """A function that returns the mIoU of a supervised run; each is trained once."""
    known = {}

    def score(config, fields):
        if (config, fields) not in known:
            known[config, fields] = miou("good", config, tmp_path_factory.mktemp("supervised") / "run", *fields)
        return known[config, fields]

    return score


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "random", "right"])
@pytest.mark.parametrize("config", METHODS)
def test_the_segmenter_keeps_its_score(config, kind, yardsticks, tmp_path):
    supervised, fields = METHODS[config]
    found, wanted = miou(kind, config, tmp_path / "run", *fields), yardsticks(supervised, fields)
    print(f"{config}, {kind} discriminator: mIoU {found:.4f}, supervised {wanted:.4f}")
    assert found >= 0.95 * wanted

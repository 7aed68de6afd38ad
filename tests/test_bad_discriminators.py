"""A discriminator that is good for nothing must not ruin a segmenter that has labels to learn from."""

import json
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax import models
from gan_seg_jax.methods import game, get_method
from gan_seg_jax.methods.refinement import Outputs
from gan_seg_jax.state import create_state, init_variables
from tests import bad_discriminators
from tests.by_hand import host_stream, prepared, view
from tests.test_methods import load
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
    "--config.scenes.size=(48, 64)",
    "--config.scenes.counts=(200, 20, 60)",
    "--config.canvas_size=(48, 64)",
    "--config.crop_size=(48, 64)",
    "--config.steps=300",
    "--config.eval_every=100",
    "--config.checkpoint_every=100",
    "--config.samples_every=0",
    "--config.tensorboard=False",
    "--config.baselines=()",
)


def miou(kind, config, workdir, *fields):
    """Return the test mIoU of a run; compiled with optimisation, unlike in other tests."""
    file, _, words = config.partition(":")
    words = ",".join(filter(None, (words, "random_discriminator" if kind == "random" else "")))
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "tests/bad_discriminators.py",
        f"--kind={kind}",
        f"--config=configs/{file}.py:{words}",
        f"--workdir={workdir}",
        *SHORT,
        *fields,
    ]
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


SIZE, CLASSES = (32, 64), 3
LABELLED, OTHER = (True, False), (False, True)
GAMES = {  # config -> what its losses take, of logits on labelled images and on others; which of them the game pushes
    "adversarial_seg": (lambda labelled, other: labelled, LABELLED),
    "cgan_seg": (lambda labelled, other: labelled, LABELLED),
    "refine_seg:unet": (lambda labelled, other: Outputs(labelled, {}, labelled), LABELLED),
    "semi_seg:advsemiseg": (lambda *logits: logits, (True, True)),
    "semi_seg:s4gan": (lambda *logits: logits, OTHER),
    "adapt_seg": (lambda *logits: logits, OTHER),
    "adapt_seg:multi": (lambda *logits: tuple((x, {"auxiliary": x}) for x in logits), OTHER),
}


@pytest.mark.parametrize("name", GAMES)
def test_the_right_discriminator_is_right_and_pushes(name, monkeypatch):
    """Without a slope at the segmenter's map it could do no harm, whatever its scores."""
    config, (shape, pushed) = load(name).unlock(), GAMES[name]
    config.num_classes, config.class_colors = CLASSES, ()
    method, network = get_method(config), config.networks.discriminator.name
    spoilt = bad_discriminators.spoil(models.MODELS[network], bad_discriminators.right)
    monkeypatch.setitem(models.MODELS, network, spoilt)
    monkeypatch.setattr(game, "play", bad_discriminators.told(game.play))
    judges = {role: module for role, module in method.build(config).items() if role.startswith("discriminator")}
    rng = np.random.default_rng(0)
    draw = lambda *shape, high: rng.integers(0, high, (2, *SIZE, *shape)).astype(np.uint8)
    batch = prepared({name: host_stream(draw(3, high=256), draw(high=CLASSES)) for name in method.STREAMS})
    logits = [jnp.array(rng.normal(size=(2, *SIZE, CLASSES)), jnp.float32) for _ in pushed]
    drawn = types.SimpleNamespace(forward=lambda nets, *_: (shape(*logits), nets), losses=method.losses)
    nets = view(create_state(init_variables(drawn, judges, batch, config, 0), judges, {}, seed=0))

    def terms(*logits):
        metrics = method.losses(nets, shape(*logits), batch, jax.random.key(2), config).metrics
        values = [value for key, value in metrics.items() if key.startswith("adversarial")]
        return sum(values), (values, [metrics[f"{role}_accuracy"] for role in judges])

    run = jax.jit(jax.grad(terms, (0, 1), has_aux=True), compiler_options={"xla_backend_optimization_level": 0})
    slopes, (values, accuracies) = run(*logits)
    assert accuracies == [1.0] * len(judges)
    np.testing.assert_allclose(values, bad_discriminators.CERTAIN, rtol=1e-4)
    at_largest = [jnp.take_along_axis(d, jnp.argmax(x, -1)[..., None], -1) for d, x in zip(slopes, logits, strict=True)]
    assert [bool((slope < 0).all()) for slope in at_largest] == list(pushed)  # towards certainty, at every pixel


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "random", "right"])
@pytest.mark.parametrize("config", METHODS)
def test_the_segmenter_keeps_its_score(config, kind, yardsticks, tmp_path):
    supervised, fields = METHODS[config]
    found, wanted = miou(kind, config, tmp_path / "run", *fields), yardsticks(supervised, fields)
    print(f"{config}, {kind} discriminator: mIoU {found:.4f}, supervised {wanted:.4f}")
    assert found >= 0.95 * wanted

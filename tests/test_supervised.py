"""What the methods make of the losses that a config asks for, and of auxiliary heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cgan_seg, supervised_seg
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.region import dice
from gan_seg_jax.methods import cgan, supervised

CLASSES = 3


class Nets:
    """Networks that return what they are told, whatever they see."""

    step, penalty = jnp.int32(0), False

    def __init__(self, outputs):
        self.outputs = outputs

    def apply(self, role, *inputs, **options):
        return self.outputs[role], self


def _config(module, **losses):
    config = module.get_config()
    config.num_classes = CLASSES
    with config.losses.unlocked():
        config.losses.update(losses)
    return config


def _batch():
    rng = np.random.default_rng(0)
    label = jnp.asarray(rng.integers(0, CLASSES + 1, (2, 3, 4)))
    image = jnp.zeros((2, 3, 4, 3))
    return {"labelled": {"image": image, "label": jnp.where(label == CLASSES, 255, label)}}


def _logits(seed):
    return jnp.asarray(np.random.default_rng(seed).normal(0, 2, (2, 3, 4, CLASSES)), jnp.float32)


def test_supervised_is_cross_entropy_by_default():
    batch, logits = _batch(), _logits(1)
    out = supervised.losses(Nets({}), logits, batch, None, _config(supervised_seg))
    expected = segmentation.cross_entropy(logits, batch["labelled"]["label"])
    np.testing.assert_allclose(out.losses["segmenter"], expected, rtol=1e-6)
    assert out.metrics == {}


def test_supervised_sums_terms_and_heads():
    batch, logits = _batch(), _logits(1)
    heads = {"c4": _logits(2), "c3": _logits(3)}
    config = _config(supervised_seg, auxiliary_weight=0.25)
    config.losses.weights.dice = 2.0
    out = supervised.losses(Nets({}), (logits, heads), batch, None, config)

    def expected(logits):
        label = batch["labelled"]["label"]
        return segmentation.cross_entropy(logits, label) + 2.0 * dice(logits, label)

    total = expected(logits) + 0.25 * (expected(heads["c4"]) + expected(heads["c3"]))
    np.testing.assert_allclose(out.losses["segmenter"], total, rtol=1e-6)
    assert set(out.metrics) == {"cross_entropy", "dice", "auxiliary/c4", "auxiliary/c3"}
    np.testing.assert_allclose(out.metrics["auxiliary/c4"], expected(heads["c4"]), rtol=1e-6)
    np.testing.assert_allclose(out.metrics["dice"], dice(logits, batch["labelled"]["label"]), rtol=1e-6)


@pytest.mark.parametrize(("method", "role"), [(supervised, "segmenter"), (cgan, "generator")])
@pytest.mark.parametrize("heads", [False, True])
def test_predictions_are_the_main_logits(method, role, heads):
    logits = _logits(1)
    nets = Nets({role: (logits, {"c4": _logits(2)}) if heads else logits})
    assert method.predict(nets, _batch(), None, cgan_seg.get_config()) is logits


def test_mixup_descends_the_loss_of_both_labels():
    """By hand: the blend passes through the network, each label counts by its share, void in its own term alone."""

    class Sees(Nets):
        def apply(self, role, image, **options):
            return image @ weights, self

    weights = jnp.asarray(np.random.default_rng(1).normal(0, 2, (3, CLASSES)), jnp.float32)
    batch, config = _batch(), _config(supervised_seg, mixup=0.4)
    image, label = (
        jnp.asarray(np.random.default_rng(2).normal(0, 1, (2, 3, 4, 3)), jnp.float32),
        batch["labelled"]["label"],
    )
    batch["labelled"]["image"] = image
    shares = []
    for seed in range(3):
        outputs, _ = supervised.forward(Sees({}), batch, jax.random.key(seed), config)
        logits, share = outputs
        np.testing.assert_allclose(logits, (share * image + (1 - share) * image[::-1]) @ weights, atol=1e-5)
        found = supervised.losses(Sees({}), outputs, batch, None, config).losses["segmenter"]
        terms = [segmentation.cross_entropy(logits, y) for y in (label, label[::-1])]
        np.testing.assert_allclose(found, share * terms[0] + (1 - share) * terms[1], rtol=1e-5)
        shares.append(float(share))
    assert len(set(shares)) == 3 and all(0 <= share <= 1 for share in shares)
    for wrong in ({"mixup": -1.0}, {"mixup": 0.4, "batch_size": 1}):
        config = supervised_seg.get_config("smoke")
        config.losses.mixup, config.batch_size = wrong["mixup"], wrong.get("batch_size", 4)
        with pytest.raises(InputError, match="mixup|batch_size"):
            supervised.build(config)


def test_supervised_needs_a_loss():
    config = _config(supervised_seg)
    config.losses.weights.cross_entropy = 0.0
    with pytest.raises(InputError, match="config.losses.weights"):
        supervised.build(config)


@pytest.mark.parametrize(("words", "weights"), [(None, (0.01, 1.0, 1.0)), ("paper", (1.0, 100.0, 0.0))])
def test_cgan_weighs_its_terms(words, weights):
    batch, logits, head = _batch(), _logits(1), _logits(2)
    config = cgan_seg.get_config(words)
    config.num_classes = CLASSES
    scores = jnp.asarray(np.random.default_rng(4).normal(0, 1, (2, 1, 1, 1)), jnp.float32)
    label = batch["labelled"]["label"]

    def supervised_part(logits):
        known = segmentation.known(label, CLASSES)
        l1 = segmentation.l1(jax.nn.softmax(logits), segmentation.one_hot(label, CLASSES), known)
        return weights[1] * l1 + weights[2] * segmentation.cross_entropy(logits, label)

    adversarial = weights[0] * jnp.mean(jax.nn.softplus(-scores))
    plain = cgan.losses(Nets({"discriminator": scores}), logits, batch, jax.random.key(0), config)
    np.testing.assert_allclose(plain.losses["generator"], adversarial + supervised_part(logits), rtol=1e-6)
    assert ("cross_entropy" in plain.metrics) == (weights[2] > 0) and "l1" in plain.metrics
    headed = cgan.losses(Nets({"discriminator": scores}), (logits, {"c4": head}), batch, jax.random.key(0), config)
    expected = adversarial + supervised_part(logits) + 0.4 * supervised_part(head)
    np.testing.assert_allclose(headed.losses["generator"], expected, rtol=1e-6)
    np.testing.assert_allclose(headed.losses["discriminator"], plain.losses["discriminator"])

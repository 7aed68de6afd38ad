"""Tiny methods, one per risky shape of training: each is small enough to compile in about a second.

Every network has BatchNorm and dropout unless its case is about something else, so that a pass that is run twice,
kept too long or fed the wrong key shows in the numbers.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from configs import common
from gan_seg_jax.models import layers
from gan_seg_jax.state import AdversarialState, LossOutput, create_state
from tests import by_hand

SIZE = 8
CLASSES = 3
BATCH = 4
SGD = optax.sgd(0.3, momentum=0.9)  # one object: compiled steps compare transforms by identity


class Net(nn.Module):
    """Two pointwise layers on the concatenated inputs, with BatchNorm and dropout between them."""

    out: int
    features: int = 5
    norm: bool = True
    dropout: float = 0.3

    @nn.compact
    def __call__(self, *inputs, train: bool):
        x = nn.Dense(self.features)(jnp.concatenate(inputs, -1))
        if self.norm:
            x = nn.BatchNorm(momentum=0.9, use_running_average=not train)(x)
        x = nn.Dropout(self.dropout)(jnp.tanh(x), deterministic=not train)
        return nn.Dense(self.out)(x)


class SpectralNet(nn.Module):
    """Two spectrally normalised pointwise layers."""

    @nn.compact
    def __call__(self, *inputs, train: bool):
        x = layers.Conv1x1(5, spectral=True, name="first")(jnp.concatenate(inputs, -1), train=train)
        return layers.Conv1x1(1, spectral=True, name="second")(nn.leaky_relu(x, 0.2), train=train)


def tiny_config(**overrides) -> ConfigDict:
    """Return what the step reads of a config, without augmentation."""
    off = {**common.get_config().augment, "flip_horizontal": False}
    fields = {"crop_size": (SIZE, SIZE), "augment": off, "rounds": 1, "share_forward": False, "ema_decay": 0.0}
    fields["rematerialize"] = False
    return ConfigDict({**fields, **overrides})


def make_batch(streams=("labelled",), *, rounds: int = 1, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Return a batch as the host delivers it."""
    draw = np.random.default_rng(seed)
    lead = (BATCH,) if rounds == 1 else (rounds, BATCH)
    return {
        name: {
            "image": draw.integers(0, 256, (*lead, SIZE, SIZE, 3), dtype=np.uint8),
            "label": draw.integers(0, CLASSES, (*lead, SIZE, SIZE), dtype=np.uint8),
            "content": np.full((*lead, 2), SIZE, np.int32),
            "valid": np.ones(lead, bool),
            "id": np.zeros(lead, np.int32),
        }
        for name in streams
    }


def prepared(batch: Any) -> Any:
    """Return what methods see of a batch without augmentation, computed by hand; one slice only."""
    return {
        name: {
            "image": (2.0 * jnp.asarray(stream["image"], jnp.float32) - 255.0) / 255.0,
            "label": jnp.asarray(stream["label"], jnp.int32),
            "valid": stream["valid"],
            "id": stream["id"],
        }
        for name, stream in batch.items()
    }


@dataclasses.dataclass(frozen=True)
class Case:
    """A method with everything that it takes to run steps of it."""

    method: Any
    updates: tuple[tuple[tuple[str, ...], ...], ...]  # of each phase
    config: ConfigDict = dataclasses.field(default_factory=tiny_config)
    ema: frozenset[str] = frozenset()
    penalty: bool = False

    def batch(self, seed: int = 0):
        return make_batch(self.method.STREAMS, rounds=self.config.rounds, seed=seed)

    def state(self, seed: int = 0) -> AdversarialState:
        modules = self.method.build(self.config)
        piece = self.batch() if self.config.rounds == 1 else jax.tree.map(lambda x: x[0], self.batch())
        variables = by_hand.draw_variables(self.method, modules, prepared(piece), self.config, seed)
        moving = {role for updates in self.updates for group in updates for role in group}
        return create_state(variables, modules, dict.fromkeys(moving, SGD), seed=seed, ema_roles=self.ema)


def _method(build, forward, losses, streams=("labelled",)) -> SimpleNamespace:
    modules = build()
    return SimpleNamespace(
        TASK="segmentation", STREAMS=streams, build=lambda config: modules, forward=forward, losses=losses
    )


def cross_entropy(logits, label):
    """Return the mean over all pixels."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))


def one_hot(label):
    """Return the label map as float32 [b, h, w, CLASSES]."""
    return jax.nn.one_hot(label, CLASSES)


# Supervised


def _segment(nets, batch, rng, config):
    del rng, config
    return nets.apply("segmenter", batch["labelled"]["image"])


def _supervised_losses(nets, outputs, batch, rng, config):
    del rng, config
    loss = cross_entropy(outputs, batch["labelled"]["label"])
    return LossOutput({"segmenter": loss}, nets, {"confidence": jnp.mean(jnp.max(jax.nn.softmax(outputs), -1))})


supervised = _method(lambda: {"segmenter": Net(CLASSES)}, _segment, _supervised_losses)


# Conditional GANs


def _generate(nets, batch, rng, config):
    del rng, config
    return nets.apply("generator", batch["labelled"]["image"])


def _gan_losses(nets, outputs, batch, rng, config, *, update_fake=False):
    del rng, config
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    real_scores, nets = nets.apply("discriminator", image, one_hot(label))
    fake_scores, nets = nets.apply("discriminator", image, jax.nn.softmax(outputs), update=update_fake)
    loss_d = jnp.mean(jax.nn.softplus(-real_scores)) + jnp.mean(jax.nn.softplus(fake_scores))
    loss_g = jnp.mean(jax.nn.softplus(-fake_scores)) + cross_entropy(outputs, label)
    metrics = {"real": jnp.mean(real_scores), "fake": jnp.mean(fake_scores)}
    return LossOutput({"discriminator": loss_d, "generator": loss_g}, nets, metrics)


def _gan_both_updates(nets, outputs, batch, rng, config):
    return _gan_losses(nets, outputs, batch, rng, config, update_fake=True)


def _gan(discriminator=None, losses=_gan_losses):
    return _method(
        lambda: {"generator": Net(CLASSES), "discriminator": Net(1) if discriminator is None else discriminator},
        _generate,
        losses,
    )


gan = _gan()
gan_both_updates = _gan(losses=_gan_both_updates)
spectral = _gan(SpectralNet())


def _skipping_losses(nets, outputs, batch, rng, config):
    out = _gan_losses(nets, outputs, batch, rng, config)
    return out._replace(accept={"discriminator": nets.step % 2 == 1})


skipping = _gan(losses=_skipping_losses)


def _skipping_generator_losses(nets, outputs, batch, rng, config):
    return _gan_losses(nets, outputs, batch, rng, config)._replace(accept={"generator": nets.step % 2 == 1})


skipping_generator = _gan(losses=_skipping_generator_losses)


def _r1_losses(nets, outputs, batch, rng, config):
    """R1 with respect to the mask, only in the steps in which it is due."""
    out = _gan_losses(nets, outputs, batch, rng, config)
    if not nets.penalty:
        return out
    image, real = batch["labelled"]["image"], one_hot(batch["labelled"]["label"])

    def critic(x):
        return jnp.sum(jnp.mean(nets.apply("discriminator", image, x, update=False)[0], (1, 2, 3)))

    penalty = 50.0 * jnp.mean(jnp.sum(jnp.square(jax.grad(critic)(real)), (1, 2, 3)))
    losses = {**out.losses, "discriminator": out.losses["discriminator"] + penalty}
    return out._replace(losses=losses, metrics={**out.metrics, "r1": penalty})


r1 = _gan(Net(1, norm=False), losses=_r1_losses)


# Both networks act in forward, whose outputs hold whole numbers too.


def _both_act(nets, batch, rng, config):
    image = batch["labelled"]["image"]
    logits, nets = _generate(nets, batch, rng, config)
    scores, nets = nets.apply("discriminator", image, jax.nn.softmax(logits))
    return {"logits": logits, "scores": scores, "pseudo_label": jnp.argmax(logits, -1)}, nets


def _both_act_losses(nets, outputs, batch, rng, config):
    del rng, config
    real_scores, nets = nets.apply("discriminator", batch["labelled"]["image"], one_hot(outputs["pseudo_label"]))
    loss_d = jnp.mean(jax.nn.softplus(-real_scores)) + jnp.mean(jax.nn.softplus(outputs["scores"]))
    loss_g = jnp.mean(jax.nn.softplus(-outputs["scores"])) + cross_entropy(
        outputs["logits"], batch["labelled"]["label"]
    )
    return LossOutput({"discriminator": loss_d, "generator": loss_g}, nets)


both_act = _method(lambda: {"generator": Net(CLASSES), "discriminator": Net(1)}, _both_act, _both_act_losses)


# A mean teacher: labelled and unlabelled stream, the average of the segmenter's weights as the target.


def _teacher_losses(nets, outputs, batch, rng, config):
    del config
    image = batch["unlabelled"]["image"]
    noisy = image + 0.1 * jax.random.normal(rng, image.shape)
    target, nets = nets.apply("segmenter", image, ema=True)
    student, nets = nets.apply("segmenter", noisy)
    consistency = jnp.mean(jnp.square(jax.nn.softmax(student) - jax.nn.softmax(target)))
    loss = cross_entropy(outputs, batch["labelled"]["label"]) + 3.0 * consistency
    return LossOutput({"segmenter": loss}, nets, {"consistency": consistency})


teacher = _method(lambda: {"segmenter": Net(CLASSES)}, _segment, _teacher_losses, ("labelled", "unlabelled"))


# Two streams through the segmenter in one pass (AdvSemiSeg); a scaled loss of the discriminator on the second.


def _two_streams(nets, batch, rng, config):
    del rng, config
    labelled, nets = nets.apply("segmenter", batch["labelled"]["image"])
    unlabelled, nets = nets.apply("segmenter", batch["unlabelled"]["image"])
    return (labelled, unlabelled), nets


def _two_stream_losses(nets, outputs, batch, rng, config):
    del rng, config
    label = batch["labelled"]["label"]
    real_scores, nets = nets.apply("discriminator", one_hot(label))
    fake_scores, nets = nets.apply("discriminator", jax.nn.softmax(outputs[0]))
    other_scores, nets = nets.apply("discriminator", jax.nn.softmax(outputs[1]), update=False)
    loss_d = jnp.mean(jax.nn.softplus(-real_scores)) + jnp.mean(jax.nn.softplus(fake_scores))
    loss_s = cross_entropy(outputs[0], label) + jnp.mean(jax.nn.softplus(-fake_scores))
    loss_s += 0.5 * jnp.mean(jax.nn.softplus(-other_scores))
    return LossOutput({"segmenter": loss_s, "discriminator": loss_d}, nets)


two_streams = _method(
    lambda: {"segmenter": Net(CLASSES), "discriminator": Net(1)},
    _two_streams,
    _two_stream_losses,
    ("labelled", "unlabelled"),
)


# A refiner behind a segmenter.


def _refine(nets, batch, rng, config):
    del rng, config
    image = batch["labelled"]["image"]
    logits, nets = nets.apply("segmenter", image)
    refined, nets = nets.apply("refiner", image, jax.nn.softmax(logits))
    return (logits, refined), nets


def _refiner_losses(nets, outputs, batch, rng, config):
    del rng, config
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    real_scores, nets = nets.apply("discriminator", image, one_hot(label))
    fake_scores, nets = nets.apply("discriminator", image, jax.nn.softmax(outputs[1]), update=False)
    loss_d = jnp.mean(jax.nn.softplus(-real_scores)) + jnp.mean(jax.nn.softplus(fake_scores))
    loss = cross_entropy(outputs[1], label) + jnp.mean(jax.nn.softplus(-fake_scores))
    return LossOutput({"refiner": loss, "segmenter": loss, "discriminator": loss_d}, nets)


refiner = _method(
    lambda: {"segmenter": Net(CLASSES), "refiner": Net(CLASSES), "discriminator": Net(1)}, _refine, _refiner_losses
)


# A Wasserstein critic with a gradient penalty, and a generator of images from noise.


def _sample(nets, batch, rng, config):
    del config
    noise = jax.random.normal(rng, (*batch["labelled"]["image"].shape[:3], 2))
    fake, nets = nets.apply("generator", noise)
    return jnp.tanh(fake), nets


def _critic_losses(nets, outputs, batch, rng, config):
    del config
    image = batch["labelled"]["image"]
    real_scores, nets = nets.apply("discriminator", image)
    fake_scores, nets = nets.apply("discriminator", outputs)

    def critic(x):
        return jnp.sum(jnp.mean(nets.apply("discriminator", x)[0], (1, 2, 3)))

    share = jax.random.uniform(rng, (image.shape[0], 1, 1, 1))
    slopes = jax.grad(critic)(share * image + (1 - share) * outputs)
    norms = jnp.sqrt(jnp.sum(jnp.square(slopes), (1, 2, 3)) + 1e-12)
    loss_d = jnp.mean(fake_scores) - jnp.mean(real_scores) + 10.0 * jnp.mean(jnp.square(norms - 1.0))
    fakes = {"fake_sum": jnp.sum(outputs)}
    return LossOutput({"discriminator": loss_d, "generator": -jnp.mean(fake_scores)}, nets, fakes)


critic = _method(
    lambda: {"generator": Net(3), "discriminator": Net(1, norm=False, dropout=0.1)}, _sample, _critic_losses
)


# Poison: `id` of the first example says what breaks. 0 nothing; 1 and 2 the generator's loss is NaN or Inf; 3 and 4 the
# discriminator's; 5 and 6 only a gradient is NaN, the generator's or the discriminator's; 7 the discriminator's is Inf.


@jax.custom_vjp
def _poison_gradient(x, factor):
    del factor
    return x


_poison_gradient.defvjp(lambda x, factor: (x, factor), lambda factor, g: (g * (1.0 + factor), jnp.zeros_like(factor)))
POISONS = {
    "nan generator loss": 1,
    "inf generator loss": 2,
    "nan discriminator loss": 3,
    "inf discriminator loss": 4,
    "nan generator gradient": 5,
    "nan discriminator gradient": 6,
    "inf discriminator gradient": 7,
}


def _poisoned_losses(nets, outputs, batch, rng, config):
    code = batch["labelled"]["id"][0]
    out = _gan_losses(nets, outputs, batch, rng, config)

    def bad(number, value):
        return jnp.where(code == number, value, 0.0)

    generator = out.losses["generator"] + bad(1, jnp.nan) + bad(2, jnp.inf)
    discriminator = out.losses["discriminator"] + bad(3, jnp.nan) + bad(4, -jnp.inf)
    generator = _poison_gradient(generator, bad(5, jnp.nan))
    discriminator = _poison_gradient(discriminator, bad(6, jnp.nan) + bad(7, jnp.inf))
    return out._replace(losses={"generator": generator, "discriminator": discriminator})


poisoned = _gan(losses=_poisoned_losses)

D, G, S, R = "discriminator", "generator", "segmenter", "refiner"
CASES = {
    "supervised": Case(supervised, (((S,),),)),
    "supervised with average": Case(supervised, (((S,),),), tiny_config(ema_decay=0.9), frozenset({S})),
    "alternating": Case(gan, (((D,), (G,)),)),
    "alternating, both passes update": Case(gan_both_updates, (((D,), (G,)),)),
    "simultaneous": Case(gan, (((G, D),),)),
    "generator first": Case(gan, (((G,), (D,)),)),
    "generator first, shared": Case(gan, (((G,), (D,)),), tiny_config(share_forward=True)),
    "blocks": Case(gan, (((D,),), ((G,),))),
    "generator twice": Case(gan, (((G,), (D,), (G,)),), tiny_config(ema_decay=0.9), frozenset({G})),
    "both act": Case(both_act, (((D,), (G,)),)),
    "both act at once": Case(both_act, (((D, G),),)),
    "teacher": Case(teacher, (((S,),),), tiny_config(ema_decay=0.9), frozenset({S})),
    "two streams": Case(two_streams, (((S, D),),)),
    "refiner": Case(refiner, (((D,), (R,)), ((D,), (R, S)))),
    "critic rounds": Case(critic, (((D,), (G,)),), tiny_config(rounds=3, ema_decay=0.9), frozenset({G})),
    "skipped": Case(skipping, (((D,), (G,)),), tiny_config(ema_decay=0.9), frozenset({D, G})),
    "skipped, acting": Case(skipping_generator, (((G,), (D,)),), tiny_config(ema_decay=0.9), frozenset({G})),
    "spectral norm": Case(spectral, (((D,), (G,)),)),
    "penalty not due": Case(r1, (((D,), (G,)),)),
    "penalty due": Case(r1, (((D,), (G,)),), penalty=True),
}

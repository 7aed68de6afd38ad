"""One game between a generator and a discriminator, with everything that steadies it; shared by the methods.

A method gives the discriminator's inputs of real and of fake examples (`DiscriminatorInputs`) and gets the loss of each
player, metrics and a verdict back. `config.losses` says the rest (`configs/common.game`): the loss, one-sided label
smoothing, penalties on the discriminator's slope, augmentation of and noise on its inputs, the accuracy above which it
waits.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.augment.differentiable import POLICY, diff_augment, instance_noise
from gan_seg_jax.errors import InputError, expect, unknown
from gan_seg_jax.losses import adversarial, feature_matching, regularization
from gan_seg_jax.models import build_network, that_make
from gan_seg_jax.models.network import SCORES
from gan_seg_jax.state import LossOutput, Networks, fold_name

LOSSES = {  # the fields of `config.losses` that a game reads, and their kinds (`config_fields`)
    "adversarial": str,
    "adversarial_weight": float,
    "adversarial_smoothing": float,
    "r1": float,
    "gradient_penalty": float,
    "diff_augment": [str],
    "instance_noise": float,
    "instance_noise_steps": int,
    "accuracy_bound": float,
    "feature_matching": float,
}


class DiscriminatorInputs(NamedTuple):
    """The inputs of a discriminator: it is applied to the images, then the maps.

    Attributes:
        images: float [b, h, w, c] each.
        maps: float [b, h, w, c] each, such as one-hot labels and class probabilities, zero where nothing is known:
            augmentation does not change their values, only their geometry.
    """

    images: tuple[jax.Array, ...] = ()
    maps: tuple[jax.Array, ...] = ()


class Outcome(NamedTuple):
    """What a game comes to.

    Attributes:
        discriminator: what the discriminator descends, penalties that are due included; float32 scalar.
        generator: the adversarial term of the generator, without its weight; float32 scalar.
        term: what the game adds to the generator's loss: adversarial_weight times that, and, of pairs, feature_matching
            times the distance of the discriminator's features; float32 scalar.
        real_scores: of each scale, float [b, ...]; one for most discriminators.
        fake_scores: likewise.
        real_features: what the discriminator shows beside its scores, None where it shows nothing.
        fake_features: likewise.
        nets: the successor view: the statistics are those of the pass over the real examples.
        metrics: `adversarial`, `discriminator_accuracy` (of role "discriminator", else with the role's name), and each
            penalty that is due.
        accept: {} or {role: whether the discriminator may learn}, for `LossOutput.accept`.
    """

    discriminator: jax.Array
    generator: jax.Array
    term: jax.Array
    real_scores: tuple[jax.Array, ...]
    fake_scores: tuple[jax.Array, ...]
    real_features: Any
    fake_features: Any
    nets: Networks
    metrics: dict[str, jax.Array]
    accept: dict[str, jax.Array]

    def losses(self, role: str, loss: jax.Array, metrics: dict[str, jax.Array]) -> LossOutput:
        """Return the losses of both players: `role` descends `term` and `loss`, of which `metrics` are the parts."""
        values = {"discriminator": self.discriminator, role: self.term + loss}
        return LossOutput(values, self.nets, {**metrics, **self.metrics}, self.accept)


def check(config: ConfigDict, *, paired: bool = True) -> None:
    """Check the fields of `config.losses` that a game reads.

    Args:
        config: the run's config.
        paired: as in `play`.

    Raises:
        InputError: an unknown loss or effect, a smoothing that the loss cannot take, penalties that are never due or
            that a norm of the whole batch makes meaningless, or a critic that nothing bounds.
    """
    options, bound = config.losses, config.losses.accuracy_bound
    expect(0 < bound <= 1, "losses.accuracy_bound", bound, "more than 0 and at most 1 (off)")
    adversarial.create(options.adversarial, label_smoothing=options.adversarial_smoothing)
    for name in options.diff_augment:
        if name not in POLICY:
            raise unknown("effect in config.losses.diff_augment:", name, POLICY)
    if paired and options.feature_matching > 0 and options.diff_augment:
        raise InputError(
            f"losses.feature_matching is {options.feature_matching} and losses.diff_augment is "
            f"{tuple(options.diff_augment)}: the features of an example and its fake are compared place by place, but "
            "augmentation draws for each of them; set one to 0 or ()."
        )
    for name in ("r1", "gradient_penalty"):
        if options[name] > 0 and config.penalty_every < 1:
            raise InputError(
                f"config.losses.{name} is {options[name]}, but config.penalty_every is {config.penalty_every}: it "
                "would never be due; set penalty_every to 1 (every step) or more."
            )
    penalised = options.r1 > 0 or options.gradient_penalty > 0
    for role, network in config.networks.items():
        if not role.startswith("discriminator"):
            continue
        module = build_network(network, dtype=config.dtype)
        if SCORES not in module.MAKES:
            raise unknown(f"discriminator in networks.{role}.name:", network.name, that_make(SCORES))
        if penalised and module.mixes_examples:
            raise InputError(
                f"A penalty on the slope is on and networks.{role}.norm is 'batch', by which the score of an example "
                "depends on the others: the slope means nothing; use instance, layer, group, spectral or none."
            )
        clipped = role in config.optimizers and config.optimizers[role].clip_weights > 0
        if options.adversarial == "wasserstein" and not (penalised or module.bounded or clipped):
            raise InputError(
                f"losses.adversarial is 'wasserstein', but nothing bounds the critic {role}, whose scores would grow "
                f"without end: set losses.gradient_penalty and penalty_every, networks.{role}.norm=spectral, or "
                f"optimizers.{role}.clip_weights."
            )


def play(
    nets: Networks,
    real: DiscriminatorInputs,
    fake: DiscriminatorInputs,
    rng: chex.PRNGKey,
    config: ConfigDict,
    *,
    role: str = "discriminator",
    weight: jax.Array | None = None,
    pool: bool = False,
    paired: bool = True,
) -> Outcome:
    """Let the discriminator score real and fake examples; return what both players descend.

    Real and fake are treated alike: instance noise of one standard deviation, and DiffAugment by one policy, with keys
    of their own. Where penalties are due (`nets.penalty`), the discriminator's loss has, times `config.penalty_every`
    so that their mean strength does not depend on it,

        r1 0.5 E[|dD/dx|^2] at real x + gradient_penalty E[(|dD/dx| - 1)^2] between real and fake x,

    x being all inputs of the discriminator, noise and augmentation included. The discriminator does not learn from a
    batch on which its accuracy is above `accuracy_bound`.

    Args:
        nets: the view; `fake` may depend on the parameters of other roles.
        real: real examples.
        fake: as many fakes, of the same shapes.
        rng: a key.
        config: the run's config: `losses` (see `configs/common.game`) and `penalty_every`.
        role: the discriminator's.
        weight: broadcastable to the scores of every scale; 0 leaves a patch or an image out.
        pool: whether the scores of an image are averaged first: one score an image.
        paired: whether fake number n was made for real number n, so that their features may be compared.

    Returns:
        The outcome.

    Raises:
        InputError: `feature_matching` of pairs with a discriminator that shows no features.
    """
    options = config.losses
    real, fake = (
        _disturb(inputs, fold_name(rng, name), nets.step, options) for name, inputs in (("real", real), ("fake", fake))
    )
    real_outputs, successor = nets.apply(role, *real.images, *real.maps)
    # The second pass starts from the same statistics and drops its own, so that both see the same discriminator.
    fake_outputs, successor = successor.apply(role, *fake.images, *fake.maps, update=False)
    (real_scores, real_features), (fake_scores, fake_features) = (
        _scores(outputs, pool=pool) for outputs in (real_outputs, fake_outputs)
    )
    loss = adversarial.create(options.adversarial, label_smoothing=options.adversarial_smoothing)
    discriminator = feature_matching.multi_scale(
        lambda r, f: loss.discriminator(r, f, weight), real_scores, fake_scores
    )
    generator = feature_matching.multi_scale(
        lambda r, f: loss.generator(f, weight, real_scores=r), real_scores, fake_scores
    )
    accuracy = feature_matching.multi_scale(
        lambda r, f: adversarial.accuracy(r, f, weight, threshold=loss.threshold), real_scores, fake_scores
    )
    metrics, term = {"adversarial": generator, f"{role}_accuracy": accuracy}, options.adversarial_weight * generator
    if paired and options.feature_matching > 0:
        metrics["feature_matching"] = _feature_distance(real_features, fake_features, config.networks[role].name)
        term += options.feature_matching * metrics["feature_matching"]
    if role != "discriminator":
        metrics[f"adversarial/{role}"] = metrics.pop("adversarial")
    if nets.penalty:
        penalties = _penalties(nets, real, fake, fold_name(rng, "penalty"), options, role, pool=pool)
        discriminator += config.penalty_every * sum(options[name] * value for name, value in penalties.items())
        metrics |= {f"{name}/{role}": value for name, value in penalties.items()}
    accept = {role: accuracy <= options.accuracy_bound} if options.accuracy_bound < 1 else {}
    return Outcome(
        discriminator,
        generator,
        term,
        real_scores,
        fake_scores,
        real_features,
        fake_features,
        successor,
        metrics,
        accept,
    )


def realness(outputs: Any, config: ConfigDict) -> jax.Array:
    """Return how real a discriminator finds its inputs: 0 fake, 1 real, 1/2 where it decides.

    Args:
        outputs: what it returned: scores, of several scales or beside features for some.
        config: the run's config.

    Returns:
        float [b, h', w'], of each patch, at the finest of several scales; [b, 1, 1] of one that gives an image a score.
    """
    (finest, *_), _ = _scores(outputs, pool=False)
    size = finest.shape[1:3] if finest.ndim == 4 else (1, 1)
    return adversarial.realness(finest.reshape(len(finest), *size), adversarial.create(config.losses.adversarial))


def noise_level(step: jax.Array, options: ConfigDict) -> jax.Array | float:
    """Return the standard deviation of instance noise: linear down to 0 at `instance_noise_steps`, or constant."""
    if options.instance_noise == 0 or options.instance_noise_steps == 0:
        return options.instance_noise
    return options.instance_noise * jnp.maximum(0.0, 1.0 - step / options.instance_noise_steps)


def _disturb(
    inputs: DiscriminatorInputs, key: chex.PRNGKey, step: jax.Array, options: ConfigDict
) -> DiscriminatorInputs:
    """Return the inputs with noise and augmentation, where these are on."""
    noisy = instance_noise([*inputs.images, *inputs.maps], fold_name(key, "noise"), stddev=noise_level(step, options))
    images, maps = noisy[: len(inputs.images)], noisy[len(inputs.images) :]
    images, maps = diff_augment(images, maps, fold_name(key, "augment"), policy=tuple(options.diff_augment))
    return DiscriminatorInputs(tuple(images), tuple(maps))


def _scores(outputs: Any, *, pool: bool) -> tuple[tuple[jax.Array, ...], Any]:
    """Return the scores of each scale and the features (or None) of what a discriminator returned."""
    scores, features = (outputs[0], outputs[1]["features"]) if isinstance(outputs, tuple) else (outputs, None)
    scores = scores if isinstance(scores, tuple) else (scores,)
    if pool:
        scores = tuple(jnp.mean(score.reshape(len(score), -1), axis=1) for score in scores)
    return scores, features


def _feature_distance(real: Any, fake: Any, name: str) -> jax.Array:
    """Return the L1 distance of the features of each pair, summed over layers and averaged over scales."""
    if real is None:
        raise InputError(
            f"losses.feature_matching is on, but the discriminator {name} shows no features; give a patchgan "
            "networks.discriminator.features=True, or choose another by the config's word where it has them "
            "(multiscale, image_level), or set losses.feature_matching=0."
        )
    single = not isinstance(real, tuple) or not isinstance(real[0], tuple)
    scales = [((x,) if not isinstance(x, tuple) else x,) if single else x for x in (real, fake)]
    return feature_matching.multi_scale(feature_matching.layer_feature_matching, *scales)


def _penalties(
    nets, real: DiscriminatorInputs, fake: DiscriminatorInputs, key, options, role, *, pool
) -> dict[str, jax.Array]:
    """Return the penalties that are on; the discriminator's inputs are one array for them."""
    joined = [
        jnp.concatenate([x.astype(jnp.float32) for x in (*inputs.images, *inputs.maps)], axis=-1)
        for inputs in (real, fake)
    ]
    widths = [x.shape[-1] for x in (*real.images, *real.maps)]
    ends = [sum(widths[: index + 1]) for index in range(len(widths) - 1)]

    def critic(x):
        outputs, _ = nets.apply(role, *jnp.split(x, ends, axis=-1), update=False)
        scores, _ = _scores(outputs, pool=pool)
        return jnp.stack([jnp.mean(score.reshape(len(score), -1), axis=1) for score in scores]).mean(axis=0)

    penalties = {}
    if options.r1 > 0:
        penalties["r1"] = regularization.r1_penalty(critic, joined[0])
    if options.gradient_penalty > 0:
        penalties["gradient_penalty"] = regularization.gradient_penalty(critic, *joined, key)
    return penalties

"""The game on discriminators that can be computed by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adversarial_seg
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import adversarial
from gan_seg_jax.methods import game
from gan_seg_jax.methods.game import DiscriminatorInputs
from gan_seg_jax.state import Networks, create_state


class Weighted(nn.Module):
    """Score every pixel: the inner product of all channels with the weights; features are the inputs."""

    features: bool = False
    scales: int = 1

    @nn.compact
    def __call__(self, *inputs, train):
        x = jnp.concatenate(inputs, axis=-1)
        weights = self.param("weights", lambda key: jnp.arange(1.0, 1.0 + x.shape[-1]))
        count = self.variable("batch_stats", "count", lambda: jnp.zeros(()))
        if train:
            count.value = count.value + 1.0
        scores = (x @ weights)[..., None]
        if self.scales > 1:
            scores = tuple(scores[:, :: 2**scale, :: 2**scale] for scale in range(self.scales))
        return (scores, {"features": x}) if self.features or self.scales > 1 else scores


def make_config(penalty_every=1, **losses):
    config = adversarial_seg.get_config("smoke")
    config.penalty_every = penalty_every
    config.losses.update(losses)
    return config.lock()


def view(module=None, *, channels=(3, 2), penalty=False, step=0):
    module = module or Weighted()
    inputs = [jnp.zeros((2, 4, 4, c)) for c in channels]
    variables = {"discriminator": module.init(jax.random.key(0), *inputs, train=False)}
    state = create_state(variables, {"discriminator": module}, {}, seed=0)
    moving = frozenset({"discriminator"})
    return Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(step), moving=moving, penalty=penalty)


def examples(seed, channels=(3, 2)):
    keys = jax.random.split(jax.random.key(seed), len(channels))
    images, *maps = [jax.random.uniform(key, (2, 4, 4, c)) for key, c in zip(keys, channels, strict=True)]
    return DiscriminatorInputs((images,), tuple(maps))


def scores_of(seen):
    x = jnp.concatenate([*seen.images, *seen.maps], axis=-1)
    return (x @ jnp.arange(1.0, 1.0 + x.shape[-1]))[..., None]


REAL, FAKE, KEY = examples(0), examples(1), jax.random.key(2)


@pytest.mark.parametrize("name", sorted(adversarial.ADVERSARIAL))
def test_plain_game_is_the_loss_of_the_scores(name):
    outcome = game.play(view(), REAL, FAKE, KEY, make_config(adversarial=name))
    loss, real, fake = adversarial.create(name), scores_of(REAL), scores_of(FAKE)
    np.testing.assert_allclose(outcome.discriminator, loss.discriminator(real, fake), rtol=1e-6)
    np.testing.assert_allclose(outcome.generator, loss.generator(fake, real_scores=real), rtol=1e-6)
    assert set(outcome.metrics) == {"adversarial", "discriminator_accuracy"}
    assert outcome.accept == {} and outcome.real_features is None


def test_only_the_first_pass_leaves_statistics():
    outcome = game.play(view(), REAL, FAKE, KEY, make_config())
    assert float(outcome.nets.collections["discriminator"]["batch_stats"]["count"]) == 1.0


def test_weight_leaves_patches_out_and_pool_gives_one_score():
    weight = jnp.zeros((2, 4, 4, 1)).at[:, 0].set(1.0)
    outcome = game.play(view(), REAL, FAKE, KEY, make_config(adversarial="wasserstein"), weight=weight)
    expected = 0.5 * (jnp.mean(scores_of(FAKE)[:, 0]) - jnp.mean(scores_of(REAL)[:, 0]))
    np.testing.assert_allclose(outcome.discriminator, expected, rtol=1e-5)
    pooled = game.play(view(), REAL, FAKE, KEY, make_config(), pool=True)
    np.testing.assert_allclose(pooled.real_scores[0], jnp.mean(scores_of(REAL), axis=(1, 2, 3)), rtol=1e-6)


def test_scales_are_averaged_and_features_come_through():
    module = Weighted(scales=2)
    outcome = game.play(view(module), REAL, FAKE, KEY, make_config(adversarial="least_squares"))
    loss = adversarial.create("least_squares")
    pairs = [(scores_of(REAL)[:, ::n, ::n], scores_of(FAKE)[:, ::n, ::n]) for n in (1, 2)]
    expected = np.mean([float(loss.discriminator(*pair)) for pair in pairs])
    np.testing.assert_allclose(outcome.discriminator, expected, rtol=1e-5)
    np.testing.assert_array_equal(outcome.real_features[..., :3], REAL.images[0])
    np.testing.assert_array_equal(outcome.fake_features[..., 3:], FAKE.maps[0])


def test_smoothing_moves_the_target_of_real_examples():
    plain = game.play(view(), REAL, FAKE, KEY, make_config()).discriminator
    smooth = game.play(view(), REAL, FAKE, KEY, make_config(adversarial_smoothing=0.2)).discriminator
    np.testing.assert_allclose(smooth - plain, 0.5 * 0.2 * jnp.mean(scores_of(REAL)), rtol=1e-5)


@pytest.mark.parametrize("every", [1, 4])
def test_penalties_of_a_linear_discriminator(every):
    """Its mean score has the slope weights / 16 at each of 16 pixels: |slope|^2 = |weights|^2 / 16."""
    squared = float(np.sum(np.arange(1.0, 6.0) ** 2)) / 16
    plain = game.play(view(), REAL, FAKE, KEY, make_config())
    options = {"r1": 0.3, "gradient_penalty": 0.2}
    outcome = game.play(view(penalty=True), REAL, FAKE, KEY, make_config(every, **options))
    expected = 0.3 * 0.5 * squared + 0.2 * (squared**0.5 - 1) ** 2
    np.testing.assert_allclose(outcome.discriminator - plain.discriminator, every * expected, rtol=1e-4)
    np.testing.assert_allclose(outcome.metrics["r1/discriminator"], 0.5 * squared, rtol=1e-5)
    assert float(outcome.generator) == float(plain.generator)


def test_penalties_that_are_not_due_are_not_there():
    plain = game.play(view(), REAL, FAKE, KEY, make_config())
    outcome = game.play(view(penalty=False), REAL, FAKE, KEY, make_config(4, r1=10.0))
    assert float(outcome.discriminator) == float(plain.discriminator)


def test_a_discriminator_that_is_too_good_waits():
    good, bad = (
        DiscriminatorInputs((REAL.images[0] + 9,), REAL.maps),
        DiscriminatorInputs((FAKE.images[0] - 9,), FAKE.maps),
    )
    config = make_config(accuracy_bound=0.85)
    assert not bool(game.play(view(), good, bad, KEY, config).accept["discriminator"])
    assert bool(game.play(view(), bad, good, KEY, config).accept["discriminator"])


def test_real_and_fake_have_noise_of_one_size_and_their_own_draws():
    zero = DiscriminatorInputs((jnp.zeros((2, 32, 32, 3)),), (jnp.zeros((2, 32, 32, 2)),))
    outcome = game.play(view(), zero, zero, KEY, make_config(instance_noise=0.5))
    real, fake = outcome.real_scores[0], outcome.fake_scores[0]
    expected = 0.5 * np.sqrt(np.sum(np.arange(1.0, 6.0) ** 2))
    np.testing.assert_allclose([jnp.std(real), jnp.std(fake)], [expected] * 2, rtol=0.1)
    assert abs(np.corrcoef(np.ravel(real), np.ravel(fake))[0, 1]) < 0.1


def test_instance_noise_anneals():
    options = make_config(instance_noise=0.4, instance_noise_steps=100).losses
    levels = [float(game.noise_level(jnp.int32(step), options)) for step in (0, 50, 100, 150)]
    np.testing.assert_allclose(levels, [0.4, 0.2, 0.0, 0.0], atol=1e-7)
    assert game.noise_level(jnp.int32(7), make_config(instance_noise=0.4).losses) == 0.4


def test_augmentation_moves_image_and_map_together_and_leaves_values_of_maps():
    mark = jnp.zeros((2, 16, 16, 1)).at[:, 8, 8].set(1.0)
    config = make_config(diff_augment=("translation", "brightness"))
    module = Weighted(features=True)
    nets = view(module, channels=(1, 1))
    seen = game.play(
        nets, DiscriminatorInputs((mark,), (mark,)), DiscriminatorInputs((mark,), (mark,)), KEY, config
    ).real_features
    image, found = seen[..., 0], seen[..., 1]
    assert set(np.unique(found)) == {0.0, 1.0}
    np.testing.assert_array_equal(jnp.argmax(image.reshape(2, -1), 1), jnp.argmax(found.reshape(2, -1), 1))


def test_the_generator_learns_through_augmentation():
    config = make_config(diff_augment=("translation", "cutout", "contrast"), adversarial="hinge")
    loss = lambda maps: game.play(view(), REAL, FAKE._replace(maps=(maps,)), KEY, config).generator
    gradient = jax.grad(loss)(FAKE.maps[0])
    assert np.any(gradient != 0) and np.all(np.isfinite(gradient))


def test_another_role_has_its_own_metrics():
    nets = view()
    nets = nets.replace(states={"discriminator_aux": nets.states["discriminator"]})
    outcome = game.play(nets, REAL, FAKE, KEY, make_config(accuracy_bound=0.9), role="discriminator_aux")
    assert set(outcome.metrics) == {"adversarial/discriminator_aux", "discriminator_aux_accuracy"}
    assert set(outcome.accept) == {"discriminator_aux"}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"adversarial": "hinges"}, "hinge"),
        ({"diff_augment": ("colour",)}, "diff_augment"),
        ({"adversarial": "hinge", "adversarial_smoothing": 0.1}, "label_smoothing"),
        ({"r1": 1.0, "penalty_every": 0}, "penalty_every"),
        ({"gradient_penalty": 1.0, "penalty_every": 0}, "penalty_every"),
        ({"r1": 1.0, "norm": "batch"}, "discriminator.norm is 'batch'.*instance"),
        ({"gradient_penalty": 1.0, "norm": "batch"}, "discriminator.norm is 'batch'"),
        ({"adversarial": "wasserstein", "norm": "batch"}, "nothing bounds the critic.*clip_weights"),
    ],
)
def test_bad_values_are_named(fields, word):
    penalty_every, norm = fields.pop("penalty_every", 1), fields.pop("norm", "spectral")
    config = make_config(penalty_every, **fields).unlock()
    config.networks.discriminator.norm = norm
    with pytest.raises(InputError, match=word):
        game.check(config)


def test_a_critic_is_bounded_by_a_norm_a_penalty_or_a_clamp():
    config = make_config(adversarial="wasserstein").unlock()
    game.check(config)  # spectral
    config.networks.discriminator.norm = "none"
    config.optimizers.discriminator.clip_weights = 0.01
    game.check(config)
    config.optimizers.discriminator.clip_weights = 0.0
    config.losses.gradient_penalty = 5.0
    game.check(config)


@pytest.mark.parametrize("shape", ["map", "image", "scales", "features"])
def test_realness_of_any_discriminator(shape):
    scores = jax.random.normal(jax.random.key(0), (2, 4, 6, 1))
    outputs = {
        "map": scores,
        "image": scores[:, 0, 0],
        "scales": ((scores, scores[:, :2]), {"features": ()}),
        "features": (scores, {"features": (scores,)}),
    }[shape]
    found = game.realness(outputs, make_config())
    expected = jax.nn.sigmoid(scores[:, :1, :1, 0] if shape == "image" else scores[..., 0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)

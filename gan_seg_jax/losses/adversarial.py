"""Losses of the game between a generator and a discriminator, from the discriminator's scores.

Scores are logits (no sigmoid), one an image or one a patch: float [b, ...]. Below, r are the scores of real and f of
fake examples, E the mean over scores, and softplus(x) = log(1 + e^x), so -log sigmoid(x) = softplus(-x) and
-log(1 - sigmoid(x)) = softplus(x), both finite for any score.

Every discriminator loss is the mean of its real and its fake half, 0.5 (real + fake), as pix2pix does (Isola et al.
2017, arXiv:1611.07004, section 3.3) to slow the discriminator; papers that add the halves have twice the gradient.
Means, not sums: the weight of the adversarial term does not depend on the number of patches.

`weight` (broadcastable to the scores) leaves patches out, 0 where a patch shows nothing known, or padded images: the
mean is over what is left, and 0 with zero gradient where nothing is.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown


class AdversarialLoss(NamedTuple):
    """What each player descends.

    discriminator: (real_scores, fake_scores, weight=None) -> float32 scalar.
    generator: (fake_scores, weight=None, real_scores=None) -> float32 scalar; real scores are needed by "relativistic"
        alone and ignored by the others.
    threshold: the score above which this loss calls an example real (for `accuracy` and pictures), or None where only
        differences of scores have a meaning.
    probability: scores -> float32 of the same shape, in 0..1: the probability that an example is real which the best
        discriminator of this loss says, p_real / (p_real + p_fake) (with label smoothing s, 1 - s times that); None
        where its scores say none.
    """

    discriminator: Callable[..., jax.Array]
    generator: Callable[..., jax.Array]
    threshold: float | None
    probability: Callable[[jax.Array], jax.Array] | None = None


def create(name: str, *, label_smoothing: float = 0.0) -> AdversarialLoss:
    """Return a loss by its name, with a smoothed target for real examples if wanted.

    Args:
        name: a key of `ADVERSARIAL`.
        label_smoothing: of `cross_entropy_discriminator`, 0..1; 0 is off.

    Raises:
        InputError: the name is unknown, or smoothing is asked of a loss that has no target between 0 and 1.
    """
    if name not in ADVERSARIAL:
        raise unknown("adversarial loss", name, ADVERSARIAL)
    loss = ADVERSARIAL[name]
    if not label_smoothing:
        return loss
    smoothable = [key for key, each in ADVERSARIAL.items() if each.discriminator is cross_entropy_discriminator]
    if name not in smoothable or not 0 < label_smoothing < 1:
        raise InputError(
            f"label_smoothing of the discriminator is {label_smoothing} with the adversarial loss {name!r}; give a "
            f"share from 0 (off) to below 1, above 0 with {' or '.join(smoothable)} only."
        )
    smoothed = functools.partial(cross_entropy_discriminator, label_smoothing=label_smoothing)
    return loss._replace(discriminator=smoothed)


def cross_entropy_discriminator(
    real_scores: jax.Array,
    fake_scores: jax.Array,
    weight: jax.Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Compute 0.5 (E[softplus(-r) + s r] + E[softplus(f)]), the binary cross-entropy of real against fake.

    Goodfellow et al. 2014, Generative Adversarial Nets (arXiv:1406.2661), equation 1, negated and halved; log 2 for a
    discriminator that cannot tell. One-sided label smoothing s makes the target of real examples 1 - s and leaves that
    of fakes at 0: Salimans et al. 2016, Improved Techniques for Training GANs (arXiv:1606.03498), section 3.4.

    Args:
        real_scores: float [b, ...], logits for real examples.
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.
        label_smoothing: s, 0..1 (static); 0.1 in the paper.

    Returns:
        float32 scalar, at least 0.
    """
    real_scores = _float32(real_scores)
    loss = _halves(jax.nn.softplus, -real_scores, _float32(fake_scores), weight)
    return loss + 0.5 * label_smoothing * _mean(real_scores, weight) if label_smoothing else loss


def minimax_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute E[-softplus(f)] = E[log(1 - sigmoid(f))], the saturating loss.

    Goodfellow et al. 2014 (arXiv:1406.2661), equation 1: the value of the minimax game. Its gradient vanishes while
    the discriminator wins; the paper advises `non_saturating_generator`.

    Args:
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at most 0.
    """
    return _mean(-jax.nn.softplus(_float32(fake_scores)), weight)


def non_saturating_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute E[softplus(-f)] = E[-log sigmoid(f)]: the fakes should be called real.

    Goodfellow et al. 2014 (arXiv:1406.2661), section 3; used by pix2pix.

    Args:
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _mean(jax.nn.softplus(-_float32(fake_scores)), weight)


def least_squares_discriminator(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """Compute 0.5 (E[(r - 1)^2] + E[f^2]).

    Mao et al. 2017, Least Squares GANs (arXiv:1611.04076), equation 9 with a = 0, b = c = 1.

    Args:
        real_scores: float [b, ...], scores of real examples, driven to 1.
        fake_scores: float [b, ...], scores of fakes, driven to 0.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _halves(jnp.square, _float32(real_scores) - 1.0, _float32(fake_scores), weight)


def least_squares_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute 0.5 E[(f - 1)^2].

    Mao et al. 2017 (arXiv:1611.04076), equation 9; implementations after CycleGAN leave the 0.5 out.

    Args:
        fake_scores: float [b, ...], scores of fakes, driven to 1.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return 0.5 * _mean(jnp.square(_float32(fake_scores) - 1.0), weight)


def hinge_discriminator(real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute 0.5 (E[max(0, 1 - r)] + E[max(0, 1 + f)]).

    Lim and Ye 2017, Geometric GAN (arXiv:1705.02894); Miyato et al. 2018, Spectral Normalization (arXiv:1802.05957),
    equation 16. Both add the halves.

    Args:
        real_scores: float [b, ...], scores of real examples, driven above 1.
        fake_scores: float [b, ...], scores of fakes, driven below -1.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    return _halves(jax.nn.relu, 1.0 - _float32(real_scores), 1.0 + _float32(fake_scores), weight)


def hinge_generator(fake_scores: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Compute E[-f].

    Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), equation 17; the generator of the
    Wasserstein GAN descends the same. Not bounded: the scale of the scores is the discriminator's to hold (spectral
    normalisation, gradient penalty).

    Args:
        fake_scores: float [b, ...], scores of fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar.
    """
    return _mean(-_float32(fake_scores), weight)


def wasserstein_discriminator(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """Compute 0.5 (E[f] - E[r]), the critic's negated and halved estimate of the Wasserstein distance.

    Arjovsky et al. 2017, Wasserstein GAN (arXiv:1701.07875), equation 2 and algorithm 1. Without a bound on the
    critic's slope it has no minimum and means nothing. The bound is not in here: clipping of weights is a change of
    parameters after the update, the optimizer's business; the other is `regularization.gradient_penalty`, whose
    published weight of 10 belongs to the sum of the halves, so that it is 5 here.

    Args:
        real_scores: float [b, ...], scores of real examples, driven up.
        fake_scores: float [b, ...], scores of fakes, driven down.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar.
    """
    return _halves(lambda x: x, -_float32(real_scores), _float32(fake_scores), weight)


def relativistic_discriminator(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None
) -> jax.Array:
    """Compute 0.5 (E[softplus(-(r - E[f]))] + E[softplus(f - E[r])]): each against the mean of the others.

    Jolicoeur-Martineau 2018, The relativistic discriminator (arXiv:1807.00734), the relativistic average standard GAN
    (RaSGAN), halved. The averages are over all scores that count, images and patches alike, so real and fake need not
    be pairs.

    Args:
        real_scores: float [b, ...], logits for real examples.
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.

    Returns:
        float32 scalar, at least 0.
    """
    real_scores, fake_scores = _float32(real_scores), _float32(fake_scores)
    real = real_scores - _mean(fake_scores, weight)
    fake = fake_scores - _mean(real_scores, weight)
    return _halves(jax.nn.softplus, -real, fake, weight)


def relativistic_generator(
    fake_scores: jax.Array, weight: jax.Array | None = None, real_scores: jax.Array | None = None
) -> jax.Array:
    """Compute 0.5 (E[softplus(-(f - E[r]))] + E[softplus(r - E[f])]), the discriminator's with the sides exchanged.

    Jolicoeur-Martineau 2018 (arXiv:1807.00734), RaSGAN, halved.

    Args:
        fake_scores: float [b, ...], logits for fakes.
        weight: float or bool, broadcastable to the scores; None = all count.
        real_scores: float [b, ...], logits for real examples; needed.

    Returns:
        float32 scalar, at least 0.

    Raises:
        InputError: there are no real scores.
    """
    if real_scores is None:
        raise InputError(
            "The adversarial loss 'relativistic' compares fakes with real examples and this method gives its generator "
            "no real scores; use another loss."
        )
    return relativistic_discriminator(fake_scores, real_scores, weight)


def _of_fakes(loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Return a generator's loss that takes real scores, too, and ignores them."""
    return lambda fake_scores, weight=None, real_scores=None: loss(fake_scores, weight)


def _sigmoid(scores: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(_float32(scores))


def _share(scores: jax.Array) -> jax.Array:
    """Return the scores, which lie around 0 for fakes and 1 for real examples, cut to a share."""
    return jnp.clip(_float32(scores), 0.0, 1.0)


ADVERSARIAL: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(cross_entropy_discriminator, _of_fakes(minimax_generator), 0.0, _sigmoid),
    "non_saturating": AdversarialLoss(cross_entropy_discriminator, _of_fakes(non_saturating_generator), 0.0, _sigmoid),
    "least_squares": AdversarialLoss(least_squares_discriminator, _of_fakes(least_squares_generator), 0.5, _share),
    "hinge": AdversarialLoss(hinge_discriminator, _of_fakes(hinge_generator), threshold=0.0),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, _of_fakes(hinge_generator), threshold=None),
    "relativistic": AdversarialLoss(relativistic_discriminator, relativistic_generator, threshold=None),
}


def accuracy(
    real_scores: jax.Array, fake_scores: jax.Array, weight: jax.Array | None = None, *, threshold: float | None = 0.0
) -> jax.Array:
    """Compute how often the discriminator is right: 0.5 (E[r > threshold] + E[f <= threshold]).

    Args:
        real_scores: float [b, ...], scores of real examples.
        fake_scores: float [b, ...], scores of fakes.
        weight: float or bool, broadcastable to the scores; None = all count.
        threshold: `AdversarialLoss.threshold` of the loss in use; None is the middle between the mean real and the mean
            fake score of this batch.

    Returns:
        float32 scalar, 0..1; 0.5 for a discriminator that cannot tell.
    """
    real, fake = _float32(real_scores), _float32(fake_scores)
    bound = 0.5 * (_mean(real, weight) + _mean(fake, weight)) if threshold is None else threshold
    return 0.5 * (_mean(_float32(real > bound), weight) + _mean(_float32(fake <= bound), weight))


def realness(scores: jax.Array, loss: AdversarialLoss) -> jax.Array:
    """Return how real an example is, 0..1: 1/2 where the discriminator decides.

    It is the probability that the loss defines. For the others (hinge, Wasserstein, relativistic) it is a picture of
    the scores' order alone, sigmoid(scores - threshold), and no probability of anything.

    Args:
        scores: float, any shape.
        loss: the loss in use; without a threshold the mean of the scores stands for it.
    """
    if loss.probability is not None:
        return loss.probability(scores)
    threshold = jnp.mean(scores) if loss.threshold is None else loss.threshold
    return jax.nn.sigmoid(scores - threshold)


def _float32(scores: jax.Array) -> jax.Array:
    return scores.astype(jnp.float32)


def _halves(loss: Callable, real: jax.Array, fake: jax.Array, weight: jax.Array | None) -> jax.Array:
    chex.assert_equal_shape([real, fake])
    return 0.5 * (_mean(loss(real), weight) + _mean(loss(fake), weight))


def _mean(values: jax.Array, weight: jax.Array | None) -> jax.Array:
    """Return the mean of the values whose weight is not 0, or 0 where there is none."""
    if weight is None:
        return jnp.mean(values)
    weight = jnp.broadcast_to(weight.astype(jnp.float32), values.shape)
    total = jnp.sum(weight)
    return jnp.sum(weight * values) / jnp.where(total > 0, total, 1.0)

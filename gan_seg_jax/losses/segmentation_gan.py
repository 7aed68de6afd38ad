"""Losses between a segmentation and a discriminator that judges pixels.

Scores and logits of a discriminator, without sigmoid or softmax, as in `adversarial`. Ignored pixels (label 255, or no
class) are left out of real and fake alike, so they tell the discriminator nothing; where nothing is left a loss is 0
and so is its gradient.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax.labels import IGNORE
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.feature_matching import layer_feature_matching

SEGAN_WEIGHTS = (1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 4.0)  # of the released code's input and six stages


def inverse_frequency(label: jax.Array, *, num_classes: int) -> jax.Array:
    """Return a weight for each class, by how rare it is in this batch.

        w_c = n / (m n_c),   n known pixels, n_c of class c, m classes that occur;   0 where n_c = 0

    Sushko et al. 2021 (OASIS, arXiv:2012.04781), with the scale of its released code: the mean weight of
    the known pixels is 1, and each class that occurs has the same say.

    Args:
        label: int [b, h, w], class ids, 255 = ignore.
        num_classes: number of classes k, at most 255.

    Returns:
        float32 [k].
    """
    counts = jnp.sum(segmentation.one_hot(label, num_classes), axis=(0, 1, 2))
    occurs = counts > 0
    share = jnp.sum(counts) / jnp.maximum(jnp.sum(occurs), 1)
    return jnp.where(occurs, share / jnp.where(occurs, counts, 1.0), 0.0)


def oasis_discriminator(
    real_logits: jax.Array, fake_logits: jax.Array, label: jax.Array, *, balanced: bool = True
) -> jax.Array:
    """Compute how well each pixel of a real image is given its class, and of a fake the class "fake".

        loss = E[w_y -log p_y(real)] + E[-log p_fake(fake)],   p = softmax over k + 1 classes, the last is "fake"

    with means over known pixels and w = `inverse_frequency`. Sushko et al. 2021, You Only Need Adversarial Supervision
    for Semantic Image Synthesis (OASIS, arXiv:2012.04781): the halves are added, unlike in `adversarial`,
    so that the paper's weight of the LabelMix term holds. The paper leaves no pixel of a fake out.

    Args:
        real_logits: float [b, h, w, k + 1], the discriminator's view of the images that belong to the labels.
        fake_logits: the same shape, of images generated from the labels.
        label: int [b, h, w], class ids, 255 = ignore.
        balanced: whether rare classes count more.

    Returns:
        float32 scalar, at least 0.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    num_classes = real_logits.shape[-1] - 1
    known = segmentation.known(label, num_classes)
    fake_class = jnp.where(known, num_classes, IGNORE)
    return oasis_generator(real_logits, label, balanced=balanced) + segmentation.cross_entropy(fake_logits, fake_class)


def oasis_generator(fake_logits: jax.Array, label: jax.Array, *, balanced: bool = True) -> jax.Array:
    """Compute how far each pixel of a fake is from being given the class it was made for.

        loss = E[w_y -log p_y(fake)],   a mean over known pixels, w and p as in `oasis_discriminator`

    Sushko et al. 2021 (OASIS, arXiv:2012.04781).

    Args:
        fake_logits: float [b, h, w, k + 1], the discriminator's view of images generated from the labels.
        label: int [b, h, w], class ids, 255 = ignore.
        balanced: whether rare classes count more.

    Returns:
        float32 scalar, at least 0.
    """
    num_classes = fake_logits.shape[-1] - 1
    label = jnp.where(segmentation.known(label, num_classes), label, IGNORE)  # k itself is no label
    weights = jnp.append(inverse_frequency(label, num_classes=num_classes), 0.0) if balanced else None
    return segmentation.cross_entropy(fake_logits, label, class_weights=weights)


def label_mix_consistency(
    mixed_logits: jax.Array,
    mask: jax.Array,
    real_logits: jax.Array,
    fake_logits: jax.Array,
    known: jax.Array | None = None,
) -> jax.Array:
    """Compute how far the logits of a mixed image are from the mixed logits.

        loss = E[(D(M x + (1 - M) x') - (M D(x) + (1 - M) D(x')))^2],   a mean over known pixels and all k + 1 classes

    Sushko et al. 2021 (OASIS, arXiv:2012.04781), with weight 10 (Cityscapes 5), there the squared norm.

    Args:
        mixed_logits: float [b, h, w, k + 1], the discriminator's view of the mixed image.
        mask: bool [b, h, w], M, True where the mixed image is real (`mixing.labelmix_mask`).
        real_logits: float [b, h, w, k + 1], its view of the real image x.
        fake_logits: float [b, h, w, k + 1], its view of the fake x'.
        known: bool [b, h, w], the pixels that count; None = all.

    Returns:
        float32 scalar, at least 0.
    """
    return segmentation.mse(mixed_logits, jnp.where(mask[..., None], real_logits, fake_logits), known)


def confident_self_training(
    logits: jax.Array, confidence: jax.Array, *, threshold: float = 0.2, known: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Compute the cross-entropy against the prediction's own arg-max where the discriminator is convinced.

        loss = E[-log p_i[argmax p_i] | c_i > threshold]

    Hung et al. 2018 (AdvSemiSeg, arXiv:1802.07934), a mean over accepted pixels as in their code; threshold
    0.2, weight 0.1 and from iteration 5000 on there. With one score an image and threshold 0.6 it is the self-training
    of S4GAN (Mittal et al. 2019, arXiv:1908.05724). Nothing passes to the confidence. Log the share: at 0 the term is
    off and nothing else shows it.

    Args:
        logits: float [b, h, w, k], the segmenter's on unlabelled images.
        confidence: float [b, h, w], or [b, 1, 1], c, 0..1: the probability that the prediction is a truth, as the
            discriminator sees it (`adversarial.AdversarialLoss.probability`).
        threshold: of the confidence, 0..1.
        known: bool [b, h, w], the pixels that may count (padding is False); None = all.

    Returns:
        The loss, float32 scalar, 0 with zero gradient where no pixel is accepted, and the share of the known pixels
        that are accepted, float32 scalar, 0..1.
    """
    chex.assert_rank(confidence, 3)
    known = jnp.ones(logits.shape[:3], bool) if known is None else known
    accepted = (confidence.astype(jnp.float32) > threshold) & known
    label = jnp.where(accepted, jnp.argmax(logits, axis=-1), IGNORE)
    return segmentation.cross_entropy(logits, label), jnp.sum(accepted) / jnp.maximum(jnp.sum(known), 1)


def multi_scale_l1(
    true_features: Sequence[jax.Array],
    predicted_features: Sequence[jax.Array],
    valid: jax.Array | None = None,
    *,
    legacy: bool = False,
) -> jax.Array:
    """Compute the L1 distance of a critic's features of the image under the true and under the predicted mask.

        loss = 1/L sum_i mean|f_i(image * truth) - f_i(image * prediction)|

    Xue et al. 2018, SegAN (arXiv:1706.01805): the segmenter descends it and the critic climbs it
    (its loss is the negative), over L features, the masked image itself included. The critic needs a bound, or its
    features grow without end: the authors clamp its weights to +-0.05. Multiply both masks by the known pixels first.

    Args:
        true_features: float [b, ...] each, f_1 ... f_L.
        predicted_features: the same shapes.
        valid: bool [b], the images that count; None = all.
        legacy: as in the released code, the mean over the units of all features together, those of feature i
            multiplied by `SEGAN_WEIGHTS`[i] (L = 7 there): large maps then count more.

    Returns:
        float32 scalar, at least 0.
    """
    weights = np.full(len(true_features), 1 / len(true_features))
    if legacy:
        chex.assert_equal(len(true_features), len(SEGAN_WEIGHTS))
        units = np.array([features[0].size for features in true_features])
        weights = np.array(SEGAN_WEIGHTS) * units / units.sum()
    return layer_feature_matching(true_features, predicted_features, valid, weights=weights.tolist())


def self_information(logits: jax.Array) -> jax.Array:
    """Compute what each class contributes to the entropy of softmax(logits), as a share of the largest entropy.

        I_c = -p_c log p_c / log k

    Vu et al. 2019, ADVENT (arXiv:1811.12833), "weighted self-information": 0 where the class is certain or out of the
    question, and a map that tells how sure a prediction is, and between which classes not.

    Args:
        logits: float [b, h, w, k], k at least 2.

    Returns:
        float32 [b, h, w, k], 0 to 1 / (e log k), whose sum over the classes is 0..1.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.exp(log_probabilities) * log_probabilities / np.log(logits.shape[-1])


def entropy(logits: jax.Array, known: jax.Array | None = None) -> jax.Array:
    """Compute the entropy of softmax(logits) as a share of the largest, a mean over known pixels.

        loss = E[-sum_c p_c log p_c] / log k

    Vu et al. 2019, ADVENT (arXiv:1811.12833), there a sum over pixels, in the released code their mean.

    Args:
        logits: float [b, h, w, k], k at least 2.
        known: bool [b, h, w], the pixels that count; None = all.

    Returns:
        float32 scalar, 0..1; 0, with zero gradient, where no pixel is known.
    """
    each = jnp.sum(self_information(logits), axis=-1)
    return jnp.mean(each) if known is None else segmentation.weighted_mean(each, known.astype(jnp.float32))

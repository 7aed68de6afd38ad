"""ADVENT: trains a segmenter with labels of one domain and images of another, by making it sure on the other.

Choose it where predictions are sharp on the labelled domain and blurred on the other: that difference is taken away.

    L_D = 1/2 [ loss(D(I(x)), real) + loss(D(I(u)), fake) ]                          I_c = -p_c log p_c / log k
    L_S = supervised(S(x), y) + adversarial_weight loss(D(I(u)), real) + entropy_weight E[sum_c I_c(u)]

Vu, Jain, Bucher, Cord, Perez: ADVENT: Adversarial Entropy Minimization for Domain Adaptation in Semantic Segmentation,
CVPR 2019, arXiv:1811.12833. p = softmax(S(.)); I is the weighted self-information, whose sum over the k classes is the
entropy as a share of the largest. The paper's AdvEnt is the game alone, its MinEnt the entropy alone, without any
discriminator. Both have a second term of each kind, of the auxiliary head at weights `..._aux`, where there is one.
Other symbols, what plays at which level, and the running statistics of norms are those of `two_domains`.

Differences from the paper and its code: L_D and the entropy are sums over pixels in the paper; here, as in the code,
they are means (over pixels that are no padding), which the weights belong to. L_D has no factor 1/2 in the code, which
Adam does not notice. Not here: the class-ratio prior, and the entropy of a part of the pixels, chosen by their entropy.
"""

import chex
import flax.linen as nn
from ml_collections import ConfigDict

from gan_seg_jax.augment import paired
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import segmentation_gan
from gan_seg_jax.methods import segmenter, two_domains
from gan_seg_jax.models import split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = two_domains.STREAMS
WEIGHTS = {"": "entropy_weight", "auxiliary": "entropy_weight_aux"}  # head -> of its entropy
FIELDS = {"statistics": str, "losses": {**two_domains.LOSSES, **dict.fromkeys(WEIGHTS.values(), float)}}

forward = two_domains.forward
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter, and a discriminator for each level that the config has.

    Raises:
        InputError: those of `two_domains.build`.
    """
    return two_domains.build(config, *WEIGHTS.values())


def losses(nets: Networks, outputs, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of all networks (module docstring); metrics tell the target's entropy.

    Raises:
        InputError: those of `two_domains.losses`, or the entropy of an auxiliary head counts, but there is none.
    """
    out = two_domains.losses(nets, outputs, batch, rng, config, maps=segmentation_gan.self_information)
    logits, heads = split_heads(outputs[1])
    known = paired.shown(batch["target"]["image"])
    loss, metrics = out.losses["segmenter"], dict(out.metrics)
    for head, field in WEIGHTS.items():
        weight = config.losses[field]
        if head and weight == 0:
            continue
        if head and head not in heads:
            raise InputError(
                f"config.losses.{field} is {weight}, but {config.networks.segmenter.name} has no auxiliary head; set "
                "it to 0, or use the config's word multi with unet, deeplabv2 or pspnet."
            )
        metrics[f"entropy/{head}" if head else "entropy"] = value = segmentation_gan.entropy(
            heads[head] if head else logits, known
        )
        loss += weight * value
    return out._replace(losses={**out.losses, "segmenter": loss}, metrics=metrics)

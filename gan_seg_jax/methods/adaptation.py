"""AdaptSegNet: trains a segmenter with labels of one domain and images of another, by a discriminator of its output.

Choose it where the labels are of a source domain and the images to be segmented of a target domain without labels.

    L_Di = 1/2 [ loss(D_i(p_i(x)), real) + loss(D_i(p_i(u)), fake) ]
    L_S  = supervised(S_1(x), y) + auxiliary_weight supervised(S_2(x), y)
           + adversarial_weight loss(D_1(p_1(u)), real) + adversarial_weight_aux loss(D_2(p_2(u)), real)

Tsai, Hung, Schulter, Sohn, Yang, Chandraker: Learning to Adapt Structured Output Space for Semantic Segmentation, CVPR
2018, arXiv:1802.10349. The discriminators see class probabilities, p = softmax(S(.)), and no image. Symbols, what plays
at which level, and the running statistics of norms are those of `two_domains`.

Differences from the paper and its code: the source is 0 and the target 1 there, which is the same game. Its least
squares have no factor 1/2 in the segmenter's term: its weight 0.01 is `adversarial=least_squares,
adversarial_weight=0.02` here.
"""

import chex
import jax
from ml_collections import ConfigDict

from gan_seg_jax.methods import segmenter, two_domains
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = two_domains.STREAMS
FIELDS = {"statistics": str, "losses": two_domains.LOSSES}

build = two_domains.build
forward = two_domains.forward
predict = segmenter.predict
score_map = discriminator_inputs = None


def losses(nets: Networks, outputs, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the losses of all networks (module docstring); raises as `two_domains.losses`."""
    return two_domains.losses(nets, outputs, batch, rng, config, maps=jax.nn.softmax)

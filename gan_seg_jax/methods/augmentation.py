"""GAN augmentation: trains a segmenter on real and on generated pairs of image and mask.

Choose it where few images have labels and there are no others to learn from.

    L_S = supervised(S(x'), y'),   (x', y') = generated and real rows of a batch

The generator G is frozen and comes from another run. Of every batch, round(share b) rows are replaced by generated
pairs (`config.synthetic.share`), and the segmenter S descends the supervised loss of what is then in the batch.
Generated rows are spread evenly: with a share of 1/2 every second one. So each of several devices generates its own and
keeps them; were they the first of the whole batch, some devices would generate all and send them to the others.

Two kinds of generator, told by its network:
    label-to-image (`synthesis`, `oasis`)   x' = G(y, z), y' = y: new images of the replaced rows' own masks. So no
                                            batch holds a real image beside its repetition, and the masks are those of
                                            the run without generated pairs.
    unconditional, of pairs                 (x', p) = G(z), y' = argmax p.
Every arm takes as many steps and sees as many images; share 0 repeats the real data instead.

Images of masks are 0 (mid grey) where the mask is unknown, as padding is in real ones: G had no loss there.
Augmentation of the batch comes first, so G gets the augmented masks; the colours are then those of G.

What this is worth depends on what G was trained on: images that the segmenter may not use must not come in through it.
`data.provenance` refuses such a G. After Bowles et al. 2018 (arXiv:1810.10863), who mix pairs of an unconditional GAN
with real ones; new images of real masks are the cheaper half of Sushko et al. 2021 (arXiv:2012.04781) and its kin.
"""

import math
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import expect_a_loss, with_heads
from gan_seg_jax.methods import generators, segmenter
from gan_seg_jax.models import build_network, split_heads
from gan_seg_jax.state import LossOutput, Networks

TASK = "segmentation"
STREAMS = ("labelled",)
FIELDS = generators.FIELDS
predict = segmenter.predict
score_map = discriminator_inputs = None


def build(config: ConfigDict) -> dict[str, nn.Module]:
    """Return the segmenter and, where the config has one, the generator.

    Raises:
        InputError: the generator gives no pairs, share, folder and generator do not fit together, or no loss has a
            weight.
    """
    expect_a_loss(config.losses, "segmenter", "weights")
    share, networks = config.synthetic.share, config.networks
    modules = {"segmenter": build_network(networks.segmenter, dtype=config.dtype, num_classes=config.num_classes)}
    if "generator" not in networks:
        if share > 0 and not config.synthetic.folder:
            raise InputError(
                f"synthetic.share is {share}, but there is neither a generator nor config.synthetic.folder to take "
                "generated pairs from; give a folder, or set the share to 0."
            )
        return modules
    if config.synthetic.folder:
        raise InputError(
            f"synthetic.folder is {config.synthetic.folder!r} and there is a generator, too; give the folder to "
            "configs/augment_seg.py:repeat or to any other config, or leave it out."
        )
    if share > 0 and _generated_rows(config.batch_size, share) == 0:
        raise InputError(
            f"synthetic.share is {share}, which is no whole image of a batch of {config.batch_size}; raise either."
        )
    return {**modules, "generator": generators.build_generator(config)}


def forward(nets: Networks, batch, rng: chex.PRNGKey, config: ConfigDict) -> tuple[tuple[Any, jax.Array], Networks]:
    """Return the segmenter's output for the mixed batch, and the labels of that batch, int32 [b, h, w]."""
    image, label, nets = mixed(nets, batch["labelled"]["image"], batch["labelled"]["label"], rng, config)
    outputs, nets = nets.apply("segmenter", image)
    return (outputs, label), nets


def mixed(
    nets: Networks, image: jax.Array, label: jax.Array, rng: chex.PRNGKey, config: ConfigDict
) -> tuple[jax.Array, jax.Array, Networks]:
    """Return the batch with some of its rows replaced by generated pairs, and the successor view.

    Args:
        nets: the view.
        image: [b, h, w, 3] in [-1, 1].
        label: int32 [b, h, w], 255 = unknown.
        rng: of the generator's noise.
        config: the run's config.
    """
    if "generator" not in config.networks:
        return image, label, nets
    count = _generated_rows(len(image), config.synthetic.share)
    period = len(image) // math.gcd(len(image), count)  # rows of which the first so many are generated:
    first = count * period // len(image)
    split = lambda x: x.reshape(-1, period, *x.shape[1:])
    if generators.is_label_to_image(config):
        new_label = split(label)[:, : max(first, 1)].reshape(-1, *label.shape[1:])
        new_image, nets = generators.label_to_image(nets, new_label, rng, config, as_trained=config.sample_as_trained)
        new_image = generators.hide(new_image, segmentation.known(new_label, config.num_classes))
    else:
        (new_image, new_label), nets = generators.unconditional_pairs(nets, max(count, 1), rng, config)
    if count == 0:  # the network is there all the same, and its output is not computed
        return image, label, nets

    def join(new, real):
        new = new.astype(real.dtype).reshape(-1, first, *real.shape[1:])
        return jnp.concatenate([new, split(real)[:, first:]], axis=1).reshape(real.shape)

    return join(new_image, image), join(new_label, label), nets


def losses(nets: Networks, outputs: Any, batch, rng: chex.PRNGKey, config: ConfigDict) -> LossOutput:
    """Return the supervised loss of the mixed batch."""
    del batch, rng
    logits, heads = split_heads(outputs[0])
    loss, terms = with_heads(logits, heads, outputs[1], config.losses)
    return LossOutput({"segmenter": loss}, nets, terms)


def _generated_rows(batch_size: int, share: float) -> int:
    return round(share * batch_size)

"""The features in which generated images are compared with real ones, of a network that knows the data.

A figure in one feature space says nothing about another, so runs that are to be compared need the same network.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import load_run
from gan_seg_jax.models import inception, split_heads
from gan_seg_jax.runs import workdirs
from gan_seg_jax.state import inference_view

ACTING = ("segmenter", "generator")  # whose features are taken, of the roles that a segmentation run may have
TAKEN = ("segmentation",)  # tasks whose networks are shown images and find classes in them


class FeatureNetwork(NamedTuple):
    """What looks at images, float32 [b, h, w, 3] in [-1, 1].

    Attributes:
        features: images -> float32 [b, d].
        logits: images -> class logits float32 [b, h, w, k], or None for a network that does not segment, or not into
            the classes at hand.
        name: what it is, for people.
    """

    features: Callable[[jax.Array], jax.Array]
    logits: Callable[[jax.Array], jax.Array] | None
    name: str


def open_feature_network(config: ConfigDict, workdir: Path) -> FeatureNetwork:
    """Open the feature network of a run that makes images: `config.feature_network`, or the one trained for it.

    Raises:
        InputError: there is none, it cannot be read, or it knows other classes.
    """
    source = workdirs.source(config, workdir, workdirs.FEATURE_NETWORK)
    if not source:
        raise InputError(
            "Generated images are compared in the features of a network: set config.feature_network to the folder of a "
            "finished segmentation run on this data set, or to Inception weights (FILE.safetensors)."
        )
    if source.endswith(".safetensors"):
        network, variables = inception.load_inception(source)
        features = lambda images: inception.features(network, variables, images)
        return FeatureNetwork(features, None, f"Inception, {source}")
    return _segmenter(source, config.num_classes)


def _segmenter(source: str, num_classes: int) -> FeatureNetwork:
    """Return the feature network that a segmentation run is: the mean over the image of its network's deepest map.

    It finds the masks of generated images, too, unless the images have none (a single class): then it may know any
    classes.
    """
    run = load_run(source)
    roles = [role for role in ACTING if role in run.state.networks]
    labelled, known = num_classes > 1, run.config.num_classes
    if run.method.TASK not in TAKEN or not roles or (known != num_classes if labelled else known == 1):
        images = f"images of {num_classes} classes" if labelled else "images without labels"
        raise InputError(
            f"The feature network {source} ({run.config.method}, {known} classes) does not know {images}; expected a "
            f"finished segmentation run{' on the same data set' if labelled else ''}."
        )
    nets = inference_view(run.state, jax.random.key(0))

    def features(images):
        (_, deepest), _ = nets.apply(roles[0], images, capture="encoder")
        return jnp.mean(deepest.astype(jnp.float32), axis=(1, 2))

    def logits(images):
        outputs, _ = nets.apply(roles[0], images)
        return split_heads(outputs)[0]

    jax.eval_shape(features, jnp.zeros((1, *run.config.crop_size, 3)))  # a network without features is named now
    return FeatureNetwork(features, logits if labelled else None, f"{run.config.networks[roles[0]].name} of {source}")

"""An adversarial step and inference of KerasHub's DeepLab v3+ on the JAX backend. Started by `compare`.

The step is one compiled program of Keras's stateless calls, with our losses, optimizer, order of updates and
discriminator; images are ready on the device. TensorFlow is not used.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark import cases, ours, worker
from experiments.benchmark.peers import missing

BLOCKS = {"resnet18": ("basic_block", [2, 2, 2, 2]), "resnet50": ("bottleneck_block", [3, 4, 6, 3])}


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return works and facts; compiled at the first call of each."""
    keras, keras_hub = missing.need("keras"), missing.need("keras_hub")
    config = cases.load(options.case)
    keras.utils.set_random_seed(0)
    if options.dtype == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    size = tuple(config.crop_size)
    networks = {
        "segmenter": segmenter(keras_hub, config.networks.segmenter, size),
        "discriminator": patchgan(keras, config.networks.discriminator, size, 3 + cases.CLASSES),
    }
    optimizers = {}
    for role, network in networks.items():
        own = config.optimizers[role]
        optimizers[role] = keras.optimizers.Adam(own.learning_rate, own.beta1, own.beta2)
        optimizers[role].build(network.trainable_variables)
    state = {
        role: tuple(
            [jnp.array(variable.value) for variable in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables, optimizers[role].variables)
        )
        for role, network in networks.items()
    }
    image = jax.random.uniform(jax.random.key(0), (config.batch_size, *size, 3), minval=-1.0)
    label = jax.random.randint(jax.random.key(1), (config.batch_size, *size), 0, cases.CLASSES)
    held, flops = [state], {}

    def take(state: Any, image: jax.Array, label: jax.Array) -> Any:
        return step(state, image, label, networks, optimizers, config.losses)

    def advance(compiled: Any) -> Any:
        held[0] = compiled(held[0], image, label)
        return held[0]

    def predict(weights: Any, rest: Any, image: jax.Array) -> jax.Array:
        return jnp.argmax(networks["segmenter"].stateless_call(weights, rest, image, training=False)[0], axis=-1)

    def compile_step() -> Any:
        return jax.jit(take, donate_argnums=(0,)).lower(held[0], image, label).compile()

    def compile_inference() -> Any:
        return jax.jit(predict).lower(*held[0]["segmenter"][:2], image).compile()

    def label_batch(compiled: Any) -> jax.Array:
        return compiled(*held[0]["segmenter"][:2], image)

    product, flops["product"] = ours.product(options.device, options.dtype)
    counts = {role: sum(value.size for value in values[0]) for role, values in state.items()}
    versions = {"keras": keras.__version__, "keras_hub": keras_hub.__version__}
    works = {
        "step": ours.program("step", compile_step, advance, flops),
        "inference": ours.program("inference", compile_inference, label_batch, flops),
        "product": product,
    }
    images = dict.fromkeys(("step", "inference"), config.batch_size)
    return works, ours.facts(counts, flops, images, **versions)


def segmenter(keras_hub: Any, network: Any, size: tuple[int, int]) -> Any:
    """Return KerasHub's DeepLab v3+ over a ResNet whose last stage keeps its size: output stride 16."""
    block, depths = BLOCKS[network.backbone]
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=depths,
        stackwise_num_strides=[1, 2, 2, 1],
        block_type=block,
        image_shape=(*size, 3),
    )
    stages = encoder.pyramid_outputs
    # The name says the stride to what enlarges the result.
    encoder.pyramid_outputs = {"P2": stages["P2"], "P4": stages["P5"]}
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=list(network.rates),
        projection_filters=network.low_level_channels,
        image_shape=(*size, 3),
    )
    return keras_hub.models.DeepLabV3ImageSegmenter(backbone, num_classes=cases.CLASSES)


def patchgan(keras: Any, network: Any, size: tuple[int, int], channels: int) -> Any:
    """Return our PatchGAN with spectral normalisation."""
    x = inputs = keras.Input((*size, channels))
    for level in range(network.layers + 2):
        last = level == network.layers + 1
        width = 1 if last else network.channels * min(2**level, 8)
        conv = keras.layers.Conv2D(width, 4, strides=2 if level < network.layers else 1)
        x = keras.layers.SpectralNormalization(conv)(keras.layers.ZeroPadding2D(1)(x))
        x = x if last else keras.layers.LeakyReLU(0.2)(x)
    return keras.Model(inputs, x)


def step(state: Any, image: jax.Array, label: jax.Array, networks: Any, optimizers: Any, losses: Any) -> Any:
    """Return the next state: the discriminator moves first, the segmenter is judged by the new one.

    Args:
        state: role -> lists of trainable variables, others, and the optimizer's.
        image: float [b, h, w, 3].
        label: int [b, h, w].
        networks: role -> Keras model.
        optimizers: role -> Keras optimizer.
        losses: `config.losses`.
    """
    truth = jax.nn.one_hot(label, cases.CLASSES)
    weights, rest, moments = state["segmenter"]
    judge_weights, judge_rest, judge_moments = state["discriminator"]

    def score(judge: Any, maps: jax.Array) -> tuple[jax.Array, Any]:
        inputs = jnp.concatenate([image, maps], axis=-1)
        scores, new = networks["discriminator"].stateless_call(judge, judge_rest, inputs, training=True)
        return scores.astype(jnp.float32), new

    def forward(weights: Any) -> tuple[jax.Array, Any]:
        logits, new = networks["segmenter"].stateless_call(weights, rest, image, training=True)
        return logits.astype(jnp.float32), new

    def judge_loss(judge: Any) -> tuple[jax.Array, Any]:
        real, new = score(judge, truth)
        fake, _ = score(judge, jax.nn.softmax(logits))
        return 0.5 * (jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()), new

    def loss(logits: jax.Array) -> jax.Array:
        scores, _ = score(judge_weights, jax.nn.softmax(logits))
        cross_entropy = -jnp.mean(jnp.sum(truth * jax.nn.log_softmax(logits), axis=-1))
        return losses.adversarial_weight * jax.nn.softplus(-scores).mean() + cross_entropy

    logits, pull, new_rest = jax.vjp(forward, weights, has_aux=True)
    gradients, new_judge_rest = jax.grad(judge_loss, has_aux=True)(judge_weights)
    judge_weights, judge_moments = optimizers["discriminator"].stateless_apply(judge_moments, gradients, judge_weights)
    (gradients,) = pull(jax.grad(loss)(logits))
    weights, moments = optimizers["segmenter"].stateless_apply(moments, gradients, weights)
    return {
        "segmenter": (weights, new_rest, moments),
        "discriminator": (judge_weights, new_judge_rest, judge_moments),
    }


if __name__ == "__main__":
    worker.serve(make)

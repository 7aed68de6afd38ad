"""What the tests of methods set up: states, and batches as the host delivers them and as methods see them."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax import config as config_lib
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import get_method
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import Networks, create_state, init_variables, variable_shapes

_states = {}
_drawn = {}


def draw_variables(method, modules, batch, config, seed=0):
    """Return what `init_variables` does; drawn once for the same networks with variables of the same shapes.

    Their values depend on these and the seed alone, and to compile the draw is what costs most in a small test.
    """
    shapes = variable_shapes(method, modules, batch, config)
    key = (seed, tuple(sorted(modules.items())), str(shapes))
    if key not in _drawn:
        _drawn[key] = jax.device_get(init_variables(method, modules, batch, config, seed))
    return jax.tree.map(jnp.array, _drawn[key])  # a step may be given its state's memory


def make_state(config, seed=0):
    """Return the state before the first step; made once for each config."""
    key = (config_lib.digest(config), seed)
    if key not in _states:
        method = get_method(config)
        modules = method.build(config)
        variables = init_variables(method, modules, example_batch(method.STREAMS, config), config, 0)
        _states[key] = create_state(variables, modules, create_optimizers(config), seed=seed)
    return _states[key]


def view(state, moving=()):
    """Return what methods see of a state; roles that do not move are in inference mode."""
    return Networks(states=state.networks, rng=jax.random.key(1), step=state.step, moving=frozenset(moving))


def host_stream(image, label, content=None):
    """Return a stream as the host delivers it: images uint8 [..., b, h, w, 3] and their labels, all valid.

    Without `content`, there is no padding.
    """
    lead, size = label.shape[:-2], label.shape[-2:]
    content = np.broadcast_to(np.array(size if content is None else content, np.int32), (*lead, 2))
    valid, ids = np.ones(lead, bool), np.broadcast_to(np.arange(lead[-1], dtype=np.int32), lead)
    return {"image": image, "label": label, "content": content, "valid": valid, "id": ids}


def pixels(image):
    """Return bytes as numbers in [-1, 1]."""
    return (2.0 * jnp.asarray(image, jnp.float32) - 255.0) / 255.0


def prepared(batch):
    """Return a batch as methods see it: 0 and label 255 right of the content."""
    found = {}
    for name, stream in batch.items():
        inside = np.arange(stream["label"].shape[-1]) < stream["content"][:, 1, None, None]
        label = jnp.where(inside, jnp.asarray(stream["label"], jnp.int32), 255)
        found[name] = {**stream, "image": pixels(stream["image"]) * inside[..., None], "label": label}
    return found

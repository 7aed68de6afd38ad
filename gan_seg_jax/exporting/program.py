"""What is exported of a run: the networks that label, as one function from images of 8 bits to probabilities."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

import gan_seg_jax
from gan_seg_jax.augment import paired
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, acting_roles, load_run
from gan_seg_jax.state import inference_view

MULTIPLES = (8, 16, 32, 64, 128, 256)  # of height and width; the first that the networks take is the program's


class Program(NamedTuple):
    """The function that is exported, and the images that it takes.

    Attributes:
        function: from RGB images, uint8 [b, h, w, 3], at the scale of the run's canvas, to the probability of each
            class at each pixel, float32 [b, h, w, k]: what `predict` makes of images that fill their canvas.
        images: shape and type of what it takes: b is a symbol, h and w are numbers or multiples of symbols.
        multiple: what height and width must be multiples of, at least two of them; 0 where they are numbers.
    """

    function: Callable[[jax.Array], jax.Array]
    images: jax.ShapeDtypeStruct
    multiple: int


def load_segmentation(workdir: str, which: str) -> Run:
    """Return the run that is exported; see `load_run`.

    Raises:
        InputError: it cannot be loaded, or does not segment.
    """
    run = load_run(workdir, which)
    if run.method.TASK != "segmentation":
        raise InputError(f"{workdir} is a run of {run.config.method}, for {run.method.TASK}; expected a segmentation.")
    return run


def make_program(run: Run, size: tuple[int, int] | None = None) -> Program:
    """Return the program of a run: for all sizes that its networks take, or for one.

    Args:
        run: a run of segmentation.
        size: height and width, where there is to be one.

    Raises:
        InputError: the networks take no images of this size, or have to know one where none is given.
    """
    function, names = _label(run), " and ".join(networks_of(run).values())
    if size is not None:
        program = Program(function, _images("b", *size), 0)
        try:
            jax.eval_shape(function, program.images)
        except InputError:
            raise
        except Exception as error:  # whatever JAX raises
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{names} cannot be exported for images of {size[0]}x{size[1]}: {reason}.") from error
        return program
    refusal = None
    for multiple in MULTIPLES:
        program = Program(function, _images("b", f"{multiple}*h", f"{multiple}*w"), multiple)
        try:
            jax.eval_shape(function, program.images)
        except Exception as error:  # whatever JAX raises where a network asks how large its images are
            refusal = error
        else:
            return program
    raise InputError(
        f"{names} has to know the size of its images; export it for one, such as --size=256,256."
    ) from refusal


def _images(*size: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and type of images of a size, of which some are symbols."""
    text = ", ".join(map(str, (*size, 3)))
    known = ["h >= 2", "w >= 2"] if "h" in text else []
    return jax.ShapeDtypeStruct(export.symbolic_shape(text, constraints=known), jnp.uint8)


def _label(run: Run) -> Callable[[jax.Array], jax.Array]:
    """Return `Program.function`, whose weights are constants."""
    key = jax.random.key(0)
    nets = inference_view(jax.device_get(run.state), key)

    def label(image: jax.Array) -> jax.Array:
        batch = {"labelled": {"image": paired.from_uint8(image)}}  # what labels is shown nothing else
        logits = run.method.predict(nets, batch, key, run.config)
        return jax.nn.softmax(logits.astype(jnp.float32))

    return label


def networks_of(run: Run) -> dict[str, str]:
    """Return role -> name of the networks that label."""
    return {role: run.config.networks[role].name for role in acting_roles(run.method, run.config, run.state)}


def describe(run: Run, program: Program | None = None) -> dict[str, Any]:
    """Return what users of an export have to know, for JSON; without a program, of the weights alone."""
    config = run.config
    facts = {
        "gan_seg_jax": gan_seg_jax.__version__,
        "method": config.method,
        "networks": networks_of(run),
        "step": run.step,
        "class_names": list(config.class_names),
        "class_colors": [list(color) for color in config.class_colors],
        "canvas": {"resize": config.resize, "size": list(config.canvas_size)},
    }
    if program is None:
        return facts
    shape = [n if isinstance(n, int) else str(n) for n in program.images.shape]
    multiple = {"size_multiple": program.multiple, "size_least": 2 * program.multiple} if program.multiple else {}
    facts["input"] = {"name": "image", "dtype": "uint8", "shape": shape, "range": [0, 255], "colors": "RGB", **multiple}
    shape = [*shape[:3], config.num_classes]
    facts["output"] = {"name": "probabilities", "dtype": "float32", "shape": shape, "range": [0, 1]}
    return facts

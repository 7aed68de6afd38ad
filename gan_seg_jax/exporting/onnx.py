"""A program for ONNX runtimes, converted by jax2onnx and compared with the network on made-up images."""

import logging

import jax
import numpy as np

from gan_seg_jax.errors import InputError
from gan_seg_jax.exporting.program import Program
from gan_seg_jax.models import convolution
from gan_seg_jax.preparing.extras import need

TOLERANCE = 1e-4  # of a probability
# Without dependencies: it asks for an orbax-checkpoint that is older than ours, which converting does not need.
CONVERTER = "jax2onnx==0.17.1"


def serialize(program: Program, networks: str) -> bytes:
    """Return the program as an ONNX model.

    Args:
        program: the program.
        networks: their names, for messages.

    Raises:
        InputError: a library is missing, an operation cannot be converted, or the model gives other probabilities.
    """
    runtime = need("onnxruntime", "onnx")
    logging.getLogger("jax2onnx").setLevel(logging.CRITICAL)  # it tells which libraries its own examples lack
    try:
        import jax2onnx
    except ImportError:
        raise InputError(
            f'This format needs jax2onnx, which is not installed: pip install "gan_seg_jax[onnx]", then pip '
            f"install --no-deps {CONVERTER}."
        ) from None
    names = {"model_name": "gan_seg_jax", "input_names": ["image"], "output_names": ["probabilities"]}
    try:
        with convolution.native_alone():
            model = jax2onnx.to_onnx(program.function, [program.images], **names)
        _correct_sizes(model)
        data = model.SerializeToString()
        found = _difference(program, runtime, data)
    except Exception as error:  # whatever converter and runtime raise at an operation that they do not know
        reason = " ".join(str(error).split())[:200]
        free, mend = (" for all sizes", "give one, such as --size=256,256, or ") if program.multiple else ("", "")
        raise InputError(
            f"jax2onnx cannot convert {networks}{free}: {reason}; {mend}take --format=stablehlo."
        ) from error
    if not found <= TOLERANCE:
        raise InputError(
            f"{networks} as ONNX gives probabilities that are {found:.2g} away from its own, expected at most "
            f"{TOLERANCE:g}; take --format=stablehlo."
        )
    return data


def _correct_sizes(model) -> None:
    """Give the output the sizes of the input, and let runtimes find those within: the converter mistakes some."""
    del model.graph.value_info[:]
    given, made = (value[0].type.tensor_type.shape.dim for value in (model.graph.input, model.graph.output))
    for axis in range(3):
        made[axis].CopyFrom(given[axis])


def _difference(program: Program, runtime, data: bytes) -> float:
    """Return the largest difference of probabilities on noise of two sizes, or of the one size."""
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    least, fixed = 2 * program.multiple, program.images.shape[1:3]
    sizes = [(1, least, 2 * least), (2, 3 * least, least)] if least else [(1, *fixed), (2, *fixed)]
    label, rng = jax.jit(program.function), np.random.default_rng(0)
    differences = []
    for size in sizes:
        images = rng.integers(0, 256, (*map(int, size), 3), dtype=np.uint8)
        differences.append(np.abs(session.run(None, {"image": images})[0] - np.asarray(label(images))).max())
    return float(np.max(differences))

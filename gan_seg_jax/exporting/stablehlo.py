"""A program for JAX alone: StableHLO with its weights, for CPU, CUDA and TPU, as `jax.export` serializes it."""

import jax
from jax import export

from gan_seg_jax.exporting.program import Program
from gan_seg_jax.preparing.extras import need

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(program: Program) -> bytes:
    """Return the program as `jax.export.deserialize` reads it, without the places of source files on this machine.

    Raises:
        InputError: the library that serializes is not installed.
    """
    need("flatbuffers", "stablehlo")  # jax.export imports it
    kept = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        return bytes(export.export(jax.jit(program.function), platforms=PLATFORMS)(program.images).serialize())
    finally:
        jax.config.update("jax_traceback_in_locations_limit", kept)

"""Segmenting images with adversarial and generative training, in JAX and Flax."""

import sys

__version__ = "0.1.0"  # of CITATION.cff, too

if sys.argv[:1] == ["-m"] and any(word.startswith(f"{__name__}.") for word in sys.orig_argv):
    # `python -m gan_seg_jax.COMMAND`, which is being looked up: before anything heavy is imported.
    from gan_seg_jax.system import process

    process.use_utf8()
    process.begin()

"""Segmenting images with adversarial and generative training, in JAX and Flax.

import gan_seg_jax as gs
segmenter = gs.load("runs/x")
result = segmenter(image)
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_seg_jax.inference.segmenter import Segmenter

__version__ = "0.1.0"  # of CITATION.cff, too

if sys.argv[:1] == ["-m"] and any(word.startswith(f"{__name__}.") for word in sys.orig_argv):
    # `python -m gan_seg_jax.COMMAND`, which is being looked up: before anything heavy is imported.
    from gan_seg_jax.system import process

    process.restart()
    process.begin()


def load(workdir: str, checkpoint: str | int = "best", *, batch_size: int | None = None, **options: Any) -> "Segmenter":
    """Load a trained run of segmentation, to be called with images; this loads JAX, importing the package does not.

    Args:
        workdir: folder of the run, or of its weights as `export --format=safetensors` writes them.
        checkpoint: "best" (by validation), "latest" or a step.
        batch_size: most images at once; None is that of the training, and of `predict`. With 1, single images are
            labelled faster, and rounding may choose another label where two classes are as good as equal.
        **options: those of `predict`, by the same names: scales=(0.75, 1, 1.25), flip=True, window=(256, 256),
            overlap, crf=True, min_region, max_hole, opening, closing.

    Returns:
        A Segmenter; what it takes and returns is said there, and when it compiles.

    Raises:
        gan_seg_jax.errors.InputError: the folder holds no such run, or there is no such option or value of it.
    """
    from gan_seg_jax.inference.segmenter import Segmenter

    return Segmenter(workdir, str(checkpoint), batch_size=batch_size, **options)

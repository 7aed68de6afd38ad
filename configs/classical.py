"""Classical segmentation: fits a method without a network on the training split and scores it as the networks are.

Choose it where nothing is to be trained, and to see what a score is worth.
Papers: named in `gan_seg_jax/baselines/METHOD.py`.
Command: python -m gan_seg_jax.main --config=configs/classical.py:slic
Words behind the colon: one of sobel, roberts, canny, kmeans, dbscan, slic, majority; smoke.
"""

from ml_collections import ConfigDict

from configs import common
from gan_seg_jax.errors import InputError

METHODS = ("sobel", "roberts", "canny", "kmeans", "dbscan", "slic", "majority")


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config; of the shared fields, data, seed and `baselines` have a meaning here.

    Raises:
        InputError: a word is unknown, or not exactly one method is named.
    """
    chosen = common.words(arg, (*METHODS, "smoke"))
    methods = sorted(chosen & set(METHODS))
    if len(methods) != 1:
        raise InputError(
            f"The config names {' and '.join(methods) or 'no method'}; expected one of {', '.join(METHODS)} behind the "
            "colon, such as --config=configs/classical.py:slic."
        )
    config = common.get_config()
    if "smoke" in chosen:
        common.shrink(config)
    config.method = methods[0]
    config.steps, config.phases = 0, ()  # nothing is trained step by step
    config.baselines = ()
    return config

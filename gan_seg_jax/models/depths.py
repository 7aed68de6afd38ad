"""How deep each parameter of a backbone lies, by its name: for learning rates that fall from layer to layer.

Backbones have the names of published weights (`models/backbones.py`), so the place of a layer can be read off them. A
path is read as one word, its parts joined by "_":
1. a block has its numbers behind `layer`, `features`, `block(s)` or `stages`: "layer1_0_conv1_kernel" of a ResNet is
   block 0 of stage 1, "stages_2_blocks_3_..." of a ConvNeXt block 3 of stage 2, "blocks_7_..." of a ViT block 7; what
   belongs to a stage but to no block of it, such as its downsampling, comes before them;
2. "patch_embed2_..." (of a MiT, where each stage has one) begins its stage, "norm2" ends it;
3. "norm" or "layernorm" without a number is behind the last block;
4. all else is the stem: the first convolutions, patch and position embeddings, class and register tokens.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from flax import traverse_util

_BLOCK = re.compile(r"(?:layer|features|blocks?|stages)_?(\d+)(?:_(?:blocks_|layers_)?(\d+))?(?=_)")
_EMBEDDING = re.compile(r"patch_embed(?:dings)?_?(\d+)_")
_STAGE_NORM = re.compile(r"(?:layer_)?norm_?(\d+)_")
_LAST_NORM = re.compile(r"(?:norm|layernorm)_(?:layer_)?(?:scale|bias)$")
_STEM, _END = (-1, 0), (math.inf, 0)


def depths(backbone: Mapping[str, Any]) -> dict[tuple[str, ...], int]:
    """Return path -> how many layers lie between a parameter and the head, its own included.

    A layer is the stem or a block; a norm with a place of its own ("features_1" of VGG-16 with norms) belongs to the
    kernel before it. So of L blocks the last has 1 and the first L, the stem has L + 1, and the norm behind the last
    block has 0, like the head: as in BEiT (Bao et al. 2021, https://arxiv.org/abs/2106.08254). ConvNeXt's authors take
    three blocks of the third stage for one layer; here each counts.

    Args:
        backbone: its parameters.
    """
    leaves = traverse_util.flatten_dict(backbone)
    layers = {_place(path) for path, leaf in leaves.items() if leaf.ndim > 1} | {_END}
    return {path: sum(layer > _place(path) for layer in layers) for path in leaves}


def _place(path: tuple[str, ...]) -> tuple[float, float]:
    """Return (stage, block) of a parameter; those of stages without blocks have block -1."""
    name = "_".join(path)
    if found := _BLOCK.match(name):
        return int(found[1]), -1 if found[2] is None else int(found[2])
    if found := _EMBEDDING.match(name):
        return int(found[1]), -1
    if found := _STAGE_NORM.match(name):
        return int(found[1]), math.inf
    return _END if _LAST_NORM.match(name) else _STEM

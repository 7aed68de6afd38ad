"""Pretrained backbones: ImageNet weights from a safetensors file, by the keys of torchvision, timm or transformers.

The names of a backbone's variables mirror the keys of one published layout ("layer1.0.conv1.weight" is
`params["layer1_0"]["conv1"]["kernel"]`), so a backbone itself says which keys it needs; it also knows those of the
other layouts (`stages.Backbone.own_key`).

What has to agree for the same numbers, and does: convolutions pad (k - 1) / 2 * rate zeros on both sides, 3x3 max
pooling pads -inf and rounds sizes down, a bottleneck has its stride in the 3x3 convolution (the "v1.5" of torchvision
and timm, and the default of transformers: `downsample_in_bottleneck = False`), the epsilon of BatchNorm is 1e-5, and
torch's momentum of 0.1 (the share of the new) is Flax's 0.9 (the share of the old). What differs: in training, torch
adds the unbiased variance of a batch of n values to `running_var`, Flax the biased one, smaller by (n - 1) / n.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors
from flax import traverse_util

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import pip_weights
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.stages import Backbone
from gan_seg_jax.system import hub

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_CLASSIFIERS = ("fc", "classifier", "aux_classifier", "AuxLogits", "head", "pre_logits", "conv_head")
_TORCH_AXES = {0: (), 1: (0,), 2: (1, 0), 3: (0, 1, 2), 4: (3, 2, 0, 1)}  # by the number of axes of a leaf
_PIECE = re.compile(r"(.*)\[(\d)/([1-9])\]")  # see `stages.Backbone.own_key`
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")
_FLOATS = ("F16", "BF16", "F32", "F64")
_NO_SAFETENSORS = (
    ", the only format that is read: choose another repository, or convert with safetensors.torch.save_file."
)
_AS_IT_IS = Backbone()  # knows no other layout


def load_backbone(source: str, variables: dict, *, backbone: str) -> dict:
    """Return a network's variables with those of its backbone replaced by pretrained ones.

    Kernels are transposed from [out, in, h, w] to [h, w, in, out] (depthwise ones have in = 1), float16, bfloat16 and
    float64 become float32. Left out knowingly: the classifier (`fc`, `classifier`, `head` ...), the last convolution of
    MobileNetV2 where the backbone has none, and `num_batches_tracked`. A prefix that all keys share ("backbone.",
    "resnet.") is found and removed. Weights must have been trained on images normalised by the backbone's own mean and
    standard deviation (`stages.Backbone.MEAN`, ImageNet's for most), which no file says.

    Args:
        source: a .safetensors file, or "hf:OWNER/NAME[@REVISION]" for the `model.safetensors` of that Hugging Face
            repository, or "pip:NAME" of `pip_weights.WEIGHTS`.
        variables: {"params": {"backbone": ..., ...}, "batch_stats": {"backbone": ..., ...}} of one network.
        backbone: its name, for messages.

    Returns:
        `variables` with float32 leaves under "backbone"; every other leaf is the same object.

    Raises:
        InputError: the source cannot be read or is not in the safetensors format (a pickle is never loaded), a key is
            missing or unknown, a shape is wrong, a value is not finite; or the network has no backbone or one without
            BatchNorm.
    """
    leaves = traverse_util.flatten_dict(variables, keep_empty_nodes=True)
    paths = {_key(path, backbone): path for path in leaves if len(path) > 2 and path[1] == "backbone"}
    if not paths:
        raise InputError(f"Pretrained weights ({source}) are for a network with a backbone, and this one has none.")
    hint = "Published weights need the backbone that they are of, backbone_width 1.0 and norm batch or frozen_batch."
    wanted = {name: leaves[path] for name, path in paths.items()}
    layout = create_backbone(backbone, module_name=None)
    read = read_weights(source, wanted, network=f"the backbone {backbone}", hint=hint, layout=layout)
    return traverse_util.unflatten_dict({**leaves, **{paths[name]: value for name, value in read.items()}})


def read_weights(
    source: str, wanted: dict, *, network: str, hint: str, layout: Backbone = _AS_IT_IS
) -> dict[str, np.ndarray]:
    """Return the weights in a file, float32 and in Flax's order of axes; see `load_backbone`.

    Args:
        source: as in `load_backbone`.
        wanted: torchvision's key (`torch_key`) -> a leaf, or its shape and dtype, of Flax's shape.
        network: its name, for messages.
        hint: what to do about keys that do not fit, for messages.
        layout: knows the keys of other layouts.

    Returns:
        The keys of `wanted` -> array.

    Raises:
        InputError: as `load_backbone`.
    """
    path = _path(source)
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            expected = {name: _torch_shape(leaf) for name, leaf in wanted.items()}
            complaint = f"{source} does not hold the weights of {network}"
            matched = _match(shapes, expected, layout, complaint=complaint, hint=hint)
            return {name: _read(file, keys, expected[name], source) for name, keys in matched.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{source} is no safetensors file, or a damaged one ({error}): download or write it again."
        ) from error


def torch_key(path: tuple[str, ...]) -> str:
    """Return PyTorch's key of a leaf: a.conv.weight of ("a", "conv", "kernel"), a.bn.running_var of (..., "var")."""
    *modules, leaf = path
    return ".".join([*modules, _LEAVES[leaf] if leaf in _LEAVES else leaf])


def _key(path, backbone):
    """Return torchvision's key of a leaf: layer1.0.conv1.weight of (..., "layer1_0", "conv1", "kernel")."""
    *modules, leaf = path[2:]
    if {"group", "instance"} & set(modules):
        raise InputError(
            f"Pretrained weights hold BatchNorm, and the backbone {backbone} has {modules[-1]} norms here; "
            "set norm to batch or frozen_batch."
        )
    words = [word for module in modules if module != "batch" for word in module.split("_")]
    return torch_key((*words, leaf))


def _torch_shape(leaf):
    return tuple(leaf.shape[axis] for axis in _TORCH_AXES[leaf.ndim])


def _path(source):
    if source.startswith(hub.PREFIX):
        return hub.file(source, "model.safetensors", missing=_NO_SAFETENSORS)
    return pip_weights.find(source) if source.startswith(pip_weights.PREFIX) else Path(source)


def _check_file(path):
    if path.suffix.lower() in _PICKLES:
        raise InputError(
            f"{path} is a pickle by its name, which can run any code and is never loaded: convert it once, where you "
            "trust it, with safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'FILE.safetensors')."
        )
    if path.suffix.lower() != ".safetensors":
        raise InputError(
            f"Pretrained weights must be a .safetensors file, hf:OWNER/NAME or pip:NAME, not {str(path)!r}."
        )
    if not path.is_file():
        raise InputError(f"There is no file {path} with pretrained weights.")


def _match(shapes, wanted, layout, *, complaint, hint):
    """Return {wanted key: keys in the file of its pieces}, given the shapes under both, or raise what does not fit."""
    by_letters = {_letters(name): name for name in wanted}

    def named(key):
        """Return the wanted key, or the one found, of a key in the file, the number of its piece and that of all."""
        name = layout.own_key(key)
        piece = _PIECE.fullmatch(name)
        name, number, count = (piece[1], int(piece[2]), int(piece[3])) if piece else (name, 0, 1)
        letters = _letters(name)
        return by_letters[letters] if letters in by_letters else name, number, count

    prefix = _prefix(shapes, lambda key: named(key)[0] in wanted)
    matched, unknown = {name: [] for name in wanted}, []
    for key in shapes:
        name, number, count = named(key.removeprefix(prefix))
        pieces = matched[name] if name in wanted and key.startswith(prefix) else None
        if pieces == []:
            pieces += [None] * count
        if pieces and number < count == len(pieces) and pieces[number] is None:
            pieces[number] = key
        elif not (_left_out(name) or layout.unused(name)):
            unknown.append(key)
    missing = [lacked for name, keys in matched.items() for lacked in _lacked(name, keys)]
    wrong = [
        f"{', '.join(f'{key} {list(shapes[key])}' for key in keys)} instead of {list(wanted[name])}"
        for name, keys in matched.items()
        if keys and None not in keys and not _fit([shapes[key] for key in keys], wanted[name])
    ]
    problems = {"missing": missing, "unknown": unknown, "of another shape": wrong}
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {what} ({_first(keys)})" for what, keys in problems.items() if keys)
        raise InputError(f"{complaint}: keys {listed}. {hint}")
    return matched


def _lacked(name, keys):
    """Return what a weight lacks: itself, or those of its pieces that have no key in the file."""
    if not any(keys):
        return [name]
    return [f"{name}[{number}/{len(keys)}]" for number, key in enumerate(keys) if key is None]


def _letters(key):
    """Return what makes two keys the same, where Flax's names have "_" for "."."""
    return key.replace("_", ".")


def _fit(shapes, wanted):
    """Tell whether pieces of these shapes, joined along their first axis, make a weight of the wanted shape."""
    first, *rest = shapes
    joined = (len(shapes) * first[0], *first[1:]) if rest and first else first
    return all(shape == first for shape in rest) and _without_ones(joined) == _without_ones(wanted)


def _without_ones(shape):
    """Return a shape without the ones at its end: a dense layer is a 1x1 convolution, a scale [c, 1, 1] is [c]."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _prefix(keys, is_wanted):
    """Return what most keys have before a name that is wanted, such as "backbone."; "" if none has."""
    votes = Counter()
    for key in keys:
        words = key.split(".", 8)  # at most: a hostile key of a million dots must not take a million steps
        for start in range(len(words)):
            if is_wanted(".".join(words[start:])):
                votes["".join(f"{word}." for word in words[:start])] += 1
    return max(votes, key=lambda prefix: (votes[prefix], -len(prefix)), default="")


def _left_out(key):
    """Return whether a key that is not wanted is known to be of no use to any backbone."""
    return key.endswith(".num_batches_tracked") or key.split(".", 1)[0] in _CLASSIFIERS


def _first(keys):
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _read(file, keys, shape, source):
    value = (
        np.concatenate([_floats(file, key, source) for key in keys]) if len(keys) > 1 else _floats(file, *keys, source)
    )
    return value.reshape(shape).transpose(np.argsort(_TORCH_AXES[len(shape)]))


def _floats(file, key, source):
    kind = file.get_slice(key).get_dtype()
    if kind not in _FLOATS:
        raise InputError(f"{key} in {source} has the type {kind}; weights are {', '.join(_FLOATS)}.")
    with np.errstate(over="ignore"):  # becomes infinite, which the next line reports
        value = file.get_tensor(key).astype(np.float32)
    if not np.isfinite(value).all():
        raise InputError(f"{key} in {source} holds values that are not finite (in float32).")
    return value

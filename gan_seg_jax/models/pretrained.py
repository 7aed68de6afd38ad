"""Pretrained backbones: ImageNet weights from a safetensors file, by the keys of torchvision, timm or transformers.

The names of the variables of `backbones` mirror torchvision's keys ("layer1.0.conv1.weight" is
`params["layer1_0"]["conv1"]["kernel"]`), so a backbone itself says which keys it needs. Keys of other layouts are
translated to torchvision's: timm's MobileNetV2 ("blocks.1.0.conv_pw.weight") and transformers' ResNet
("encoder.stages.0.layers.0.layer.0.convolution.weight"); timm's ResNet and VGG have torchvision's keys.

What has to agree for the same numbers, and does: convolutions pad (k - 1) / 2 * rate zeros on both sides, 3x3 max
pooling pads -inf and rounds sizes down, a bottleneck has its stride in the 3x3 convolution (the "v1.5" of torchvision
and timm, and the default of transformers: `downsample_in_bottleneck = False`), the epsilon of BatchNorm is 1e-5, and
torch's momentum of 0.1 (the share of the new) is Flax's 0.9 (the share of the old). What differs: in training, torch
adds the unbiased variance of a batch of n values to `running_var`, Flax the biased one, smaller by (n - 1) / n.
"""

import re
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import traverse_util

from gan_seg_jax.errors import InputError

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_CLASSIFIERS = ("fc", "classifier", "aux_classifier", "AuxLogits", "head", "pre_logits", "conv_head")
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")
_FLOATS = ("F16", "BF16", "F32", "F64")

# First convolutions and last ones: of MobileNetV2 in timm and of ResNet in transformers.
_STEMS = {
    "conv_stem": "features.0.0",
    "bn1": "features.0.1",
    "conv_head": "features.18.0",
    "bn2": "features.18.1",
    "embedder.embedder.convolution": "conv1",
    "embedder.embedder.normalization": "bn1",
}

# Blocks of MobileNetV2 in timm: `blocks.I.J` is torchvision's `features.N` with N = _FIRST_FEATURE[I] + J.
_TIMM_BLOCK = re.compile(r"blocks\.([0-6])\.(\d)\.(\w+)")
_FIRST_FEATURE = (1, 2, 4, 7, 11, 14, 17)
_SEPARABLE = {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"}
_INVERTED = {
    "conv_pw": "conv.0.0",
    "bn1": "conv.0.1",
    "conv_dw": "conv.1.0",
    "bn2": "conv.1.1",
    "conv_pwl": "conv.2",
    "bn3": "conv.3",
}

# Blocks of ResNet in transformers.
_HF_BLOCK = re.compile(r"encoder\.stages\.(\d)\.layers\.(\d+)\.(?:layer\.(\d)|shortcut)\.(convolution|normalization)")
_HF_SHORTCUT = {"convolution": "downsample.0", "normalization": "downsample.1"}


def load_backbone(source: str, variables: dict, *, backbone: str) -> dict:
    """Return a network's variables with those of its backbone replaced by pretrained ones.

    Kernels are transposed from [out, in, h, w] to [h, w, in, out] (depthwise ones have in = 1), float16, bfloat16 and
    float64 become float32. Left out knowingly: the classifier (`fc`, `classifier`, `head` ...), the last convolution of
    MobileNetV2 where the backbone has none, and `num_batches_tracked`. A prefix that all keys share ("backbone.",
    "resnet.") is found and removed. Weights must have been trained on images normalised by ImageNet's mean and standard
    deviation, which no file says.

    Args:
        source: a .safetensors file, or "hf:OWNER/NAME[@REVISION]" for the `model.safetensors` of that Hugging Face
            repository.
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
    read = read_weights(source, wanted, network=f"the backbone {backbone}", hint=hint)
    return traverse_util.unflatten_dict({**leaves, **{paths[name]: value for name, value in read.items()}})


def read_weights(source: str, wanted: dict, *, network: str, hint: str) -> dict[str, jax.Array]:
    """Return the weights in a file, float32 and in Flax's order of axes; see `load_backbone`.

    Args:
        source: as in `load_backbone`.
        wanted: torchvision's key (`torch_key`) -> a leaf, or its shape and dtype, of Flax's shape.
        network: its name, for messages.
        hint: what to do about keys that do not fit, for messages.

    Returns:
        The keys of `wanted` -> jax.Array.

    Raises:
        InputError: as `load_backbone`.
    """
    path = _download(source) if source.startswith("hf:") else Path(source)
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            expected = {name: _torch_shape(leaf) for name, leaf in wanted.items()}
            matched = _match(shapes, expected, f"{source} does not hold the weights of {network}", hint)
            return {name: _read(file, key, source) for name, key in matched.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{source} is no safetensors file, or a damaged one ({error}): download or write it again."
        ) from error


def torch_key(path: tuple[str, ...]) -> str:
    """Return PyTorch's key of a leaf: a.conv.weight of ("a", "conv", "kernel"), a.bn.running_var of (..., "var")."""
    *modules, leaf = path
    return ".".join([*modules, _LEAVES[leaf]])


def _key(path, backbone):
    """Return torchvision's key of a leaf: layer1.0.conv1.weight of (..., "layer1_0", "conv1", "kernel")."""
    *modules, leaf = path[2:]
    if modules[-1] in ("group", "instance"):
        raise InputError(
            f"Pretrained weights hold BatchNorm, and the backbone {backbone} has {modules[-1]} norms here; "
            "set norm to batch or frozen_batch."
        )
    words = [word for module in modules if module != "batch" for word in module.split("_")]
    return torch_key((*words, leaf))


def _torch_shape(leaf):
    return tuple(leaf.shape[axis] for axis in (3, 2, 0, 1)) if leaf.ndim == 4 else tuple(leaf.shape)


def _download(source):
    """Return the local path of the weights of "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION"."""
    repository, _, revision = source.removeprefix("hf:").partition("@")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise InputError(
            f"{source} needs the package huggingface_hub (pip install huggingface_hub); "
            "or download the file yourself and name its path."
        ) from error
    try:
        return Path(huggingface_hub.hf_hub_download(repository, "model.safetensors", revision=revision or None))
    except errors.LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError, hence first
        raise InputError(
            f"{source} is not in the local cache and Hugging Face cannot be reached; download the file elsewhere."
        ) from error
    except errors.EntryNotFoundError as error:
        raise InputError(
            f"{source} has no model.safetensors, the only format that is read: choose another repository, or convert "
            "its weights with safetensors.torch.save_file."
        ) from error
    except Exception as error:  # HTTP, permissions, names: the package has dozens of types, and changes them
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{source} cannot be downloaded: {reason}") from error


def _check_file(path):
    if path.suffix.lower() in _PICKLES:
        raise InputError(
            f"{path} is a pickle by its name, which can run any code and is never loaded: convert it once, where you "
            "trust it, with safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'FILE.safetensors')."
        )
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"Pretrained weights must be a .safetensors file or hf:OWNER/NAME, not {str(path)!r}.")
    if not path.is_file():
        raise InputError(f"There is no file {path} with pretrained weights.")


def _match(shapes, wanted, complaint, hint):
    """Return {torchvision's key: key in the file}, given the shapes under both, or raise what does not fit."""
    prefix = _prefix(shapes, wanted)
    matched, unknown, wrong = {}, [], []
    for key, shape in shapes.items():
        name = next((name for name in _names(key.removeprefix(prefix)) if name in wanted), None)
        if name is not None and name not in matched and key.startswith(prefix):
            matched[name] = key
            if shape != wanted[name]:
                wrong.append(f"{key} {list(shape)} instead of {list(wanted[name])}")
        elif not _left_out(key.removeprefix(prefix), wanted):
            unknown.append(key)
    missing = [name for name in wanted if name not in matched]
    problems = {"missing": missing, "unknown": unknown, "of another shape": wrong}
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {what} ({_first(keys)})" for what, keys in problems.items() if keys)
        raise InputError(f"{complaint}: keys {listed}. {hint}")
    return matched


def _prefix(keys, wanted):
    """Return what most keys have before a name that is wanted, such as "backbone."; "" if none has."""
    votes = Counter()
    for key in keys:
        words = key.split(".", 8)  # at most: a hostile key of a million dots must not take a million steps
        for start in range(len(words)):
            if any(name in wanted for name in _names(".".join(words[start:]))):
                votes["".join(f"{word}." for word in words[:start])] += 1
    return max(votes, key=lambda prefix: (votes[prefix], -len(prefix)), default="")


def _names(key):
    """Yield what torchvision could call a key: the same, and its translations from timm and transformers."""
    yield key
    module, _, leaf = key.rpartition(".")
    if module in _STEMS:
        yield f"{_STEMS[module]}.{leaf}"
    if block := _TIMM_BLOCK.fullmatch(module):
        group, index, layer = int(block[1]), int(block[2]), block[3]
        names = _SEPARABLE if group == 0 else _INVERTED
        yield f"features.{_FIRST_FEATURE[group] + index}.{names.get(layer, layer)}.{leaf}"
    if block := _HF_BLOCK.fullmatch(module):
        stage, index, layer, kind = block.groups()
        names = {"convolution": "conv", "normalization": "bn"} if layer else _HF_SHORTCUT
        number = int(layer) + 1 if layer else ""
        yield f"layer{int(stage) + 1}.{index}.{names[kind]}{number}.{leaf}"


def _left_out(key, wanted):
    """Return whether a key that is not wanted is known to be of no use to a backbone."""
    if key.endswith(".num_batches_tracked") or key.split(".", 1)[0] in _CLASSIFIERS:
        return True
    # MobileNetV2 without its last convolution ("bn2" is its norm in timm).
    return "features.17.conv.0.0.weight" in wanted and key.startswith(("features.18.", "bn2."))


def _first(keys):
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _read(file, key, source):
    kind = file.get_slice(key).get_dtype()
    if kind not in _FLOATS:
        raise InputError(f"{key} in {source} has the type {kind}; weights are {', '.join(_FLOATS)}.")
    with np.errstate(over="ignore"):  # becomes infinite, which the next line reports
        value = file.get_tensor(key).astype(np.float32)
    if not np.isfinite(value).all():
        raise InputError(f"{key} in {source} holds values that are not finite (in float32).")
    return jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)

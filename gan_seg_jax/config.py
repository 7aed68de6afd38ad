"""What every command does with a config: check, hash, write, read and compare it.

A config is a locked `ml_collections.ConfigDict`; its fields are explained in `configs/common.py`.
"""

import hashlib
import json
import math
from typing import Any

from ml_collections import ConfigDict

from gan_seg_jax.data.fields import DOMAINS
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import MAX_CLASSES

POSITIVE = (
    "steps",
    "batch_size",
    "rounds",
    "keep_checkpoints",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "max_bad_steps",
    "prefetch",
    "max_pixels",
)
NOT_NEGATIVE = ("seed", "num_workers", "penalty_every", "samples_every", "num_classes")
SIZES = ("canvas_size", "crop_size")
COUNTS = (  # fields of networks that are positive whole numbers, one or several
    "channels",
    "rate",
    "rates",
    "multi_grid",
    "bins",
    "growth",
    "stem",
    "bottleneck",
    "aspp_channels",
    "low_level_channels",
    "decoder_channels",
    "head_channels",
    "head_kernel",
    "output_stride",
    "stride",
)
MAY_BE_ZERO = {("deeplabv2", "channels")}  # where it has a meaning
MAY_CHANGE_ON_RESUME = (
    "steps",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "samples_every",
    "keep_checkpoints",
    "num_workers",
    "prefetch",
    "data_dir",
    "max_pixels",
    "tensorboard",
    "extend",
    "planned_steps",
)
SHARES_OF_STEPS = ("consistency_ramp", "self_training_start")  # of config.losses
# No more than any machine could hold: a config may come from somebody else.
MOST = {
    "steps": 2**31 - 1,
    "batch_size": 2**16,
    "rounds": 2**10,
    "num_workers": 2**10,
    "prefetch": 2**10,
    "num_classes": MAX_CLASSES,
}
LONGEST_SIDE, LARGEST_AREA = 2**14, 2**26  # of a canvas, a crop or a scene, in pixels
PIXELS_OF_A_STEP, PIXELS_OF_SCENES = 2**31, 2**40
LONGEST_PHASE = 2**53
LONGEST_SHOWN = 200  # letters of a value in a message
MOST_CHANNELS, MOST_LAYERS, MOST_LEVELS = 2**16, 2**8, 2**6  # numbers in a network's attributes; their count
LAYERS = ("layers", "convs", "encoder_convs", "decoder_convs", "bottleneck", "scales")
DTYPES = ("float32", "bfloat16")


def check(config: ConfigDict) -> None:
    """Check the values that the types cannot.

    Raises:
        InputError: a value is out of its range; the message names field, value and range.
    """
    trains = len(config.networks) > 0  # a classical method has none: it is fitted, not trained
    for name in POSITIVE:
        ok = config[name] > 0 or (name == "steps" and not trains)
        _expect(ok, name, config[name], "a positive whole number")
    for name in NOT_NEGATIVE:
        _expect(config[name] >= 0, name, config[name], "zero or a positive whole number")
    _expect(config.seed < 2**32, "seed", config.seed, "less than 2**32")
    for name in SIZES:
        size = config[name]
        ok = len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        _expect(ok, name, size, "(height, width) in pixels, both positive whole numbers")
    _expect(0.0 <= config.ema_decay < 1.0, "ema_decay", config.ema_decay, "at least 0 and less than 1")
    _expect(config.dtype in DTYPES, "dtype", config.dtype, f"one of {', '.join(DTYPES)}")
    _expect(config.extend in ("", "constant"), "extend", config.extend, "'' or 'constant'")
    planned = config.planned_steps
    _expect(0 <= planned <= config.steps, "planned_steps", planned, "0 (all) or at most config.steps")
    _expect(config.resize in ("fit", "none"), "resize", config.resize, "'fit' or 'none'")
    scale = config.augment.scale
    ok = len(scale) == 2 and all(isinstance(x, (int, float)) for x in scale) and 0 < scale[0] <= scale[1] < math.inf
    _expect(ok, "augment.scale", scale, "(low, high) with 0 < low <= high")
    for name in ("brightness", "contrast", "saturation"):
        _expect(config.augment[name] >= 0, f"augment.{name}", config.augment[name], "0 (off) or a positive strength")
    balance = config.augment.class_balance
    _expect(0 <= balance <= 1, "augment.class_balance", balance, "a share, 0 (off) to 1")
    if config.augment.transpose:
        _expect(
            config.crop_size[0] == config.crop_size[1], "crop_size", config.crop_size, "square with augment.transpose"
        )
    for role, optimizer in config.optimizers.items():
        rate = optimizer.learning_rate
        _expect(math.isfinite(rate) and rate > 0, f"optimizers.{role}.learning_rate", rate, "a positive number")
        for name in ("beta1", "beta2"):
            value = optimizer[name]
            _expect(0.0 <= value < 1.0, f"optimizers.{role}.{name}", value, "at least 0 and less than 1")
        for name in ("weight_decay", "clip_norm", "clip_weights", "warmup_steps", "l1", "l2"):
            value = optimizer[name]
            _expect(0 <= value < math.inf, f"optimizers.{role}.{name}", value, "0 (off) or a positive number")
        for name in ("head_factor", "poly_power", "decay_factor"):
            value = optimizer[name]
            _expect(0 < value < math.inf, f"optimizers.{role}.{name}", value, "a positive number")
        shares = optimizer.decay_at
        ok = all(isinstance(share, (int, float)) and 0 < share < 1 for share in shares)
        _expect(ok, f"optimizers.{role}.decay_at", shares, "shares of the run, between 0 and 1")
    _check_data(config)
    _check_bounds(config)
    _check_losses(config)
    _check_networks(config)
    for prior in config.prior_runs.values():
        check(prior)
    if trains:
        _check_phases(config)
    else:
        _expect(config.steps == 0, "steps", config.steps, "0 for a method without networks")
        _expect(len(config.phases) == 0, "phases", config.phases, "() for a method without networks")


def _check_data(config: ConfigDict) -> None:
    """Check which images are labelled, come from elsewhere or are made."""
    bits = config.image_bits
    _expect(bits == 0 or 8 <= bits <= 16, "image_bits", bits, "8 to 16, or 0 (the data set says)")
    fraction, share = config.labelled.fraction, config.synthetic.share
    _expect(0 < fraction <= 1, "labelled.fraction", fraction, "more than 0 and at most 1")
    _expect(0 <= share < 1, "synthetic.share", share, "at least 0 and less than 1")
    for name in ("scenes.look", "source.look"):
        group, field = name.split(".")
        _expect(config[group][field] in DOMAINS, name, config[group][field], f"one of {', '.join(DOMAINS)}")
    for name, seed in (("labelled.seed", config.labelled.seed), ("source.seed", config.source.seed)):
        _expect(0 <= seed < 2**32, name, seed, "at least 0 and less than 2**32")

    names, colors, lengths = config.class_names, config.class_colors, (0, config.num_classes)
    _expect(len(names) in lengths, "class_names", names, "(), or as many names as config.num_classes")
    ok = len(colors) in lengths and all(len(rgb) == 3 and 0 <= min(rgb) <= max(rgb) < 256 for rgb in colors)
    _expect(ok, "class_colors", colors, "(), or (red, green, blue), 0 to 255 each, as many as config.num_classes")


def _check_bounds(config: ConfigDict) -> None:
    """Check that nothing is beyond all bounds: no config may use up a machine's memory or disk."""
    for name, most in MOST.items():
        _expect(config[name] <= most, name, config[name], f"at most {most}")
    for name, sides in (*((name, config[name]) for name in SIZES), ("scenes.size", config.scenes.size)):
        ok = len(sides) == 2 and 0 < min(sides) <= max(sides) <= LONGEST_SIDE and math.prod(sides) <= LARGEST_AREA
        _expect(ok, name, sides, f"(height, width), 1 to {LONGEST_SIDE} each, of at most {LARGEST_AREA} pixels")
    for name in SIZES:
        pixels = math.prod(config[name]) * config.batch_size * config.rounds
        most = f"batches of at most {PIXELS_OF_A_STEP} pixels in a step"
        _expect(pixels <= PIXELS_OF_A_STEP, name, config[name], most)
    counts = config.scenes.counts
    ok = len(counts) == 3 and min(counts) >= 0 and sum(counts) * math.prod(config.scenes.size) <= PIXELS_OF_SCENES
    _expect(ok, "scenes.counts", counts, f"those of train, val and test, of at most {PIXELS_OF_SCENES} pixels in all")
    if "noise" in config:
        size = config.noise.size
        _expect(0 <= size <= MOST_CHANNELS, "noise.size", size, f"zero or a whole number of at most {MOST_CHANNELS}")
    if "noise_channels" in config:
        size = config.noise_channels
        _expect(0 <= size <= MOST_CHANNELS, "noise_channels", size, f"zero or at most {MOST_CHANNELS}")


def _check_losses(config: ConfigDict) -> None:
    """Check the weights of the losses and their options."""
    weights = {f"weights.{name}": value for name, value in config.losses.weights.items()}
    for name, value in {**dict(config.losses.items()), **weights}.items():
        if isinstance(value, (int, float)):
            _expect(0 <= value < math.inf, f"losses.{name}", value, "0 or a positive number")
    smoothing, fraction = config.losses.label_smoothing, config.losses.hard_pixel_fraction
    _expect(smoothing < 1, "losses.label_smoothing", smoothing, "at least 0 and less than 1")
    if "accuracy_bound" in config.losses:
        bound = config.losses.accuracy_bound
        _expect(0 < bound <= 1, "losses.accuracy_bound", bound, "more than 0 and at most 1 (off)")
    _expect(0 < fraction <= 1, "losses.hard_pixel_fraction", fraction, "more than 0 and at most 1")
    _expect(
        config.losses.boundary_sigma > 0, "losses.boundary_sigma", config.losses.boundary_sigma, "pixels, more than 0"
    )
    for role in config.pretrained:
        _expect(role in config.networks, "pretrained", role, f"roles of config.networks ({', '.join(config.networks)})")


def _check_networks(config: ConfigDict) -> None:
    """Check the sizes and rates of all networks, and that only networks with a backbone have a head."""
    for role, network in config.networks.items():
        for name, value in network.items():
            field, numbers = f"networks.{role}.{name}", value if isinstance(value, tuple) else (value,)
            counts = name in COUNTS or (name == "layers" and isinstance(value, tuple))
            if counts and (network.name, name) not in MAY_BE_ZERO:
                ok = len(numbers) > 0 and all(isinstance(n, int) and n > 0 for n in numbers)
                _expect(ok, field, value, "positive whole numbers")
            elif name == "dropout":
                ok = isinstance(value, (int, float)) and 0.0 <= value < 1.0
                _expect(ok, field, value, "at least 0 and less than 1")
            elif isinstance(value, (int, float, tuple)):
                ok = all(isinstance(n, (int, float)) and 0 <= n < math.inf for n in numbers)
                _expect(ok, field, value, "zero or a positive number")
            if name in ("convs", "channels", "layers"):
                _expect(all(isinstance(n, int) for n in numbers), field, value, "whole numbers")
            if name == "bins":
                _expect(len(set(numbers)) == len(numbers), field, value, "each number once")
            if isinstance(value, (int, float, tuple)):
                most = MOST_LAYERS if name in LAYERS else MOST_CHANNELS
                ok = len(numbers) <= MOST_LEVELS and all(n <= most for n in numbers)
                _expect(ok, field, value, f"at most {most}, and at most {MOST_LEVELS} numbers")
        if role in config.optimizers and "backbone" not in network:
            factor = config.optimizers[role].head_factor
            _expect(factor == 1, f"optimizers.{role}.head_factor", factor, f"1, since {network.name} has no backbone")


def _check_phases(config: ConfigDict) -> None:
    """Check that phases are ((length, ((role, ...), ...)), ...) over roles with an optimizer, and use every round."""
    shape = '((length, (("role", ...), ...)), ...), such as ((1, (("discriminator",), ("generator",))),)'
    _expect(len(config.phases) > 0, "phases", config.phases, shape)
    sequence = (tuple, list)
    for phase in config.phases:
        ok = isinstance(phase, sequence) and len(phase) == 2 and isinstance(phase[0], (int, float))
        ok = ok and 0 < phase[0] < LONGEST_PHASE and isinstance(phase[1], sequence) and len(phase[1]) > 0
        ok = ok and all(isinstance(group, sequence) and len(group) > 0 for group in phase[1])
        _expect(ok, "phases", config.phases, shape)
        _expect(
            config.rounds == 1 or len(phase[1]) > 1,
            "rounds",
            config.rounds,
            f"1, since all but the last group of a phase run once on each of the batches and {phase} has one group "
            "alone: the other batches would be read for nothing; or give every phase two groups",
        )
        for group in phase[1]:
            _expect(len(set(group)) == len(group), "phases", config.phases, "each role once in a group")
            for role in group:
                _expect(
                    role in config.networks, "phases", role, f"roles of config.networks ({', '.join(config.networks)})"
                )
                _expect(
                    role in config.optimizers,
                    "phases",
                    role,
                    f"roles of config.optimizers ({', '.join(config.optimizers)})",
                )


def _expect(ok: bool, field: str, found: Any, expected: str) -> None:
    if not ok:
        text = repr(found)
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."
        raise InputError(f"config.{field} is {shown}; expected {expected}.")


def check_classes(config: ConfigDict) -> None:
    """Check what depends on the number of classes, once the data set has filled it in.

    Raises:
        InputError: the class weights are not one for each class.
    """
    weights = config.losses.class_weights
    ok = len(weights) in (0, config.num_classes) and all(0 <= weight < math.inf for weight in weights)
    ok = ok and (len(weights) == 0 or max(weights) > 0)
    _expect(ok, "losses.class_weights", weights, f"(), or {config.num_classes} numbers, none negative, not all 0")


def planned(config: ConfigDict) -> int:
    """Return the steps over which phases, learning rates and ramps are spread: all but those of an extension."""
    return config.planned_steps or config.steps


def phase_ends(config: ConfigDict) -> list[tuple[int, tuple[tuple[str, ...], ...]]]:
    """Return (step at which the phase ends, its updates) for each phase; the last ends at `config.steps`.

    Phase lengths are relative: they are scaled so that they add up to the planned steps, so that one field makes any
    schedule shorter or longer. An extension belongs to the last phase.
    """
    ends = _planned_ends(config)
    return [*ends[:-1], (config.steps, ends[-1][1])]


def _planned_ends(config: ConfigDict) -> list[tuple[int, tuple[tuple[str, ...], ...]]]:
    total, ends, done = sum(length for length, _ in config.phases), [], 0.0
    for length, updates in config.phases:
        done += length
        ends.append((round(planned(config) * done / total), tuple(tuple(group) for group in updates)))
    return ends


def updates_of(config: ConfigDict, role: str) -> int:
    """Return how often `role` is updated in the planned steps: the horizon of its learning-rate schedule."""
    count, start = 0, 0
    for end, updates in _planned_ends(config):
        each = sum(
            (role in group) * (config.rounds if number < len(updates) - 1 else 1)
            for number, group in enumerate(updates)
        )
        count, start = count + (end - start) * each, end
    return count


def plan(config: ConfigDict) -> dict[str, Any]:
    """Return what follows from the number of steps, by its name in a message: empty where a run may end anywhere."""
    found: dict[str, Any] = {}
    ends = _planned_ends(config)
    if len(ends) > 1:
        found["the phases"] = ends
    for role, options in config.optimizers.items():
        if options.schedule != "constant" and updates_of(config, role) > 0:
            found[f"the {options.schedule} learning rate of {role}"] = updates_of(config, role)
    for name in SHARES_OF_STEPS:
        if name in config.losses and config.losses[name] > 0:
            found[f"losses.{name}"] = config.losses[name] * planned(config)
    return found


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Return the config as plain JSON values (tuples become lists)."""
    return json.loads(config.to_json_best_effort())


def from_json(values: dict[str, Any]) -> ConfigDict:
    """Return the locked config that `to_json` wrote (lists become tuples)."""

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return tuple(plain(inner) for inner in value) if isinstance(value, list) else value

    return ConfigDict(plain(values)).lock()


def digest(config: ConfigDict) -> str:
    """Return the SHA-256 of the config's fields, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return (field, old value, new value) wherever two configs in JSON form differ in what a resumed run must keep.

    A field that one side lacks is shown as "(absent)".
    """
    found = []
    for name in sorted(old.keys() | new.keys()):
        field = prefix + name
        if field in MAY_CHANGE_ON_RESUME:
            continue
        a, b = old.get(name, "(absent)"), new.get(name, "(absent)")
        if field == "phases":  # their lengths may change, who moves in them may not
            a, b = [updates for _, updates in a], [updates for _, updates in b]
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, field + ".")
        elif a != b:
            found.append((field, a, b))
    return found

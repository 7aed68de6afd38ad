"""What a training takes on a slice, in figures: the values of the JSON file."""

import collections
import dataclasses
import math
from typing import Any

import jax
from ml_collections import ConfigDict

from gan_seg_jax import models
from gan_seg_jax.config import from_json, to_json
from gan_seg_jax.losses import fields
from gan_seg_jax.methods import get_method
from gan_seg_jax.phases import last_phase, phase_ends
from gan_seg_jax.planning import apart, hlo, program, roofline
from gan_seg_jax.planning.slices import Slice
from gan_seg_jax.training import checks, measure, start


def of_config(config: ConfigDict) -> dict[str, Any]:
    """Return what holds on every slice: which step it is, and the parameters of its networks.

    Raises:
        InputError: The networks or the method refuse the config.
    """
    models.check(config)
    checks.check_shards(config)
    method = get_method(config)
    checks.build(method, config)
    fields.check_classes(config)
    state = start.state_shapes(method, config)
    _, updates = phase_ends(config)[-1]
    sizes = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    return {
        "method": config.method,
        "dtype": config.dtype,
        "crop_size": list(config.crop_size),
        "canvas_size": list(config.canvas_size),
        "classes": config.num_classes,
        "phase": " then ".join(" + ".join(group) for group in updates),
        "steps": config.steps,
        "penalty_every": config.penalty_every,
        "share_of_steps": (config.steps - last_phase(config)) / config.steps,
        "parameters": {role: sizes(network.params) for role, network in state.networks.items()},
    }


def on_slice_apart(config: ConfigDict, where: Slice, rate: float, *, measured: bool) -> dict[str, Any]:
    """Return what `on_slice` does, made in a process of its own: libtpu may end it by a fault, as of its stack."""
    try:
        return apart.call(_on_slice, to_json(config), where, rate, measured)
    except apart.CrashedError as error:
        return _facts(config, where) | {"crashed": True, "signal": error.signal}


def _on_slice(values: dict[str, Any], where: Slice, rate: float, measured: bool) -> dict[str, Any]:
    return on_slice(from_json(values), where, rate, measured=measured)


def _facts(config: ConfigDict, where: Slice) -> dict[str, Any]:
    return {
        "slice": where.name,
        "topology": where.topology,
        "chips": where.chips,
        "least_batch": where.chips // config.spatial_shards,
        "hosts": where.hosts,
        "batch": config.batch_size,
        "batch_per_chip": config.batch_size / where.chips,  # less than one where chips share images
    }


def on_slice(config: ConfigDict, where: Slice, rate: float, *, measured: bool) -> dict[str, Any]:
    """Return what a training takes on a slice.

    Args:
        config: With classes; its batch is that of all chips.
        where: The slice.
        rate: Images a second that one host reads and prepares; 0 if not known.
        measured: Whether it was measured here.

    Raises:
        InputError: It cannot be compiled as it is.
    """
    chip, values = where.chip, _facts(config, where)
    try:
        compiled, state = program.compile_last_phase(config, program.devices(where))
    except program.TooLargeError as error:
        used = {"total": error.needed, "hbm": error.there or chip.hbm}
        fixed = _bytes(start.state_shapes(get_method(config), config))
        return values | {"fits": False, "memory": used, "largest_batch_per_chip": _largest(values, used, fixed, config)}
    taken = measure.memory(compiled)
    used = dataclasses.asdict(taken) | {"total": taken.total, "hbm": chip.hbm}
    return values | {
        "fits": taken.total <= chip.hbm,
        "memory": used,
        "largest_batch_per_chip": _largest(values, used, _bytes(state) + taken.code, config),
        **_time(config, where, compiled, rate, measured=measured),
    }


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _largest(values: dict[str, Any], used: dict[str, int], fixed: int, config: ConfigDict) -> float | None:
    """Return the largest batch of a chip that probably fits, None where the compiler has not said what it needs."""
    growing = used["total"] - fixed
    if growing <= 0:
        return None
    least = 1 / config.spatial_shards
    return roofline.largest_batch(values["batch_per_chip"], fixed, growing, used["hbm"], least=least)


def _time(config: ConfigDict, where: Slice, compiled: Any, rate: float, *, measured: bool) -> dict[str, Any]:
    """Return what a compiled step computes, moves and sends, and how long that takes at best."""
    cost = compiled.cost_analysis()
    text = compiled.as_text()
    moved, sent = hlo.traffic(text), hlo.collectives(text)
    found = roofline.seconds(where, cost["flops"], moved.moved, sent)
    kinds: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for each in sent:
        kinds[each.kind].update(count=1, bytes=each.bytes)
    images = config.batch_size * config.rounds
    read = config.rounds * len(get_method(config).STREAMS)  # for each image of the batch
    values = {
        "flops": cost["flops"] * where.chips,
        "flops_per_chip": cost["flops"],
        "bytes_moved_per_chip": moved.moved,
        "bytes_of_numbers_per_chip": moved.numbers,
        "collectives": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
        "seconds": dataclasses.asdict(found) | {"step": found.step},
        "bound": found.bound,
        "images_per_second": images / found.step,
        "images_read_per_second_of_a_host": config.batch_size * read / where.hosts / found.step,
        "share_of_peak": cost["flops"] / found.step / where.chip.flops,
    }
    if rate:
        one = read / (rate * where.hosts)
        bound = roofline.input_bound(found, config.batch_size, where.chips // config.spatial_shards, one)
        values["input"] = {
            "images_per_second_of_a_host": rate,
            "measured": measured,
            "images_read_a_step": config.batch_size * read,
            "seconds": config.batch_size * one,
            "bound_from_batch": bound,
        }
    return values

"""The phases of a run: which roles move when, and how many updates that makes.

`config.phases` is ((length, updates), ...). Lengths are relative: they are scaled to add up to the steps of the run, so
that one field makes any schedule shorter or longer.
"""

from typing import Any

from ml_collections import ConfigDict

from gan_seg_jax.errors import expect

LONGEST_PHASE = 2**53
SHARES_OF_STEPS = ("consistency_ramp", "self_training_start")  # of config.losses


def check(config: ConfigDict) -> None:
    """Check that phases are ((length, ((role, ...), ...)), ...) over roles with an optimizer, and use every round.

    Raises:
        InputError: they are not, or a method without networks has any.
    """
    if not config.networks:
        expect(len(config.phases) == 0, "phases", config.phases, "() for a method without networks")
        return
    shape = '((length, (("role", ...), ...)), ...), such as ((1, (("discriminator",), ("generator",))),)'
    expect(len(config.phases) > 0, "phases", config.phases, shape)
    sequence = (tuple, list)
    for phase in config.phases:
        ok = isinstance(phase, sequence) and len(phase) == 2 and isinstance(phase[0], (int, float))
        ok = ok and 0 < phase[0] < LONGEST_PHASE and isinstance(phase[1], sequence) and len(phase[1]) > 0
        ok = ok and all(isinstance(group, sequence) and len(group) > 0 for group in phase[1])
        expect(ok, "phases", config.phases, shape)
        expect(
            config.rounds == 1 or len(phase[1]) > 1,
            "rounds",
            config.rounds,
            f"1, since all but the last group of a phase run once on each of the batches and {phase} has one group "
            "alone: the other batches would be read for nothing; or give every phase two groups",
        )
        for group in phase[1]:
            expect(len(set(group)) == len(group), "phases", config.phases, "each role once in a group")
            for role in group:
                expect(
                    role in config.networks, "phases", role, f"roles of config.networks ({', '.join(config.networks)})"
                )
                expect(
                    role in config.optimizers,
                    "phases",
                    role,
                    f"roles of config.optimizers ({', '.join(config.optimizers)})",
                )


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


def last_phase(config: ConfigDict) -> int:
    """Return the steps after which the last phase begins: 0 where there is one phase."""
    return max((end for end, _ in _planned_ends(config)[:-1]), default=0)


def is_complete(config: ConfigDict, steps: int, unimproved: int) -> bool:
    """Return whether a run has come to its end.

    Args:
        config: of the run.
        steps: that it has taken.
        unimproved: validations in a row without a better score, of which `config.patience` are enough.
    """
    return steps >= config.steps or 0 < config.patience <= unimproved


def frozen_backbones(config: ConfigDict, step: int) -> frozenset[str]:
    """Return the roles whose backbone does not move in the step after `step` steps.

    The steps of `backbone_frozen_steps` are counted from the first one in which the role moves.
    """
    found, begin = {}, 0
    for end, updates in _planned_ends(config):
        for role in {role for group in updates for role in group if end > begin}:
            found.setdefault(role, begin + config.optimizers[role].backbone_frozen_steps)
        begin = end
    return frozenset(role for role, thawed in found.items() if step < thawed)


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

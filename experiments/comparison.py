"""What may differ between the arms of a table: what the table is about, and nothing else.

The runner asks the command line for the whole config of every arm (`--show_config`) and compares it, field by field,
with that of the arm's reference before the first cell. Every field that differs must be among those that the table (or
the arm) names; else the table would measure something besides what it says.

The network that labels the images has other names in other methods (segmenter, generator). An arm says which role acts;
its network, optimizer, start and place in the phases are compared under one name, `networks.ACTING.*`,
`optimizers.ACTING.*` and so on.
"""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ABSENT = "(absent)"
PROBE = 424242  # a seed that no table has: where it turns up, a field follows the seed
ROLE_GROUPS = ("networks", "optimizers", "init", "pretrained")  # of a config, by role

OFF = {"losses.mixup": 0.0}  # fields that not every method has, at the value at which they do nothing: as if absent

UPDATES = "updates.ACTING"  # how often a step moves the acting network: `phases` may hide fewer, or more, of them

# The fields that a game between a segmenter and a discriminator has and cross-entropy has not. The supervised losses
# (`losses.weights.*` and their options), the acting network, its optimizer and the data are none of them.
GAME = (
    "method",
    "phases",
    "networks.discriminator*",
    "optimizers.discriminator*",
    "init.discriminator*",
    "losses.adversarial*",
    "losses.r1",
    "losses.gradient_penalty",
    "losses.diff_augment",
    "losses.instance_noise*",
    "losses.accuracy_bound",
    "losses.feature_matching",
    "losses.conditional",
    "losses.discriminator_input",
    "losses.truth_softness",
    "losses.image_level",
    "output",
)


class ComparisonError(Exception):
    """The arms of a table cannot be compared; a sentence for people."""


def flat(config: Mapping[str, Any], acts: str) -> dict[str, Any]:
    """Return field -> value of a config in JSON form, with the acting role under one name.

    How scenes are drawn is left out where nobody draws any, and so are a field that is OFF and `backbone`, another name
    of the segmenter's. UPDATES is computed: a game changes the phases, but not how much the network that it is to help
    is trained.

    Args:
        config: as `--show_config` prints it.
        acts: the role that labels images (or makes them), such as "segmenter" or "generator".
    """
    renamed = dict(config)
    for group in ROLE_GROUPS:
        renamed[group] = {"ACTING" if role == acts else role: of for role, of in config[group].items()}
    renamed["phases"] = [
        [length, [["ACTING" if role == acts else role for role in roles] for roles in updates]]
        for length, updates in config["phases"]
    ]
    steps = sum(length for length, _ in renamed["phases"])
    moved = sum(length * sum("ACTING" in roles for roles in updates) for length, updates in renamed["phases"])
    renamed[UPDATES] = moved / steps if steps else 0.0
    renamed.pop("backbone", None)
    if "scenes" not in (config["dataset"], config["source"]["dataset"]):
        del renamed["scenes"]
    return {field: value for field, value in leaves(renamed) if field not in OFF or value != OFF[field]}


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (field, value) of a config in JSON form, each field by its whole name, such as "scenes.seed"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def differences(reference: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return field -> (value of the reference, value of the other) where two flat configs differ."""
    found = {}
    for field in sorted(reference.keys() | other.keys()):
        pair = reference.get(field, ABSENT), other.get(field, ABSENT)
        if pair[0] != pair[1]:
            found[field] = pair
    return found


def check_difference(arm: str, reference: str, found: Mapping[str, tuple[Any, Any]], varies: Sequence[str]) -> None:
    """Check that an arm differs from its reference in nothing but what the table is about.

    Args:
        arm: name of the arm.
        reference: name of its reference.
        found: from `differences`.
        varies: fields that may differ, with `*` for any letters.

    Raises:
        ComparisonError: another field differs.
    """
    strange = [field for field in found if not any(fnmatch.fnmatchcase(field, pattern) for pattern in varies)]
    if strange:
        field = strange[0]
        more = f" ({len(strange) - 1} more: {', '.join(strange[1:4])}{' ...' if len(strange) > 4 else ''})"
        raise ComparisonError(
            f"The arm {arm!r} differs from its reference {reference!r} in config.{field}: {found[field][1]!r} where "
            f"the reference has {found[field][0]!r}{more if len(strange) > 1 else ''}; make them equal, or name the "
            "field in what the table varies."
        )


def drawn_fields(config: Mapping[str, Any]) -> list[str]:
    """Return the seeds, besides the run's own, that say on which data an arm is trained or scored.

    They are that of the labelled images, where a fraction keeps its labels, and those of drawn scenes.
    """
    found = []
    if config["labelled"]["fraction"] < 1 and not config["labelled"]["index_file"]:
        found.append("labelled.seed")
    if config["dataset"] == "scenes":
        found.append("scenes.seed")
    if config["source"]["dataset"] == "scenes":
        found.append("source.seed")
    return found


def check_seeds(arm: str, config: Mapping[str, Any], fixed: Sequence[str]) -> None:
    """Check that the data of an arm are drawn anew for each seed, so that intervals over seeds hold for new data.

    Args:
        arm: name of the arm.
        config: its config for the seed PROBE.
        fixed: fields that the table states to be held fixed.

    Raises:
        ComparisonError: a seed of the data does not follow the cell's, and the table does not say so.
    """
    for field in drawn_fields(config):
        group, name = field.split(".")
        if str(PROBE) not in str(config[group][name]) and field not in fixed:
            raise ComparisonError(
                f"In the arm {arm!r} config.{field} is {config[group][name]} for every seed; add "
                f"--config.{field}={{seed}} to its overrides, or name the field in what the table holds fixed."
            )


def check_references(arms: Sequence[Any], configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that no arm stands in a table without a comparison, in which anything might differ unseen.

    Args:
        arms: the arms; the first is a control, and classical methods, which have no networks, may be.
        configs: name of each -> its config.

    Raises:
        ComparisonError: references lead round in a circle, or a further arm has none and is none.
    """
    references = {arm.name: arm.reference for arm in arms}
    for arm in arms:
        passed, name = [arm.name], arm.reference
        while name:
            if name in passed:
                raise ComparisonError(
                    f"The references of {', '.join(passed)} lead round in a circle; one of them must be a "
                    "control, with the reference ''."
                )
            passed.append(name)
            name = references[name]
    for arm in arms[1:]:
        if not arm.reference and configs[arm.name]["networks"] and arm.name not in references.values():
            raise ComparisonError(
                f"The arm {arm.name!r} is compared with no other, and no other with it; give it a reference, such as "
                f"{arms[0].name!r}."
            )


def compare(
    arms: Sequence[Any], configs: Mapping[str, Mapping[str, Any]], varies: Sequence[str], fixed: Sequence[str]
) -> dict[str, dict[str, list[Any]]]:
    """Compare every arm of a table with its reference.

    Args:
        arms: the arms (`runner.Arm`).
        configs: name of each -> its config for the seed PROBE.
        varies: fields in which any of them may differ, with `*` for any letters.
        fixed: seeds of data that the table states to be held fixed.

    Returns:
        Arm -> field -> [value of its reference, its own]; nothing for an arm without a reference.

    Raises:
        ComparisonError: an arm differs in more than that or is compared with nothing, its data do not follow the seed,
            or it has no such role.
    """
    check_references(arms, configs)
    acts = {arm.name: arm.acts for arm in arms}
    found = {}
    for arm in arms:
        roles = configs[arm.name]["networks"]
        if roles and arm.acts not in roles:
            raise ComparisonError(
                f"The arm {arm.name!r} says that {arm.acts!r} acts, but its networks are {', '.join(roles)}; name the "
                "one that labels the images."
            )
        check_seeds(arm.name, configs[arm.name], fixed)
        found[arm.name] = {}
        if arm.reference:
            both = (flat(configs[name], acts[name]) for name in (arm.reference, arm.name))
            pairs = differences(*both)
            check_difference(arm.name, arm.reference, pairs, (*varies, *arm.varies))
            found[arm.name] = {field: list(pair) for field, pair in pairs.items()}
    return found

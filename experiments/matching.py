"""Which record stands for a cell, so that no machine runs the cell again."""

from collections.abc import Mapping, Sequence
from typing import Any

import records
from cells import DIVERGED, Cell
from comparison import ABSENT, ROLE_GROUPS, leaves

MISSING = "not run yet"
HAS_DIVERGED = "its record is of a run that diverged"
GROUPS = (*ROLE_GROUPS, "prior_runs")  # of a config; a new entry in one asks for more, it is no field that came since
RULE = (
    "A record counts, whichever machine made it, if it is finished and no argument, command or config field of its "
    "cell, or of one that this starts from, is another today; the same command runs the other cells."
)


def reasons(
    cells: Sequence[Cell],
    found: Mapping[str, Mapping[str, Any] | None],
    configs: Mapping[str, Mapping[str, Any]],
    *,
    commands: bool = True,
) -> dict[str, str]:
    """Return name -> why the record of a cell does not stand for it, "" if it does.

    A cell that starts from another needs more than `why_not`: the record of that one has to stand for it, too, except
    for its commands on the finished run, and must not be of a run that began later.

    Args:
        cells: all cells of a table.
        found: name of each -> its record, None where there is none.
        configs: name of each -> the config that its arguments ask for today.
        commands: whether those on the finished run matter.
    """
    named = {cell.name: cell for cell in cells}

    def reason(cell: Cell, commands: Sequence[str] | None, behind: frozenset[str]) -> str:
        record = found[cell.name]
        own = why_not(record, cell.arguments, commands, configs[cell.name])
        if own not in ("", HAS_DIVERGED):
            return own
        for name in sorted(cell.starts_from() & named.keys() - behind):
            other = reason(named[name], None, behind | {name})
            if other:
                return f"the record of {name}, from which it starts, does not count: {other}"
            if found[name]["date"] > record["date"]:
                return f"{name}, from which it starts, has been run anew since"
        return own

    return {cell.name: reason(cell, cell.commands if commands else None, frozenset({cell.name})) for cell in cells}


def why_not(
    record: Mapping[str, Any] | None, arguments: Sequence[str], then: Sequence[str] | None, config: Mapping[str, Any]
) -> str:
    """Return why a record does not stand for a cell, "" if it does.

    It does if it is finished, is of the cell's arguments and commands, and holds no config field that is another today.
    A field that its code did not have, and a change of the code that no field tells, are not seen: the record names
    its commit.

    Args:
        record: as `records.make_record` made it, whenever that was; None where there is none.
        arguments: of the cell, placeholders of folders in place.
        then: the commands on the finished run; None where they do not matter.
        config: what the arguments ask for today, as `--show_config` prints it, placeholders in place.
    """
    if record is None:
        return MISSING
    if records.present(record["arguments"]) != records.present(arguments):
        return f"its record is of other arguments ({' '.join(record['arguments'])})"
    changed = difference(record["config"], config)
    if changed:
        return f"its record is of another config ({changed})"
    if record["status"] != "finished":
        code = record["exit_code"]
        return HAS_DIVERGED if code == DIVERGED else f"its record is of a run that failed with exit code {code}"
    if then is not None and (
        record.get("exit_code") or [entry["command"] for entry in record.get("then") or ()] != list(then)
    ):
        return "its record is of other commands on the finished run, or of one that failed"
    return ""


def difference(recorded: Mapping[str, Any] | None, config: Mapping[str, Any]) -> str:
    """Return the first field of a recorded config that is another today, with both values; "" where none is.

    A field that the recorded config lacks is not compared, unless it is of a further entry of one of the GROUPS.

    Args:
        recorded: fields as they were asked for, all or some of them; None where it is not known.
        config: all fields that are asked for today.
    """
    today = dict(leaves(config))
    recorded = recorded or {}
    for field, value in leaves(recorded):
        field = records.present_field(field)
        if today.get(field, ABSENT) != value:
            return f"{field} was {value!r}, is {today.get(field, ABSENT)!r} now"
    entries = {
        group: [records.present_field(name) for name in recorded[group]] for group in GROUPS if group in recorded
    }
    for field, value in today.items():
        group, name = field.split(".")[:2] if "." in field else (field, "")
        if name not in entries.get(group, [name]):
            return f"{field} was {ABSENT!r}, is {value!r} now"
    return ""

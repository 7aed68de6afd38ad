"""The figures of a plan (`figures`) as text: lines for one slice, a table for several."""

from collections.abc import Sequence
from typing import Any

GIB = 2**30


def heading(plan: dict[str, Any]) -> str:
    """Return what holds for every slice: the step and the networks."""
    height, width = plan["crop_size"]
    share, every = plan["share_of_steps"], plan["penalty_every"]
    phase = f"all {plan['steps']:,} steps" if share == 1 else f"the last phase, {share:.0%} of {plan['steps']:,} steps"
    penalties = f", but for the penalties every {every} steps, which may need more memory" if every > 1 else ""
    networks = ", ".join(f"{role} {count:,}" for role, count in plan["parameters"].items())
    rows = [
        ("config", f"{plan['method']} at {height}x{width}, {plan['dtype']}, {plan['classes']} classes"),
        ("step", f"{plan['phase']}: {phase}{penalties}"),
        ("parameters", networks),
    ]
    return _rows(rows)


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<14}  {value}" for name, value in rows)


def lines(found: dict[str, Any]) -> str:
    """Return the figures of one slice."""
    chips, hosts, per_chip = found["chips"], found["hosts"], found["batch_per_chip"]
    rows = [
        ("slice", f"{found['slice']} ({found['topology']}): {_count(chips, 'chip')}, {_count(hosts, 'host')}"),
        ("batch", f"{found['batch']}, {per_chip:g} per chip"),
    ]
    if "crashed" in found:
        return _rows([*rows, ("compiler", crash([found]))])
    rows.append(("memory", f"{_memory(found['memory'])}{_fit(found)}"))
    if "seconds" in found:
        rows += _time(found)
    return _rows(rows)


def crash(slices: Sequence[dict[str, Any]]) -> str:
    """Return what became of the compiler, and what to do, where it ended on all of these slices."""
    if all(found["signal"] == "SIGKILL" for found in slices):
        return "was killed, as this machine does when its memory runs out; the compiler takes several GB"
    return (
        "crashed, by a fault of its own; try another batch, crop_size or version of libtpu (that of jax 0.11 needs "
        'Python 3.12): pip install -U "jax[tpu]<0.12"'
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _memory(used: dict[str, int]) -> str:
    parts = [f"{name} {used[name] / GIB:.2f}" for name in ("arguments", "temporary", "code") if name in used]
    total = f"{used['total'] / GIB:.2f} of {used['hbm'] / GIB:.2f} GiB per chip"
    return f"{' + '.join(parts)}{' = ' * bool(parts)}{total}"


def _fit(found: dict[str, Any]) -> str:
    """Return what to do with the memory."""
    batch, largest = found["batch_per_chip"], found["largest_batch_per_chip"]
    if found["fits"]:
        return f"; {largest:g} images per chip probably fit" if largest and largest > batch else ""
    if largest is None:
        return ": does not fit; take a smaller batch or crop_size"
    if largest == 0:
        return ": does not fit, nor probably any batch; take a smaller crop_size or network, or more spatial_shards"
    flag = f"--batch_per_chip={largest:g}" if largest >= 1 else f"--config.batch_size={largest * found['chips']:g}"
    return f": does not fit; {largest:g} per chip ({flag}) is probably the largest power of two that does"


def _time(found: dict[str, Any]) -> list[tuple[str, str]]:
    ms = {name: f"{value * 1e3:.2f} ms" for name, value in found["seconds"].items()}
    whole, part = found["flops"] / 1e12, found["flops_per_chip"] / 1e12
    kinds = [f"{each['count']} {kind} of {each['bytes'] / 1e6:.1f} MB" for kind, each in found["collectives"].items()]
    moved, numbers = found["bytes_moved_per_chip"] / 1e9, found["bytes_of_numbers_per_chip"] / 1e9
    speed, share = found["images_per_second"], found["share_of_peak"]
    return [
        ("arithmetic", f"{whole:.2f} TFLOP a step, {part:.3f} per chip: {ms['arithmetic']} at peak"),
        (
            "traffic",
            f"{moved:.2f} GB per chip, of which {moved - numbers:.2f} fill up tiles: {ms['traffic']} at full bandwidth",
        ),
        ("messages", f"{', '.join(kinds)}: {ms['messages']}" if kinds else "none"),
        ("step", f"{ms['step']} at best, bound by the {found['bound']}"),
        ("speed", f"{speed:,.0f} images/s at best, {share:.0%} of the peak"),
        ("input", _input(found)),
    ]


def _input(found: dict[str, Any]) -> str:
    if "input" not in found:
        needed = found["images_read_per_second_of_a_host"]
        return (
            f"chips wait below {needed:,.0f} images/s a host; --input_rate=IMAGES_PER_SECOND says from which batch on"
        )
    values, hosts = found["input"], _count(found["hosts"], "host")
    rate = (
        f"{values['images_read_a_step']} images a step, {values['images_per_second_of_a_host']:,.0f} a second and host"
    )
    took = f"{rate}: {values['seconds'] * 1e3:.2f} ms on {hosts}"
    if values["measured"]:
        took += " (measured here)"
    return f"{took}; {_bound(values['bound_from_batch'], found)}"


def _bound(batch: int | None, found: dict[str, Any]) -> str:
    if batch is None:
        return "at no batch do the chips wait for it"
    if batch == found["least_batch"]:
        return "at every batch the chips wait for it"
    return f"from batch {batch} on ({batch / found['chips']:g} per chip) the chips wait for it"


COLUMNS = (
    *("slice", "chips", "hosts", "batch", "GiB of HBM", "fits per chip", "step at best, ms", "bound by"),
    *("images/s at best", "of peak", "input bound from"),
)


def cells(found: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    row = [found["slice"], str(found["chips"]), str(found["hosts"]), str(found["batch"])]
    if "crashed" in found:
        return [*row, "compiler crashed", "", "", "", "", "", ""]
    used, seconds = found["memory"], found.get("seconds")
    row.append(f"{used['total'] / GIB:.1f} of {used['hbm'] / GIB:.1f}")
    row.append("?" if found["largest_batch_per_chip"] is None else f"{found['largest_batch_per_chip']:g}")
    if seconds is None:
        return [*row, "does not fit", "", "", "", ""]
    bound = found["input"]["bound_from_batch"] if "input" in found else ""
    return [
        *row,
        f"{seconds['step'] * 1e3:.1f}",
        found["bound"],
        f"{found['images_per_second']:,.0f}",
        f"{found['share_of_peak']:.0%}",
        "never" if bound is None else "every batch" if bound == found["least_batch"] else str(bound),
    ]


def table(slices: Sequence[dict[str, Any]]) -> str:
    """Return a row for each slice, in columns."""
    rows = [list(COLUMNS), *map(cells, slices)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

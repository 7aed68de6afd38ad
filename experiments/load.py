"""What else the machine did while a cell ran: speeds measured beside other work mean little."""

import os
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STAT = Path("/proc/stat")
OTHERS = 0.1  # share of the machine's CPU time from which on others disturb


class Snapshot(NamedTuple):
    """What is read before and after a cell.

    Attributes:
        time: clock, seconds.
        load: load averages over 1, 5 and 15 minutes.
        machine: CPU time of all processes, seconds; None where the system does not say.
    """

    time: float
    load: tuple[float, float, float]
    machine: float | None


def snapshot() -> Snapshot:
    """Return the state of the machine now."""
    return Snapshot(time.monotonic(), os.getloadavg(), _busy())


def _busy() -> float | None:
    """Return the CPU seconds that all cores were busy, or taken by the host, since the start (Linux only)."""
    try:
        fields = STAT.read_text().splitlines()[0].split()
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(int, fields[1:9])
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def of_children() -> float:
    """Return the CPU seconds of the processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def between(start: Snapshot, end: Snapshot, own: float, jobs: int = 1) -> dict[str, Any]:
    """Return what is noted of one stretch of a cell, from its start to its end or interruption.

    Args:
        start: before it.
        end: after it.
        own: CPU time of the cell's processes in it, seconds.
        jobs: how many cells of the table ran at once.

    Returns:
        "jobs"; "load_start", "load_end": the load averages; "cpu_share": CPU time of the cell, and "other_cpu_share":
        that of all else (None where it is not known), both as shares of the CPU time that all cores have.
    """
    total = max(end.time - start.time, 1e-9) * (os.cpu_count() or 1)
    known = start.machine is not None and end.machine is not None
    others = max(end.machine - start.machine - own, 0.0) / total if known else None
    return {
        "jobs": jobs,
        "load_start": [round(value, 2) for value in start.load],
        "load_end": [round(value, 2) for value in end.load],
        "cpu_share": round(own / total, 3),
        "other_cpu_share": None if others is None else round(others, 3),
    }


def beside_other_work(stretches: Sequence[Mapping[str, Any]] | None, starts: int = 1) -> bool | None:
    """Return whether a cell ran beside other work, so that its images/s and minutes are not the machine's.

    It did if, in any of its stretches, other cells of the table ran at the same time (they share memory, caches and
    accelerators, which the CPU time does not show), or other processes took more than a tenth of the CPU time of all
    cores. The load averages are noted beside this share but do not decide: after a cell they are high by itself.

    Args:
        stretches: from `between`, one for each start of the cell; None for records from before this was noted.
        starts: how often the cell was started; a start that was killed left no stretch.

    Returns:
        None where it is not known.
    """
    if any(stretch.get("jobs", 1) > 1 for stretch in stretches or ()):
        return True
    shares = [stretch["other_cpu_share"] for stretch in stretches or ()]
    if any(share is not None and share > OTHERS for share in shares):
        return True
    return None if len(shares) < starts or None in shares else False

"""Which cell runs when: some at once, each behind those that it starts from, none past the end of the time."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cells import NOT_STARTED, PREEMPTED, Cell, say
from interrupts import Interrupts

LONGEST_WAIT = 86_400.0  # seconds; more than some systems can count would be an error


def run_all(
    due: Sequence[Cell],
    run: Callable[[Cell], int],
    interrupts: Interrupts,
    *,
    jobs: int = 1,
    end: float | None = None,
    report: Callable[[Mapping[str, int | None]], None] = lambda codes: None,
) -> dict[str, int | None]:
    """Run cells; return name -> exit code of those that were started, 75 of those that were interrupted.

    A cell that starts from one that failed is NOT_STARTED; without an entry are those for which there was no time.

    Args:
        due: the cells in their order.
        run: runs one, in a thread of its own, and returns its exit code.
        interrupts: through which they run; once it has noted a signal no cell is started.
        jobs: how many run at once.
        end: `time.monotonic()` at which running cells are asked to save and end; None for never.
        report: called before cells are started, with what will be returned as far as it is known.
    """
    waiting, running, codes = list(due), {}, {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                if end is not None and time.monotonic() >= end and not interrupts.noted:
                    say("The time is over; what runs is saved.")
                    interrupts.stop()
                if not interrupts.noted:
                    _drop_behind_failed(waiting, codes)
                told = False
                while waiting and len(running) < jobs and not interrupts.noted:
                    cell = _ready(waiting, running.values())
                    if cell is None:
                        break
                    if not told:
                        report(codes)
                        told = True
                    waiting.remove(cell)
                    running[pool.submit(run, cell)] = cell
                if not running:
                    return codes
                left = None if end is None or interrupts.noted else min(LONGEST_WAIT, max(0.0, end - time.monotonic()))
                over, _ = concurrent.futures.wait(running, left, concurrent.futures.FIRST_COMPLETED)
                for future in over:
                    name = running.pop(future).name
                    codes[name] = future.result()
                    if codes[name] == PREEMPTED and not interrupts.noted:  # somebody has asked it alone
                        interrupts.stop()
        except BaseException:  # such as a full disk: the others end before this is answered
            if not interrupts.noted:
                interrupts.stop()
            raise


def _drop_behind_failed(waiting: list[Cell], codes: dict[str, int | None]) -> None:
    """Take the cells that start from a cell that failed out of `waiting` and note them as NOT_STARTED."""
    while True:
        failed = {name for name, code in codes.items() if code != 0}
        cell = next((cell for cell in waiting if cell.starts_from() & failed), None)
        if cell is None:
            return
        waiting.remove(cell)
        codes[cell.name] = NOT_STARTED
        say(f"{cell.name}: not started; it starts from {', '.join(sorted(cell.starts_from() & failed))}, which failed.")


def _ready(waiting: Sequence[Cell], running: Sequence[Cell]) -> Cell | None:
    """Return the first cell that starts from none that is still to end; None if one has to be waited for."""
    open_cells = {cell.name for cell in (*waiting, *running)}
    ready = (cell for cell in waiting if not cell.starts_from() & (open_cells - {cell.name}))
    return next(ready, None if running else waiting[0])  # cells that start from each other fail by themselves


def seconds_left(
    due: Sequence[Cell],
    over: Sequence[str],
    found: Mapping[str, Mapping[str, Any]],
    steps: Mapping[str, int],
    jobs: int,
) -> float | None:
    """Return about how long the cells that are left will take, None where no finished record tells.

    A cell takes as long as the finished ones of its arm did, in the mean; where there is none, as long as a step of the
    table's finished cells, times its steps. What it has done before counts as nothing.

    Args:
        due: the cells of this call.
        over: names of those that have ended.
        found: name -> record of every finished cell of the table.
        steps: arm -> the steps of a cell; 0 for methods without.
        jobs: how many run at once.
    """
    of_arms: dict[str, list[float]] = {}
    for record in found.values():
        then = sum(entry["seconds"] for entry in record.get("then") or ())
        if record["seconds"] is not None:
            of_arms.setdefault(record["arm"], []).append(record["seconds"] + then)
    total = sum(sum(times) for arm, times in of_arms.items() if steps[arm])
    taken = sum(steps[arm] * len(times) for arm, times in of_arms.items())
    left = [cell for cell in due if cell.name not in over]
    if not left:
        return 0.0
    if not of_arms or (not taken and any(cell.arm not in of_arms for cell in left)):
        return None
    each = [
        sum(of_arms[cell.arm]) / len(of_arms[cell.arm]) if cell.arm in of_arms else total / taken * steps[cell.arm]
        for cell in left
    ]
    return max(sum(each) / jobs, max(each))


def duration(seconds: float) -> str:
    """Return a time as text: "40 s", "12 min" or "3:05 h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60}:{minutes % 60:02} h"

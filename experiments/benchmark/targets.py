"""What the speed of this project is held against, and what the records say of it, as Markdown."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark import report

LARGE = ("cgan-512", "adversarial-resnet50-512")
STARTED = "adversarial-mobilenetv2"  # whose first calls are held against seconds


def _median(case: Mapping[str, Any], work: str, side: str = "ours") -> float:
    return statistics.median(case["sides"][side]["seconds"][work])


def _against(work: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what says how many times as long as ours the fastest of the other libraries takes for a work."""

    def shown(found: Mapping[str, Any]) -> str:
        ratios = {}
        for case in found.values():
            others = report.rows(case, work)[1:]
            if others:
                ratios[case["title"]] = min(row.ratio[0] for row in others)
        if not ratios:
            return ""
        low, high = (pick(ratios, key=ratios.get) for pick in (min, max))
        text = f"{ratios[low]:.2f} ({low})"
        return text if len(ratios) == 1 else f"{text} to {ratios[high]:.2f} ({high}), {len(ratios)} cases"

    return shown


def _first_calls(found: Mapping[str, Any]) -> str:
    ours = found[STARTED]["sides"]["ours"] if STARTED in found else {}
    if "first_warm" not in ours:
        return ""
    return f"{ours['first_cold']['step']:.1f} s / {ours['first_warm']['step']:.1f} s"


def _headroom(found: Mapping[str, Any]) -> str:
    """Return how many times as fast as a step takes them the pipeline reads images."""
    if "data" not in found:
        return ""
    rate = found["data"]["images"]["batch"] / _median(found["data"], "batch")
    times = {
        case["title"]: rate * _median(case, "step") / case["images"]["step"]
        for case in found.values()
        if "step" in case["images"] and "DCGAN" not in case["title"]
    }
    if not times:
        return ""
    low, high = (pick(times, key=times.get) for pick in (min, max))
    return f"{times[low]:.1f} ({low}) to {times[high]:.0f} ({high})"


def _host(found: Mapping[str, Any]) -> str:
    shares = {case["title"]: share[0] for case in found.values() if (share := report.host_share(case)) is not None}
    if not shares:
        return ""
    low, high = (pick(shares, key=shares.get) for pick in (min, max))
    return f"{shares[low]:.0%} ({low}) to {shares[high]:.0%} ({high})"


def _share_of_peak(found: Mapping[str, Any]) -> str:
    shares = [report.rows(found[name], "step")[0].share for name in LARGE if name in found]
    return " / ".join(f"{share:.0%}" for share in shares) if len(shares) == len(LARGE) else ""


def _crf(found: Mapping[str, Any]) -> str:
    return f"{_median(found['crf'], 'image'):.2f} s" if "crf" in found else ""


TARGETS: tuple[tuple[str, str, str, Callable[[Mapping[str, Any]], str]], ...] = (  # what, must, aim, what was measured
    ("training step, the fastest other library / ours", "1.0", "1.3", _against("step")),
    ("inference, the fastest other library / ours", "-", "-", _against("inference")),
    ("photographs to masks, smp / ours", "1.0", "1.5", _against("masks")),
    ("first call of a step over MobileNetV2, cold / warm", "30 s / 6 s", "15 s / 2 s", _first_calls),
    ("images read / images trained on, a second", "3", "10", _headroom),
    ("training loop outside the compiled step", "5%", "1%", _host),
    ("fully connected CRF", "1.0 s", "0.5 s", _crf),
    ("step at 512x512, share of the peak, pix2pix / ResNet-50", "35% / 22%", "50% / 35%", _share_of_peak),
)


def table(folder: Path) -> str:
    """Return a table for each processor: what is wanted, and what the records of a folder say."""
    parts = []
    for record in report.read(folder):
        lines = [["", "must", "aim", "measured"]]
        lines += [
            [what, must, aim, text] for what, must, aim, measured in TARGETS if (text := measured(record["cases"]))
        ]
        parts.append(f"{report.machine(record)}:\n\n{report.markdown(lines)}")
    return "\n\n".join(parts) or f"Not run yet: `{report.COMMAND}`."

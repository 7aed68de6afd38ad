"""What the next line of the training split in metrics.jsonl will say: means over the steps since the last line."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class StepLog:
    """Sums since the last line. Stored with every checkpoint, so that a resumed run writes the line that was begun.

    Attributes:
        sums: name of a metric -> [sum of its finite values, how many they are].
        skipped: steps whose losses or gradients were not finite.
        images: images trained on, and `seconds`: the time they took, without compilation, validation and saving.
    """

    sums: dict[str, list] = dataclasses.field(default_factory=dict)
    skipped: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add the metrics of one step, scalars."""
        self.skipped += int(metrics["skipped"])
        for name, value in metrics.items():
            if name != "skipped":
                total = self.sums.setdefault(name, [0.0, 0])
                if math.isfinite(value):
                    total[0] += float(value)
                    total[1] += 1

    def line(self) -> dict[str, float | None]:
        """Return the line, with what was never finite as None, and begin the next one."""
        means = {name: total / count if count else None for name, (total, count) in sorted(self.sums.items())}
        rate = self.images / self.seconds if self.seconds else None
        found = {**means, "skipped": self.skipped, "images_per_second": rate}
        self.sums, self.skipped, self.images, self.seconds = {}, 0, 0, 0.0
        return found

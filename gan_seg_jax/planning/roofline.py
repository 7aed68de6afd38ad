"""The time of a step at best, from what it computes, moves and sends, and from what the chips can do.

t(b) = max(F b / peak, M b / bandwidth) + C, with b the batch, F the operations and M the bytes between chip and memory
for each image, and C the time of the collectives, whose sizes are those of the parameters and do not grow with b.
(Where chips share images, the rows that they exchange do; they are taken not to.) Williams, Waterman and Patterson:
Roofline: An Insightful Visual Performance Model, CACM 52(4), 2009.
"""

import dataclasses
import math
from collections.abc import Sequence

from gan_seg_jax.planning.hlo import Collective
from gan_seg_jax.planning.slices import Slice

HOP = 1e-6  # seconds, about, from a chip to its neighbour: jax-ml.github.io/scaling-book/sharding


@dataclasses.dataclass(frozen=True)
class Seconds:
    """A step at best.

    Attributes:
        arithmetic: Its operations at the chip's peak.
        traffic: Its bytes at the bandwidth of the chip's memory; at the same time.
        messages: Its collectives; before or after.
    """

    arithmetic: float
    traffic: float
    messages: float

    @property
    def linear(self) -> float:
        """The part that grows with the batch."""
        return max(self.arithmetic, self.traffic)

    @property
    def step(self) -> float:
        """All of it."""
        return self.linear + self.messages

    @property
    def bound(self) -> str:
        """What takes the longest, by its name here."""
        parts = dataclasses.asdict(self)
        return max(parts, key=parts.get)


def seconds(where: Slice, flops: float, moved: float, sent: Sequence[Collective]) -> Seconds:
    """Return the time of a step at best.

    Args:
        where: The slice.
        flops: Operations of a chip.
        moved: Bytes between a chip and its memory.
        sent: Collectives.
    """
    chip = where.chip
    return Seconds(flops / chip.flops, moved / chip.bandwidth, sum(_collective(each, where) for each in sent))


def _collective(each: Collective, where: Slice) -> float:
    """Return the seconds of a collective: of the bytes or, of a small one, of the way.

    Chips in a ring send in both directions, since no chip of a slice has fewer than two neighbours. An all-reduce of n
    chips sends each byte 2 (n - 1) / n times, what is half of one (a reduce-scatter, an all-gather) half as often. The
    way is that to the farthest chip of the slice and, for an all-reduce, back. A permutation goes to a neighbour.
    """
    if each.kind == "collective-permute":
        return max(each.bytes / where.chip.link, HOP)
    rounds = 2 if each.kind == "all-reduce" else 1
    count = each.participants
    sent = rounds * (count - 1) / count * each.bytes / (2 * where.chip.link)
    way = rounds * sum(size - 1 for size in where.shape) * HOP
    return max(sent, way)


def largest_batch(batch: float, fixed: int, growing: int, hbm: int, *, least: float = 1) -> float:
    """Return the largest power of two that probably fits a chip, or the batch where that is more; 0 where none does.

    Args:
        batch: Images of a chip.
        fixed: Bytes that do not depend on it, such as those of the state.
        growing: Bytes that are taken to be proportional to it.
        hbm: Bytes of a chip.
        least: Images of a chip: a part of one where chips share images.
    """
    room = (hbm - fixed) / growing * batch
    if room < least:
        return 0.0
    largest = 2.0 ** math.floor(math.log2(room))
    return max(largest, batch) if room >= batch else largest


def input_bound(found: Seconds, batch: int, least: int, image_seconds: float) -> int | None:
    """Return from which batch on the chips wait for the images: the least at every one, None never.

    Args:
        found: The time of a step.
        batch: Its images.
        least: The smallest batch, of which each is a multiple: an image for each chip, or for those that share it.
        image_seconds: That the hosts, together, take for an image of the batch.
    """
    slower = image_seconds - found.linear / batch
    if slower <= 0:
        return None
    return max(1, math.ceil(found.messages / slower / least)) * least

"""Cloud TPU slices by the names that Cloud gives them, and what their chips can do. JAX is not loaded for it."""

import dataclasses
import math
import os
from collections.abc import MutableMapping

from gan_seg_jax.errors import unknown


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of TPU chip.

    Attributes:
        flops: Operations a second at best, in bfloat16; float32 is multiplied as bfloat16 unless JAX is told otherwise.
        hbm: Bytes of memory that a program may use.
        bandwidth: Bytes a second between the chip and its memory.
        link: Bytes a second over one link to a neighbour, in one direction.
    """

    flops: float
    hbm: int
    bandwidth: float
    link: float


# Sources: docs.cloud.google.com/tpu/docs/v5e, /v6e and /v5p, "System architecture", read in 2026. HBM: what
# libtpu 0.0.42 says is available when a program does not fit (on paper 16, 32 and 95 GB). Bandwidth of v6e: older
# editions say 1,640 GB/s, newer ones 1,600, in round figures. Links: "bidirectional ICI bandwidth per chip" (400, 800
# and 1,200 GB/s) is that of its 4, 4 and 6 links, in both directions.
CHIPS = {
    "v5e": Chip(197e12, int(15.75 * 2**30), 819e9, 400e9 / 4 / 2),
    "v6e": Chip(918e12, int(31.25 * 2**30), 1640e9, 800e9 / 4 / 2),
    "v5p": Chip(459e12, int(95.74 * 2**30), 2765e9, 1200e9 / 6 / 2),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice.

    Attributes:
        name: As Cloud has it, such as v5e-8.
        kind: A key of `CHIPS`.
        shape: Chips along each axis.
        hosts: Virtual machines, each of which reads its part of the batch.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    hosts: int

    @property
    def chip(self) -> Chip:
        """What one of its chips can do."""
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def topology(self) -> str:
        """The name that libtpu knows it by, such as v5e:2x4."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"


# Shapes and machines of the same pages; the number of a v5p counts TensorCores, two a chip.
SLICES = {
    each.name: each
    for each in (
        Slice("v5e-1", "v5e", (1, 1), 1),
        Slice("v5e-4", "v5e", (2, 2), 1),
        Slice("v5e-8", "v5e", (2, 4), 1),
        Slice("v5e-16", "v5e", (4, 4), 4),
        Slice("v5e-32", "v5e", (4, 8), 8),
        Slice("v6e-4", "v6e", (2, 2), 1),
        Slice("v6e-8", "v6e", (2, 4), 1),
        Slice("v6e-16", "v6e", (4, 4), 4),
        Slice("v6e-32", "v6e", (4, 8), 8),
        Slice("v5p-8", "v5p", (2, 2, 1), 1),
        Slice("v5p-16", "v5p", (2, 2, 2), 2),
        Slice("v5p-32", "v5p", (2, 2, 4), 4),
    )
}


def named(name: str) -> Slice:
    """Return the slice of a name; v5litepod-8 is v5e-8.

    Raises:
        InputError: There is none of that name here.
    """
    found = SLICES.get(name.replace("v5litepod-", "v5e-"))
    if found is None:
        raise unknown("--slice", name, SLICES)
    return found


def pretend(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what lets libtpu compile where there is no TPU, and leaves a TPU alone where there is one.

    It must come before JAX is loaded, and is of this process alone: JAX computes on the processor, and libtpu does not
    ask Cloud which machine this is.
    """
    for variable in [name for name in environment if name.startswith("TPU_") and name != "TPU_LIBRARY_PATH"]:
        del environment[variable]  # of the machine that this is, not of the slice that is meant
    environment |= {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else it takes the lock of the machine's TPU, or waits for it in vain
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # any: the topology that is asked for counts
        "TPU_WORKER_HOSTNAMES": "localhost",
    }

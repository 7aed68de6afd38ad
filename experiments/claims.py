"""What a table claims: the difference of each arm to its reference in the first score, and how sure it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tables
from intervals import holm, paired_differences, paired_p


class Claim(NamedTuple):
    """A difference between two arms.

    Attributes:
        arm: its name.
        reference: that of its reference.
        pairs: seeds that both have.
        mean: of the differences, arm minus reference; None without pairs.
        half: half the 95% t-interval over seeds; None for fewer than two pairs.
        images: the 95% interval of the paired bootstrap over test images; None where images were not counted.
        image_seeds: seeds on which it rests: those for which both counted the same images.
        p: of the paired t-test over seeds, two-sided; None for fewer than two pairs.
        adjusted: the same, adjusted by Holm for all claims of the table, those that have not run included.
    """

    arm: str
    reference: str
    pairs: int
    mean: float | None
    half: float | None
    images: tuple[float, float] | None
    image_seeds: int
    p: float | None
    adjusted: float | None


def claims(
    rows: tables.Rows, arms: Mapping[str, Sequence[tables.Record]], references: Mapping[str, str]
) -> list[Claim]:
    """Return a claim for each arm that has a reference; they are one family.

    Args:
        rows: arm -> seed -> scores.
        arms: arm -> its finished records.
        references: arm -> its reference.
    """
    score = next(iter(tables.columns(rows)))
    found = []
    for arm, reference in references.items():
        first, other = ({seed: one.get(score) for seed, one in rows[name].items()} for name in (reference, arm))
        images = tables.image_bounds(arms[arm], arms[reference], score)
        found.append((arm, reference, *paired_differences(first, other), *images, paired_p(first, other)))
    adjusted = holm([values[-1] for values in found])
    return [Claim(*values, own) for values, own in zip(found, adjusted, strict=True)]

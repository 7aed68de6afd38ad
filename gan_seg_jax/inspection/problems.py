"""All that is wrong with a set, ranked; the rules are those of training (`data.checks`, `data.splits`)."""

from collections.abc import Iterable

from gan_seg_jax.inspection import file_problems, set_problems
from gan_seg_jax.inspection.problem import ERROR, SEVERITIES, Problem
from gan_seg_jax.inspection.survey import Survey


def find(found: Survey) -> list[Problem]:
    """Return all problems of a set, the worst ones first."""
    return ranked([*map(refused, found.refusals), *file_problems.find(found), *set_problems.find(found)])


def ranked(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems with the worst first, otherwise in their order."""
    return sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity))


def refused(reason: str) -> Problem:
    """Return the error for what training said when it opened the set."""
    title, _, rest = reason.partition("\n")
    return Problem(ERROR, "refused", title, rest or "Training stops with this sentence.", count=1)


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Return those that training refuses, or worse."""
    return [problem for problem in problems if problem.severity == ERROR]

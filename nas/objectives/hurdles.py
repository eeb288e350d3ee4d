"""Cheap checks that a candidate must pass before it is evaluated, for any run and any searcher.

    hurdles = (Hurdle("quick_error <= 0.8", quick), Hurdle("gradient_norm <= 1e6", pushed))

They run where evaluations run, in order, up to the first that fails. A rejected candidate is stored as a failed
evaluation with the reason, counts as one of the requested evaluations, and is reported to the searcher.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.errors import NasError
from nas.execution.executors import Evaluate
from nas.objectives.limits import Limit, parse
from search_spaces import Architecture

_REASON = re.compile(r"Rejected: (?P<rule>.+) does not hold: .*")


class Rejected(NasError):
    """A candidate breaks the rule of a hurdle, so it is not evaluated."""


@dataclass(frozen=True)
class Hurdle:
    """One check.

    Args:
        rule: a name of your choice, an operator and a number, written like a limit: "quick_error <= 0.8".
        tell: returns the value of that name for an architecture. NaN breaks every rule.

    Raises:
        NasError: the rule is not a limit or is relative, or `tell` cannot be called.
    """

    rule: str
    tell: Callable[[Architecture], float]
    limit: Limit = field(init=False)

    def __post_init__(self) -> None:
        limit = parse(self.rule)
        if limit.relative:
            raise NasError(f"the hurdle '{limit}' is relative, but hurdles have no parent: give a number without an x")
        if not callable(self.tell):
            raise NasError(f"the hurdle '{limit}' has tell = {self.tell!r}, which is not callable: give a function")
        object.__setattr__(self, "limit", limit)

    def clear(self, arch: Architecture) -> None:
        """Raise Rejected, with the rule and the value, if an architecture breaks the rule."""
        value = float(self.tell(arch))
        if not self.limit.holds({self.limit.metric: value}):
            raise Rejected(f"{self.limit} does not hold: {value:.2g}")


class Cleared:
    """Evaluates candidates that pass all hurdles; raises Rejected for others."""

    def __init__(self, hurdles: Sequence[Hurdle], evaluate: Evaluate) -> None:
        self.hurdles = tuple(hurdles)
        self.evaluate = evaluate

    def __call__(self, arch: Architecture) -> Mapping[str, float]:
        for hurdle in self.hurdles:
            hurdle.clear(arch)
        return self.evaluate(arch)


def rejections(errors: Iterable[str | None]) -> dict[str, int]:
    """Return how many evaluations each rule rejected, most frequent first, from the errors of failed evaluations."""
    found = (_REASON.fullmatch(error) for error in errors if error)
    return dict(Counter(match["rule"] for match in found if match).most_common())

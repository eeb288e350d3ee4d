"""Cheap checks that a candidate must pass before it is evaluated: of any run, under any searcher.

    hurdles = (Hurdle("quick_error <= 0.8", quick), Hurdle("gradient_norm <= 1e6", pushed))

They run where evaluations run, in order, the first that is not kept being the last. What is rejected is stored with the
reason as a failed evaluation is, and counts as one of the evaluations that were asked for; searchers are told of it.
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
    """A candidate that is not worth an evaluation."""


@dataclass(frozen=True)
class Hurdle:
    """One check.

    Args:
        rule: a name of yours, an operator and a number, as limits are written: "quick_error <= 0.8".
        tell: the value of that name, of an architecture. A NaN keeps no rule.

    Raises:
        NasError: the rule is no limit, or relative; `tell` cannot be called.
    """

    rule: str
    tell: Callable[[Architecture], float]
    limit: Limit = field(init=False)

    def __post_init__(self) -> None:
        limit = parse(self.rule)
        if limit.relative:
            raise NasError(f"the hurdle '{limit}' is relative, and there is no parent to compare with: give a number")
        if not callable(self.tell):
            raise NasError(f"the hurdle '{limit}' has {self.tell!r}, which cannot be called: give a function")
        object.__setattr__(self, "limit", limit)

    def clear(self, arch: Architecture) -> None:
        """Raises Rejected, with the rule and the value, where an architecture does not keep the rule."""
        value = float(self.tell(arch))
        if not self.limit.holds({self.limit.metric: value}):
            raise Rejected(f"{self.limit} does not hold: {value:.2g}")


class Cleared:
    """An evaluator of what passes all hurdles."""

    def __init__(self, hurdles: Sequence[Hurdle], evaluate: Evaluate) -> None:
        self.hurdles = tuple(hurdles)
        self.evaluate = evaluate

    def __call__(self, arch: Architecture) -> Mapping[str, float]:
        for hurdle in self.hurdles:
            hurdle.clear(arch)
        return self.evaluate(arch)


def rejections(errors: Iterable[str | None]) -> dict[str, int]:
    """How many evaluations each rule rejected, of the reasons why evaluations failed; the most frequent first."""
    found = (_REASON.fullmatch(error) for error in errors if error)
    return dict(Counter(match["rule"] for match in found if match).most_common())

"""Rules by which a bracket of Hyperband reuses earlier runs when the largest budget R was raised to eta R.

Iterative Deepening Hyperband (Brandt et al. 2023, arXiv:2302.00511): R is a guess; if it was too small, the work done
is not lost. A bracket is identified by its smallest budget. At the larger R it gains a rung and starts with more
configurations: the earlier ones, and more from the same stream of random numbers. Results at a known budget are reused.
The three rules select different configurations for the next rung.

discarding  considers only this run: every rung is that of a run from scratch at eta R.
preserving  also ranks configurations that were in this rung in earlier runs but would not be in it now.
efficient   keeps promoted configurations; the others compete for the remaining places.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from nas.errors import NasError

Config = TypeVar("Config")
Rank = Callable[[Collection[Config]], list[Config]]
"""Sorts configurations, best first, without those that failed."""


def discarding(
    rank: Rank[Config], members: Sequence[Config], before: Sequence[Config], above: Sequence[Config], keep: int
) -> list[Config]:
    """Return the best `keep` of a rung, regardless of earlier runs.

    All three rules take the same arguments.

    Args:
        members: configurations in this rung.
        before: configurations in this rung in earlier runs.
        above: configurations in the next rung in earlier runs.
        keep: places in the next rung.
    """
    return rank(members)[:keep]


def preserving(
    rank: Rank[Config], members: Sequence[Config], before: Sequence[Config], above: Sequence[Config], keep: int
) -> list[Config]:
    """Return the best `keep` of all configurations that were ever in this rung."""
    return rank(list(dict.fromkeys([*members, *before])))[:keep]


def efficient(
    rank: Rank[Config], members: Sequence[Config], before: Sequence[Config], above: Sequence[Config], keep: int
) -> list[Config]:
    """Return the configurations promoted before, and the best of the others for the remaining places."""
    others = [member for member in rank(members) if member not in set(above)]
    return [*above, *others[: max(0, keep - len(above))]]


Reuse = Callable[[Rank[Config], Sequence[Config], Sequence[Config], Sequence[Config], int], list[Config]]

REUSES = {"discarding": discarding, "preserving": preserving, "efficient": efficient}


def check_reuse(name: str) -> None:
    """Raise NasError for a name that is not in REUSES."""
    if name not in REUSES:
        raise NasError(f"reuse is {name!r}: choose one of {', '.join(REUSES)}")

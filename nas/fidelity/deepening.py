"""What a bracket of Hyperband makes of earlier runs when the largest budget R was raised to eta R.

Iterative Deepening Hyperband (Brandt et al. 2023, arXiv:2302.00511): R is a guess, and when it was too small the work
done is not lost. A bracket is known by its smallest budget. At the larger R each gains a rung and begins with more
configurations: those it had, and the missing ones from the same stream of random numbers. What was evaluated at a
budget is looked up. The three rules below differ in whom the next rung takes.

discarding  only this run counts: rung for rung what a run from scratch at eta R would take.
preserving  those that were in this rung in earlier runs are ranked along, though they would not be here now.
efficient   who was promoted stays promoted; the others compete for the places that are left.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from nas.errors import NasError

Config = TypeVar("Config")
Rank = Callable[[Collection[Config]], list[Config]]
"""Puts the best first and leaves out those that failed."""


def discarding(
    rank: Rank[Config], members: Sequence[Config], before: Sequence[Config], above: Sequence[Config], keep: int
) -> list[Config]:
    """The best `keep` of a rung, whatever was before.

    All three rules take the same arguments.

    Args:
        members: who is in this rung.
        before: who was in it in earlier runs.
        above: who was in the next rung in earlier runs.
        keep: places in the next rung.
    """
    return rank(members)[:keep]


def preserving(
    rank: Rank[Config], members: Sequence[Config], before: Sequence[Config], above: Sequence[Config], keep: int
) -> list[Config]:
    """The best `keep` of all that were ever in this rung."""
    return rank(list(dict.fromkeys([*members, *before])))[:keep]


def efficient(
    rank: Rank[Config], members: Sequence[Config], before: Sequence[Config], above: Sequence[Config], keep: int
) -> list[Config]:
    """Those promoted before, and the best of the others for the places that are left."""
    others = [member for member in rank(members) if member not in set(above)]
    return [*above, *others[: max(0, keep - len(above))]]


Reuse = Callable[[Rank[Config], Sequence[Config], Sequence[Config], Sequence[Config], int], list[Config]]

REUSES = {"discarding": discarding, "preserving": preserving, "efficient": efficient}


def check_reuse(name: str) -> None:
    """Raises NasError for what is none of REUSES."""
    if name not in REUSES:
        raise NasError(f"reuse is {name!r}: choose one of {', '.join(REUSES)}")

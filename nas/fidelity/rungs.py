"""Sizes of Hyperband's brackets and rungs.

Hyperband (Li et al. 2018, arXiv:1603.06560, algorithm 1) combines many short trainings and few long ones, since it is
unknown which find more. Bracket s starts with many configurations at the budget R / eta^s; after each rung, the best
1 / eta of them continue at eta times the budget, up to R. Budgets are whole numbers: powers of eta, in the user's unit.
"""

from nas.errors import NasError


def num_rungs_after_first(eta: int, largest: int) -> int:
    """Return s_max, the number of multiplications by `eta` from budget 1 to the largest, in integer arithmetic.

    (`floor(log(243, 3))` is 4, since the logarithm is rounded to 4.999...)

    Raises:
        NasError: eta is no whole number of 2 or more, or `largest` is no power of it.
    """
    if not _whole(eta) or eta < 2:
        raise NasError(f"eta is {eta!r}: one in eta is promoted, so it must be a whole number of 2 or more; 3 is usual")
    if not _whole(largest) or largest < 1:
        raise NasError(f"the largest budget is {largest!r}: it must be a power of eta, {eta}; {eta**3} say")
    power, reached = 0, 1
    while reached < largest:
        power, reached = power + 1, reached * eta
    if reached != largest:
        near = f"{reached // eta} or {reached}"
        rule = f"it must be a power of eta, {eta}, so that each rung has a whole budget"
        raise NasError(f"the largest budget is {largest}: {rule}; take {near}, and set the unit of the budget to suit")
    return power


def bracket_size(eta: int, s_max: int, s: int) -> int:
    """Return the initial size of the bracket with s + 1 rungs: ceil((s_max + 1) / (s + 1) * eta^s)."""
    size: int = -(-(s_max + 1) * eta**s // (s + 1))
    return size


def rung_sizes(eta: int, s_max: int, s: int) -> tuple[int, ...]:
    """Return the (s + 1,) sizes of a bracket's rungs, by increasing budget."""
    return tuple(bracket_size(eta, s_max, s) // eta**rung for rung in range(s + 1))


def table(eta: int, largest: int) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of the rungs of each of the s_max + 1 brackets, by increasing smallest budget.

    Bracket k starts at the budget eta^k; its rung i has the budget eta^(k + i).
    """
    s_max = num_rungs_after_first(eta, largest)
    return tuple(rung_sizes(eta, s_max, s) for s in range(s_max, -1, -1))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

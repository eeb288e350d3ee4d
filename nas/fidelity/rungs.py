"""How many configurations each bracket of Hyperband begins with, and how many each rung of it keeps.

Hyperband (Li et al. 2018, arXiv:1603.06560, algorithm 1) does not know whether many short trainings or few long ones
find more, and does both. Bracket s begins with many configurations at the budget R / eta^s, and after each rung the
best 1 / eta of them go on at eta times the budget, until the last ones are trained with R. Budgets are whole numbers:
powers of eta, of a unit that is the user's.
"""

from nas.errors import NasError


def num_rungs_after_first(eta: int, largest: int) -> int:
    """s_max: how often the budget 1 is multiplied by `eta` to reach the largest, counted in whole numbers.

    (`floor(log(243, 3))` is 4, for the logarithm comes out as 4.999...)

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
    """Configurations that the bracket of s + 1 rungs begins with: ceil((s_max + 1) / (s + 1) * eta^s)."""
    size: int = -(-(s_max + 1) * eta**s // (s + 1))
    return size


def rung_sizes(eta: int, s_max: int, s: int) -> tuple[int, ...]:
    """(s + 1,) configurations of each rung of a bracket, from the lowest budget to the largest."""
    return tuple(bracket_size(eta, s_max, s) // eta**rung for rung in range(s + 1))


def table(eta: int, largest: int) -> tuple[tuple[int, ...], ...]:
    """(s_max + 1,) sizes of the rungs of each bracket, the one with the smallest budget first.

    Bracket k begins at the budget eta^k, its rung i has the budget eta^(k + i).
    """
    s_max = num_rungs_after_first(eta, largest)
    return tuple(rung_sizes(eta, s_max, s) for s in range(s_max, -1, -1))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

"""What the table says, in three sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.gradient.compare import LARGEST, Compared
from benchmarks.gradient.rows import JOINT, QUERIED
from benchmarks.gradient.run import NUM_DRAWN
from benchmarks.ranking.report import unit
from benchmarks.truths import Truth


def sentences(tasks: Mapping[str, Compared]) -> list[str]:
    """Return sentences on the results in the table, if there is one."""
    measured = {name: one for name, one in tasks.items() if one.runs}
    if not measured:
        return ["Nothing has been run yet."]
    return [
        " ".join(_against_random(name, one) for name, one in measured.items()),
        " ".join(_of_modes(name, one) for name, one in measured.items()),
        _of_collapse(list(measured.values())),
    ]


def _against_random(name: str, one: Compared) -> str:
    key = min(one.runs, key=lambda key: (np.median(one.regrets(key)), np.mean(one.regrets(key))))
    better = sum(float(np.median(one.regrets(key))) < one.random for key in one.runs)
    largest = next(float(line.regrets[0]) for line in one.baselines if line.name == LARGEST)
    return (
        f"On {name} the best median regret of a derived architecture, that of `{key[0]}` ({key[1]}), is "
        f"{_amount(one.truth, float(np.median(one.regrets(key))))} where random search at the same budget has "
        f"{_amount(one.truth, one.random)}, and {better} of {len(one.runs)} ways to search by gradients are better; "
        f"the largest network, which costs no search, has {_amount(one.truth, largest)}."
    )


def _of_modes(name: str, one: Compared) -> str:
    both = {mode: [run.figures.regret for run in one.pooled(mode)] for mode in (JOINT, QUERIED)}
    told = [f"{_amount(one.truth, float(np.median(some)))} {mode}" for mode, some in both.items() if some]
    drawn = [run.figures.of_drawn for runs in one.runs.values() for run in runs]
    supernets = [line for line in one.baselines if line.seeds]
    ranking = "".join(f"; {line.name} has {_amount(one.truth, float(np.median(line.regrets)))}" for line in supernets)
    return (
        f"Over all methods on {name} the median regret of what is derived is {' and '.join(told)}, that of the best of "
        f"{NUM_DRAWN} drawn {_amount(one.truth, float(np.median(drawn)))}{ranking}."
    )


def _of_collapse(tasks: Sequence[Compared]) -> str:
    runs = [(run, one.random) for one in tasks for some in one.runs.values() for run in some]
    worse = [run for run, random in runs if run.figures.regret > random]
    middle = [run.figures for run, _ in runs if run.figures.collapsed]
    sound = [run.figures for run, random in runs if run.figures.regret <= random]
    by = Counter(run.job.method for run in worse)
    told = f" ({', '.join(f'`{name}` {num}' for name, num in by.most_common())})" if by else ""
    return (
        f"Of {len(runs)} runs {len(worse)} derived an architecture worse than the median of random search{told}, "
        f"{sum(not run.figures.warned for run in worse)} of these without a warning, and {len(middle)} one worse than "
        f"the middle of the space, {sum(not of.warned for of in middle)} without; {sum(of.warned for of in sound)} of "
        f"the {len(sound)} others carry a warning."
    )


def _amount(truth: Truth, value: float) -> str:
    name, factor, digits = unit(truth)
    return f"{value * factor:.{digits}f} {name}"

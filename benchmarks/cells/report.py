"""The rows as tables and three sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.cells.figures import (
    NUM_DRAWS,
    NUM_FRONTS,
    WORST,
    collapsed,
    feasible,
    proposed,
    random_fronts,
    random_search,
    rank,
    reference,
    share,
    thinned,
)
from benchmarks.cells.rows import EVOLUTION, FRONT, LIMITS, METHODS, Job, Outcome, Rows
from benchmarks.cells.run import BATCH, DIVISIONS, POPULATION, QUANTILE
from benchmarks.cells.setting import NUM_CALIBRATION, NUM_VALID, Setting
from benchmarks.cells.tables import TARGETS, Tables, Vector
from benchmarks.ranking.report import spread
from benchmarks.report import machine, markdown
from nas.searchers.gradient.collapse import UNDECIDED

RANDOM = (1, 10, 50)
"""Cells that a random search trains."""
LEAST_SEEDS = 3
SIZE = DIVISIONS + 1
"""Cells that a learnt front proposes for a target, equal ones counted apart."""

Pairs = list[tuple[Job, Outcome]]


def write(setting: Setting, rows: Rows, path: Path) -> None:
    """Write the report beside the rows: the same name with .md."""
    path.with_suffix(".md").parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text(setting, rows), encoding="utf-8")


def text(setting: Setting, rows: Rows) -> str:
    tables = setting.tables
    written = "written by `python -m benchmarks.cells DATA_FOLDER`, which says what the tables are."
    sentences = [_first(tables, rows), _second(tables, rows), _third(tables, rows)]
    parts = [
        f"# Gradient search among the cells of NAS-Bench-201\n\n{machine(threads=1)}; {written}\n\n",
        f"{_done(rows)}\n\n",
        "".join(f"{number}. {line}\n" for number, line in enumerate(sentences, 1)) + "\n",
        f"## Published error of the derived cell\n\n{_of_methods(tables, rows)}\n",
        f"## Two limits at once\n\n{_of_limits(tables, rows)}\n",
        f"## Fronts of several targets\n\n{_of_fronts(tables, rows)}\n",
        _how(setting, rows),
        _failures(rows),
    ]
    return "".join(parts).rstrip() + "\n"


def _done(rows: Rows) -> str:
    """Return text on the number of seeds of each part, with a caution if they are few."""
    seeds = {part: len({job.seed for job, _ in of(rows, part)}) for part in (METHODS, LIMITS, FRONT, EVOLUTION)}
    told = ", ".join(f"{num or 'none'} of {part}" for part, num in seeds.items())
    few = min(seeds.values()) < LEAST_SEEDS
    entropies = [outcome.entropy for part in (METHODS, LIMITS) for _, outcome in of(rows, part)]
    hardly = bool(entropies) and float(np.median(entropies)) > UNDECIDED
    return (
        f"Seeds that have been run: {told}."
        + f" Fewer than {LEAST_SEEDS} show nothing of a method: the run is to be gone on with." * few
        + " Distributions are nearly those of equal probabilities, so what is derived from them is near chance."
        * hardly
    )


def of(rows: Rows, part: str) -> Pairs:
    """Return the successful runs of a part."""
    return [(job, outcome) for job, outcome in rows.items() if job.part == part and not outcome.error]


# --- methods ------------------------------------------------------------------------------------------------------


def by_method(rows: Rows) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for job, outcome in of(rows, METHODS):
        found.setdefault(job.method, []).append(outcome)
    return found


def _regrets(tables: Tables, outcomes: list[Outcome]) -> Vector:
    regrets: Vector = tables.regret[[outcome.cells[0] for outcome in outcomes]]
    return regrets


def _of_methods(tables: Tables, rows: Rows) -> str:
    header = ["search", "seeds", "regret by seed", "median", "rank by seed", "without parameters", "entropy"]
    header += ["warned of collapse", "passes", "time, s"]
    lines = []
    for method, outcomes in by_method(rows).items():
        cells = [outcome.cells[0] for outcome in outcomes]
        regrets = _regrets(tables, outcomes)
        lines.append(
            [
                *(f"`{method}`", str(len(cells)), _joined(regrets, ".2f"), f"{np.median(regrets):.2f}"),
                *(_joined([rank(tables, cell) for cell in cells], ","), _joined(tables.free[cells], ".2f")),
                _joined([outcome.entropy for outcome in outcomes], ".2f"),
                f"{sum(map(collapsed, outcomes))}",
                f"{np.median([outcome.passes for outcome in outcomes]):.0f}",
                f"{np.median([outcome.seconds for outcome in outcomes]):.0f}",
            ]
        )
    for num in RANDOM:
        regrets = random_search(tables, num)
        name = f"best of {num} random cells" if num > 1 else "one random cell"
        lines.append([name, "", f"quartiles {spread(regrets.tolist(), '.2f')}", f"{np.median(regrets):.2f}"])
    best = int(np.argmin(tables.error))
    lines.append(["the best cell", "", "", "0", "1", f"{tables.free[best]:.2f}"])
    return markdown(header, [line + [""] * (len(header) - len(line)) for line in lines])


def _first(tables: Tables, rows: Rows) -> str:
    found = by_method(rows)
    if not found:
        return "No method has been run yet."
    told = ", ".join(f"{np.median(_regrets(tables, some)):.2f} `{name}`" for name, some in found.items())
    ten, fifty = (float(np.median(random_search(tables, num))) for num in RANDOM[1:])
    better = sum(float(regret) < ten for some in found.values() for regret in _regrets(tables, some))
    num = sum(map(len, found.values()))
    bad = [out for some in found.values() for out in some if tables.regret[out.cells[0]] > np.median(tables.regret)]
    return (
        f"The derived cells miss the best published error by {told} points in the median over seeds, where the best of "
        f"10 trained random cells misses it by {ten:.2f} and that of 50 by {fifty:.2f}: {better} of {num} runs are "
        f"better than the best of 10, and {len(bad)} are worse than the middle cell of the space, "
        f"{sum(not out.warnings for out in bad)} of them without any warning."
    )


# --- limits -------------------------------------------------------------------------------------------------------


def _of_limits(tables: Tables, rows: Rows) -> str:
    header = ["kept by", "seed", *(f"{name}, ms (limit)" for name in TARGETS), "both kept", "warned of a limit"]
    header += ["regret", "beyond the best that keeps both", "r2 of the fitted costs", "time, s"]
    lines = []
    for job, outcome in sorted(of(rows, LIMITS), key=lambda pair: (pair[0].bounds, pair[0].seed)):
        (cell,) = outcome.cells
        latencies = [f"{tables.latency[t][cell]:.2f} ({b:.2f})" for t, b in zip(TARGETS, outcome.limits, strict=True)]
        keeping = feasible(tables, outcome.limits)
        lines.append(
            [
                *(job.bounds, str(job.seed), *latencies, "yes" if keeping[cell] else "no"),
                "yes" if _told_of_limit(outcome) else "no",
                f"{tables.regret[cell]:.2f}",
                f"{tables.regret[cell] - tables.regret[keeping].min():.2f}",
                _joined(outcome.r2, ".3f"),
                f"{outcome.seconds:.0f}",
            ]
        )
    if not lines:
        return "Nothing has been run yet.\n"
    keeping = feasible(tables, of(rows, LIMITS)[0][1].limits)
    within = tables.regret[keeping] - tables.regret[keeping].min()
    told = (
        f"Each limit is kept by {100 * QUANTILE:.0f} % of all cells, both by {100 * keeping.mean():.0f} %; the best of "
        f"these has a regret of {tables.regret[keeping].min():.2f}, a random one of these misses it by "
        f"{np.median(within):.2f} in the median."
    )
    return f"{markdown(header, lines)}\n{told}\n"


def _told_of_limit(outcome: Outcome) -> bool:
    return any(line.startswith("the limit") for line in outcome.warnings)


def _second(tables: Tables, rows: Rows) -> str:
    runs = of(rows, LIMITS)
    if not runs:
        return "No limit has been tried yet."
    kept = {bounds: [o for j, o in runs if j.bounds == bounds] for bounds in dict.fromkeys(j.bounds for j, _ in runs)}
    told = [
        f"{sum(bool(feasible(tables, o.limits)[o.cells[0]]) for o in some)} of {len(some)} by {bounds}"
        for bounds, some in kept.items()
    ]
    best = float(tables.regret[feasible(tables, runs[0][1].limits)].min())
    beyond = [float(tables.regret[o.cells[0]]) - best for _, o in runs]
    return (
        f"Derived cells keep both limits, on {' and '.join(TARGETS)}, in their published latencies in "
        f"{' and '.join(told)}; against the best cell that keeps both they miss {_joined(beyond, '.2f')} points of "
        "error."
    )


# --- fronts -------------------------------------------------------------------------------------------------------


def _fronts(tables: Tables, rows: Rows, part: str, target: str) -> list[list[int]]:
    return [proposed(outcome, target) for _, outcome in of(rows, part)]


def _of_fronts(tables: Tables, rows: Rows) -> str:
    header = ["target", "search", "different cells by seed", "hypervolume by seed", "median"]
    header += [f"with at most {SIZE} cells", "median"]
    lines = []
    for target in TARGETS:
        for part, name in ((FRONT, "one run for all targets"), (EVOLUTION, "evolution")):
            fronts = _fronts(tables, rows, part, target)
            whole = [share(tables, target, cells) for cells in fronts]
            few = [share(tables, target, thinned(tables, target, cells, SIZE)) for cells in fronts]
            if fronts:
                lines.append(
                    [
                        *(target, name, _joined([len(cells) for cells in fronts], "d")),
                        *(_joined(whole, ".3f"), f"{np.median(whole):.3f}"),
                        *(_joined(few, ".3f"), f"{np.median(few):.3f}"),
                    ]
                )
        drawn = random_fronts(tables, target, SIZE)
        told = f"quartiles {spread(drawn.tolist(), '.3f')}"
        lines.append([target, f"{SIZE} random cells", str(SIZE), told, f"{np.median(drawn):.3f}", "", ""])
    corners = [f"{target} ({e:.2f} %, {ms:.2f} ms)" for target in TARGETS for e, ms in [reference(tables, target)]]
    passes = [f"{o.passes:.0f}" for _, o in of(rows, FRONT)], [f"{o.passes:.0f}" for _, o in of(rows, EVOLUTION)]
    evaluated = _joined([o.evaluated for _, o in of(rows, EVOLUTION)], "d")
    told = (
        "Hypervolumes are in published error and published latency, as shares of that of the best there is. Reference "
        f"point: the {WORST:.0%} quantile of both over all cells, which depends on no result: {', '.join(corners)}. "
        f"Passes by seed: {', '.join(passes[0]) or 'none'} for one run, {', '.join(passes[1]) or 'none'} for the "
        f"supernet and evolution of all targets together, which evaluated {evaluated or 'no'} cells. Random: "
        f"{NUM_FRONTS} draws, of cells that nobody chose."
    )
    return f"{markdown(header, lines)}\n{told}\n"


def _third(tables: Tables, rows: Rows) -> str:
    told = []
    for target in TARGETS:
        both = [_fronts(tables, rows, part, target) for part in (FRONT, EVOLUTION)]
        if not all(both):
            return "No front can be compared yet."
        learnt, evolved = (float(np.median([share(tables, target, cells) for cells in some])) for some in both)
        few = [share(tables, target, thinned(tables, target, cells, SIZE)) for cells in both[1]]
        drawn = float(np.median(random_fronts(tables, target, SIZE)))
        told.append(
            f"{learnt:.3f} against {evolved:.3f} (thinned {np.median(few):.3f}; random {drawn:.3f}) on {target}"
        )
    return (
        "With as many passes in all, the front of one run has this share of the attainable hypervolume against that of "
        f"evolution for each target (evolution thinned to {SIZE} cells; {SIZE} random cells): {'; '.join(told)}."
    )


# --- how ----------------------------------------------------------------------------------------------------------


def _how(setting: Setting, rows: Rows) -> str:
    seconds = sum(outcome.seconds for outcome in rows.values())
    task, training = setting.task, setting.training
    return f"""\
## How it was measured

{seconds / 60:.0f} minutes of processor time in all. The supernet is one cell of width {setting.width} in each of three
stages; it learns {task.num_train:,} images ({task.name}, batches of {task.batch_size}) at a learning rate of
{training.lr:g}. Truth is the published table: error on CIFAR-10 after 200 epochs, of networks of five cells of width 16
in each stage. So transfer from small grey images and a small network to CIFAR-10 is part of all regrets here; that of
search alone is measured in gradient.md.

Searches take {_steps(rows)} steps: after a fifth of them, in which only the weights learn, each
is a pass for the weights and one for the architecture. Learning rates of the architecture are those that the pilot of
benchmarks.gradient chose on another space; nothing was tuned here. Passes are counted as they run; a batch that only
runs forward counts a third. They are equal in number, not in time: a pass under a mixture runs every operation.

Regret: published error of the derived cell less that of the best, in points. Best of so many random cells: by
published error, {NUM_DRAWS:,} draws; that search trains so many networks for 200 epochs. Without parameters: the share
of the six edges with none, skip or pooling; by chance 0.60.

Limits: expected latencies are fitted to the published ones of {setting.num_fitted:,} random cells (r2 on a fifth held
out); in the end `measured` gives the published ones. The method is `drnas`.

Fronts: costs and method likewise. One run draws a preference and a target in each step and proposes {SIZE} cells for
each of {len(TARGETS)} targets; what it runs to watch itself counts. Evolution: half of the passes train a supernet by
uniform paths, the rest evaluates cells on {NUM_VALID} images after {NUM_CALIBRATION} batches of calibration, {BATCH}
for each target in turn (population {POPULATION}), and a cell that one target has had evaluated costs the others
nothing. Its front is chosen by inherited error and published latency.

"""


def _steps(rows: Rows) -> str:
    found = {job.part: job.steps for job in rows if job.steps}
    return ", ".join(f"{steps} ({part})" for part, steps in found.items()) or "no"


def _failures(rows: Rows) -> str:
    failed = Counter(f"{job.part} {job.method} {job.bounds}: {out.error}" for job, out in rows.items() if out.error)
    if not failed:
        return ""
    return "## Runs that failed\n\n" + "".join(f"- {what} ({n} times)\n" for what, n in sorted(failed.items()))


def _joined(values: Iterable[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)

"""The rows as tables and as one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.ranking.figures import NUM_CHOSEN, floor, rank_sums
from benchmarks.ranking.grouping import Method, Run, Runs, of_task
from benchmarks.ranking.methods import ENTANGLED
from benchmarks.ranking.picture import draw
from benchmarks.ranking.rows import Rows
from benchmarks.report import machine, markdown
from benchmarks.truths import Truth

Truths = Mapping[str, Truth]


def write(truths: Truths, rows: Rows, path: Path, *, threads: int = 1) -> None:
    """The report beside the rows: the same name with .md, and .png for the picture."""
    rows, tried = _apart(rows)
    of = {name: of_task(truth, rows) for name, truth in truths.items()}
    path.with_suffix(".md").write_text(
        text(truths, rows, of, path.with_suffix(".png").name, threads) + tries(truths, rows, tried), encoding="utf-8"
    )
    draw(truths, of, path.with_suffix(".png"))


def _apart(rows: Rows) -> tuple[Rows, Rows]:
    """Rows of the trainings as the truth has them, and those of tries."""
    plain = {job: outcome for job, outcome in rows.items() if not job.tuning}
    return plain, {job: outcome for job, outcome in rows.items() if job.tuning}


def tries(truths: Truths, rows: Rows, tried: Rows) -> str:
    """What was tried to lift the ranks of the strategies that it was tried with; nothing where nothing was."""
    if not tried:
        return ""
    begun = {job: outcome for job, outcome in rows.items() if (job.strategy, job.sharing) == ("fair", ENTANGLED)}
    parts = ["\n## Attempts to improve the ranks\n\n", _TRIES]
    for name, truth in truths.items():
        runs = of_task(truth, begun | tried, lambda job: Method(job.strategy, job.tuning or "as above"))
        parts += [f"### {name}\n\n", _table(truth, runs, "training"), "\n"]
    return "".join(parts).rstrip() + "\n"


def text(truths: Truths, rows: Rows, of: Mapping[str, Runs], picture: str, threads: int) -> str:
    parts = [
        "# How well supernets rank\n\n",
        f"{machine(threads=threads)}; written by `python -m benchmarks.ranking`, which says how to make it anew.\n\n",
        _METHOD.format(budgets=_budgets(truths, rows), num=NUM_CHOSEN),
        f"![Kendall's tau by method and task]({picture})\n\n",
    ]
    for name, truth in truths.items():
        parts += [f"## {name}\n\n", _floor(truth), _table(truth, of[name]), "\n"]
    parts += [_best(truths, rows), _failures(rows)]
    return "".join(parts).rstrip() + "\n"


_TRIES = """\
`fair` with entangled weights and other training settings; passes and everything else as above. lr and decay are factors
of the learning rate and the weight decay; average is the share of the last steps over which weights are averaged;
calibration is the number of batches for batch-norm statistics, 8 by default. `rounds` sums the gradients of so many
rounds of fair paths in a step, `batches=own` gives each path its own examples. Settings with fewer seeds are compared
at equal seeds, since seeds differ by some hundredths. Times of these runs are from another processor than those above.
docs/decisions/default-strategy.md discusses them.

"""

_METHOD = """\
Each method trains a supernet with the same number of forward and backward passes,
{budgets}.
A step of several passes sums their gradients, clipped to norm 1, so all methods use the learning rate and the optimiser
of the task's stand-alone trainings; nothing is tuned for any of them. Additional forward and backward passes of a
sharing, to find where to split, are outside the budget and listed as "beside"; forward passes alone (of a frozen
teacher, on validation data) are not counted; the times include both. Every architecture is then evaluated on the
validation split with inherited, calibrated weights, and compared with the mean of its stand-alone trainings.

Figures are medians over seeds, with quartiles. Tau is Kendall's tau-b. Regret: the best true value among the {num} best
by inherited rank, minus the best of all. Gap: inherited minus true metric, its mean and its mean absolute value;
below 0 shared weights do better. The time of a pass is processor time, including everything else in its step.

"""


def _budgets(truths: Truths, rows: Rows) -> str:
    budgets = {(job.task, job.budget) for job in rows}
    told = [
        f"{budget / truths[task].training.steps:g} stand-alone trainings on {task} ({budget:,} passes of "
        f"{truths[task].task.batch_size} examples)"
        for task, budget in sorted(budgets)
    ]
    return " and ".join(told) or "nothing yet"


def unit(truth: Truth) -> tuple[str, float, int]:
    """What the metric is told in, how many of it are 1, and with how many digits."""
    return ("points of error", 100.0, 2) if truth.metric == "error" else ("nats", 1.0, 3)


def _floor(truth: Truth) -> str:
    bottom, (name, factor, digits) = floor(truth), unit(truth)
    n, seeds = truth.values.shape
    worst, best, noise = (value * factor for value in (truth.mean.max(), truth.mean.min(), bottom.deviation))
    return (
        f"{n} architectures, each trained alone {seeds} times with {truth.training.steps:,} steps. The metric is in "
        f"{name}, from {best:.{digits}f} to {worst:.{digits}f}, with a standard deviation of {noise:.{digits}f} "
        f"between trainings of one. Tau between two trainings: {bottom.repetition:.3f}; of a perfect predictor with "
        f"their mean: {bottom.ceiling:.3f}; of the order by parameters: {bottom.params:.3f}; by multiply-accumulates: "
        f"{bottom.macs:.3f}.\n\n"
    )


def _table(truth: Truth, runs: Runs, second: str = "sharing") -> str:
    name, factor, digits = unit(truth)
    columns: list[tuple[str, Callable[[Run], float], str]] = [
        ("tau", lambda run: run.figures.tau, ".3f"),
        ("Spearman", lambda run: run.figures.rho, ".3f"),
        (f"regret, {name}", lambda run: run.figures.regret * factor, f".{digits}f"),
        (f"gap, {name}", lambda run: run.figures.gap * factor, f"+.{digits}f"),
        (f"mean distance, {name}", lambda run: run.figures.absolute_gap * factor, f".{digits}f"),
        ("ms a pass", lambda run: run.outcome.ms_per_pass, ".2f"),
        ("training, s", lambda run: run.outcome.train_s, ".0f"),
    ]
    header = ["strategy", second, "seeds", "steps", "beside", *(title for title, _, _ in columns)]
    lines = [
        [
            method.strategy,
            method.sharing,
            str(len(of)),
            f"{np.median([run.outcome.steps for run in of]):.0f}",
            f"{np.median([run.outcome.passes_beside for run in of]):.0f}",
            *(spread([value(run) for run in of], form) for _, value, form in columns),
        ]
        for method, of in runs.items()
    ]
    return markdown(header, lines)


def spread(values: Sequence[float], form: str) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def _best(truths: Truths, rows: Rows) -> str:
    sums = rank_sums(truths, rows)
    if not sums:
        return ""
    lines = [[name, f"{total:g}"] for name, total in sums.items()]
    told = "Sums over the tasks of the ranks by median tau, entangled weights; the first two go into stage 2."
    return f"## Strategies by rank\n\n{told}\n\n" + markdown(["strategy", "sum of ranks"], lines) + "\n"


def _failures(rows: Rows) -> str:
    failed = Counter(
        f"{job.task}, {job.strategy}, {job.sharing}: {outcome.error}" for job, outcome in rows.items() if outcome.error
    )
    if not failed:
        return ""
    return "## Runs that failed\n\n" + "".join(f"- {what} ({n} times)\n" for what, n in sorted(failed.items()))

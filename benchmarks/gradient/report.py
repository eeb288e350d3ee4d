"""The rows as one table, one picture and three sentences."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.gradient.compare import Compared, Run, compared
from benchmarks.gradient.figures import NUM_DRAWS, Figures, figures, regret_of_each
from benchmarks.gradient.methods import PILOT_SEED
from benchmarks.gradient.rows import Rows
from benchmarks.gradient.run import NUM_DRAWN
from benchmarks.gradient.sentences import sentences
from benchmarks.ranking.report import spread, unit
from benchmarks.report import machine, markdown
from benchmarks.truths import Truth


def write(truths: Mapping[str, Truth], rows: Rows, path: Path, *, budgets: Mapping[str, int], threads: int = 1) -> None:
    """Write the report beside the rows: the same name with .md, and .png for the picture."""
    from benchmarks.gradient.picture import draw

    tasks = {name: compared(truth, rows, budgets[name]) for name, truth in truths.items()}
    told = text(tasks, rows, path.with_suffix(".png").name, threads)
    path.with_suffix(".md").write_text(told, encoding="utf-8")
    draw(tasks, path.with_suffix(".png"))


# --- text ---------------------------------------------------------------------------------------------------------


def text(tasks: Mapping[str, Compared], rows: Rows, picture: str, threads: int) -> str:
    written = f"{machine(threads=threads)}; written by `python -m benchmarks.gradient`, which says how to make it anew."
    budgets = " and ".join(
        f"{one.trainings:g} stand-alone trainings on {name} ({one.budget:,} passes of {one.truth.task.batch_size} "
        "examples)"
        for name, one in tasks.items()
    )
    facts = {"budgets": budgets, "drawn": NUM_DRAWN, "draws": NUM_DRAWS, "rates": _rates(rows)}
    parts = [
        f"# What gradient search finds\n\n{written}\n\n",
        "".join(_wrapped(f"{number}. {line}") + "\n" for number, line in enumerate(sentences(tasks), 1)) + "\n",
        f"![Regret by method and task]({picture})\n\n",
        table(tasks),
        "\n",
        "## How it was measured\n\n",
        *(_wrapped(part.format(**facts)) + "\n\n" for part in _METHOD.strip().split("\n\n")),
        _pilot(tasks, rows),
        _failures(rows),
    ]
    return "".join(parts).rstrip() + "\n"


_METHOD = """\
Every run has the same number of forward and backward passes: {budgets}. Joint: from a new supernet; a step of the
weights under the method's mixture is one pass, a step of the architecture another, of second order four; in the first
fifth of the steps the weights learn alone. Queried: half of the passes train a supernet (`fair` on image, `uniform`
on text: the best with entangled weights by ranking.md), which then stays as it is, and the other half are steps of
the architecture. Passes are counted as they run, and equal in number, not in time: a pass under a mixture runs every
option, one under a sampled network only that. Optimiser and learning rate of the weights are those of the stand-alone
trainings. Learning rates of the architecture: {rates}; all else is the default of the search.

Regret: the mean metric of the stand-alone trainings, less that of the best architecture, in points of error or nats;
medians over seeds, with quartiles. Derived: the architecture of likeliest options. Best of {drawn}: of so many
different architectures drawn from the distribution, the best by inherited metric. Of a draw: the mean regret over the
distribution. Without parameters: the share of choices among operations whose likeliest option has none. Entropy: as a
share of that of equal probabilities. Worse: runs whose derived architecture is worse than the median of random search
at the same budget, or than the middle one of the space; in brackets how many of them no warning told of. Time:
processor time of the search, that of the queried supernet left out.

Every method has one seed before any has the next, and four were planned: the column of seeds says how far the run came
in its time. The best three methods of image went on to text.

The rows of `gdas(sparse=yes)` are those of `gdas` as it was at first: what it did not draw, it did not run. Only the
rows of `gdas` have the warnings that its failures led to, and, queried, learn the architecture from validation batches,
as all methods do now; the other queried rows learnt it from training examples (docs/decisions/gradient-search.md).

Random search trains so many different networks once each, and takes the best by that; {draws:,} draws from the truth.
Its choice is one of the trainings that its regret is measured by, which flatters it slightly; and it ends with a
trained network, where a gradient search has still to train the one it derives.
"""


def _rates(rows: Rows) -> str:
    by_rate: dict[float, list[str]] = {}
    for job in rows:
        if job.seed != PILOT_SEED and job.method not in by_rate.setdefault(job.lr_arch, []):
            by_rate[job.lr_arch].append(job.method)
    return "; ".join(
        f"{rate:g} for {', '.join(f'`{name}`' for name in some)}" for rate, some in sorted(by_rate.items())
    )


def table(tasks: Mapping[str, Compared]) -> str:
    header = [
        *("task", "method", "mode", "seeds", "regret of the derived", "its rank", f"best of {NUM_DRAWN}", "of a draw"),
        *(
            "without parameters",
            "entropy",
            "warned",
            "worse than random search (untold)",
            "than the middle (untold)",
            "time, s",
        ),
    ]
    lines = [line for name, one in tasks.items() for line in (*_of_runs(name, one), *_of_baselines(name, one, header))]
    return markdown(header, lines)


def _of_runs(name: str, one: Compared) -> list[list[str]]:
    _, factor, digits = unit(one.truth)
    form = f".{digits}f"

    def line(method: str, mode: str, runs: list[Run]) -> list[str]:
        def told(value: Callable[[Figures], float], scale: float, form: str) -> str:
            return spread([scale * value(run.figures) for run in runs], form)

        def worse(than: float) -> str:
            found = [run.figures for run in runs if run.figures.regret > than]
            return f"{len(found)} ({sum(not of.warned for of in found)})"

        return [
            *(name, f"`{method}`", mode, str(len(runs))),
            told(lambda of: of.regret, factor, form),
            told(lambda of: of.rank, 1, ".0f"),
            told(lambda of: of.of_drawn, factor, form),
            told(lambda of: of.expected, factor, form),
            f"{np.mean([run.figures.free for run in runs]):.2f}",
            f"{np.median([run.figures.entropy for run in runs]):.2f}",
            str(sum(run.figures.warned for run in runs)),
            worse(one.random),
            worse(float(np.median(regret_of_each(one.truth)))),
            f"{np.median([run.outcome.search_s for run in runs]):.0f}",
        ]

    return [line(method, mode, runs) for (method, mode), runs in one.runs.items()]


def _of_baselines(name: str, one: Compared, header: Sequence[str]) -> list[list[str]]:
    _, factor, digits = unit(one.truth)
    lines = []
    for baseline in one.baselines:
        regret = spread([factor * value for value in baseline.regrets], f".{digits}f")
        if len(baseline.regrets) > 1:
            regret += f", mean {factor * baseline.regrets.mean():.{digits}f}"
        lines.append([name, baseline.name, "", str(baseline.seeds or ""), regret])
    return [line + [""] * (len(header) - len(line)) for line in lines]


def _pilot(tasks: Mapping[str, Compared], rows: Rows) -> str:
    lines = []
    for job, outcome in rows.items():
        if job.seed == PILOT_SEED and not outcome.error:
            truth = tasks[job.task].truth
            of, (_, factor, digits) = figures(truth, outcome), unit(truth)
            lines.append(
                [
                    *(job.task, f"`{job.method}`", f"{job.lr_arch:g}", f"{job.budget:,}"),
                    *(f"{factor * value:.{digits}f}" for value in (of.regret, of.expected)),
                    f"{of.entropy:.2f}",
                ]
            )
    if not lines:
        return ""
    told = _wrapped(
        "One joint run each at half the budget, with a seed that is not among the others. Of the learning rates that "
        "left less than 95 % of the entropy of equal probabilities, each method has the one with the lowest regret of "
        "a draw; further spellings of a method have that of the first. "
        "The run of small-temperature at 0.03 came after its rate had been chosen."
    )
    header = ["task", "method", "learning rate", "passes", "regret of the derived", "of a draw", "entropy"]
    return f"## Pilot\n\n{told}\n\n{markdown(header, lines)}\n"


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), 120, break_long_words=False, break_on_hyphens=False)


def _failures(rows: Rows) -> str:
    failed = Counter(f"{job.task}, {job.method}, {job.mode}: {of.error}" for job, of in rows.items() if of.error)
    if not failed:
        return ""
    return "## Runs that failed\n\n" + "".join(f"- {what} ({n} times)\n" for what, n in sorted(failed.items()))

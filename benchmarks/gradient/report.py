"""The rows as one table, one picture and three sentences."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gradient.figures import NUM_DRAWS, Figures, figures, random_search, ranked, regret_of_each
from benchmarks.gradient.methods import STRATEGIES, STRATEGY
from benchmarks.gradient.rows import JOINT, QUERIED, Job, Outcome, Rows
from benchmarks.gradient.run import NUM_DRAWN
from benchmarks.ranking.report import spread, unit
from benchmarks.ranking.rows import read as read_ranking
from benchmarks.report import machine, markdown
from benchmarks.truths import Truth, Vector

PILOT_SEED = 100
LARGEST = "the largest network"
SAME = ", the same budget"
RANKING = Path(__file__).parents[1] / "results/ranking.jsonl"
RANDOM = (10, 12, 50)
"""Networks that a random search trains, beside as many as the budget pays for."""

Truths = Mapping[str, Truth]
Key = tuple[str, str]
"""A method and a mode."""


@dataclass(frozen=True)
class Run:
    """A row that has a result, and what it is worth."""

    job: Job
    outcome: Outcome
    figures: Figures


@dataclass(frozen=True)
class Baseline:
    """Something else to do with the budget, or with another."""

    name: str
    regrets: Vector
    """Of draws, or of seeds."""
    seeds: int = 0
    """How many seeds; 0 where regrets are draws from the truth."""


@dataclass(frozen=True)
class Compared:
    """What there is of one task."""

    truth: Truth
    budget: int
    runs: dict[Key, list[Run]]
    baselines: list[Baseline]

    @property
    def trainings(self) -> float:
        """The budget in stand-alone trainings."""
        return self.budget / self.truth.training.steps

    @property
    def random(self) -> float:
        """Median regret of random search at this budget."""
        return float(np.median(next(line.regrets for line in self.baselines if line.name.endswith(SAME))))

    def regrets(self, key: Key) -> list[float]:
        return [run.figures.regret for run in self.runs[key]]

    def pooled(self, mode: str) -> list[Run]:
        return [run for (_, its), some in self.runs.items() if its == mode for run in some]


def write(truths: Truths, rows: Rows, path: Path, *, budgets: Mapping[str, int], threads: int = 1) -> None:
    """The report beside the rows: the same name with .md, and .png for the picture."""
    from benchmarks.gradient.picture import draw

    tasks = {name: compared(truth, rows, budgets[name]) for name, truth in truths.items()}
    told = text(tasks, rows, path.with_suffix(".png").name, threads)
    path.with_suffix(".md").write_text(told, encoding="utf-8")
    draw(tasks, path.with_suffix(".png"))


def compared(truth: Truth, rows: Rows, budget: int) -> Compared:
    """Joint runs, then queried ones, each the lowest median regret first; failures and the pilot left out."""
    runs: dict[Key, list[Run]] = {}
    for job, outcome in rows.items():
        if (job.task, job.budget) == (truth.name, budget) and job.seed != PILOT_SEED and not outcome.error:
            runs.setdefault((job.method, job.mode), []).append(Run(job, outcome, figures(truth, outcome)))

    def order(item: tuple[Key, list[Run]]) -> tuple[str, float, float]:
        regrets = [run.figures.regret for run in item[1]]
        return item[0][1], float(np.median(regrets)), float(np.mean(regrets))

    return Compared(truth, budget, dict(sorted(runs.items(), key=order)), baselines(truth, budget))


def baselines(truth: Truth, budget: int) -> list[Baseline]:
    """Random searches, a supernet that ranks all, and no search at all."""
    regrets = regret_of_each(truth)
    paid = round(budget / truth.training.steps)
    found = [
        Baseline(f"random search, {num} trained{SAME * (num == paid)}", random_search(truth, num))
        for num in sorted({paid, *RANDOM})
    ]
    strategy, rows = STRATEGIES.get(truth.name, STRATEGY), read_ranking(RANKING)
    budgets = {job.budget for job in rows if job.task == truth.name and ranked(truth, rows, strategy, job.budget)}
    for passes in sorted(budgets):
        of_seeds = ranked(truth, rows, strategy, passes)
        name = f"supernet of {passes:,} passes by `{strategy}`, best of all by inherited metric"
        found.append(Baseline(name, np.array(of_seeds), len(of_seeds)))
    largest = regrets[truth.archs.index(truth.space.largest())]
    return [*found, Baseline(LARGEST, np.array([largest])), Baseline("one network at random", regrets)]


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


def sentences(tasks: Mapping[str, Compared]) -> list[str]:
    """What the table says, as far as there is a table."""
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
        f"{_amount(one.truth, one.random)}, and {better} of {len(one.runs)} ways to search by gradients are better; the "
        f"largest network, which costs no search, has {_amount(one.truth, largest)}."
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
        "a draw; further spellings of a method have that of the first."
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

"""What a few labels make of the ranks of supernets: pure computation on the stored runs and the truth.

    python -m benchmarks.ranking.correction

Every stored run holds the inherited metrics of all networks. For each run some networks are chosen as the trust report
chooses them, without a front; their labels are the truth's first training. Networks without a label are held against
the mean of both trainings, of which the correction has seen neither; all networks against the second training alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.finding import find, names
from benchmarks.ranking.figures import floor
from benchmarks.ranking.methods import ENTANGLED
from benchmarks.ranking.report import spread, unit
from benchmarks.ranking.rows import read
from benchmarks.report import machine, markdown
from benchmarks.truths import Truth, Vector
from nas.results.correction import Label, Network, correct, tau
from supernets.standalone import trust_sample

ROWS = Path("benchmarks/results/ranking.jsonl")
RESULTS = Path("benchmarks/results/correction.md")
STRATEGIES = ("sandwich(distil=none)", "fair", "sandwich")
"""The default, the best, and one that came to nothing on text."""
LABELS = (8, 16, 32)
DRAWS = 10


@dataclass(frozen=True)
class Scores:
    """Of one metric of all networks: on those without a label, and on all."""

    tau: float
    gap: float
    """Mean distance."""
    tau_all: float
    gap_all: float


@dataclass(frozen=True)
class Outcome:
    """One run, with the labels of one draw."""

    raw: Scores
    corrected: Scores
    without: Scores
    """The same model without the supernet's say."""
    refused: bool
    covered: float
    """Share of networks without a label whose second training lies within 1.96 standard deviations; NaN if refused."""


def main() -> None:
    RESULTS.write_text(text(), encoding="utf-8")


def text() -> str:
    parts = [_HEAD.format(machine=machine(threads=1), draws=DRAWS)]
    for name in names():
        truth = find(name)
        bottom, (what, factor, digits) = floor(truth), unit(truth)
        noise = np.sqrt(2 / np.pi) * bottom.deviation * factor
        ceiling = f"of a perfect predictor with their mean: {bottom.ceiling:.3f}"
        apart = f"about {noise / np.sqrt(2):.{digits}f} {what}, from one training {noise:.{digits}f}"
        parts.append(
            f"## {name}\n\nTau between two trainings: {bottom.repetition:.3f}; {ceiling}; its mean distance from that "
            f"mean: {apart}.\n\n"
        )
        rows = [row for strategy in STRATEGIES for row in _rows(truth, strategy)]
        parts += [markdown(_header(what), rows), "\n"]
    return "".join(parts).rstrip() + "\n"


_HEAD = """\
# What a few stand-alone trainings make of a supernet's ranks

{machine}; written by `python -m benchmarks.ranking.correction`, which trains nothing: it reads the runs of
ranking.jsonl with entangled weights.

`nas.results.correction` with its defaults, the same for both tasks. Labels: the first training of each of 8, 16 or 32
networks, chosen as the trust report chooses them. Tau and gap (mean absolute error) of the networks without a label
refer to the mean of both of their trainings, those of all networks to the second training alone, so no label is
compared with itself. "Without" is the same model with the same labels, from choices and sizes but without the supernet.
Figures are medians over 3 seeds x {draws} draws of labels, with quartiles. Gain: of tau over the raw one, run by run,
with the worst of all. Refused: the share of refused corrections, for which the raw metrics count. Covered: how often
the second training lies within 1.96 standard deviations of the prediction.

**Conclusions.** A correction needs sixteen labels. With them the default strategy gains .05 of tau on image and .28 on
text, and a supernet that failed (`sandwich` on text) ranks as well as any other. Where inherited ranks are nearly as
good as those of a second training (`fair` on image) there is little to gain, and little is lost. Eight labels
are too few: on text the correction is mostly refused; on image it closes most of the gap, but gains no ranks and may
cost some (the worst of 30 lost .14). Gaps: on text .03 nats are reached with 32 labels and nearly with 16; on image 1
point is not reached: 1.3 to 1.5 remain with 32 labels, where a perfect predictor would have .74. The standard
deviations are accurate, slightly too small with few labels. The supernet helps most where it ranks well and labels are
few (`fair` on image with 8). With 16 labels, choices and sizes alone do about as well as with the default strategy's
supernet, a little better on image: these spaces have five and four choices, and their metric is nearly a sum over them.

The labels here are whole trainings. Those of a trust report are shorter: benchmarks/results/short_trainings.md has the
ranks of half a training nearly as good, and its values far above. A correction then tells what a network reaches in as
many steps as its labels had.

"""


def _header(unit_name: str) -> list[str]:
    return [
        "strategy",
        "labels",
        "tau raw",
        "tau corrected",
        "tau without",
        "gain",
        "worst",
        f"gap raw, {unit_name}",
        "gap corrected",
        "gap without",
        "all: tau raw",
        "all: corrected",
        "all: gap",
        "refused",
        "covered",
    ]


def _rows(truth: Truth, strategy: str) -> Iterator[list[str]]:
    runs = inherited(truth, strategy)
    for labels in LABELS:
        found = [outcome(truth, run, labels, [seed, draw]) for seed, run in enumerate(runs) for draw in range(DRAWS)]
        yield _row(truth, strategy, labels, found)


def _row(truth: Truth, strategy: str, labels: int, found: Sequence[Outcome]) -> list[str]:
    _, factor, digits = unit(truth)

    def gaps(scores: Sequence[float]) -> str:
        return spread([score * factor for score in scores], f".{digits}f")

    gains = [one.corrected.tau - one.raw.tau for one in found]
    covered = [one.covered for one in found if not one.refused]
    return [
        strategy,
        str(labels),
        *(spread([scores.tau for scores in column], ".3f") for column in _columns(found)),
        spread(gains, "+.3f"),
        f"{min(gains):+.3f}",
        *(gaps([scores.gap for scores in column]) for column in _columns(found)),
        spread([one.raw.tau_all for one in found], ".3f"),
        spread([one.corrected.tau_all for one in found], ".3f"),
        gaps([one.corrected.gap_all for one in found]),
        f"{np.mean([one.refused for one in found]):.0%}",
        f"{np.mean(covered):.0%}" if covered else "-",
    ]


def _columns(found: Sequence[Outcome]) -> tuple[list[Scores], ...]:
    return [one.raw for one in found], [one.corrected for one in found], [one.without for one in found]


def inherited(truth: Truth, strategy: str) -> list[Vector]:
    """The inherited metrics of all networks, run by run."""
    rows = read(ROWS)
    return [
        np.array(outcome.inherited)
        for job, outcome in sorted(rows.items(), key=lambda item: item[0].seed)
        if (job.task, job.truth, job.strategy, job.sharing) == (truth.name, truth.digest, strategy, ENTANGLED)
        and not outcome.error
    ]


def outcome(truth: Truth, run: Vector, labels: int, seed: Sequence[int]) -> Outcome:
    """One run with the labels of one draw."""
    chosen = sample(truth, labels, seed)
    networks = [Network(*one) for one in zip(truth.archs, run.tolist(), _sizes(truth), strict=True)]
    told = [Label(networks[i], (float(truth.values[i, 0]),)) for i in chosen]
    found, without = correct(told, networks), correct(told, networks, inherited=False)
    rest = np.setdiff1d(np.arange(len(run)), chosen)
    inside = np.abs(found.values - truth.values[:, 1]) <= 1.96 * found.spreads
    return Outcome(
        raw=scores(truth, run, rest),
        corrected=scores(truth, found.values, rest),
        without=scores(truth, without.values, rest),
        refused=bool(found.refused),
        covered=float(inside[rest].mean()) if not found.refused else float("nan"),
    )


def sample(truth: Truth, labels: int, seed: Sequence[int]) -> list[int]:
    """Positions of the networks that are trained alone."""
    place = {arch: position for position, arch in enumerate(truth.archs)}
    params = dict(zip(truth.archs, truth.params.tolist(), strict=True))
    return [place[arch] for arch in trust_sample(truth.space, labels, np.random.default_rng(seed), params.__getitem__)]


def _sizes(truth: Truth) -> list[tuple[float, ...]]:
    return [(float(a), float(b)) for a, b in zip(truth.params, truth.macs, strict=True)]


def scores(truth: Truth, values: Vector, rest: Vector) -> Scores:
    """Of the networks at `rest` against the mean of their trainings; of all against the second training."""
    mean, second = truth.values.mean(1), truth.values[:, 1]
    return Scores(
        tau=tau(values[rest], mean[rest]),
        gap=float(np.abs(values - mean)[rest].mean()),
        tau_all=tau(values, second),
        gap_all=float(np.abs(values - second).mean()),
    )


if __name__ == "__main__":
    sys.exit(main())

"""Can the ranks of a supernet be trusted? Inherited metrics set against stand-alone trainings of some architectures.

A search on inherited weights is worth as much as their order. The report says how far the two orders agree, beside the
two figures without which that means little: how far two stand-alone trainings of the same networks would agree (the
noise of training bounds what can be seen), and how far sorting by size alone would (what costs nothing).

Everything here is computed from rows, however they were come by; `supernets.standalone` trains networks to have some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from search_spaces import Architecture
from supernets import correlation
from supernets.correlation import Vector

Level = Literal["reliable", "rough", "unreliable", "unknown"]
"""Reliability of ranks: enough to choose by, enough to narrow the choice, neither, or not determined."""

RELIABLE = 0.5
"""Tau above which, with confidence, ranks are reliable enough to choose by."""
NEAR = 0.1
"""Margin below the tau of two stand-alone trainings within which a tau counts as equally good."""
NOISY = 0.5
"""Tau of two stand-alone trainings below which noise hides most of the order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture, with its metric (lower is better) with shared weights and with stand-alone weights."""

    arch: Architecture
    inherited: float
    standalone: float
    seconds: float = 0.0
    """Seconds of stand-alone training and evaluation, including all repetitions."""
    again: tuple[float, ...] = ()
    """Stand-alone metrics of further trainings with other seeds, which measure the noise."""
    params: float = math.nan
    macs: float = math.nan


@dataclass(frozen=True, slots=True)
class Gap:
    """Inherited minus stand-alone metric over networks of similar size: negative if shared weights are better."""

    size: str
    """small, middle or large: thirds of the sample by parameters."""
    networks: int
    params_low: float
    params_high: float
    mean: float
    absolute: float
    """Mean distance."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Ranking by size alone, larger is better, in place of inherited metrics."""

    name: str
    tau: float
    margin: float
    """Tau of the inherited ranks minus this tau."""
    margin_low: float
    margin_high: float
    """Paired bootstrap interval of the margin: both taus use the same resampled architectures."""


@dataclass(frozen=True, slots=True)
class RankingReport:
    """Agreement between the orders by inherited and by stand-alone metrics. None: not determined."""

    tau: float | None
    """Kendall's tau-b between the two orders, in [-1, 1]."""
    tau_low: float | None
    tau_high: float | None
    """Percentile bootstrap interval over architectures."""
    rho: float | None
    """Spearman's rank correlation between the two orders."""
    rho_low: float | None
    rho_high: float | None
    noise: float | None
    """Standard deviation of the metric over repeated stand-alone trainings of a network, pooled over networks."""
    ceiling: float | None
    """The tau that two stand-alone trainings of these networks would have with one another.

    Simulated with normal noise of that deviation: see `correlation.tau_of_repetition`.
    """
    ceiling_low: float | None
    ceiling_high: float | None
    """The same at the ends of the deviation's own interval, which is wide for a few repetitions."""
    baselines: tuple[Baseline, ...]
    """Rankings by parameters and by multiply-accumulates, if the rows have these."""
    k: int
    """A quarter of the architectures, at least one."""
    top_k: float | None
    """Share of the k best by stand-alone training that are among the k best by inherited metric; 1 is best."""
    regret: float | None
    """Stand-alone metric of the best network by inherited rank, minus the best stand-alone metric: 0 is best."""
    regret_k: float | None
    """The same of the best by stand-alone metric among the k best by inherited rank."""
    gap: float | None
    """Mean of inherited minus stand-alone metric: negative if shared weights are better."""
    absolute_gap: float | None
    """Mean absolute difference between the two."""
    gaps: tuple[Gap, ...]
    """By size; none for fewer than three networks or without their parameters."""
    rows: tuple[Row, ...]
    level: Level
    verdict: str
    """A summary in one or two sentences."""
    banner: str
    """A warning, to be shown first, if ranking by size does equally well; otherwise empty."""


def report(
    rows: Sequence[Row],
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> RankingReport:
    """The trust report of these architectures; those whose metrics are not finite are left out and counted.

    Ties share their rank (tau-b, rho) and are broken evenly (top k, regret). Fewer than three architectures, or metrics
    that are all equal, determine no order: then tau and its interval are None and the verdict says why.
    """
    sound = [row for row in rows if math.isfinite(row.inherited) and math.isfinite(row.standalone)]
    inherited, standalone = _column(sound, "inherited"), _column(sound, "standalone")
    n, k = len(sound), max(1, len(sound) // 4)
    resamples = correlation.resamples(n, num_resamples, seed) if n else np.ones((0, 0))

    def estimate(
        measure: Callable[[Vector, Vector, Vector], Vector],
    ) -> tuple[float | None, float | None, float | None]:
        if not correlation.has_order(inherited, standalone):
            return None, None, None
        value = float(measure(inherited, standalone, correlation.whole(n))[0])
        return value, *correlation.interval(measure(inherited, standalone, resamples), confidence)

    tau, tau_low, tau_high = estimate(correlation.taus)
    rho, rho_low, rho_high = estimate(correlation.rhos)
    noise, *ceilings = _noise(sound, standalone, confidence, seed)
    baselines = () if tau is None else _baselines(sound, inherited, standalone, resamples, confidence)
    figures = _Figures(inherited, standalone, tau, tau_low, tau_high, ceilings[0], baselines, confidence)
    level, verdict = _judged(figures)
    if len(rows) > n:
        verdict += f" {len(rows) - n} of {len(rows)} architectures have no finite metric and are left out."
    return RankingReport(
        tau=tau,
        tau_low=tau_low,
        tau_high=tau_high,
        rho=rho,
        rho_low=rho_low,
        rho_high=rho_high,
        noise=noise,
        ceiling=ceilings[0],
        ceiling_low=ceilings[1],
        ceiling_high=ceilings[2],
        baselines=baselines,
        k=k,
        top_k=float(_among_best(inherited, k) @ _among_best(standalone, k)) / k if n else None,
        regret=regret(inherited, standalone, 1) if n else None,
        regret_k=regret(inherited, standalone, k) if n else None,
        gap=float((inherited - standalone).mean()) if n else None,
        absolute_gap=float(np.abs(inherited - standalone).mean()) if n else None,
        gaps=_gaps(sound),
        rows=tuple(rows),
        level=level,
        verdict=verdict,
        banner=figures.banner(),
    )


def _column(rows: Sequence[Row], name: str) -> Vector:
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def _noise(
    rows: Sequence[Row], standalone: Vector, confidence: float, seed: int
) -> tuple[float | None, float | None, float | None, float | None]:
    """The deviation of one training; the tau of two trainings of all rows, and this at both ends of the deviation."""
    trainings = [np.array([row.standalone, *filter(math.isfinite, row.again)]) for row in rows]
    pooled = correlation.pooled_deviation(trainings)
    if pooled is None:
        return None, None, None, None
    deviation, freedom = pooled
    if not correlation.has_order(standalone):
        return deviation, None, None, None
    least, most = correlation.deviation_interval(deviation, freedom, confidence)
    ceiling, low, high = (
        correlation.tau_of_repetition(standalone, noise, seed=seed) for noise in (deviation, most, least)
    )
    return deviation, ceiling, low, high


_SIZES = (("parameters", "params"), ("MACs", "macs"))


def _baselines(
    rows: Sequence[Row], inherited: Vector, standalone: Vector, resamples: Vector, confidence: float
) -> tuple[Baseline, ...]:
    found = []
    everything = correlation.whole(len(rows))
    for name, field in _SIZES:
        by_size = -_column(rows, field)
        if not (np.isfinite(by_size).all() and correlation.has_order(by_size)):
            continue
        (tau,), (own,) = (correlation.taus(by, standalone, everything) for by in (by_size, inherited))
        margins = correlation.taus(inherited, standalone, resamples) - correlation.taus(by_size, standalone, resamples)
        low, high = correlation.interval(margins, confidence, bound=2.0)
        found.append(Baseline(name, float(tau), round(float(own - tau), 12), low, high))
    return tuple(found)


def _among_best(values: Vector, k: int) -> Vector:
    """Return the probabilities, (n,), that each is among the k lowest with ties broken at random; they sum to k."""
    boundary = np.sort(values)[k - 1]
    below, tied = values < boundary, values == boundary
    return np.where(below, 1.0, tied * (k - below.sum()) / tied.sum())


def regret(inherited: Vector, standalone: Vector, k: int) -> float:
    """Lowest stand-alone metric among the k lowest inherited ones, less the lowest of all.

    Expected over all ways to break ties: of t tied networks m are taken, and the one with the j-th lowest stand-alone
    metric is the best taken in C(t - j, m - 1) of C(t, m) ways.
    """
    boundary = np.sort(inherited)[k - 1]
    sure = float(standalone[inherited < boundary].min(initial=math.inf))
    tied = np.sort(standalone[inherited == boundary])
    taken, t = k - int((inherited < boundary).sum()), len(tied)
    ways = [math.comb(t - j, taken - 1) / math.comb(t, taken) for j in range(1, t + 1)]
    best = sum(way * min(sure, float(value)) for way, value in zip(ways, tied, strict=True) if way)
    return max(0.0, best - float(standalone.min()))  # a sum of shares may end a rounding error below


def _gaps(rows: Sequence[Row]) -> tuple[Gap, ...]:
    ordered = sorted(rows, key=lambda row: row.params)
    if len(ordered) < 3 or any(math.isnan(row.params) for row in rows):
        return ()
    thirds = np.array_split(np.arange(len(ordered)), 3)
    return tuple(_gap(size, [ordered[i] for i in third]) for size, third in zip(_THIRDS, thirds, strict=True))


_THIRDS = ("small", "middle", "large")


def _gap(size: str, rows: Sequence[Row]) -> Gap:
    apart: npt.NDArray[np.float64] = _column(rows, "inherited") - _column(rows, "standalone")
    return Gap(size, len(rows), rows[0].params, rows[-1].params, float(apart.mean()), float(np.abs(apart).mean()))


# --- in words -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Figures:
    """The figures behind the verdict."""

    inherited: Vector
    standalone: Vector
    tau: float | None
    low: float | None
    high: float | None
    ceiling: float | None
    baselines: tuple[Baseline, ...]
    confidence: float

    def interval(self) -> str:
        return _written(f"tau {self.tau:.2f}, {self.confidence:.0%} interval {self.low:.2f} to {self.high:.2f}")

    def basis(self) -> str:
        return f"{self.interval()}, {len(self.inherited)} networks trained alone"

    def best_baseline(self) -> Baseline | None:
        return max(self.baselines, key=lambda baseline: baseline.tau, default=None)

    def hides_order(self) -> bool:
        """Whether noise does: two trainings would agree little, and there is no size either that they agree with."""
        best = self.best_baseline()
        seen = self.ceiling if best is None or self.ceiling is None else max(self.ceiling, best.tau)
        return seen is not None and seen < NOISY

    def banner(self) -> str:
        best = self.best_baseline()
        if best is None or self.tau is None or best.margin_low > 0:
            return ""
        claim = "No better than" if best.margin <= 0 else "Not shown to be better than"
        taus = f"tau {self.tau:.2f} by inherited metrics, {best.tau:.2f} by {best.name} alone"
        interval = f"{self.confidence:.0%} interval {best.margin_low:+.2f} to {best.margin_high:+.2f}"
        return f"{claim} ranking by {best.name}: " + _written(f"{taus} (difference {best.margin:+.2f}, {interval}).")


def _written(figures: str) -> str:
    return figures.replace("-", "−")


def _judged(figures: _Figures) -> tuple[Level, str]:
    """Return the reliability level of the ranks, and the verdict in words."""
    n, tau, low = len(figures.inherited), figures.tau, figures.low
    if tau is None or low is None:
        if n < 3:
            return "unknown", f"Not determined: {n} networks make no order; compare at least 3, better 12."
        constant = "inherited" if np.ptp(figures.inherited) == 0 else "stand-alone"
        return "unknown", f"Not determined: all {constant} metrics are equal; train longer or evaluate on more data."
    # a bootstrap of a perfect order has no width however few there are; the permutation test knows better
    if low > 0 and kendalltau(figures.inherited, figures.standalone).pvalue > 1 - figures.confidence:
        return (
            "unknown",
            f"Not determined: so few networks agree by chance ({figures.basis()}); compare more, better 12.",
        )
    return _compared(figures, tau, low)


def _compared(figures: _Figures, tau: float, low: float) -> tuple[Level, str]:
    """Where there is a tau to speak of: against chance, against size, and against a second stand-alone training."""
    best, basis = figures.best_baseline(), figures.basis()
    if low <= 0 and figures.hides_order():
        return "unreliable", f"The ranks are lost in noise ({basis}). {_against_ceiling(figures, tau)}"
    if low <= 0:
        remedy = "Train the supernet longer, or compare more networks."
        return "unreliable", f"The inherited ranks are not reliable: they may agree by chance ({basis}). {remedy}"
    if best is not None and best.margin <= 0:
        told = f"agree with stand-alone training, but no better than the order of {best.name} does"
        return "rough", f"The inherited ranks {told} ({basis}). {_against_ceiling(figures, tau)}".rstrip()
    if low >= RELIABLE:
        return "reliable", f"The inherited ranks can be trusted ({basis}). {_against_ceiling(figures, tau)}".rstrip()
    advice = "train the best few alone before choosing among them"
    return "rough", f"The inherited ranks agree roughly ({basis}): {advice}. {_against_ceiling(figures, tau)}".rstrip()


def _against_ceiling(figures: _Figures, tau: float) -> str:
    ceiling = figures.ceiling
    if ceiling is None:
        return ""
    other = f"Two stand-alone trainings would agree to about {ceiling:.2f}"
    if figures.hides_order():
        return f"{other} only: these networks differ little more than two trainings of one of them."
    if tau >= ceiling - NEAR:
        return f"{other}, so little more can be had."
    return f"{other}: what is missing is lost by sharing weights."

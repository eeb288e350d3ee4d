"""Can the ranks of a supernet be trusted? Inherited metrics set against stand-alone trainings of a few architectures.

A search on inherited weights is worth as much as their order. The trust report trains a small sample of architectures
from scratch, stratified by size, and compares the two orders: Kendall's tau-b with a bootstrap interval, how many of
the best are found, and what choosing by inherited rank costs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from search_spaces import Architecture, Space
from supernets import calibrate
from supernets.skeleton import build_initialised
from supernets.supernet import Supernet
from supernets.tasks import Task
from supernets.training import TrainingConfig, TrainingError, train_network

logger = logging.getLogger(__name__)

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture, with its metric (lower is better) by shared and by its own weights."""

    arch: Architecture
    inherited: float
    standalone: float
    seconds: float = 0.0
    """Of training and evaluating it alone."""


@dataclass(frozen=True, slots=True)
class RankingReport:
    """How far inherited metrics order architectures as stand-alone training does. None: not determined."""

    tau: float | None
    """Kendall's tau-b between the two orders, in [-1, 1]."""
    tau_low: float | None
    tau_high: float | None
    """Percentile bootstrap interval of tau over architectures."""
    top_k: float | None
    """Share of the k best by stand-alone training that are among the k best by inherited metric; 1 is best."""
    k: int
    """A quarter of the architectures, at least one."""
    regret: float | None
    """Stand-alone metric of the best by inherited rank, less the best stand-alone metric: 0 is best."""
    gap: float | None
    """Mean of inherited less stand-alone metric: negative where shared weights do better."""
    absolute_gap: float | None
    """Mean of the distance between the two."""
    rows: tuple[Row, ...]
    verdict: str
    """One sentence for people."""


def trust_sample(
    space: Space, n: int, rng: np.random.Generator, size: Callable[[Architecture], float]
) -> list[Architecture]:
    """`n` distinct architectures, one uniformly from each n-quantile of size; all of them where there are no more.

    Uniform samples crowd around the middle sizes; the order of a few of one size says little about a whole space. The
    quantiles are those of the whole space where it is small, else of 16 n uniform samples: `size` (number of
    parameters, say) should be cheap.
    """
    large = space.count() > 16 * n
    pool = space.sample_many(16 * n, rng, distinct=True) if large else list(space.enumerate())
    ordered = sorted(pool, key=lambda arch: (size(arch), arch.digest))
    strata = np.array_split(np.arange(len(ordered)), min(n, len(ordered)))
    return [ordered[rng.choice(stratum)] for stratum in strata]


def report(rows: Sequence[Row], *, confidence: float = 0.95, num_resamples: int = 1000, seed: int = 0) -> RankingReport:
    """The trust report of these architectures; those whose metrics are not finite are left out and counted.

    Ties share their rank (tau-b) and are broken evenly (top k, regret). Fewer than three architectures, or metrics
    that are all equal, determine no order: then tau and its interval are None and the verdict says why.
    """
    sound = [row for row in rows if math.isfinite(row.inherited) and math.isfinite(row.standalone)]
    inherited = np.array([row.inherited for row in sound], dtype=np.float64)
    standalone = np.array([row.standalone for row in sound], dtype=np.float64)
    n, k = len(sound), max(1, len(sound) // 4)
    tau = _tau(inherited, standalone)
    low, high = (None, None) if tau is None else _interval(inherited, standalone, confidence, num_resamples, seed)
    verdict = _verdict(inherited, standalone, tau, low, high, confidence)
    if len(rows) > n:
        verdict += f" {len(rows) - n} of {len(rows)} architectures have no finite metric and are left out."
    return RankingReport(
        tau=tau,
        tau_low=low,
        tau_high=high,
        top_k=float(_among_best(inherited, k) @ _among_best(standalone, k)) / k if n else None,
        k=k,
        regret=float(_among_best(inherited, 1) @ standalone - standalone.min()) if n else None,
        gap=float((inherited - standalone).mean()) if n else None,
        absolute_gap=float(np.abs(inherited - standalone).mean()) if n else None,
        rows=tuple(rows),
        verdict=verdict,
    )


def measure(
    supernet: Supernet,
    task: Task,
    archs: Sequence[Architecture],
    config: TrainingConfig,
    *,
    split: str = "valid",
    done: Mapping[str, Row] | None = None,
    on_row: Callable[[Row], None] | None = None,
    progress: bool = True,
) -> RankingReport:
    """Train each architecture alone, from its module's own initialisation, and set it against what it inherits.

    Both are evaluated with batch-norm statistics from the same batches. A training whose losses are not finite counts
    as metric infinity, not as an error: it is a finding, and is left out of the ranks and counted.

    Args:
        config: of the stand-alone trainings; same loop and settings as the supernet's, with steps that are enough.
        done: rows known already by the architecture's digest, as `on_row` gave them: those are not trained again.
        on_row: told each new row, to keep it; a stopped report goes on by handing them back as `done`.
    """
    done = done or {}
    rows = []
    for arch in archs:
        row = done.get(arch.digest)
        if row is None:
            row = _measure(supernet, task, arch, config, split, progress)
            if on_row is not None:
                on_row(row)
        rows.append(row)
    return report(rows, seed=config.seed)


def _measure(
    supernet: Supernet, task: Task, arch: Architecture, config: TrainingConfig, split: str, progress: bool
) -> Row:
    began = time.monotonic()
    inherited = calibrate.evaluate(supernet, arch, task, split)[task.metric]
    module = build_initialised(supernet.build, arch, config.seed).to(supernet.device)
    try:
        train_network(module, task, config, progress=progress)
    except TrainingError as error:
        logger.warning("%s trained alone: %s", arch.json(), error)
        standalone = math.inf
    else:
        calibrate.recalibrate(module, task.calibration(calibrate.NUM_BATCHES))
        standalone = task.evaluate(module, split)[task.metric]
    return Row(arch, inherited, standalone, time.monotonic() - began)


def _tau(a: Vector, b: Vector) -> float | None:
    """Kendall's tau-b; None for fewer than three pairs or where one side is constant."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    # the p-value is not used: the cheap one; rounded, for the same order is 1 and not 1 - 2e-16
    return round(float(kendalltau(a, b, method="asymptotic").statistic), 12)


def _interval(a: Vector, b: Vector, confidence: float, num_resamples: int, seed: int) -> tuple[float, float]:
    """Percentiles of tau over resampled pairs (Efron 1979); resamples without an order are drawn but not counted.

    Where none has an order, any tau is possible.
    """
    draws = np.random.default_rng(seed).multinomial(len(a), np.full(len(a), 1 / len(a)), size=num_resamples)
    taus = _weighted_taus(a, b, draws.astype(np.float64))
    taus = taus[np.isfinite(taus)]
    if not len(taus):
        return -1.0, 1.0
    low, high = np.quantile(taus, [(1 - confidence) / 2, (1 + confidence) / 2])
    return round(float(low), 12), round(float(high), 12)


def _weighted_taus(a: Vector, b: Vector, weights: Vector) -> Vector:
    """(r,) tau-b for each row of weights (r x n), how often each pair is drawn; NaN where one side is constant.

    With signs A_ij of a_i - a_j and B alike, tau-b is w'(A*B)w / sqrt(w'(A*A)w w'(B*B)w): milliseconds for all
    resamples, where calling scipy for each takes a second.
    """
    signs_a, signs_b = (np.sign(values[:, None] - values) for values in (a, b))
    both, only_a, only_b = (
        ((weights @ product) * weights).sum(1) for product in (signs_a * signs_b, signs_a**2, signs_b**2)
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(both / np.sqrt(only_a * only_b))


def _among_best(values: Vector, k: int) -> Vector:
    """(n,) probability that each is among the k lowest when ties are broken evenly; sums to k."""
    boundary = np.sort(values)[k - 1]
    below, tied = values < boundary, values == boundary
    return np.where(below, 1.0, tied * (k - below.sum()) / tied.sum())


def _verdict(
    inherited: Vector, standalone: Vector, tau: float | None, low: float | None, high: float | None, confidence: float
) -> str:
    n = len(inherited)
    if tau is None or low is None or high is None:
        if n < 3:
            return f"Not determined: {n} architectures make no order; compare at least 3, better 12."
        constant = "inherited" if np.ptp(inherited) == 0 else "stand-alone"
        return f"Not determined: all {constant} metrics are equal; train longer or evaluate on more data."
    figures = f"tau {tau:.2f}, {confidence:.0%} interval {low:.2f} to {high:.2f}, {n} architectures"
    # a bootstrap of a perfect order has no width however few there are; the permutation test knows better
    if low > 0 and kendalltau(inherited, standalone).pvalue > 1 - confidence:
        return f"Not determined: so few architectures agree by chance ({figures}); compare more, better 12."
    if low >= 0.5:
        return f"The ranks can be trusted ({figures})."
    if low > 0:
        return f"The ranks agree roughly ({figures}): train the best few alone before choosing among them."
    return f"The ranks are not reliable ({figures}): train the supernet longer, or compare more architectures."

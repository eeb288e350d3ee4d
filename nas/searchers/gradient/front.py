"""A whole front in one run: a hypernetwork learns the distribution for every preference and every hardware target.

Each architecture step draws a preference over the objectives and a target, and updates the hypernetwork with the
gradient of their scalarisation; each weight step draws its own preference. Multi-objective differentiable search
(arXiv:2402.18213) combines the gradients of several targets; here they are averaged, or one target is drawn per step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from nas.objectives.limits import Limit
from nas.records import Distribution
from nas.searchers.gradient.config import GradientConfig, GradientSearchError
from nas.searchers.gradient.constraints import Measured
from nas.searchers.gradient.hypernetwork import Hypernetwork
from nas.searchers.gradient.logits import Condition, initial
from nas.searchers.gradient.loop import build, ordered, relax
from nas.searchers.gradient.objectives import SCALARISATIONS, ExpectedCost
from nas.searchers.gradient.stepper import Draw
from nas.searchers.gradient.streams import rng
from supernets import Supernet
from supernets.tasks import SamplingTask


@dataclass(frozen=True)
class FrontConfig:
    """How to learn a front. The constructor raises GradientSearchError that names the field, the value and the rule."""

    search: GradientConfig = field(default_factory=lambda: GradientConfig(lr_arch=3e-3))
    """The settings of the loop; `lr_arch` is the learning rate of the hypernetwork."""
    divisions: int = 4
    """Resolution of the preferences in the result: two objectives give `divisions + 1` preferences."""
    concentration: float = 1.0
    """Of the Dirichlet distribution from which preferences are drawn; 1 is uniform, below 1 favours the ends."""
    scalarisation: str = "linear"
    """linear or chebyshev; the latter also reaches the concave parts of a front."""
    all_targets: bool = False
    """Whether each step averages over all targets; otherwise it draws one."""
    hidden: int = 64
    """Units in each of the hypernetwork's two hidden layers."""

    def __post_init__(self) -> None:
        if self.scalarisation not in SCALARISATIONS:
            known = ", ".join(SCALARISATIONS)
            raise GradientSearchError(f"scalarisation = {self.scalarisation!r} is unknown: choose one of {known}")
        for name, holds, rule in (
            ("divisions", self.divisions >= 1, "at least 1"),
            ("concentration", 0 < self.concentration < math.inf, "above 0 and finite"),
            ("hidden", self.hidden >= 1, "at least 1"),
        ):
            if not holds:
                raise GradientSearchError(f"{name} = {getattr(self, name)!r}: it must be {rule}")


def loop_of(config: GradientConfig | FrontConfig) -> GradientConfig:
    """Return the settings that all gradient searches have."""
    return config.search if isinstance(config, FrontConfig) else config


def with_loop(config: GradientConfig | FrontConfig, **changes: Any) -> GradientConfig | FrontConfig:
    """Return the settings, with some of those changed that all gradient searches have."""
    if isinstance(config, FrontConfig):
        return replace(config, search=replace(config.search, **changes))
    return replace(config, **changes)


def front(
    supernet: Supernet,
    task: SamplingTask,
    config: FrontConfig | None = None,
    *,
    costs: Mapping[str, ExpectedCost],
    objectives: Sequence[str],
    limits: Sequence[Limit] = (),
    measured: Measured | None = None,
    directory: Path | str | None = None,
    progress: bool = True,
) -> list[Distribution]:
    """Learn one distribution for each target and each of a grid of preferences.

    Arguments, errors and the treatment of the weights are those of `search`. The suffix after "@" distinguishes the
    objectives of several targets: ("error", "latency_ms@cpu", "latency_ms@pi5") has two targets with two objectives
    each. A limit holds for its target, or for all if it names none. A label contains the target and the preference for
    each objective except the task's metric: "cpu 0.25".

    Raises:
        GradientSearchError: as in `search`; also for fewer than two objectives, or targets with different objectives.
    """
    config = config or FrontConfig()
    names = ordered(objectives, task.metric, costs)
    targets = by_target(names)
    relaxed = relax(supernet, task, config.search)
    start = initial(relaxed.method, relaxed.free, config.search.seed)
    width = len(next(iter(targets.values())))
    network = Hypernetwork(start, width, len(targets), hidden=config.hidden, seed=config.search.seed)
    watched = list(_grid(targets, config.divisions))
    loop = build(
        relaxed, config.search, network, watched, _drawing(targets, config),
        costs=costs, limits=limits, scalarisation=config.scalarisation,
    )  # fmt: skip
    loop.identity = {"concentration": config.concentration, "all_targets": config.all_targets, "hidden": config.hidden}
    return loop.run(directory, measured, progress)


def by_target(objectives: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the objectives of each target, those without a target first; "" is the only target if none is named.

    Raises:
        GradientSearchError: there is only one objective, or the targets have different objectives.
    """
    if len(objectives) < 2:
        raise GradientSearchError(f"objectives = {tuple(objectives)!r}: a front needs two or more, so name another")
    common = [name for name in objectives if "@" not in name]
    own: dict[str, list[str]] = {}
    for name in objectives:
        quantity, at, target = name.partition("@")
        if at:
            own.setdefault(target, []).append(quantity)
    first = next(iter(own.values()), [])
    for target, quantities in own.items():
        if sorted(quantities) != sorted(first):
            raise GradientSearchError(
                f"objectives = {tuple(objectives)!r}: {target!r} has {', '.join(quantities)}, but "
                f"{next(iter(own))!r} has {', '.join(first)}: give every target the same objectives"
            )
    return {target: (*common, *(f"{name}@{target}" for name in first)) for target in own} or {"": tuple(common)}


def simplex(num: int, divisions: int) -> Iterator[tuple[float, ...]]:
    """Yield all preferences over `num` objectives in multiples of 1 / divisions, starting with the first objective."""
    for rest in product(range(divisions + 1), repeat=num - 1):
        if sum(rest) <= divisions:
            yield tuple(share / divisions for share in (divisions - sum(rest), *rest))


def _grid(targets: Mapping[str, tuple[str, ...]], divisions: int) -> Iterator[Condition]:
    for index, (target, names) in enumerate(targets.items()):
        for preference in simplex(len(names), divisions):
            words = [target, *(f"{share:.2f}" for share in preference[1:])]
            yield Condition(names, preference, index, " ".join(filter(None, words)))


def _drawing(targets: Mapping[str, tuple[str, ...]], config: FrontConfig) -> Draw:
    """Return a function that draws preferences and targets from the step and the stream (weights or architecture)."""
    named = list(targets.values())
    alpha = [config.concentration] * len(named[0])

    def draw(step: int, stream: str) -> list[Condition]:
        # odd stream numbers for the weights, even ones for the architecture: the two draw independent preferences
        numbers = rng(config.search.seed, 2 * step + (stream == "weights"), "conditions")
        preference = tuple(numbers.dirichlet(alpha).tolist())
        drawn = int(numbers.integers(len(named)))
        chosen = range(len(named)) if config.all_targets and stream == "architecture" else [drawn]
        return [Condition(named[index], preference, index) for index in chosen]

    return draw

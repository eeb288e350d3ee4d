"""Bayesian search: optuna's samplers over the choices of the space, by default the tree-structured Parzen estimator.

Optuna only proposes. Its study lives in memory during one `ask` and is filled from the history, so it is never stored.
Optuna proposes many duplicates, which are removed here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.logs import quiet_optuna
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Distribution, Evaluation
from nas.searchers._candidates import Feasible, everything, mutants, pick
from nas.searchers._costs import Costs
from nas.searchers._history import History, objective_values, violations
from nas.searchers._priors import Priors
from nas.searchers._remembering import Remembering
from search_spaces import Architecture, Slot, Space


def _tpe(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=0)


def _gp(seed: int) -> Any:
    import optuna

    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)


SAMPLERS: dict[str, Callable[[int], Any]] = {"tpe": _tpe, "gp": _gp}
"""Optuna's samplers, made from a seed; each knows only the trials of its study."""


class BayesianSearch(Remembering):
    """Multi-objective TPE (Ozaki et al. 2022, doi:10.1613/jair.1.13188) as in optuna, for conditional spaces.

    Args:
        sampler: optuna's "tpe", or "gp", a Gaussian process, slower and for fewer evaluations.
        startup: evaluations before the model is used. Until then candidates are the largest and the smallest network,
            then draws that are uniform in each choice.
        memory: most evaluations that the model sees: the best ones by constrained domination and as many of the
            latest others. It bounds the time of one `ask`.
        prior: learned distributions for the first batch: derived architectures, then equally many draws from each.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[str],
        limits: Sequence[Limit] = (),
        feasible: Feasible = everything,
        *,
        aims: Sequence[Aim] = (),
        costs: Costs | None = None,
        sampler: str = "tpe",
        startup: int = 32,
        memory: int = 400,
        prior: Sequence[Distribution] = (),
    ) -> None:
        if sampler not in SAMPLERS:
            raise NasError(f"sampler is {sampler!r}; choose one of {', '.join(SAMPLERS)}")
        if startup < 2:
            raise NasError(f"startup is {startup}; the model needs at least 2 evaluations")
        if memory < startup:
            raise NasError(f"memory is {memory}, less than startup, {startup}; the model would never be used")
        super().__init__(space, objectives, limits, feasible, aims)
        self.sampler = sampler
        self.startup = startup
        self.memory = memory
        self._prior = Priors(space, prior)
        self._slots = _Slots(space)

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        ranked = self._history.best_first()
        parents = [evaluation.arch for evaluation in ranked[: self.startup]]
        known = self._history.digests
        if len(ranked) < self.startup:
            return pick(
                self.space,
                n,
                rng,
                known,
                self.feasible,
                *self._prior.first(n, rng, told=bool(known)),
                parents=parents,
                lineage=lineage,
            )
        with quiet_optuna():
            model = _Model(self._slots, self._remembered(ranked), self._history, SAMPLERS[self.sampler], rng)
            proposals = (
                (model.propose, 2 * n, f"proposed by {self.sampler}"),
                (lambda size: mutants(parents, size, rng, self.space, lineage), 64 * n, "mutation"),
            )
            return pick(self.space, n, rng, known, self.feasible, *proposals, parents=parents, lineage=lineage)

    def _remembered(self, ranked: Sequence[Evaluation]) -> list[Evaluation]:
        if len(ranked) <= self.memory:
            return list(ranked)
        best = ranked[: self.memory // 2]
        chosen = {evaluation.arch.digest for evaluation in best}
        latest = [e for e in reversed(self._history.succeeded) if e.arch.digest not in chosen]
        return [*best, *latest[: self.memory - len(best)]]


class _Slots:
    """The choices of a space as optuna parameters named by their paths; inactive choices have no parameter."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._domains: list[list[int]] | None = None

    @property
    def domains(self) -> list[list[int]]:
        """The codes that each slot takes in any network of the space, which may be narrower than its declaration."""
        if self._domains is None and self.space.is_normalised:  # variants do not show all codes of graphs
            self._domains = [list(domain) for domain in self.space.domains]
        if self._domains is None:
            codes = self.space.codes([arch for _, arch in self.space.variants()])
            self._domains = [sorted({int(code) for code in column} - {-1}) or [0] for column in codes.T]
        return self._domains

    def distributions(self) -> dict[str, Any]:
        """Optuna's distributions by path: integers for numbers, which are ordered, and categories for other options."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        return {
            slot.path: IntDistribution(0, len(domain) - 1)
            if slot.numeric
            else CategoricalDistribution(range(len(domain)))
            for slot, domain in zip(self.space.slots, self.domains, strict=True)
            if len(domain) > 1
        }

    def parameters(self, codes: np.ndarray) -> dict[str, int]:
        """Convert (num_slots,) codes to the values of active parameters."""
        pairs = zip(self.space.slots, self.domains, codes.tolist(), strict=True)
        return {slot.path: domain.index(code) for slot, domain, code in pairs if code >= 0 and len(domain) > 1}

    def suggested(self, trial: Any) -> Architecture:
        """The architecture that a trial suggests, choice by choice; it may break constraints of the space."""
        codes: list[int] = []
        for slot, domain in zip(self.space.slots, self.domains, strict=True):
            if any(codes[parent] not in allowed for parent, allowed in slot.conditions):
                codes.append(-1)
            elif len(domain) == 1:
                codes.append(domain[0])
            else:
                codes.append(domain[self._option(trial, slot, len(domain))])
        return self.space.decode([codes])[0]

    def _option(self, trial: Any, slot: Slot, num_options: int) -> int:
        if slot.numeric:
            return int(trial.suggest_int(slot.path, 0, num_options - 1))
        return int(trial.suggest_categorical(slot.path, range(num_options)))


class _Model:
    """One optuna study, filled with evaluations; optuna counts unfinished proposals as bad."""

    def __init__(
        self,
        slots: _Slots,
        evaluations: Sequence[Evaluation],
        history: History,
        sampler: Callable[[int], Any],
        rng: np.random.Generator,
    ) -> None:
        import optuna

        self._rng = rng
        self._slots = slots
        self._distributions = slots.distributions()
        made = sampler(int(rng.integers(2**31)))
        self._study = optuna.create_study(sampler=made, directions=["minimize"] * len(history.objectives))
        codes = slots.space.codes([evaluation.arch for evaluation in evaluations])
        values = objective_values(evaluations, history.objectives)
        excess = violations(evaluations, history.limits)
        for row, value, over in zip(codes, values.tolist(), excess.tolist(), strict=True):
            parameters = slots.parameters(row)
            distributions = {name: self._distributions[name] for name in parameters}
            constraints = {"limits": over} if history.limits else None
            trial = optuna.trial.create_trial(
                params=parameters, distributions=distributions, values=value, constraints=constraints
            )
            self._study.add_trial(trial)

    def propose(self, n: int) -> list[Architecture]:
        """Propose `n` networks of the space; crossover of a network with itself repairs broken constraints."""
        suggested = [self._slots.suggested(self._study.ask()) for _ in range(n)]
        space = self._slots.space
        return [arch if arch in space else space.crossover(arch, arch, self._rng) for arch in suggested]

"""A search described in a Python file: everything that `nas train` and `nas search` need, in one value called `run`.

    run = Run(name="digits", space=MySpace(), build=build, task=task, limits=("latency_ms@cpu <= 2",))

The file is ordinary Python: it declares the space, the model and the data, or imports them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from nas.errors import NasError
from nas.objectives.aims import Aim, for_targets, latency, read_target
from nas.objectives.hurdles import Hurdle
from nas.objectives.limits import Limit, parse
from nas.objectives.units import COSTS, MINUS, is_cost
from nas.searchers import LEARNS_FROM, SEARCHERS
from nas.searchers.gradient.config import GradientConfig
from nas.searchers.gradient.front import FrontConfig, loop_of, with_loop
from nas.searchers.gradient.methods import method
from nas.searchers.spelled import read
from nas.targets import TargetError, check_name
from search_spaces import Architecture, Space, SpaceError
from search_spaces.narrowing import Closed, narrowed
from supernets.compression.scores import score
from supernets.proxies import PROXIES
from supernets.sharing import sharing
from supernets.spelling import spell
from supernets.strategies import strategy
from supernets.training import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from supernets.layout import Layouts
    from supernets.tasks import Task
    from supernets.weight_files import Weights


_TASK = ("name", "digest", "metric", "example", "batch", "outputs", "loss", "evaluate", "calibration")
_SAMPLING = ("num_train", "batch_size", "select", "losses")
_LEAST = {
    "evaluations": 1,
    "batch": 1,
    "seed": 0,
    "reconstruct": 0,
    "measured": 5,
    "latency_batch": 1,
    "trust_networks": 3,
    "trust_steps": 1,
}
_MAY_BE_NONE = ("trust_networks", "trust_steps")


_ALONE = GradientConfig(train_weights=False)
_FRONT = FrontConfig(replace(FrontConfig().search, train_weights=False))


class RunError(NasError):
    """A run file, or a value in it, is invalid."""


@dataclass(frozen=True)
class Run:
    """One search, from training the supernet to the front.

    Raises:
        RunError: a value is invalid; the message names the field, the value and the rule.
    """

    name: str
    """Name of the study in the database and of the folder of its files."""
    space: Space
    build: Callable[[Architecture], nn.Module]
    """Makes an ordinary module from an architecture; its weights may be uninitialised."""
    task: Task
    """Data, loss and evaluation: see `supernets.tasks`."""
    objectives: tuple[str, ...] = ("error", "latency_ms@cpu")
    """Metrics to minimise: the task's metrics, `params`, `macs`, `latency_ms@TARGET`; `minus_synflow`, `minus_naswot`
    and `minus_grad_norm`, the zero-cost proxies of `supernets.proxies`. If neither objectives nor limits need trained
    weights, none are trained."""
    extra_costs: Mapping[str, Callable[[Architecture], float]] = field(default_factory=dict)
    """Your own costs by name, functions of the architecture alone, for use in objectives and limits:
    ``{"memory_bytes": InferenceMemory(build, batch=8, length=4096)}``. Lower is better."""
    measures: Mapping[str, Callable[[Architecture], float]] = field(default_factory=dict)
    """Your own metrics by name, evaluated with the others, once per architecture, for example the error of a short
    training in another model (`supernets.alone`). Lower is better."""
    hurdles: tuple[Hurdle, ...] = ()
    """Cheap checks before an evaluation, in order: ``(Hurdle("quick_error <= 0.8", quick),)``. A candidate that fails
    one is stored with the reason and not evaluated."""
    limits: tuple[str, ...] = ()
    """Limits that a network must keep: `latency_ms@cpu <= 2`, `params <= 1e5`, `synflow >= 12`; `params <= 0.5x` is
    half of the parent's value, where the parent is the largest network with the run's initial weights."""
    targets: tuple[str, ...] = ()
    """Hardware targets with a front each, optionally with a limit in milliseconds: ``("cpu", "pi5 <= 40")``.
    Evaluations and the other objectives are shared; each front has its target's latency as an objective."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Training of the supernet."""
    sharing: str = "entangled"
    """How architectures share weights, optionally with settings: ``routed(experts=2)``. One of
    `supernets.sharing.SHARINGS`."""
    layout: Layouts = field(default_factory=dict)
    """Fused axes of the model's parameters: see `supernets.Blocks`."""
    init: Weights | None = None
    """Pretrained values: a state dict, a module, a safetensors file, or a folder with such files."""
    sort: str = ""
    """Importance score that sorts the units of trained weights before anything else, so that small networks keep the
    important ones: ``hessian``, ``taylor``, ``activation`` or ``magnitude``, from
    `supernets.compression.scores.SCORES`. Empty does not sort."""
    reconstruct: int = 0
    """Number of training batches, for example 16, on which the layers of an extracted network are fitted to the outputs
    of the largest network's before fine-tuning or export: see `supernets.compression.reconstruction`. 0 keeps the
    evaluated weights."""
    searcher: str = "surrogate"
    """One of `nas.searchers.SEARCHERS`, optionally with settings: ``evolution(selection=nsga3)``."""
    gradient: str = ""
    """Gradient method that learns distributions over architectures before the search, optionally with settings:
    ``drnas(concentration=2)``. All searchers that learn start from these; the searcher "gradient" draws only from
    them and uses the method of `gradient_search` if this is empty. One of `nas.searchers.gradient.METHODS`."""
    gradient_search: GradientConfig | FrontConfig | None = None
    """Its other settings: steps, whether to train the weights further (in a copy), and how to keep limits. A
    `FrontConfig` learns a distribution for each of several trade-offs between the objectives, a `GradientConfig` one
    with equal weights. None: a front if a cost is an objective, and always with unchanged weights."""
    evaluations: int = 300
    """Architectures to evaluate with inherited weights."""
    batch: int = 10
    """Number of architectures proposed at a time (a generation). With fewer, each uses more of the known results."""
    first: tuple[Architecture | Mapping[str, Any] | str, ...] = ()
    """Architectures to evaluate first: your own, or those of another study (`nas search --begin-with STUDY`); as
    architectures of the space, dictionaries of their choices, or JSON."""
    timeout_s: float | None = None
    """Time limit of an evaluation in seconds: afterwards it has failed, and its separate process is killed and
    replaced. None for no limit."""
    patience_s: float = 300.0
    """How long a call waits for a database that no longer answers, in seconds, before the run ends; 0 does not wait."""
    closed: tuple[Closed, ...] = ()
    """Options that the search leaves out, each with a reason: ``(Closed("depth", 1, "too shallow"),)``. `nas shrink`
    finds options that no good network needs, and a narrowing strategy adds those that it stopped training. The supernet
    remains that of the whole space."""
    seed: int = 0
    measured: int = 40
    """Most networks to measure on each target to predict the latency of the others: fewer if a predictor is soon good
    enough, and up to three times as many if a limit depends on one that is not."""
    latency_batch: int = 1
    """Number of examples in the measured input: a latency is that of the whole batch."""
    coverage: float = 0.9
    """Share of networks whose measured latency must keep a limit: a limit is checked not on the predicted latency but
    on an upper bound that this share keeps."""
    trust: float = 0.3
    """Cost of the trust report, as a share of the cost of training the supernet; 0 for none. It determines how many
    networks are trained alone, and for how many steps: see `supernets.standalone.plan`. They judge the ranks and
    correct the front: see `nas.results.correction`."""
    trust_networks: int | None = None
    """Number of these networks, instead of the number that follows from the share."""
    trust_steps: int | None = None
    """Steps of each of these trainings, likewise."""
    trust_warm: bool = False
    """Whether these trainings start from inherited weights: they approach a network's best metric in fewer steps, but
    cannot judge the ranks from which they started (benchmarks/results/short_trainings.md)."""

    @property
    def example(self) -> Tensor:
        """The input for measuring latency."""
        return self.task.example(self.latency_batch)

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "sharing", spell(sharing(self.sharing)))  # normalises the spelling, and raises early
        object.__setattr__(self, "sort", spell(score(self.sort)) if self.sort else "")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            rule = "use letters, digits, '-', '_' and '.', beginning with a letter or digit"
            raise RunError(f"name = {self.name!r}: {rule}")
        if len(set(self.objectives)) < len(self.objectives):
            raise RunError(f"objectives = {self.objectives!r}: name each metric once")
        if len(dict(map(read_target, self.targets))) < len(self.targets):
            raise RunError(f"targets = {self.targets!r}: name each target once")
        read(self.searcher, SEARCHERS)
        self.searched  # noqa: B018 - raises for an invalid `closed`
        self.begin_with  # noqa: B018 - raises for an invalid `first`
        self._check_gradient()
        for name, least in _LEAST.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not whole and not (value is None and name in _MAY_BE_NONE):
                raise RunError(f"{name} = {value!r}: it must be a whole number, {least} or more")
        if self.reconstruct == 1:
            raise RunError("reconstruct = 1: give 2 batches or more, one to fit and one to judge by, or 0 for none")
        if not _is_number(self.trust) or not 0 <= self.trust < math.inf:
            rule = "a share of the supernet's training, 0.1 say, or 0 for no report"
            raise RunError(f"trust = {self.trust!r}: it must be {rule}")
        if self.timeout_s is not None and not (_is_number(self.timeout_s) and 0 < self.timeout_s < math.inf):
            raise RunError(f"timeout_s = {self.timeout_s!r}: it must be a number of seconds, or None for no limit")
        if not _is_number(self.patience_s) or not 0 <= self.patience_s < math.inf:
            raise RunError(f"patience_s = {self.patience_s!r}: it must be a number of seconds, 0 to wait for nothing")
        if self.training.steps == 0:
            object.__setattr__(self, "trust", 0.0)  # a share of no training
        if not _is_number(self.coverage) or not 0 < self.coverage < 1:
            raise RunError(f"coverage = {self.coverage!r}: it must be a share between 0 and 1, 0.9 say")
        self._check_costs()
        self._check_metrics()
        if self.training.steps:
            strategy(self.training.strategy).check(self.task)

    def _check_gradient(self) -> None:
        if not self.gradient and self.searcher_name != "gradient":
            return
        config = loop_of(self.gradient_settings)
        object.__setattr__(self, "gradient", config.method)
        if self.closed:
            rule = f"distributions are learnt over all of {self.space.name}: close nothing, or search without gradients"
            raise RunError(f"gradient = {self.gradient!r} and {len(self.closed)} options are closed: {rule}")
        if strategy(self.training.strategy).narrows:
            rule = "distributions are learnt over all options, and this strategy closes some: train in another way"
            raise RunError(f"gradient = {self.gradient!r} and strategy = {self.training.strategy!r}: {rule}")
        if self.searcher_name not in LEARNS_FROM:
            rule = f"the searchers that begin with what it learns are {', '.join(LEARNS_FROM)}"
            raise RunError(f"gradient = {self.gradient!r} and searcher = {self.searcher!r}: {rule}")
        if method(config.method).order == 2 and not config.train_weights:
            remedy = "write order=1, or gradient_search=GradientConfig(train_weights=True)"
            raise RunError(f"gradient = {self.gradient!r} looks ahead by a step of weights that stay: {remedy}")
        if isinstance(self.gradient_settings, FrontConfig) and not self.cost_objectives:
            remedy = "name a cost too, 'params' say, or write GradientConfig(...)"
            raise RunError(
                f"gradient_search is a FrontConfig, and objectives = {self.objectives!r} make none: {remedy}"
            )
        missing = [name for name in _SAMPLING if not hasattr(self.task, name)]
        if missing:
            remedy = "see supernets.tasks.SamplingTask"
            raise RunError(f"gradient = {self.gradient!r}: the task has no {', '.join(missing)} to draw by: {remedy}")

    def _check_types(self) -> None:
        if not isinstance(self.name, str):
            raise RunError(f"name = {self.name!r} is no text: give one such as 'digits'")
        if not isinstance(self.space, Space):
            made = isinstance(self.space, type) and issubclass(self.space, Space)
            remedy = f"write {self.space.__name__}()" if made else "declare one with search_spaces.Space"
            raise RunError(f"space = {self.space!r} is not a Space: {remedy}")
        if not callable(self.build):
            raise RunError(
                f"build = {self.build!r} cannot be called: give the function from an architecture to a module"
            )
        missing = [name for name in _TASK if not hasattr(self.task, name)]
        if missing or isinstance(self.task, type):
            remedy = "give a supernets.tasks.Classification, Regression or LanguageModelling, or write one like them"
            raise RunError(f"task = {self.task!r} is no task, it has no {', '.join(missing) or 'data'}: {remedy}")
        if not isinstance(self.training, TrainingConfig):
            raise RunError(f"training = {self.training!r} is no TrainingConfig: write TrainingConfig(steps=...)")
        if not isinstance(self.gradient, str):
            raise RunError(f"gradient = {self.gradient!r} is no text: give one such as 'drnas', or '' for none")
        if not isinstance(self.gradient_search, GradientConfig | FrontConfig | None):
            remedy = "write GradientConfig(steps=...), or FrontConfig(GradientConfig(steps=...)) for a front"
            raise RunError(f"gradient_search = {self.gradient_search!r} has no settings: {remedy}")
        given = {"objectives": "('error', 'params')", "limits": "('params <= 1e5',)", "targets": "('cpu', 'pi5 <= 40')"}
        for name, example in given.items():
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or not all(isinstance(text, str) for text in value):
                raise RunError(f"{name} = {value!r}: give a tuple of texts, such as {example}")
        if not self.objectives:
            raise RunError("objectives = (): name at least one metric to minimise, such as 'error'")

    def _check_costs(self) -> None:
        taken = (*self._trained_metrics, *COSTS, *PROXIES)
        given = [("extra_costs", "cost", self.extra_costs, taken)]
        given += [("measures", "metric", self.measures, (*taken, *self.extra_costs))]
        for where, what, functions, others in given:
            for name, function in functions.items():
                if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in others:
                    rule = "letters, digits and '_', and none of " + ", ".join(others)
                    raise RunError(f"{where} has a {what} called {name!r}: give it a name of {rule}")
                if not callable(function):
                    raise RunError(f"{where}[{name!r}] = {function!r}: give a function of an architecture")
        if not isinstance(self.hurdles, tuple | list) or not all(isinstance(one, Hurdle) for one in self.hurdles):
            raise RunError(f"hurdles = {self.hurdles!r}: give a tuple such as (Hurdle('quick_error <= 0.8', quick),)")

    @property
    def told_costs(self) -> dict[str, Callable[[Architecture], float]]:
        """The `extra_costs` that objectives and limits use, checked to return finite numbers."""
        return {name: partial(self.extra_cost, name) for name in self.extra_costs if name in self._metrics()}

    def extra_cost(self, name: str, arch: Architecture) -> float:
        """Return one of the `extra_costs` of an architecture.

        Raises:
            RunError: it is not a finite number.
        """
        value = self.extra_costs[name](arch)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise RunError(f"extra_costs[{name!r}] gave {value!r} for {arch.json()}: it must give a finite number")
        return float(value)

    def _check_metrics(self) -> None:
        own = (*self.extra_costs, *self.measures)
        known = dict.fromkeys([*self._trained_metrics, *COSTS, *own, *(MINUS + name for name in PROXIES)])
        more = next((name for name in self.all_objectives if name in PROXIES), None)
        if more is not None:
            raise RunError(
                f"objective {more!r}: the more of it the better, and objectives are minimised: write '{MINUS}{more}'"
            )
        for metric in self._metrics():
            quantity, at, target = metric.partition("@")
            if quantity == "latency_ms" and at:
                _check_target(metric, target)
            elif metric not in known and metric not in PROXIES:
                raise RunError(f"{metric!r} is no metric of this run: choose of {', '.join(known)}, latency_ms@TARGET")

    def _metrics(self) -> tuple[str, ...]:
        return (*self.all_objectives, *(limit.metric for limit in self.all_limits))

    @property
    def _trained_metrics(self) -> tuple[str, ...]:
        return (self.task.metric, "loss", *getattr(self.task, "further_metrics", ()))

    @property
    def trains(self) -> bool:
        """Whether the run needs trained weights: for a metric of the task, or for a gradient search."""
        return bool(self.gradient) or any(name in self._trained_metrics for name in self._metrics())

    @property
    def measured_metrics(self) -> dict[str, Callable[[Architecture], float]]:
        """The `measures` that objectives and limits use."""
        return {name: tell for name, tell in self.measures.items() if name in self._metrics()}

    @property
    def proxies(self) -> tuple[str, ...]:
        """The metrics that are zero-cost proxies, or their negatives."""
        return tuple(dict.fromkeys(name for name in self._metrics() if name.removeprefix(MINUS) in PROXIES))

    @cached_property
    def aims(self) -> tuple[Aim, ...]:
        """The aims of the search: one per target if there are several."""
        own = dict(map(read_target, self.targets))
        shared = [name for name in self.objectives if name not in map(latency, own)]
        limits = {name: [parse(limit)] if limit else [] for name, limit in own.items()}
        return for_targets(shared, [parse(limit) for limit in self.limits], limits)

    @property
    def all_objectives(self) -> tuple[str, ...]:
        """The objectives of all targets."""
        return tuple(dict.fromkeys(name for aim in self.aims for name in aim.objectives))

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """The limits of all targets."""
        return tuple(dict.fromkeys(limit for aim in self.aims for limit in aim.limits))

    def under(self, parent: Mapping[str, float]) -> Run:
        """Return the run with relative limits made absolute, given the parent's metrics."""
        bounds = {name: parse(own).of(parent) if own else None for name, own in map(read_target, self.targets)}
        targets = tuple(f"{name} {own.op} {own.value!r}" if own else name for name, own in bounds.items())
        return replace(self, limits=tuple(str(parse(limit).of(parent)) for limit in self.limits), targets=targets)

    @property
    def costs(self) -> tuple[str, ...]:
        """The COSTS that every evaluation contains: parameters, and those that objectives and limits use."""
        return tuple(name for name in COSTS if name == "params" or name in self._metrics())

    @cached_property
    def searched(self) -> Space:
        """The searched part of the space: without the `closed` options."""
        if not isinstance(self.closed, tuple | list) or not all(isinstance(one, Closed) for one in self.closed):
            raise RunError(f"closed = {self.closed!r}: give a tuple such as (Closed('depth', 1, 'why'),)")
        return narrowed(self.space, self.closed)

    @cached_property
    def begin_with(self) -> tuple[Architecture, ...]:
        """`first` as architectures of the space."""
        try:
            return tuple(a if isinstance(a, Architecture) else self.space.architecture(a) for a in self.first)
        except SpaceError as error:
            raise RunError(f"first holds what is no architecture of {self.space.name}: {error}") from error

    @property
    def searcher_name(self) -> str:
        """The searcher's name in `SEARCHERS`."""
        return self.searcher.partition("(")[0].strip()

    @property
    def gradient_settings(self) -> GradientConfig | FrontConfig:
        """`gradient_search` or its default, with the method of `gradient`."""
        usual = _FRONT if self.cost_objectives else _ALONE
        config = self.gradient_search or usual
        return with_loop(config, method=self.gradient or loop_of(config).method)

    @property
    def cost_objectives(self) -> tuple[str, ...]:
        """Objectives that do not depend on weights, without `extra_costs`, which may be slow to compute."""
        return tuple(name for name in self.all_objectives if is_cost(name))

    @property
    def cost_metrics(self) -> tuple[str, ...]:
        """Objectives and limited metrics that do not depend on weights."""
        told = (name for name in self._metrics() if is_cost(name) or name in self.extra_costs)
        return tuple(dict.fromkeys(told))

    @property
    def target_names(self) -> tuple[str, ...]:
        """The hardware targets that objectives and limits use."""
        return tuple(dict.fromkeys(m.partition("@")[2] for m in self._metrics() if m.startswith("latency_ms@")))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_target(metric: str, name: str) -> None:
    """Raise RunError unless the name of a target is allowed; only the database knows whether the target exists."""
    try:
        check_name(name)
    except TargetError as error:
        raise RunError(f"{metric!r}: {error}") from None

"""The gradient methods: they map the architecture parameters of a choice to its mixture probabilities in a step.

Parameters are logits (DrNAS: concentrations before their ELU) over the n options that the space keeps; all tensors are
(n,) with the dtype and device of the logits. `progress` runs from 0 in the first step of a search to 1 in the last. A
method has settings and no state. Noise is drawn in float64 from the given generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from nas.errors import NasError
from nas.searchers.gradient import temperature
from nas.searchers.gradient.noise import NOISES, gumbel
from nas.searchers.gradient.regularisers import PENALTIES, dirichlet_distance, dirichlet_kl
from supernets.spelling import parse

SPREAD = 1e-3  # standard deviation of initial parameters, as in the released code of DARTS, GDAS and DrNAS
LEAST = 1e-3  # smallest concentration of a Dirichlet draw: below it, gradients overflow


class Method(Protocol):
    """A frozen dataclass, spelled by `supernets.spelling`: ``gdas(temperature=5)``."""

    name: ClassVar[str]

    @property
    def sparse(self) -> bool:
        """Whether to skip options with probability exactly 0."""
        ...

    @property
    def order(self) -> int:
        """1, or 2 for gradients through a step of the weights (DARTS, by finite differences)."""
        ...

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        """Return initial parameters."""
        ...

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        """Return the mixture probabilities of this step, with a graph to the parameters."""
        ...

    def learnt(self, logits: Tensor) -> Tensor:
        """Return the distribution learned so far, without noise, with a graph to the parameters."""
        ...

    def penalty(self, logits: Tensor) -> Tensor:
        """Return the scalar to add to the loss for this choice."""
        ...


@dataclass(frozen=True)
class Darts:
    """The softmax of the logits itself (DARTS, arXiv:1806.09055)."""

    name: ClassVar[str] = "darts"
    sparse: ClassVar[bool] = False

    order: int = 1
    """2: the architecture's gradient goes through one step of the weights, at several times the cost."""
    regulariser: str = "decay"
    """none, decay (of logits), entropy (of the probabilities) or uniform (distance to equal probabilities)."""
    strength: float = 1e-3
    """Of the regulariser; the paper's value."""

    def __post_init__(self) -> None:
        _check(self, "order", self.order in (1, 2), "1 or 2")
        _check_penalty(self)

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        return _near_zero(num_options, rng)

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        return logits.softmax(-1)

    def learnt(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def penalty(self, logits: Tensor) -> Tensor:
        return self.strength * PENALTIES[self.regulariser](logits, self.learnt(logits))


@dataclass(frozen=True)
class Gdas:
    """One sampled option per step, with the gradient of the Gumbel-softmax that sampled it (GDAS, arXiv:1910.04465).

    The probabilities are exactly one-hot: the network that runs is the sampled one, so searched and derived networks
    are of the same kind.
    """

    name: ClassVar[str] = "gdas"
    order: ClassVar[int] = 1

    temperature: float = 10.0
    """Of the Gumbel-softmax in the first step; first and last value are the paper's."""
    end: float = 0.1
    schedule: str = "linear"
    """From the first temperature to the last: constant, linear, exponential or cosine."""
    regulariser: str = "decay"
    """As in darts."""
    strength: float = 1e-3
    sparse: bool = False
    """yes: options that are not drawn do not run, so a step costs as much as one network, as in the paper. They then
    get no gradient and are never compared with the drawn one; this found worse networks in the same steps."""

    def __post_init__(self) -> None:
        _check_temperatures(self)
        _check_penalty(self)

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        return _near_zero(num_options, rng)

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        now = temperature.SCHEDULES[self.schedule](self.temperature, self.end, progress)
        soft = ((logits.log_softmax(-1) + gumbel(logits, rng)) / now).softmax(-1)
        hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
        return hard + (soft - soft.detach())  # the difference is exactly 0, so the value stays one-hot

    def learnt(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def penalty(self, logits: Tensor) -> Tensor:
        return self.strength * PENALTIES[self.regulariser](logits, self.learnt(logits))


@dataclass(frozen=True)
class Snas:
    """Samples from a concrete distribution that approaches one-hot (SNAS, arXiv:1812.09926).

    The temperatures and their exponential schedule are ours: the paper says only that they are annealed to near 0.
    """

    name: ClassVar[str] = "snas"
    sparse: ClassVar[bool] = False
    order: ClassVar[int] = 1

    temperature: float = 1.0
    """In the first step."""
    end: float = 0.1
    schedule: str = "exponential"
    """From the first temperature to the last: constant, linear, exponential or cosine."""
    regulariser: str = "decay"
    """As in darts."""
    strength: float = 1e-3

    def __post_init__(self) -> None:
        _check_temperatures(self)
        _check_penalty(self)

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        return _near_zero(num_options, rng)

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        now = temperature.SCHEDULES[self.schedule](self.temperature, self.end, progress)
        return ((logits.log_softmax(-1) + gumbel(logits, rng)) / now).softmax(-1)

    def learnt(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def penalty(self, logits: Tensor) -> Tensor:
        return self.strength * PENALTIES[self.regulariser](logits, self.learnt(logits))


@dataclass(frozen=True)
class DrNas:
    """Samples from a Dirichlet distribution with learned concentrations, ELU(parameter) + 1 (arXiv:2006.10355)."""

    name: ClassVar[str] = "drnas"
    sparse: ClassVar[bool] = False
    order: ClassVar[int] = 1

    concentration: float = 1.0
    """Initial value of every option, and the regulariser's anchor; 1 is the uniform distribution over mixtures."""
    regulariser: str = "kl"
    """To the symmetric distribution: kl (divergence) or distance (squared, of concentrations); or one of darts'."""
    strength: float = 1e-3
    """Of the regulariser; the value of the released code."""

    def __post_init__(self) -> None:
        _check(self, "concentration", 0.01 <= self.concentration < math.inf, "0.01 or more")
        _check_penalty(self, "kl", "distance")

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        middle = self.concentration - 1 if self.concentration >= 1 else math.log(self.concentration)
        return middle + _near_zero(num_options, rng)

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        """Return a reparameterised draw, in float64 on the CPU because concentrations near 0 would underflow."""
        concentrations = self.concentrations(logits.cpu().double()).clamp_min(LEAST)
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        with torch.random.fork_rng(devices=()):  # torch's Dirichlet distribution takes no generator
            torch.default_generator.manual_seed(seed)
            return torch.distributions.Dirichlet(concentrations, validate_args=False).rsample().to(logits)

    def learnt(self, logits: Tensor) -> Tensor:
        """Return the mean of the distribution."""
        concentrations = self.concentrations(logits)
        return concentrations / concentrations.sum(-1, keepdim=True)

    def penalty(self, logits: Tensor) -> Tensor:
        if self.regulariser == "kl":  # in float64: the gradient of the log gamma function overflows early
            divergence = dirichlet_kl(self.concentrations(logits.double()), self.concentration)
            return self.strength * divergence.to(logits.dtype)
        if self.regulariser == "distance":
            return self.strength * dirichlet_distance(self.concentrations(logits), self.concentration)
        return self.strength * PENALTIES[self.regulariser](logits, self.learnt(logits))

    @staticmethod
    def concentrations(logits: Tensor) -> Tensor:
        """Return ELU(parameter) + 1, without the rounding that makes it 0 for parameters below -17."""
        return torch.where(logits > 0, logits + 1, logits.clamp_max(0).exp())


@dataclass(frozen=True)
class SmallTemperature:
    """A softmax at a temperature that decreases to nearly 0, so that the derived network is the searched one.

    Noise lets gradients reach options that a low temperature excludes. Small-temperature DARTS combines a sparse and
    noisy softmax, an exponential schedule and a temperature that follows an entropy; the formulas are ours:
    softmax((logits + sigma * noise) / T) over the k largest, with T = temperature * (end / temperature) ** progress or,
    if `adaptive`, the T at which the entropy of the result is (1 - progress) log n.
    """

    name: ClassVar[str] = "small-temperature"
    order: ClassVar[int] = 1

    temperature: float = 1.0
    """In the first step; ignored if the temperature is adaptive."""
    end: float = 0.05
    """The last temperature, and the lowest adaptive one; `learnt` is the softmax at this temperature."""
    schedule: str = "exponential"
    """From the first temperature to the last: constant, linear, exponential or cosine."""
    adaptive: bool = False
    k: int = 0
    """Number of options that share the probability; the others get exactly 0 and do not run. 0: all options."""
    sigma: float = 0.1
    """Scale of the noise added to the logits."""
    noise: str = "gumbel"
    """gumbel, or half-normal: the absolute value of normal noise."""
    regulariser: str = "decay"
    """As in darts."""
    strength: float = 1e-3

    def __post_init__(self) -> None:
        _check_temperatures(self)
        _check(self, "k", self.k == 0 or self.k >= 2, "2 or more, because one option has no gradient, or 0 for all")
        _check(self, "sigma", 0 <= self.sigma < math.inf, "0 or more")
        _check(self, "noise", self.noise in NOISES, f"one of {', '.join(NOISES)}")
        _check_penalty(self)

    @property
    def sparse(self) -> bool:
        return self.k > 0

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        return _near_zero(num_options, rng)

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        scores = logits + self.sigma * NOISES[self.noise](logits, rng)
        if not 0 < self.k < len(logits):
            return (scores / self._temperature(scores, progress, len(logits))).softmax(-1)
        largest, where = scores.topk(self.k)
        shared = (largest / self._temperature(largest, progress, len(logits))).softmax(-1)
        return torch.zeros_like(scores).scatter(-1, where, shared)

    def _temperature(self, scores: Tensor, progress: float, num_options: int) -> float:
        if not self.adaptive:
            return temperature.SCHEDULES[self.schedule](self.temperature, self.end, progress)
        entropy = (1 - progress) * math.log(num_options)
        return temperature.temperature_for(scores.detach().double().tolist(), entropy, lowest=self.end)

    def learnt(self, logits: Tensor) -> Tensor:
        return (logits / self.end).softmax(-1)

    def penalty(self, logits: Tensor) -> Tensor:
        return self.strength * PENALTIES[self.regulariser](logits, self.learnt(logits))


METHODS: dict[str, type[Method]] = {kind.name: kind for kind in (Darts, Gdas, Snas, DrNas, SmallTemperature)}


def method(text: str) -> Method:
    """Return the method that a text names, such as ``darts(order=2)``.

    Raises:
        SpellingError: unknown method or setting; the message lists the known ones.
        NasError: a setting has an invalid value.
    """
    return parse(text, METHODS, "gradient method")


# --- shared by the methods ------------------------------------------------------------------------------------------


def _near_zero(num_options: int, rng: torch.Generator) -> Tensor:
    drawn = torch.randn(num_options, dtype=torch.float64, device=rng.device, generator=rng)
    return (SPREAD * drawn).to(torch.get_default_dtype())


def _check(method: Any, field: str, holds: bool, rule: str) -> None:
    if not holds:
        raise NasError(f"{method.name}: {field} = {getattr(method, field)!r}: it must be {rule}")


def _check_temperatures(method: Any) -> None:
    for field in ("temperature", "end"):
        _check(method, field, 0 < getattr(method, field) < math.inf, "above 0")
    _check(method, "schedule", method.schedule in temperature.SCHEDULES, f"one of {', '.join(temperature.SCHEDULES)}")


def _check_penalty(method: Any, *more: str) -> None:
    known = (*PENALTIES, *more)
    _check(method, "regulariser", method.regulariser in known, f"one of {', '.join(known)}")
    _check(method, "strength", math.isfinite(method.strength), "a finite number")

"""The gradient methods: from the architecture parameters of one choice to the probabilities its mixture gets in a step.

Parameters are logits (DrNAS: concentrations before their ELU) over the n options the space keeps; all tensors are (n,)
in the dtype and on the device of the logits. `progress` goes from 0 in the first step of a search to 1 in its last.
A method has settings and no state. Noise is drawn in float64, from the generator that is given.
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
LEAST = 1e-3  # concentration at which a Dirichlet distribution is still drawn from: below, its gradients overflow


class Method(Protocol):
    """A frozen dataclass, spelled by `supernets.spelling`: ``gdas(temperature=5)``."""

    name: ClassVar[str]

    @property
    def sparse(self) -> bool:
        """Whether options of probability exactly 0 are not to be run."""
        ...

    @property
    def order(self) -> int:
        """1, or 2 for gradients through a step of the weights (DARTS, by finite differences)."""
        ...

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        """Parameters to begin with."""
        ...

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        """What the mixture gets in this step, with a graph to the parameters."""
        ...

    def learnt(self, logits: Tensor) -> Tensor:
        """The distribution that has been learnt so far, without noise, with a graph to the parameters."""
        ...

    def penalty(self, logits: Tensor) -> Tensor:
        """What is added to the loss for this choice, a scalar."""
        ...


@dataclass(frozen=True)
class Darts:
    """The softmax of the logits itself (DARTS, arXiv:1806.09055)."""

    name: ClassVar[str] = "darts"
    sparse: ClassVar[bool] = False

    order: int = 1
    """2: the architecture's gradient goes through one step of the weights, at several times the cost."""
    regulariser: str = "decay"
    """none, decay (of logits), entropy (what a choice leaves open) or uniform (distance to equal probabilities)."""
    strength: float = 1e-3
    """Of the regulariser; the paper's."""

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
    """One sampled option a step, with the gradient of the Gumbel-softmax it was sampled by (GDAS, arXiv:1910.04465).

    The probabilities are exactly one-hot: the network that runs is the one that was drawn, and what is derived in the
    end is what was searched.
    """

    name: ClassVar[str] = "gdas"
    order: ClassVar[int] = 1

    temperature: float = 10.0
    """Of the Gumbel-softmax in the first step; the paper's, as is the last."""
    end: float = 0.1
    schedule: str = "linear"
    """From the first temperature to the last: constant, linear, exponential or cosine."""
    regulariser: str = "decay"
    """As in darts."""
    strength: float = 1e-3
    sparse: bool = False
    """yes: options that were not drawn are not run, so a step costs what one network costs, as in the paper. They then
    tell nothing, and nothing drawn is ever compared with them; that found worse networks for the same steps."""

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
    """Samples of a concrete distribution, ever nearer to one-hot (SNAS, arXiv:1812.09926).

    The temperatures and the exponential schedule between them are ours: the paper says that it is annealed to near 0.
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
    """Samples of a Dirichlet distribution whose concentrations, ELU(parameter) + 1, are learnt (arXiv:2006.10355)."""

    name: ClassVar[str] = "drnas"
    sparse: ClassVar[bool] = False
    order: ClassVar[int] = 1

    concentration: float = 1.0
    """With which every option begins, and to which the regulariser pulls it; 1 draws from all mixtures alike."""
    regulariser: str = "kl"
    """To the symmetric distribution: kl (divergence) or distance (squared, of concentrations); or one of darts'."""
    strength: float = 1e-3
    """Of the regulariser; that of the released code."""

    def __post_init__(self) -> None:
        _check(self, "concentration", 0.01 <= self.concentration < math.inf, "0.01 or more")
        _check_penalty(self, "kl", "distance")

    def initial(self, num_options: int, rng: torch.Generator) -> Tensor:
        middle = self.concentration - 1 if self.concentration >= 1 else math.log(self.concentration)
        return middle + _near_zero(num_options, rng)

    def probabilities(self, logits: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        """A reparameterised draw; computed in float64 on the CPU, for concentrations near 0 underflow otherwise."""
        concentrations = self.concentrations(logits.cpu().double()).clamp_min(LEAST)
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        with torch.random.fork_rng(devices=()):  # torch's Dirichlet distribution takes no generator
            torch.default_generator.manual_seed(seed)
            return torch.distributions.Dirichlet(concentrations, validate_args=False).rsample().to(logits)

    def learnt(self, logits: Tensor) -> Tensor:
        """The mean of the distribution."""
        concentrations = self.concentrations(logits)
        return concentrations / concentrations.sum(-1, keepdim=True)

    def penalty(self, logits: Tensor) -> Tensor:
        if self.regulariser == "kl":  # in float64: the gradient of the logarithm of the gamma function overflows early
            divergence = dirichlet_kl(self.concentrations(logits.double()), self.concentration)
            return self.strength * divergence.to(logits.dtype)
        if self.regulariser == "distance":
            return self.strength * dirichlet_distance(self.concentrations(logits), self.concentration)
        return self.strength * PENALTIES[self.regulariser](logits, self.learnt(logits))

    @staticmethod
    def concentrations(logits: Tensor) -> Tensor:
        """ELU(parameter) + 1, without the rounding that makes it 0 for parameters below -17."""
        return torch.where(logits > 0, logits + 1, logits.clamp_max(0).exp())


@dataclass(frozen=True)
class SmallTemperature:
    """A softmax at a temperature that falls to nearly 0, so that the network derived is the one that was searched.

    Noise lets gradients reach options that a small temperature shuts out. A sparse and noisy softmax, an exponential
    schedule and a temperature that follows an entropy are the ingredients of small-temperature DARTS; the formulas are
    ours: softmax((logits + sigma * noise) / T) over the k largest of them, with T = temperature * (end / temperature)
    ** progress or, where `adaptive`, that T at which the entropy of the result is (1 - progress) log n.
    """

    name: ClassVar[str] = "small-temperature"
    order: ClassVar[int] = 1

    temperature: float = 1.0
    """In the first step; without meaning where the temperature is adaptive."""
    end: float = 0.05
    """The last temperature, and the lowest of adaptive ones; `learnt` is the softmax at this one."""
    schedule: str = "exponential"
    """From the first temperature to the last: constant, linear, exponential or cosine."""
    adaptive: bool = False
    k: int = 0
    """So many options share the probability, the others get exactly 0 and are not run; 0: all of them do."""
    sigma: float = 0.1
    """How much noise is added to the logits."""
    noise: str = "gumbel"
    """gumbel, or half-normal: the absolute value of normal noise."""
    regulariser: str = "decay"
    """As in darts."""
    strength: float = 1e-3

    def __post_init__(self) -> None:
        _check_temperatures(self)
        _check(self, "k", self.k == 0 or self.k >= 2, "2 or more, for one option has no gradient, or 0 for all of them")
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
    """The method that a text names, such as ``darts(order=2)``.

    Raises:
        SpellingError: listing what there is.
        NasError: a setting with a value that cannot be.
    """
    return parse(text, METHODS, "gradient method")


# --- what methods share ---------------------------------------------------------------------------------------------


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

"""Variables that CARBS tunes, and the "basic" space in which steps of all of them are comparable.

    Linear  x / scale            Log  log10(x) / scale            Logit  log10(x / (1 - x)) / scale

A step of 1 in basic space is `scale` itself, `scale` powers of ten, or `scale` powers of ten of the odds
(arXiv:2306.08055). Bounds exclude meaningless values; they are not the region in which to search.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from nas.errors import NasError

FloatArray = npt.NDArray[np.float64]

STEP = 0.3
"""Standard deviation of a step in basic space."""


@dataclass(frozen=True)
class Variable(ABC):
    """One number to tune.

    Raises:
        NasError: scale, centre or bounds are invalid, or the scale is too small to change an integer.
    """

    name: str
    centre: float
    """Where the search starts."""
    scale: float = 1.0
    least: float = -math.inf
    most: float = math.inf
    integer: bool = False

    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """Open interval on which the transform is defined."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise NasError(f"scale of {self.name!r} is {self.scale}: it must be above 0 and finite, 1 say")
        low, high = self.domain
        if not (self.least <= self.centre <= self.most and low < self.centre < high):
            given = f"{max(self.least, low):g} to {min(self.most, high):g}"
            raise NasError(
                f"centre of {self.name!r} is {self.centre}: it must lie within {given}; move it or the bounds"
            )
        if self.integer:
            self._check_integer()

    def _check_integer(self) -> None:
        if self.centre != round(self.centre):
            raise NasError(f"centre of {self.name!r} is {self.centre}: {self.name!r} is an integer; round it")
        step = float(self.backward(self.forward(np.array([self.centre])) + STEP)[0]) - self.centre
        if step < 1 - 1e-9:
            rule = f"an integer must move by 1 or more in one step of {STEP} times its scale from the centre"
            remedy = f"set scale to {self.scale_to_move():.3g} or more, or do without integer=True"
            raise NasError(
                f"scale of {self.name!r} is {self.scale:g}, so that it moves by {step:.2g}: {rule}; {remedy}"
            )

    @abstractmethod
    def forward(self, values: FloatArray) -> FloatArray:
        """Map values to basic space."""

    @abstractmethod
    def backward(self, basic: FloatArray) -> FloatArray:
        """Map basic space to values; the inverse of `forward`."""

    @abstractmethod
    def scale_to_move(self) -> float:
        """Return the smallest scale with which one step moves an integer by 1 from the centre."""

    def value(self, number: float) -> float | int:
        """Return a number as the user's value: an int if `integer`, else a float."""
        return round(number) if self.integer else float(number)

    def nearest(self, basic: FloatArray) -> FloatArray:
        """Return (n,) values, integers rounded; some may be out of bounds."""
        values = self.backward(basic)
        return np.round(values) if self.integer else values

    def inside(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Return (n,) whether values are within the bounds and the domain."""
        low, high = self.domain
        kept: npt.NDArray[np.bool_] = (values >= self.least) & (values <= self.most) & (low < values) & (values < high)
        return kept


@final
class Linear(Variable):
    """A number that changes by sums, such as a share or an offset."""

    def forward(self, values: FloatArray) -> FloatArray:
        return values / self.scale

    def backward(self, basic: FloatArray) -> FloatArray:
        return basic * self.scale

    def scale_to_move(self) -> float:
        return 1 / STEP


@final
class Log(Variable):
    """A positive number that changes by factors, such as a learning rate or a width."""

    domain: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def forward(self, values: FloatArray) -> FloatArray:
        return np.log10(values) / self.scale

    def backward(self, basic: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):  # infinity is out of bounds
            powers: FloatArray = 10.0 ** (basic * self.scale)
        return powers

    def scale_to_move(self) -> float:
        return math.log10(1 + 1 / self.centre) / STEP


@final
class Logit(Variable):
    """A number between 0 and 1 that is sensitive at both ends, such as a momentum."""

    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.integer:
            raise NasError(f"{self.name!r} is a Logit, between 0 and 1, and integer=True: take Linear or Log")
        super().__post_init__()

    def forward(self, values: FloatArray) -> FloatArray:
        return (np.log10(values) - np.log10(1 - values)) / self.scale

    def backward(self, basic: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            odds: FloatArray = 1 / (1 + 10.0 ** (-basic * self.scale))
        return odds

    def scale_to_move(self) -> float:
        raise NotImplementedError("there is no integer between 0 and 1")

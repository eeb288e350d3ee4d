"""Limits on metrics, written `latency_ms@cpu <= 2`, or `params <= 0.5x` for half of the parent's value."""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nas.errors import NasError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(?P<metric>[^\s<>=!~]+)\s*(?P<op>[<>=!~]+)\s*(?P<value>[^\s<>=!~].*?)\s*")
_EXAMPLE = "write it like 'latency_ms@cpu <= 2'"


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that a metric must keep.

    Args:
        relative: the bound is a multiple of the value of the parent, the largest network of a space with its initial
            weights. `of` makes the limit absolute; only an absolute limit can be checked.

    Raises:
        NasError: the operator is unknown, or the bound is not a finite number.
    """

    metric: str
    op: str
    value: float
    relative: bool = False

    def __post_init__(self) -> None:
        if self.op not in _OPERATORS:
            raise NasError(f"limit on {self.metric!r} has the operator {self.op!r}; use one of {', '.join(_OPERATORS)}")
        if not math.isfinite(self.value):
            raise NasError(
                f"limit on {self.metric!r} has the bound {self.value}; it must be a finite number: {_EXAMPLE}"
            )
        object.__setattr__(self, "value", float(self.value))

    def __str__(self) -> str:
        value = int(self.value) if self.value.is_integer() and abs(self.value) < 1e15 else self.value
        return f"{self.metric} {self.op} {value}{'x' if self.relative else ''}"

    @property
    def is_upper(self) -> bool:
        """Whether the bound is an upper one."""
        return self.op in ("<", "<=")

    def of(self, parent: Mapping[str, float]) -> Limit:
        """Return the limit in the metric's own unit, given the parent's metrics; an absolute one is returned unchanged.

        Raises:
            NasError: the parent's value is not known.
        """
        if not self.relative:
            return self
        if self.metric not in parent:
            known = f"the known metrics are {', '.join(parent)}" if parent else "no metric of the parent is known"
            raise NasError(
                f"limit '{self}' is relative to the parent's {self.metric}, which is not known ({known}); give a number"
            )
        return replace(self, value=float(f"{self.value * parent[self.metric]:.6g}"), relative=False)

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric keeps the bound; NaN does not.

        Raises:
            NasError: the metric was not measured, or the bound is relative.
        """
        return bool(self._compared(metrics))

    def among(self, columns: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.bool_]:
        """Return (n,) bool: which values of the metric keep the bound; raises NasError as `holds` does."""
        found: npt.NDArray[np.bool_] = self._compared(columns)
        return found

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return by how much the bound is missed, as a share of it, or in the metric's unit if the bound is 0.

        The result is 0 if and only if the limit holds, and infinite for NaN. Raises NasError as `holds` does.
        """
        if self.holds(metrics):
            return 0.0
        measured: float = self._measured(metrics)
        excess = abs(measured - self.value) / (abs(self.value) or 1.0)
        return math.inf if math.isnan(excess) else max(excess, sys.float_info.epsilon)  # "< 2" is missed by 2 itself

    def _compared(self, metrics: Mapping[str, Any]) -> Any:
        if self.relative:
            raise NasError(f"limit '{self}' is relative to a parent, which is not known here; {_EXAMPLE}")
        return _OPERATORS[self.op](self._measured(metrics), self.value)

    def _measured(self, metrics: Mapping[str, Any]) -> Any:
        if self.metric not in metrics:
            there = ", ".join(metrics) or "none"
            raise NasError(f"the limit '{self}' is on a metric that was not measured; use one of the measured: {there}")
        return metrics[self.metric]


def parse(text: str) -> Limit:
    """Parse a limit: a metric, one of <= < >= >, and a number; with a trailing x, a multiple of the parent's value.

    Raises:
        NasError: the text has another form; the message gives an example.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise NasError(f"{text!r} is not a limit, which consists of a metric, an operator and a number; {_EXAMPLE}")
    number = form["value"].removesuffix("x")
    try:
        value = float(number)
    except ValueError as error:
        raise NasError(f"limit {text!r} has the bound {form['value']!r}, which is not a number; {_EXAMPLE}") from error
    return Limit(form["metric"], form["op"], value, relative=number != form["value"])

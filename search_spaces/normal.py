"""Normal forms: one way to write each network that choices can describe in several ways.

The nodes of a graph may be numbered in many ways, and one that nothing reads does nothing. A space with such choices
says how the network that some values describe is written; then equal networks are equal values, as everywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.derived import plain
from search_spaces.errors import SpaceError
from search_spaces.values import show

Values = Mapping[str, Any]


@dataclass(frozen=True)
class NormalForm:
    """The rule by which networks of a space are written; `normal_form` makes it."""

    function: Callable[..., Values]
    spread: Callable[[Values, np.random.Generator], Values] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the choices it reads, and writes."""
        return tuple(inspect.signature(self.function).parameters)

    def __call__(self, kind: str, values: Values) -> dict[str, Any]:
        """The values of a network of the space `kind`, written in the normal form.

        Raises:
            SpaceError: the function raised, or returned something else than its choices.
        """
        read = {name: values[name] for name in self.parameters if name in values}
        try:
            found = self.function(**read)
        except Exception as error:
            raised = f"{type(error).__name__} ({error})"
            raise SpaceError(
                f"{kind}: the normal form raised {raised} for {show(read)}; make it answer for every network"
            ) from error
        if not isinstance(found, Mapping) or not found.keys() <= set(self.parameters):
            raise SpaceError(f"{kind}: the normal form returned {show(found)}; return a mapping of its choices")
        return {**{name: value for name, value in values.items() if name not in read}, **found}


def normal_form(
    function: Callable[..., Values], /, *, spread: Callable[[Values, np.random.Generator], Values] | None = None
) -> NormalForm:
    """How networks are written that the choices of a space can describe in many ways: one attribute of the class.

    The function takes choices by the names of its parameters, none of them conditional, and returns a mapping of these
    names: the values by which this network is always written. Its own result it returns unchanged.

    Args:
        spread: the other direction: from the values of a network in normal form to values that describe the same one,
            drawn at random. Mutation begins there, so that it also reaches what the normal form leaves out.
    """
    return NormalForm(plain(function), spread)

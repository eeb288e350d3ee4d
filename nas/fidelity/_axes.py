"""A set of variables: conversions between settings by name, keys in their order, and points in basic space."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from nas.errors import NasError
from nas.fidelity.pareto_groups import Key
from nas.fidelity.variables import STEP, FloatArray, Variable

_ROUNDS = 20  # attempts to draw candidates within the bounds


class Axes:
    """d variables with distinct names.

    Raises:
        NasError: there is no variable, or two have the same name.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = tuple(variables)
        self.names = [variable.name for variable in variables]
        if not self.names or len(set(self.names)) < len(self.names):
            raise NasError(f"variables are {self.names}: give at least one, and each another name")

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def centre(self) -> FloatArray:
        """The (1, d) centre in basic space."""
        return self.basic([tuple(variable.centre for variable in self.variables)])

    def basic(self, keys: Sequence[Key]) -> FloatArray:
        """Return (n, d) points in basic space."""
        columns = np.array(keys, dtype=float).T
        return np.stack([v.forward(column) for v, column in zip(self.variables, columns, strict=True)], axis=1)

    def settings(self, key: Key) -> dict[str, float | int]:
        return {v.name: v.value(number) for v, number in zip(self.variables, key, strict=True)}

    def key(self, settings: Mapping[str, float]) -> Key:
        """Return the key of settings; raise NasError for wrong names, and for values out of bounds or not numbers."""
        if set(settings) != set(self.names):
            given, wanted = ", ".join(sorted(settings)), ", ".join(sorted(self.names))
            raise NasError(f"settings are of {given or 'nothing'}: they must be of {wanted}, as `ask` gave them")
        for variable in self.variables:
            value = settings[variable.name]
            if not isinstance(value, Real) or not variable.inside(np.array([value], dtype=float))[0]:
                rule = f"it must be a number within {variable.least:g} to {variable.most:g}"
                raise NasError(f"{variable.name!r} is {value!r}: {rule}; tell what `ask` gave")
        return tuple(float(settings[name]) for name in self.names)

    def near(self, origins: FloatArray, n: int, rng: np.random.Generator) -> list[Key]:
        """Return `n` settings within the bounds, each a normal step from one of (m, d) origins, integers rounded.

        This draws until enough are within the bounds. If too few are after some attempts, the rest take the first
        origin's value for each variable out of bounds.
        """
        found: list[Key] = []
        for _ in range(_ROUNDS):
            values = self._steps(origins, 2 * n, rng)
            found.extend(map(tuple, values[self._inside(values).all(1)].tolist()))
            if len(found) >= n:
                return found[:n]
        values = self._steps(origins, n - len(found), rng)
        return found + list(map(tuple, np.where(self._inside(values), values, self._values(origins[:1])).tolist()))

    def _steps(self, origins: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """Return (n, d) values, some out of bounds."""
        return self._values(origins[rng.integers(len(origins), size=n)] + STEP * rng.standard_normal((n, len(self))))

    def _values(self, basic: FloatArray) -> FloatArray:
        return np.stack([v.nearest(column) for v, column in zip(self.variables, basic.T, strict=True)], axis=1)

    def _inside(self, values: FloatArray) -> np.ndarray:
        """Return (n, d) whether values are within the bounds."""
        return np.stack([v.inside(column) for v, column in zip(self.variables, values.T, strict=True)], axis=1)

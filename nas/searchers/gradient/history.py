"""The learned probabilities over the steps of a search."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from supernets.relaxation import Mixture

NUM_MOMENTS = 100


def moments(first: int, steps: int, num: int = NUM_MOMENTS) -> frozenset[int]:
    """Steps after which to record: 0, and `num` intervals from the architecture's first step to the last step."""
    return frozenset({0, *(first + round((steps - first) * share / num) for share in range(num + 1))})


class History:
    """The probabilities of every choice at ascending steps, for each of several distributions."""

    def __init__(self, num_distributions: int) -> None:
        self.steps: list[int] = []
        self._rows: list[dict[str, list[Tensor]]] = [{} for _ in range(num_distributions)]

    def add(self, step: int, mixtures: list[Mixture]) -> None:
        """Record the distributions after `step` steps."""
        self.steps.append(step)
        for rows, mixture in zip(self._rows, mixtures, strict=True):
            for path, vector in _vectors(mixture).items():
                rows.setdefault(path, []).append(vector)

    def probabilities(self, index: int, last: Mixture) -> dict[str, list[list[float]]]:
        """Return one distribution, path to one vector per recorded step, with `last` instead of the last record."""
        final = _vectors(last)
        return {
            path: [vector.tolist() for vector in (*vectors[:-1], final[path])]
            for path, vectors in self._rows[index].items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return a flat state: "steps", and "<distribution>|<path>" to (num_steps, num_options)."""
        rows = {
            f"{index}|{path}": torch.stack(vectors)
            for index, table in enumerate(self._rows)
            for path, vectors in table.items()
        }
        return {"steps": torch.tensor(self.steps, dtype=torch.int64), **rows}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the records."""
        self.steps = state["steps"].tolist()
        for key, rows in state.items():
            if key != "steps":
                index, _, path = key.partition("|")
                self._rows[int(index)][path] = list(rows)


def _vectors(mixture: Mixture) -> dict[str, Tensor]:
    """The probabilities by path in float64, normalised to a sum of 1."""
    vectors = {slot.path: mixture[slot.path].detach().cpu().double() for slot in mixture.space.slots}
    return {path: vector / vector.sum() for path, vector in vectors.items()}

"""A relaxed architecture: a probability for every option of every choice.

Choices are independent of each other: the probability of an architecture is the product over its active choices. A
choice that is not active in an architecture takes no part in it, so its probabilities are those given that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces import Architecture, Slot, Space
from supernets.errors import SupernetError
from supernets.relaxation.precision import exactly

Codes = npt.NDArray[np.int16]
TOLERANCE = 1e-4  # by how much probabilities may miss a sum of 1: they are float32
FLOOR = 1e-12  # of a probability when architectures are drawn: `Space.sample` wants weights above 0


@dataclass(frozen=True, eq=False)
class Joint:
    """Some choices taken together: the combinations (n, k) of codes of `slots` that can be.

    A code is -1 where the combination itself turns the choice off. Combinations may be missing, because a constraint
    forbids them or what is asked about is absent in them; probabilities are then those given that none of these is.
    """

    slots: tuple[int, ...]
    codes: Codes
    missing: bool = False

    @cached_property
    def key(self) -> tuple[tuple[int, ...], bytes]:
        """Equal for equal combinations."""
        return self.slots, self.codes.tobytes()

    @cached_property
    def picks(self) -> tuple[tuple[int, Tensor, bool], ...]:
        """For each slot the index of every combination's code; where codes may be -1, a code before all others."""
        columns = [(slot, self.codes[:, at].astype(np.int64)) for at, slot in enumerate(self.slots)]
        return tuple(
            (slot, torch.from_numpy(codes + (codes < 0).any()), bool((codes < 0).any())) for slot, codes in columns
        )


class Mixture:
    """Probabilities that can be moved: whatever was relaxed with a mixture follows it.

    Args:
        probabilities: for the path of a slot (`Space.slots`) a vector of one probability an option of the declaration,
            those that the space was narrowed to; with a graph, so that gradients arrive in what they were made of. What
            is left out stays uniform over the options of the space.
        sparse: operations of `one_of` and blocks of `stack` with a probability of exactly 0 are not run. Exact, but
            then no gradient arrives in that probability.
        partial: operations of a `one_of` that keep the shape of their input see and change one channel in so many,
            drawn at each pass from torch's random numbers as dropout is; the others go round (PC-DARTS,
            arXiv:1907.05737, eq. 1). Above 1 a one-hot mixture is no longer the network. The operations run at their
            full size, so this saves no time or memory. Channels are axis 1 of inputs of four or more axes, else the
            last.

    Raises:
        SupernetError: an unknown path, a vector of another length, values that are no probabilities, partial below 1.
    """

    def __init__(
        self,
        space: Space,
        probabilities: Mapping[str, Tensor] | None = None,
        *,
        sparse: bool = False,
        partial: int = 1,
    ) -> None:
        if partial < 1:
            raise SupernetError(f"partial = {partial}: operations see one channel in so many, so give 1 or more")
        if space.is_normalised:
            raise SupernetError(
                f"{space.name} holds graphs, of which there is no expectation: search without gradients, "
                "by evolution or a surrogate"
            )
        self.space = space
        self.sparse = sparse
        self.partial = partial
        self._index = {slot.path: index for index, slot in enumerate(space.slots)}
        self._probabilities = [
            _uniform(len(slot.options), kept) for slot, kept in zip(space.slots, space.domains, strict=True)
        ]
        self._known: dict[Hashable, Tensor] = {}
        self.version = 0
        if probabilities is not None:
            self.update(probabilities)

    @classmethod
    def one_hot(cls, space: Space, arch: Architecture) -> Mixture:
        """All probability on one architecture; what is not active in it stays uniform."""
        mixture = cls(space)
        codes = space.codes([arch])[0]
        mixture.update(
            {
                slot.path: torch.nn.functional.one_hot(torch.tensor(int(code)), len(slot.options)).double()
                for slot, code in zip(space.slots, codes, strict=True)
                if code >= 0
            }
        )
        return mixture

    @property
    def free(self) -> dict[str, tuple[int, ...]]:
        """The slots that leave a choice: path to the codes the space keeps, of which there are two or more."""
        pairs = zip(self.space.slots, self.space.domains, strict=True)
        return {slot.path: kept for slot, kept in pairs if len(kept) > 1}

    def update(self, probabilities: Mapping[str, Tensor]) -> None:
        """Move the probabilities of these slots."""
        for path in probabilities.keys() - self._index.keys():
            raise SupernetError(f"{path!r} is no choice of {self.space.name}; there is {', '.join(self._index)}")
        moved = {self._index[path]: vector for path, vector in probabilities.items()}
        self._check(moved)
        for index, vector in moved.items():
            self._probabilities[index] = vector
        self.forget()
        self.version += 1

    def __getitem__(self, path: str) -> Tensor:
        """The probabilities (num_options,) of a slot, given that it is active."""
        return self._probabilities[self._index[path]]

    def chances(self, joint: Joint) -> Tensor:
        """(n,) probabilities of the combinations, those of choices outside them left aside."""
        return self.known(joint.key, lambda: self._chances(joint))

    def known(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What was made under this key since the last `forget`, or is made now: modules share the parts of masks."""
        key = (key, torch.is_grad_enabled())
        if key not in self._known:
            with exactly(self._probabilities[0].device.type):
                self._known[key] = make()
        return self._known[key]

    def forget(self) -> None:
        """Make everything anew: done before each pass, because backward uses up the graph of what was made."""
        self._known.clear()

    def probability(self, arch: Architecture) -> float:
        """Of one architecture of the space."""
        found = 1.0
        for index, code in enumerate(self.space.codes([arch])[0]):
            found *= float(self._probabilities[index].detach()[int(code)]) if code >= 0 else 1.0
        return found

    def weights(self) -> dict[str, npt.NDArray[np.float64]]:
        """The probabilities as `Space.sample(rng, weights=...)` and `Space.likeliest` take them."""
        return {
            slot.path: np.maximum(vector.detach().cpu().double().numpy(), FLOOR)
            for slot, vector in zip(self.space.slots, self._probabilities, strict=True)
        }

    def likeliest(self) -> Architecture:
        """Choice after choice the most probable option that is feasible: the architecture derived from the mixture."""
        return self.space.likeliest(self.weights())

    def _chances(self, joint: Joint) -> Tensor:
        product: Tensor | None = None
        for slot, index, conditional in joint.picks:
            vector = self._probabilities[slot]
            if conditional:
                vector = torch.cat((vector.new_ones(1), vector))
            chance = vector.index_select(0, index.to(vector.device))
            product = chance if product is None else product * chance.to(product.device)
        if product is None:
            return torch.ones(len(joint.codes), dtype=torch.get_default_dtype())
        if joint.missing:
            product = product / product.sum().clamp_min(torch.finfo(product.dtype).tiny)
        return product

    def _check(self, moved: Mapping[int, Tensor]) -> None:
        """All of them in one go: each look at a tensor on a GPU waits for it."""
        if not moved:
            return
        for index, vector in moved.items():
            slot = self.space.slots[index]
            if vector.shape != (len(slot.options),):
                raise SupernetError(f"{slot.path} has probabilities of shape {tuple(vector.shape)}: give {_rule(slot)}")
        flat = torch.cat([vector.detach() for vector in moved.values()]).cpu().double().numpy()
        ends = np.cumsum([len(vector) for vector in moved.values()])
        for index, values in zip(moved, np.split(flat, ends[:-1]), strict=True):
            self._check_values(index, values)

    def _check_values(self, index: int, values: npt.NDArray[np.float64]) -> None:
        slot, kept = self.space.slots[index], self.space.domains[index]
        if not np.all(np.isfinite(values)) or values.min() < -TOLERANCE or abs(values.sum() - 1) > TOLERANCE:
            raise SupernetError(f"{slot.path} has probabilities {_listed(values)}: give {_rule(slot)}")
        outside = [code for code in range(len(values)) if code not in kept and values[code] > TOLERANCE]
        if outside:
            raise SupernetError(
                f"{slot.path} has probability {values[outside[0]]:.3g} on {slot.options[outside[0]]!r}, which the "
                "space was narrowed not to have: give it 0"
            )


def _uniform(num_options: int, kept: Sequence[int]) -> Tensor:
    vector = torch.zeros(num_options)
    vector[list(kept)] = 1 / len(kept)
    return vector


def _rule(slot: Slot) -> str:
    return f"one probability for each of its {len(slot.options)} options, which sum to 1"


def _listed(values: npt.NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.3g}' for value in values)})"

"""A relaxed architecture: a probability for every option of every choice.

Choices are independent: the probability of an architecture is the product over its active choices. Inactive choices do
not enter it, so the probabilities of a choice are conditional on the choice being active.
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
TOLERANCE = 1e-4  # largest deviation of a sum of probabilities from 1, in float32
FLOOR = 1e-12  # least probability in `weights`: `Space.sample` requires weights above 0


@dataclass(frozen=True, eq=False)
class Joint:
    """Several choices taken together: the possible combinations (n, k) of codes of `slots`.

    A code is -1 where the combination itself makes the choice inactive. Combinations may be `missing`, because a
    constraint forbids them or the feature is absent in them; probabilities are then conditional on the present ones.
    """

    slots: tuple[int, ...]
    codes: Codes
    missing: bool = False

    @cached_property
    def key(self) -> tuple[tuple[int, ...], bytes]:
        """A key that is equal for equal combinations."""
        return self.slots, self.codes.tobytes()

    @cached_property
    def picks(self) -> tuple[tuple[int, Tensor, bool], ...]:
        """For each slot: the slot, the index of every combination's code, and whether codes may be -1.

        With codes of -1, indices are shifted by one, and index 0 stands for -1.
        """
        columns = [(slot, self.codes[:, at].astype(np.int64)) for at, slot in enumerate(self.slots)]
        return tuple(
            (slot, torch.from_numpy(codes + (codes < 0).any()), bool((codes < 0).any())) for slot, codes in columns
        )


class Mixture:
    """Mutable probabilities: every module relaxed with a mixture follows its updates.

    Args:
        probabilities: for the path of a slot (`Space.slots`), a vector with one probability per declared option, 0 for
            options outside a narrowed space. Gradients flow to the tensors from which the vectors were computed.
            Missing slots stay uniform over the options of the space.
        sparse: skip operations of `one_of` and blocks of `stack` with a probability of exactly 0. The result is exact,
            but such a probability gets no gradient.
        partial: let operations of a `one_of` that keep the shape of their input process only one channel in `partial`,
            drawn in each pass from torch's random numbers, as dropout draws; the other channels bypass them (PC-DARTS,
            arXiv:1907.05737, eq. 1). Above 1, a one-hot mixture no longer equals the network. The operations run at
            full size, so this saves neither time nor memory. Channels are axis 1 of inputs with four or more axes, else
            the last axis.

    Raises:
        SupernetError: a path is unknown, a vector has another length or holds no probabilities, `partial` is below 1,
            or the space holds graphs.
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
        """Return a mixture with all probability on one architecture; its inactive choices stay uniform."""
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
        """The slots with two or more options left in the space: their paths, with the codes of these options."""
        pairs = zip(self.space.slots, self.space.domains, strict=True)
        return {slot.path: kept for slot, kept in pairs if len(kept) > 1}

    def update(self, probabilities: Mapping[str, Tensor]) -> None:
        """Replace the probabilities of these slots.

        Raises:
            SupernetError: a path is unknown, or a vector is invalid.
        """
        for path in probabilities.keys() - self._index.keys():
            raise SupernetError(f"{path!r} is no choice of {self.space.name}; there is {', '.join(self._index)}")
        moved = {self._index[path]: vector for path, vector in probabilities.items()}
        self._check(moved)
        for index, vector in moved.items():
            self._probabilities[index] = vector
        self.forget()
        self.version += 1

    def __getitem__(self, path: str) -> Tensor:
        """Return the probabilities (num_options,) of a slot, conditional on its being active."""
        return self._probabilities[self._index[path]]

    def chances(self, joint: Joint) -> Tensor:
        """Return the probabilities of the combinations, (n,), marginal over all other choices."""
        return self.known(joint.key, lambda: self._chances(joint))

    def known(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Return the cached value of this key, computed by `make` if absent since `forget`; modules share masks."""
        key = (key, torch.is_grad_enabled())
        if key not in self._known:
            with exactly(self._probabilities[0].device.type):
                self._known[key] = make()
        return self._known[key]

    def forget(self) -> None:
        """Clear the cache. Each pass starts with this, because backward frees the graph of cached values."""
        self._known.clear()

    def probability(self, arch: Architecture) -> float:
        """Return the probability of one architecture of the space."""
        found = 1.0
        for index, code in enumerate(self.space.codes([arch])[0]):
            found *= float(self._probabilities[index].detach()[int(code)]) if code >= 0 else 1.0
        return found

    def weights(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the probabilities in the form that `Space.sample(rng, weights=...)` and `Space.likeliest` take."""
        return {
            slot.path: np.maximum(vector.detach().cpu().double().numpy(), FLOOR)
            for slot, vector in zip(self.space.slots, self._probabilities, strict=True)
        }

    def likeliest(self) -> Architecture:
        """Return the architecture derived from the mixture: choice by choice, the most probable feasible option."""
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
        """Check all vectors with a single transfer, because each transfer from a GPU synchronises."""
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

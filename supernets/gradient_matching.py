"""Measure conflicts between options over shared weights, to decide where to split a supernet in two.

GM-NAS (arXiv:2203.15207) compares the gradients of a choice's options on the same architecture and batch, and splits
the choice whose options separate most clearly into two groups.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces import Architecture, Space, SpaceError
from supernets.layout import Box

MAX_OPTIONS = 12
"""Largest number of options of a choice to split; the search tries all of its 2^11 - 1 bipartitions."""

FloatArray = npt.NDArray[np.float64]
Gradients = Mapping[str, tuple[Box, Tensor]]
"""For each stored tensor: the box that the backward pass touched, and the gradient there."""


@dataclass(frozen=True)
class Cut:
    """A choice whose options are divided into two groups."""

    slot: int
    kept: frozenset[int]
    """Codes of the group with the first option."""
    taken: frozenset[int]
    conflict: float
    """Mean of 1 - cosine over the pairs with one option in each group: 0 where all agree, 2 where all oppose."""


# --- which options disagree -----------------------------------------------------------------------------------------


def bipartition(distances: FloatArray) -> tuple[npt.NDArray[np.bool_], float]:
    """Return the two groups with the largest sum of distances between them, from an n x n table, and that sum.

    The function tries all 2^(n - 1) - 1 bipartitions, so it can separate a single item. The first item is in the group
    marked False; among equal cuts, the first in binary order wins.
    """
    n = len(distances)
    numbers = np.arange(1, 2 ** (n - 1))
    groups = np.concatenate(
        [np.zeros((len(numbers), 1), bool), (numbers[:, None] >> np.arange(n - 1)) % 2 == 1], axis=1
    )
    cuts = np.einsum("mi,ij,mj->m", groups.astype(float), distances, (~groups).astype(float))
    best = int(cuts.argmax())
    return groups[best], float(cuts[best])


def disagreement(gradients: Sequence[Gradients]) -> FloatArray:
    """Return the table (n, n) of 1 - cosine between n gradients, on the coordinates that all of them touch.

    Coordinates that some option lacks are not shared: an operator's kernel, or the outer columns of a wider layer. With
    zeros in their place, a small option would appear to disagree with a large one merely because of its size.
    """
    products = np.zeros((len(gradients), len(gradients)))
    for name in gradients[0]:
        if all(name in one for one in gradients):
            products += _products([one[name] for one in gradients])
    norms = np.sqrt(np.diag(products))
    lengths = np.outer(norms, norms)
    with np.errstate(invalid="ignore"):  # infinite gradients give NaN, which the caller handles
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    cosines[lengths == 0] = (norms[:, None] == norms)[lengths == 0]  # two zero gradients agree
    distances: FloatArray = 1 - np.clip(cosines, -1, 1)
    return distances


def _products(parts: list[tuple[Box, Tensor]]) -> FloatArray:
    """Return the inner products of gradients of one tensor within the box common to all."""
    common = parts[0][0]
    for box, _ in parts[1:]:
        common = _common(common, box)
    if min(common.size, default=1) <= 0:
        return np.zeros((len(parts), len(parts)))
    rows = torch.stack([common.within(box).of(grad).flatten() for box, grad in parts]).double()
    products: FloatArray = (rows @ rows.T).cpu().numpy()
    return products


def _common(a: Box, b: Box) -> Box:
    start = tuple(map(max, a.start, b.start))
    stops = (min(p + n, q + m) for p, n, q, m in zip(a.start, a.size, b.start, b.size, strict=True))
    return Box(start, tuple(stop - begin for begin, stop in zip(start, stops, strict=True)))


# --- spaces of one group --------------------------------------------------------------------------------------------


def having(space: Space, slot: int, codes: Iterable[int]) -> Space | None:
    """Return the networks with one of these options in a slot; None if there are none.

    The slot is active in all of them, so the function also narrows the choices on which it depends.
    """
    wanted = {slot: frozenset(codes)}
    queue = [slot]
    while queue:
        for parent, allowed in space.slots[queue.pop()].conditions:
            wanted[parent] = wanted.get(parent, allowed) & allowed
            queue.append(parent)
    return _narrowed(space, wanted)


def lacking(space: Space, slot: int, codes: Iterable[int]) -> Space | None:
    """Return the networks without these options in a slot, active or not; None if there are none."""
    return _narrowed(space, {slot: frozenset(range(len(space.slots[slot].options))) - frozenset(codes)})


def _narrowed(space: Space, wanted: Mapping[int, frozenset[int]]) -> Space | None:
    if not all(wanted.values()):
        return None
    try:
        return space.where(**{space.slots[i].path: _options(space, i, codes) for i, codes in wanted.items()})
    except SpaceError:  # nothing is left
        return None


def _options(space: Space, slot: int, codes: Iterable[int]) -> list[object]:
    return [space.slots[slot].options[code] for code in sorted(codes)]


# --- measuring ------------------------------------------------------------------------------------------------------

Measure = Callable[[Architecture, int], Gradients]
"""Maps an architecture and the number of a batch to the gradient of its training loss."""


@dataclass(frozen=True)
class Candidate:
    """A choice at which a space could be split, and the subspace of each of its options."""

    slot: int
    options: Mapping[int, Space]

    @property
    def space(self) -> Space:
        return next(iter(self.options.values()))


def candidates(space: Space, rng: np.random.Generator, most: int) -> list[Candidate]:
    """Return up to `most` random choices with 2 to MAX_OPTIONS options in networks of the space."""
    found: list[Candidate] = []
    for slot in rng.permutation(len(space.slots)).tolist():
        if len(found) == most:
            break
        possible = {code: having(space, slot, (code,)) for code in range(len(space.slots[slot].options))}
        options = {code: narrow for code, narrow in possible.items() if narrow is not None}
        if 2 <= len(options) <= MAX_OPTIONS:
            found.append(Candidate(slot, options))
    return sorted(found, key=lambda candidate: candidate.slot)


def best_cut(space: Space, measure: Measure, rng: np.random.Generator, batches: int, most: int) -> Cut | None:
    """Return the cut with the largest conflict among a space's choices; None if no choice has two options.

    It costs a backward pass for each batch and each option of each candidate.
    """
    cuts = [cut(candidate, space, measure, rng, batches) for candidate in candidates(space, rng, most)]
    return max(cuts, key=lambda found: found.conflict, default=None)


def cut(candidate: Candidate, space: Space, measure: Measure, rng: np.random.Generator, batches: int) -> Cut:
    """Return the cut of one choice, from gradients at random architectures that differ only in this choice."""
    codes = list(candidate.options)
    active = having(space, candidate.slot, codes) or candidate.space
    tables = []
    for batch in range(batches):
        base = active.sample(rng)
        gradients = [measure(narrow.nearest(base), batch) for narrow in candidate.options.values()]
        table = disagreement(gradients)
        if np.isfinite(table).all():
            tables.append(table)
    distances = np.mean(tables, axis=0) if tables else np.zeros((len(codes), len(codes)))
    groups, total = bipartition(distances)
    taken = frozenset(code for code, apart in zip(codes, groups, strict=True) if apart)
    num_pairs = len(taken) * (len(codes) - len(taken))  # or choices with more options would have larger sums
    return Cut(candidate.slot, frozenset(codes) - taken, taken, total / num_pairs)

"""Policy search by REINFORCE: the probabilities of the options of each choice follow the policy gradient.

Williams 1992 (doi:10.1007/BF00992696), like NASNet's controller but without a network: choices are drawn independently,
each from its own softmax. For choices of two options (for example, whether a layer copies the previous one) it is a
Bernoulli policy.
"""

from collections.abc import Mapping, Sequence
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

from nas.errors import NasError
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Evaluation
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs
from nas.searchers._history import violations
from nas.searchers._remembering import Remembering
from search_spaces import Architecture, Space

FARTHEST = 4.0  # largest logit: the less likely of two options keeps a probability of 3 in 10,000
LONGEST = 3.0  # standard deviations at which the advantage of one evaluation is clipped
_TRIES = 64  # draws per requested network

Floats = npt.NDArray[np.float64]


class PolicySearch(Remembering):
    """Draws networks from probabilities; each evaluation raises those of a better network and lowers those of a worse.

    The reward is minus the first objective, minus `penalty` times each other one, all in standard deviations from an
    exponential moving average. A network that breaks limits loses one more, plus its relative excess; one that breaks
    a predictable limit is never evaluated. A failed network has a reward of minus one standard deviation. Draws respect
    the constraints of the space; gradients treat choices as independent.

    Args:
        lr: step of the logits for a reward of one standard deviation.
        penalty: weight of all objectives except the first.
        memory: share of the moving average that stays after each evaluation.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[str],
        limits: Sequence[Limit] = (),
        feasible: Feasible = everything,
        *,
        aims: Sequence[Aim] = (),
        costs: Costs | None = None,
        lr: float = 0.2,
        penalty: float = 1.0,
        memory: float = 0.95,
    ) -> None:
        if not 0 < lr < inf:
            raise NasError(f"lr is {lr}; the step of a logit must be above 0, for example 0.2")
        if not 0 <= penalty < inf:
            raise NasError(f"penalty is {penalty}; the weight of costs must be 0 or more")
        if not 0 < memory < 1:
            raise NasError(f"memory is {memory}; it must be a share between 0 and 1, for example 0.95")
        super().__init__(space, objectives, limits, feasible, aims)
        self.lr = lr
        self.penalty = penalty
        self._limits = tuple(dict.fromkeys(limit for part in self._history.parts for limit in part.aim.limits))
        self._usual = {name: _Usual(memory) for name in self._history.objectives}
        self._logits = [np.zeros(len(slot.options)) for slot in space.slots]

    @property
    def chances(self) -> dict[str, list[float]]:
        """Probabilities of the options of each choice with several, by path; 0 for options outside a narrowed space."""
        found = {}
        for slot, domain, logits in zip(self.space.slots, self.space.domains, self._logits, strict=True):
            if len(domain) > 1:
                chances = np.zeros(len(logits))
                chances[list(domain)] = _softmax(logits[list(domain)])
                found[slot.path] = chances.tolist()
        return found

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        weights: Mapping[str, Floats] = {
            slot.path: np.exp(logits) for slot, logits in zip(self.space.slots, self._logits, strict=True)
        }

        def drawn(size: int) -> list[Architecture]:
            return self.space.sample_many(size, rng, weights=weights)

        parents = [evaluation.arch for evaluation in self._history.best_first(n)]
        known, lineage = self._history.digests, self._history.lineage
        lineage.begin()
        source = (drawn, _TRIES * n, "policy")
        return pick(self.space, n, rng, known, self.feasible, source, parents=parents, lineage=lineage)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        super().tell(evaluations)
        for one in evaluations:
            self._learn(one.arch, self._advantage(one))

    def _advantage(self, told: Evaluation) -> float:
        """How much better than average a network is, in standard deviations."""
        if told.error is not None:
            return -1.0
        first, *others = (usual.off(told.metrics[name]) for name, usual in self._usual.items())
        over = float(violations([told], self._limits)[0])
        broken = 1 + over if over > 0 else 0.0
        return float(np.clip(-(first + self.penalty * sum(others) + broken), -LONGEST, LONGEST))

    def _learn(self, arch: Architecture, advantage: float) -> None:
        """Take one step along advantage * d log p(arch) / d logits."""
        codes = self.space.codes([arch])[0]
        for code, domain, logits in zip(codes, self.space.domains, self._logits, strict=True):
            if code in domain and len(domain) > 1:
                open_ = list(domain)
                gradient = -_softmax(logits[open_])
                gradient[open_.index(code)] += 1
                logits[open_] = np.clip(logits[open_] + self.lr * advantage * gradient, -FARTHEST, FARTHEST)


class _Usual:
    """Exponential moving mean and variance of a metric."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._weight = self._mean = self._square = 0.0

    def off(self, value: float) -> float:
        """Return a value's distance from the mean so far, in standard deviations, and update mean and variance."""
        mean, spread = (self._mean / self._weight, self._spread) if self._weight else (value, 0.0)
        off = (value - mean) / spread if spread > 0 else 0.0
        self._weight, self._mean, self._square = (
            self._memory * old + new
            for old, new in ((self._weight, 1.0), (self._mean, value), (self._square, value * value))
        )
        return float(np.clip(off, -LONGEST, LONGEST))

    @property
    def _spread(self) -> float:
        mean = self._mean / self._weight
        variance = self._square / self._weight - mean * mean
        return sqrt(variance) if variance > 1e-12 * mean * mean else 0.0


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max())
    return np.asarray(shifted / shifted.sum())

"""The networks of a supernet under architecture parameters: the mixture that runs, and the one that is expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from nas.searchers.gradient.logits import Logits
from nas.searchers.gradient.methods import Method
from search_spaces import Architecture
from supernets import Supernet, calibrate
from supernets.relaxation import Mixture
from supernets.tasks import SamplingTask

Expected = Callable[[Mixture], Tensor]
"""An expected cost, differentiable: a `supernets.relaxation.Cost`."""


class Relaxed:
    """The relaxed network of one method, moved from step to step.

    Args:
        partial: operations see one channel in so many, while a search learns.
    """

    def __init__(
        self, supernet: Supernet, method: Method, task: SamplingTask, precision: str, partial: int = 1
    ) -> None:
        self.supernet, self.method, self.task, self._precision = supernet, method, task, precision
        self._mixture = Mixture(supernet.space, sparse=method.sparse, partial=partial)
        self.free = self._mixture.free
        self._sizes = {slot.path: len(slot.options) for slot in supernet.space.slots}
        self.module: nn.Module = supernet.relax(self._mixture)

    def sample(self, logits: Logits, progress: float, rng: torch.Generator) -> None:
        """Let the network be the mixture that the method draws in this step."""
        drawn = {path: self.method.probabilities(vector, progress, rng) for path, vector in logits.items()}
        device = self.supernet.device
        self._mixture.update({path: vector.to(device) for path, vector in self._whole(drawn).items()})

    def learnt(self, logits: Logits) -> Mixture:
        """The distribution that has been learnt, without noise; with a graph to the logits, and where these are."""
        found = {path: self.method.learnt(vector) for path, vector in logits.items()}
        return Mixture(self.supernet.space, self._whole(found))

    def penalty(self, logits: Logits) -> Tensor:
        """The method's regulariser, summed over all choices."""
        return torch.stack([self.method.penalty(vector) for vector in logits.values()]).sum()

    def loss(self, batch: Any) -> Tensor:
        """The task's loss on a batch in training mode."""
        device = self.supernet.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._precision == "bf16"):
            return self.task.loss(self.task.outputs(self.module.train(), batch), batch)

    def scores(self, mixture: Mixture, arch: Architecture, step: int, seed: int) -> tuple[float, float]:
        """How good a mixture and an architecture derived from it are, on one validation batch, in [0, 1]."""
        mixed = self._mixed_score({path: mixture[path].detach() for path in self.free}, step, seed)
        return mixed, self._score(self.supernet.subnet(arch), step, seed)

    def score(self, kept: Mapping[str, Sequence[float]], seed: int) -> float:
        """How good the mixture of these probabilities of kept options is, on one validation batch, in [0, 1]."""
        return self._mixed_score(self._whole({path: torch.tensor(vector) for path, vector in kept.items()}), 0, seed)

    def mean_score(self, arch: Architecture, num_batches: int, seed: int) -> float:
        """How good one architecture is, over so many validation batches, in [0, 1]."""
        network = self.supernet.subnet(arch)
        calibrate.recalibrate(network, self.task.calibration(1))
        return fmean(self.task.score(network, step, seed) for step in range(num_batches))

    def derived(self, kept: Mapping[str, Sequence[float]]) -> Architecture:
        """The architecture of probabilities of kept options."""
        vectors = {path: torch.tensor(vector) for path, vector in kept.items()}
        return Mixture(self.supernet.space, self._whole(vectors)).likeliest()

    def losses(self, archs: list[Architecture], batch: Any) -> list[float]:
        """The loss of single architectures with the weights as they are."""
        found = []
        for arch in archs:
            network = self.supernet.subnet(arch).train()
            with torch.no_grad(), statistics_kept(network):
                found.append(float(self.task.loss(self.task.outputs(network, batch), batch)))
        return found

    @cached_property
    def _judged(self) -> tuple[Mixture, nn.Module]:
        """A mixture and the network that follows it: as it is evaluated, whole and without what has no probability."""
        mixture = Mixture(self.supernet.space, sparse=True)
        return mixture, self.supernet.relax(mixture)

    def _mixed_score(self, probabilities: Mapping[str, Tensor], step: int, seed: int) -> float:
        mixture, network = self._judged
        mixture.update({path: vector.to(self.supernet.device) for path, vector in probabilities.items()})
        return self._score(network, step, seed)

    def _score(self, network: nn.Module, step: int, seed: int) -> float:
        calibrate.recalibrate(network, self.task.calibration(1))
        return self.task.score(network, step, seed)

    def _whole(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From probabilities over the options that are kept to those of the declaration."""
        return {path: self._scattered(path, vector) for path, vector in kept.items()}

    def _scattered(self, path: str, vector: Tensor) -> Tensor:
        kept, size = self.free[path], self._sizes[path]
        if len(kept) == size:
            return vector
        return vector.new_zeros(size).index_put((torch.tensor(kept),), vector)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Running statistics of batch norm, which are shared, are afterwards what they were before.

    Yields pairs of a buffer and its value; whoever clears the list lets what has changed stay.
    """
    before = [(buffer, buffer.clone()) for buffer in network.buffers()] if calibrate.has_batch_norm(network) else []
    try:
        yield before
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)

"""The relaxed network of a supernet: the sampled mixture that runs, and the learned distribution."""

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
    """The relaxed network of one method; its mixture changes in each step.

    Args:
        partial: operations see one channel in `partial` during the search.
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
        """Set the network to the mixture that the method draws in this step."""
        drawn = {path: self.method.probabilities(vector, progress, rng) for path, vector in logits.items()}
        device = self.supernet.device
        self._mixture.update({path: vector.to(device) for path, vector in self._whole(drawn).items()})

    def learnt(self, logits: Logits) -> Mixture:
        """Return the learned distribution, without noise, with a graph to the logits and on their device."""
        found = {path: self.method.learnt(vector) for path, vector in logits.items()}
        return Mixture(self.supernet.space, self._whole(found))

    def penalty(self, logits: Logits) -> Tensor:
        """Return the method's regulariser, summed over all choices."""
        return torch.stack([self.method.penalty(vector) for vector in logits.values()]).sum()

    def loss(self, batch: Any) -> Tensor:
        """Return the task's loss on a batch in training mode."""
        device = self.supernet.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._precision == "bf16"):
            return self.task.loss(self.task.outputs(self.module.train(), batch), batch)

    def scores(self, mixture: Mixture, arch: Architecture, step: int, seed: int) -> tuple[float, float]:
        """Return the scores in [0, 1] of a mixture and of an architecture derived from it, on one validation batch."""
        mixed = self._mixed_score({path: mixture[path].detach() for path in self.free}, step, seed)
        return mixed, self._score(self.supernet.subnet(arch), step, seed)

    def score(self, kept: Mapping[str, Sequence[float]], seed: int) -> float:
        """Return the score in [0, 1] of the mixture with these probabilities, on one validation batch."""
        return self._mixed_score(self._whole({path: torch.tensor(vector) for path, vector in kept.items()}), 0, seed)

    def mean_score(self, arch: Architecture, num_batches: int, seed: int) -> float:
        """Return the mean score in [0, 1] of one architecture over `num_batches` validation batches."""
        network = self.supernet.subnet(arch)
        calibrate.recalibrate(network, self.task.calibration(1))
        return fmean(self.task.score(network, step, seed) for step in range(num_batches))

    def derived(self, kept: Mapping[str, Sequence[float]]) -> Architecture:
        """Return the architecture derived from probabilities of kept options."""
        vectors = {path: torch.tensor(vector) for path, vector in kept.items()}
        return Mixture(self.supernet.space, self._whole(vectors)).likeliest()

    def losses(self, archs: list[Architecture], batch: Any) -> list[float]:
        """Return the losses of single architectures with the current weights."""
        found = []
        for arch in archs:
            network = self.supernet.subnet(arch).train()
            with torch.no_grad(), statistics_kept(network):
                found.append(float(self.task.loss(self.task.outputs(network, batch), batch)))
        return found

    @cached_property
    def _judged(self) -> tuple[Mixture, nn.Module]:
        """A mixture and its network for evaluation: all channels, and no options of probability 0."""
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
        """Expand probabilities over kept options to all options of the declaration."""
        return {path: self._scattered(path, vector) for path, vector in kept.items()}

    def _scattered(self, path: str, vector: Tensor) -> Tensor:
        kept, size = self.free[path], self._sizes[path]
        if len(kept) == size:
            return vector
        return vector.new_zeros(size).index_put((torch.tensor(kept),), vector)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Restore the shared running statistics of batch norm afterwards.

    Yields a list of buffers with their values; clear it to keep the changes.
    """
    before = [(buffer, buffer.clone()) for buffer in network.buffers()] if calibrate.has_batch_norm(network) else []
    try:
        yield before
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)

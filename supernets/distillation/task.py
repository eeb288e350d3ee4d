"""A task whose loss includes distillation from a parent, so that every training on the task learns from the parent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from supernets.distillation.comparing import FIDELITIES
from supernets.distillation.layers import DistillationError, Observed, hearing
from supernets.distillation.terms import Hidden, Logits, Project, Term, described, pairs_of
from supernets.tasks import Around, Task, evaluating, teaches, to_device
from supernets.views import digest as digest_of
from supernets.views import leaves

CACHE_BYTES = 1 << 28
"""Size of the cache for the parent's validation outputs: 256 MiB; larger outputs are computed again each time."""


class Distilled(Around):
    """A task with distillation from a parent. Data, metrics and everything else come from the wrapped task.

        parent = MyModel.from_pretrained(...)  # any module that accepts the task's batches
        losses = [Logits(temperature=2), Hidden(every("blocks.*")), Relations((every("blocks.*.attention.qkv"),))]
        run = Run(..., task=Distilled(task, parent, losses, labels=0.5, fidelity="kl"), objectives=("kl", "params"))

    Training of a supernet, stand-alone training (for a trust report) and ``nas finetune`` then learn from the parent,
    optionally combined with in-place distillation. Losses on outputs are part of `loss`. Losses on layers apply only in
    the training loop, not in gradient searches and importance scores, which use `loss` alone.

    Args:
        task: provides data, labels and evaluation.
        parent: the constructor puts it in evaluation mode and disables its gradients. The parent and its results on the
            last batch stay in memory.
        losses: distillation losses, each with its weight: see `supernets.distillation.terms`.
        labels: factor of the task's own loss; 0 learns from the parent alone.
        fidelity: "kl" (for logits) or "cosine" (for embeddings) adds a metric of this name, the mean distance between
            the outputs of network and parent over a split, at the cost of a second pass over the split.
        cache_bytes: size up to which the parent's validation outputs stay in memory.

    Raises:
        DistillationError: `losses` is empty, the parent lacks a layer, or a setting does not fit the task.
    """

    def __init__(
        self,
        task: Task,
        parent: nn.Module,
        losses: Sequence[Term] = (Logits(),),
        *,
        labels: float = 1.0,
        fidelity: str = "",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(task)
        self.parent = parent.eval().requires_grad_(False)
        self.terms = tuple(losses)
        self.labels = labels
        self.fidelity = fidelity
        self.cache_bytes = cache_bytes
        self._check()
        self._teaching = {name for term in self.terms for layers in term.layers for name in layers.teaching(parent)}
        self._last: tuple[Any, Observed] | None = None  # all passes of a step use one batch
        self._known: dict[str, list[Tensor]] = {}

    def _check(self) -> None:
        if teaches(self.task):
            raise DistillationError(
                f"the layers of {self.task.name!r} learn from a parent already, and they can from one only: give that "
                "task losses of outputs alone"
            )
        if not getattr(self.task, "logits", True):
            wrong = "a Logits() loss" if any(isinstance(term, Logits) for term in self.terms) else ""
            wrong = wrong or ("fidelity='kl'" if self.fidelity == "kl" else "")
            if wrong:
                raise DistillationError(
                    f"{wrong} compares outputs as distributions over classes, and those of {self.task.name!r} are "
                    "numbers: give losses=[Embeddings()], their mean squared distance, and leave the fidelity out"
                )
        if not self.terms:
            raise DistillationError("losses is empty: name what to imitate, as in losses=[Logits()]")
        if not 0 <= self.labels < float("inf"):
            raise DistillationError(f"labels = {self.labels!r}: it is a factor of the task's loss, 0 or more")
        if self.fidelity and self.fidelity not in FIDELITIES:
            raise DistillationError(f"fidelity = {self.fidelity!r} is unknown: choose one of {', '.join(FIDELITIES)}")
        if self.fidelity and not hasattr(self.task, "batches"):
            raise DistillationError(
                f"fidelity = {self.fidelity!r}: the task {self.task.name!r} has no batches(split) to compare outputs "
                "on; add it as supernets.tasks.Classification has it, or leave fidelity out"
            )

    # --- description

    @property
    def name(self) -> str:
        return f"{self.task.name}, taught"

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Keys of `evaluate`, other than the metric and the loss, that can be objectives."""
        return (*getattr(self.task, "further_metrics", ()), *([self.fidelity] if self.fidelity else []))

    @cached_property
    def digest(self) -> str:
        settings = [described(self.terms), repr(self.labels), self.fidelity, type(self.parent).__qualname__]
        told = "\n".join([self.task.digest, digest_of(self.parent.state_dict().items()), *settings])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        return self.task.outputs(module, batch)

    # --- losses

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Return the task's own loss times `labels`, plus the distillation losses on outputs."""
        imitated = self._imitated(outputs, batch)
        return imitated if self.labels == 0 else self.labels * self.task.loss(outputs, batch) + imitated

    @property
    def losses(self) -> Any:
        """The loss of each example, if the task has `losses`; the distillation loss adds the same value to each."""
        own = self.task.losses  # type: ignore[attr-defined] # a sampling task has them

        def losses(outputs: Tensor, batch: Any) -> Tensor:
            found: Tensor = self.labels * own(outputs, batch) + self._imitated(outputs, batch)
            return found

        return losses

    def _imitated(self, outputs: Tensor, batch: Any) -> Tensor:
        student, total = Observed(outputs, {}), (0 * outputs).sum()
        for term in self.terms:
            if not term.layers:
                total = total + term.weight * term(student, self._parents(batch, outputs.device), [], unprojected)
        return total

    @property
    def listens(self) -> bool:
        """Whether any loss applies to layers."""
        return bool(self._teaching)

    def taught(self, module: nn.Module, batch: Any, project: Project | None = None) -> tuple[Tensor, Tensor]:
        """Return a network's outputs, and the distillation loss of its layers, to be added to `loss`.

        Args:
            project: maps hidden states to the parent's width; None means no map, so widths must agree.

        Raises:
            DistillationError: a layer is absent, does not run or has an output that cannot be compared; or the parent
                returns non-finite outputs on finite data.
        """
        pairs = {index: pairs_of(term, module, self.parent) for index, term in enumerate(self.terms) if term.layers}
        student = self._observed(module, batch, [own for found in pairs.values() for some in found for own, _ in some])
        parent = self._parents(batch, student.outputs.device)
        terms = [
            self.terms[index].weight * self.terms[index](student, parent, found, _named(project, index))
            for index, found in pairs.items()
        ]
        return student.outputs, sum(terms, (0 * student.outputs).sum())

    def widths(self, module: nn.Module, batch: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the outputs of each layer and of its parent's layer, features last, by the name for `project`."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for index, term in enumerate(self.terms):
            if isinstance(term, Hidden) and term.projects:
                (pairs,) = pairs_of(term, module, self.parent)
                student = self._observed(module, batch, [own for own, _ in pairs])
                parent = self._parents(batch, student.outputs.device)
                for own, name in pairs:
                    both = term.features_last(student.hidden[own]), term.features_last(parent.hidden[name])
                    found[f"{index}.{own}"] = both
        return found

    def check(self, module: nn.Module) -> None:
        """Check that the largest network has every named layer.

        Raises:
            DistillationError: a layer is absent; the message names it.
        """
        for term in self.terms:
            for layers in term.layers:
                layers.check(module)

    def _observed(self, module: nn.Module, batch: Any, names: Sequence[str]) -> Observed:
        with hearing(module, dict.fromkeys(names)) as hidden:
            outputs = self.task.outputs(module, batch)
        for name in names:
            if name not in hidden:
                raise DistillationError(
                    f"the layer {name!r} does not run, so it gives nothing to compare: name another"
                )
        return Observed(outputs, hidden)

    def _parents(self, batch: Any, device: torch.device) -> Observed:
        """Return the parent's results on a batch; the last results are cached."""
        if self._last is not None and self._last[0] is batch:
            return self._last[1]
        with torch.inference_mode(False), torch.no_grad():
            found = self._observed(self.parent.to(device), batch, sorted(self._teaching))
        if not _finite(found.outputs) and _finite(batch):
            raise DistillationError(
                f"the parent, a {type(self.parent).__name__}, gives what is no finite number on a batch that is: see "
                "that its weights are loaded and its precision suffices"
            )
        self._last = batch, found
        return found

    # --- evaluation

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """Return the task's metrics and, with `fidelity`, the distance of the outputs from the parent's."""
        found = self.task.evaluate(module, split)
        return found | ({self.fidelity: self._distance(module, split)} if self.fidelity else {})

    def _distance(self, module: nn.Module, split: str) -> float:
        total = rows = 0.0
        with evaluating(module) as device:
            for batch, taught in self._judged(split, device):
                outputs = self.task.outputs(module, batch)
                n = outputs[..., 0].numel()
                total, rows = total + n * float(FIDELITIES[self.fidelity](outputs, taught)), rows + n
        return total / rows

    def _judged(self, split: str, device: torch.device) -> Iterator[tuple[Any, Tensor]]:
        """Yield the batches of a split with the parent's outputs, which are cached if they fit in `cache_bytes`."""
        batches: Iterator[Any] = self.task.batches(split)  # type: ignore[attr-defined] # checked at first
        known = self._known.get(split, [])
        room, kept = self.cache_bytes, list[Tensor]()
        for number, batch in enumerate(batches):
            there = to_device(batch, device)
            taught = known[number] if known else self._outputs(there, device)
            room -= taught.nbytes
            if room >= 0:
                kept.append(taught)
            yield there, taught.to(device)
        if room >= 0:
            self._known[split] = kept

    def _outputs(self, batch: Any, device: torch.device) -> Tensor:
        with evaluating(self.parent.to(device)):
            return self.task.outputs(self.parent, batch)


def unprojected(name: str, own: Tensor, taught: Tensor) -> Tensor:
    """Return a network's hidden states unchanged.

    Raises:
        DistillationError: their width differs from the parent's.
    """
    if own.shape[-1] != taught.shape[-1]:
        raise DistillationError(
            f"the layer {name!r} is {own.shape[-1]} wide and its parent's {taught.shape[-1]}, and nothing maps one to "
            "the other here: train by supernets.training, which does, or compare 'gram'"
        )
    return own


def _named(project: Project | None, index: int) -> Project:
    """Return a projection with separate maps for each loss."""
    return unprojected if project is None else partial(_prefixed, project, f"{index}.")


def _prefixed(project: Project, prefix: str, name: str, own: Tensor, taught: Tensor) -> Tensor:
    return project(prefix + name, own, taught)


def _finite(value: Any) -> bool:
    """Return whether all tensors of a batch are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in leaves(value))

"""A task whose loss is what a parent says of the batches, by which whatever trains learns from the parent."""

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
"""Of the parent's outputs on validation data, a quarter of a gibibyte; where they take more they are computed anew."""


class Distilled(Around):
    """A task that a parent teaches. Data, metrics and what else there is are those of the task it is made of.

        parent = MyModel.from_pretrained(...)  # any module that takes what the task's batches hold
        losses = [Logits(temperature=2), Hidden(every("blocks.*")), Relations((every("blocks.*.attention.qkv"),))]
        run = Run(..., task=Distilled(task, parent, losses, labels=0.5, fidelity="kl"), objectives=("kl", "params"))

    Training a supernet, networks alone (a trust report's) and ``nas finetune`` learn from the parent then, with
    in-place distillation beside it or without. Losses of outputs are part of `loss`; those of layers reach what is
    trained by the training loop, and not gradient searches and importance scores, which ask for `loss` alone.

    Args:
        task: data, labels and evaluation.
        parent: it is put in evaluation mode and gets no gradient; both it and what it knows of a batch stay in memory.
        losses: of imitation, each with its weight: see `supernets.distillation.terms`.
        labels: factor of the task's own loss; 0 learns from the parent alone.
        fidelity: "kl" (of logits) or "cosine" (of embeddings) adds a metric of this name, the mean distance of a
            network's outputs to the parent's over a split, which costs a second run over it.
        cache_bytes: up to which the parent's outputs on validation data are kept.

    Raises:
        DistillationError: there is nothing to learn, a layer that the parent does not have, or a fidelity that cannot
            be.
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
        self._last: tuple[Any, Observed] | None = None  # the passes of a step see one batch
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

    # --- what it says of itself

    @property
    def name(self) -> str:
        return f"{self.task.name}, taught"

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Keys of `evaluate` that may be objectives, beside the metric and the loss."""
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
        """The task's own loss times `labels`, and what outputs alone can learn from the parent."""
        imitated = self._imitated(outputs, batch)
        return imitated if self.labels == 0 else self.labels * self.task.loss(outputs, batch) + imitated

    @property
    def losses(self) -> Any:
        """Of each example, where the task tells them; what is learnt from the parent counts alike for each."""
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
        """Whether layers learn too."""
        return bool(self._teaching)

    def taught(self, module: nn.Module, batch: Any, project: Project | None = None) -> tuple[Tensor, Tensor]:
        """A network's outputs, and what its layers are to learn, to be added to `loss`.

        Args:
            project: leads hidden states to the parent's width; None takes them as they are, so widths must agree.

        Raises:
            DistillationError: a layer is not there, does not run or gives what cannot be compared; or the parent gives
                what is no number on data that are.
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
        """By the name that `project` is told: what a layer gives, and what its parent's does, features last."""
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
        """Make sure that every layer that is named is in the largest network.

        Raises:
            DistillationError: naming one that is not.
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
        """What the parent makes of a batch; the last is kept."""
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
        """The task's metrics, and how far the outputs are from the parent's where `fidelity` asks for it."""
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
        """The batches of a split with the parent's outputs, which are kept where there is room."""
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
    """A network's hidden states as they are.

    Raises:
        DistillationError: their width is not the parent's.
    """
    if own.shape[-1] != taught.shape[-1]:
        raise DistillationError(
            f"the layer {name!r} is {own.shape[-1]} wide and its parent's {taught.shape[-1]}, and nothing maps one to "
            "the other here: train by supernets.training, which does, or compare 'gram'"
        )
    return own


def _named(project: Project | None, index: int) -> Project:
    """Layers of several losses have maps of their own."""
    return unprojected if project is None else partial(_prefixed, project, f"{index}.")


def _prefixed(project: Project, prefix: str, name: str, own: Tensor, taught: Tensor) -> Tensor:
    return project(prefix + name, own, taught)


def _finite(value: Any) -> bool:
    """Whether all tensors of a batch hold finite numbers."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in leaves(value))

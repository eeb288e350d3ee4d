"""Our ways to a smaller network of a trained model: a prefix of its units, sorted or not, and searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.pretrained.subjects import Subject
from nas.objectives.aims import Aim
from nas.records import Evaluation, SpaceRecord, SupernetRecord
from nas.searchers import SEARCHERS
from nas.stages.evaluators import CostModel, FastCosts, SubnetEvaluator, reconstructed
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from supernets import Supernet
from supernets.counting import Counts
from supernets.training import TrainingConfig, train

Size = Callable[[Architecture], float]


def opened(subject: Subject) -> Supernet:
    """Return the supernet with the parent's weights."""
    return Supernet(subject.space, subject.build, init=subject.parent, device=subject.device)


def uniforms(subject: Subject) -> list[Architecture]:
    """Return the architectures with the same share in every choice, from the smallest to the largest."""
    options = np.array([len(slot.options) - 1 for slot in subject.space.slots])
    rows = [np.round(share * options).astype(int) for share in np.linspace(0, 1, 101)]
    return list(dict.fromkeys(subject.space.decode(np.array(rows))))


def uniform(subject: Subject, size: Size, most: float) -> Architecture:
    """Return the largest uniform architecture within a size."""
    kept = [arch for arch in uniforms(subject) if size(arch) <= most] or [subject.space.smallest()]
    return max(kept, key=size)


def searched(
    subject: Subject,
    supernet: Supernet,
    searcher: str,
    cost: str,
    evaluations: int,
    folder: Path,
    name: str,
    first: Sequence[Architecture] = (),
    seed: int = 0,
) -> list[Evaluation]:
    """Return all evaluations of a search for the front of quality and a cost; a stopped search resumes."""
    repository = Repository(f"sqlite:///{folder / 'studies.db'}")
    space, weights = subject.space, supernet.digest()
    repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
    repository.add_supernet(
        SupernetRecord(weights, space.digest, name, "entangled", "", subject.task.digest, 0, {}, "")
    )
    counts = Counts(space, subject.build, subject.task.example())
    study = Study(
        name,
        space,
        SubnetEvaluator(supernet, subject.task),
        [subject.task.metric, cost],
        repository,
        searcher=SEARCHERS[searcher],
        predict=CostModel(supernet, subject.task, {}, ("params", "macs")),
        costs=FastCosts(counts, {}, [cost]),
        weights=weights,
        data=subject.task.digest,
        first=first,
        seed=seed,
    )
    study.run(evaluations)
    repository.close()
    return study.evaluations


def best(found: Sequence[Evaluation], metric: str, cost: str, most: float) -> Architecture:
    """Return the best evaluated network within a cost."""
    kept = [e for e in found if e.error is None and e.metrics[cost] <= most]
    return min(kept, key=lambda e: e.metrics[metric]).arch


def front(found: Sequence[Evaluation], metric: str, cost: str) -> list[Evaluation]:
    """Return the evaluations that no other one beats in both."""
    return Aim((metric, cost)).front(found)


def trained(subject: Subject, supernet: Supernet, folder: Path, steps: int = 150) -> Supernet:
    """Return a copy of a supernet, trained further by the sandwich rule with the task's loss; reused from `folder`."""
    copy = opened(subject)
    copy.load_state_dict(supernet.state_dict())
    config = TrainingConfig(
        steps=steps, lr=subject.lr, precision="fp32", strategy="sandwich(distil=none)", evaluate_every=0
    )
    train(copy, subject.task, config, directory=folder)
    return copy


def network(supernet: Supernet, subject: Subject, arch: Architecture, batches: int = 0) -> nn.Module:
    """Return an independent network with the supernet's weights, and layers reconstructed on `batches` batches."""
    return reconstructed(supernet, subject.task, arch, batches)

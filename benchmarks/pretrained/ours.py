"""Our ways to a smaller network of a trained model: a prefix of its units, sorted or not, and searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.pretrained.subjects import Subject
from nas.evaluators import CostModel, FastCosts, SubnetEvaluator
from nas.evaluators import network as made
from nas.records import Evaluation, SpaceRecord, SupernetRecord
from nas.searchers import SEARCHERS
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from supernets import Supernet
from supernets.counting import Counts

Size = Callable[[Architecture], float]


def opened(subject: Subject) -> Supernet:
    """The supernet with the parent's weights."""
    return Supernet(subject.space, subject.build, init=subject.parent)


def uniform(subject: Subject, size: Size, most: float) -> Architecture:
    """The largest architecture within a size, of those that take the same share of every choice."""
    space = subject.space
    found = [_share(subject, share) for share in np.linspace(0, 1, 101)]
    kept = [arch for arch in dict.fromkeys(found) if size(arch) <= most] or [space.smallest()]
    return max(kept, key=size)


def _share(subject: Subject, share: float) -> Architecture:
    space = subject.space
    codes = [round(share * (len(slot.options) - 1)) for slot in space.slots]
    return space.decode(np.array([codes]))[0]


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
    """All that a search of the whole front of quality and a cost has evaluated; one that was stopped goes on."""
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
    """The best of those evaluated within a cost."""
    kept = [e for e in found if e.error is None and e.metrics[cost] <= most]
    return min(kept, key=lambda e: e.metrics[metric]).arch


def network(supernet: Supernet, subject: Subject, arch: Architecture) -> nn.Module:
    """With the supernet's weights, independent of it."""
    return made(supernet, subject.task, arch)

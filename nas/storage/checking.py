"""Checks a whole database: its file, and the digest of every row that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from nas.errors import NasError
from nas.records import StudyRecord
from nas.storage import Repository


def problems(repository: Repository) -> Iterator[str]:
    """Yield one line per problem; none if the database is sound."""
    yield from repository.structural_problems()
    studies: list[StudyRecord] = []
    for read in (repository.spaces, repository.supernets, repository.target_versions, repository.predictors):
        yield from _failing(read)
    yield from _failing(lambda: studies.extend(repository.studies()))
    for digest in repository.trained():
        yield from _failing(partial(repository.curve, digest))
        yield from _failing(partial(repository.trust, digest))
    for target in {target for target, _ in repository.num_measurements()}:
        yield from _failing(partial(repository.measurements, target))
    yield from repository.damaged_architectures()
    for study in studies:
        yield from _failing(partial(repository.distributions, study.name))
        yield from _failing(partial(repository.verified, study.name))
        for position in repository.damaged_positions(study.name):
            yield f"evaluation {position} of study {study.name!r} (counted from 0) is not what was stored"
        yield from _gaps(repository, study)
    yield from _failing(repository.unclaimed_evaluations)


def _failing(read: Callable[[], Any]) -> Iterator[str]:
    try:
        read()
    except NasError as error:
        yield str(error).partition(": bring the database back")[0]


def _gaps(repository: Repository, study: StudyRecord) -> Iterator[str]:
    """Yield a line if positions before the last batch are missing; only the last batch may be incomplete."""
    positions = repository.positions(study.name)
    batch = int(study.settings.get("batch") or 1)
    whole = positions[-1] // batch * batch if positions else 0
    missing = sorted(set(range(whole)) - set(positions))
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        yield f"study {study.name!r} lacks {len(missing)} evaluations before its last batch, at positions {shown}"

"""From one database to another, SQLite or PostgreSQL: all of it, or one study with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from nas.records import StudyRecord
from nas.storage import Repository

_T = TypeVar("_T")
_PORTION = 2000
Told = Callable[[str, int], None]
"""Told the name of each study and how many evaluations it holds, once they are there."""


def copy(source: Repository, destination: Repository, study: str | None = None, told: Told = lambda *_: None) -> None:
    """Copies what is missing, compared with its digests on the way; a copy that was stopped may be repeated.

    Raises:
        NasError: there is no such study, the destination has another one of the name, or something is damaged.
    """
    studies = source.studies() if study is None else [source.study(study)]
    _copy_weights(source, destination, studies, everything=study is None)
    _copy_hardware(source, destination, None if study is None else studies[0])
    for record in studies:
        num = _copy_study(source, destination, record)
        told(record.name, num)
    if study is None:
        for (weights, data), evaluations in source.unclaimed_evaluations().items():
            for portion in _portions(evaluations):
                destination.add_unclaimed(portion, weights, data)


def _copy_weights(source: Repository, destination: Repository, studies: list[StudyRecord], *, everything: bool) -> None:
    """Spaces and supernets, with their curves and trust reports."""
    spaces, supernets = ({getattr(s, name) for s in studies} for name in ("space_digest", "supernet_digest"))
    wanted = [one for one in source.supernets() if everything or one.digest in supernets]
    spaces |= {supernet.space_digest for supernet in wanted}
    for space in source.spaces():
        if everything or space.digest in spaces:
            destination.add_space(space)
    for supernet in wanted:
        destination.add_supernet(supernet)
    digests = source.trained() if everything else [supernet.digest for supernet in wanted]
    for digest in digests:
        destination.add_curve(digest, source.curve(digest))
        if trust := source.trust(digest):
            destination.put_trust(digest, trust)


def _copy_hardware(source: Repository, destination: Repository, study: StudyRecord | None) -> None:
    """Targets, measurements and predictors; of one study those of the targets that it speaks of, in its space."""
    texts = [] if study is None else [*study.objectives, *study.limits, *study.settings.get("targets", {})]
    for target in reversed(source.target_versions()):
        if study is not None and not any(target.name in text for text in texts):
            continue
        destination.add_target(target)
        destination.add_measurements(source.measurements(target.name, version=target.version))
        for predictor in source.predictors(target.name):
            ours = study is None or predictor.space_digest == study.space_digest
            if ours and predictor.version == target.version:
                destination.put_predictor(predictor)


def _copy_study(source: Repository, destination: Repository, record: StudyRecord) -> int:
    with destination.driving(record.name):
        destination.create_study(record, load_if_exists=True)
        if distributions := source.distributions(record.name):
            destination.put_distributions(record.name, source.distributions_key(record.name), distributions)
        placed, contexts = source.placed_evaluations(record.name), source.contexts(record.name)
        for (weights, data), positions in contexts.items():
            for portion in _portions(positions):
                found = {position: placed[position] for position in portion}
                destination.store_evaluations(record.name, found, weights, data)
        destination.add_verified(record.name, source.verified(record.name))
        destination.set_status(record.name, record.status, record.wanted)
    return len(placed)


def _portions(items: Iterable[_T]) -> Iterator[list[_T]]:
    listed = list(items)
    yield from (listed[start : start + _PORTION] for start in range(0, len(listed), _PORTION))

"""Copies one database to another, SQLite or PostgreSQL: everything, or one study with the records it refers to."""

from __future__ import annotations

from collections.abc import Callable

from nas.storage import Repository
from nas.storage.parts import findings, portions, put_findings, put_surroundings, surroundings

Told = Callable[[str, int], None]
"""Receives the name of each copied study and its number of evaluations."""


def copy(source: Repository, destination: Repository, study: str | None = None, told: Told = lambda *_: None) -> None:
    """Copy missing records and check their digests; repeat the call to complete an interrupted copy.

    Raises:
        NasError: the study does not exist, the destination has a different study of this name, or a record is damaged.
    """
    studies = source.studies() if study is None else [source.study(study)]
    put_surroundings(destination, surroundings(source, None if study is None else studies[0]))
    for record in studies:
        found = findings(source, record)
        put_findings(destination, found)
        told(record.name, len(found))
    if study is None:
        for (weights, data), evaluations in source.unclaimed_evaluations().items():
            for portion in portions(evaluations):
                destination.add_unclaimed(portion, weights, data)

"""From one database to another, SQLite or PostgreSQL: all of it, or one study with what it needs."""

from __future__ import annotations

from collections.abc import Callable

from nas.storage import Repository
from nas.storage.parts import findings, portions, put_findings, put_surroundings, surroundings

Told = Callable[[str, int], None]
"""Told the name of each study and how many evaluations it holds, once they are there."""


def copy(source: Repository, destination: Repository, study: str | None = None, told: Told = lambda *_: None) -> None:
    """Copies what is missing, compared with its digests on the way; a copy that was stopped may be repeated.

    Raises:
        NasError: there is no such study, the destination has another one of the name, or something is damaged.
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

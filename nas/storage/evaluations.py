"""The evaluations of studies, which other studies of the same weights and data take over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from nas.errors import NasError
from nas.migrations import opening, tables
from nas.records import Evaluation
from nas.storage.architectures import Architectures
from nas.storage.database import Prepared
from nas.storage.rows import chunks, dumps, expanding
from nas.storage.studies import Studies
from search_spaces import Architecture

_arch, _e, _link = tables.architectures.c, tables.evaluations.c, tables.study_evaluations.c
_COUNT_STUDY = sa.select(sa.func.count()).where(_link.study_id == sa.bindparam("study_id"))
_SELECT_STUDY_IDS = (
    sa.select(_arch.digest, _arch.id)
    .join_from(tables.study_evaluations, tables.architectures, _arch.id == _link.architecture_id)
    .where(_link.study_id == sa.bindparam("study_id"))
)
_SELECT_CONTEXT = sa.select(tables.contexts.c.id).where(
    tables.contexts.c.weights == sa.bindparam("weights"), tables.contexts.c.data == sa.bindparam("data")
)
_CONTENT = (_e.metrics, _e.error, _e.seconds, _e.worker)
_SELECT_ATTEMPTS = (
    sa.select(_arch.digest, _arch.id, _e.attempt, *_CONTENT)
    .join_from(
        tables.architectures,
        tables.evaluations,
        (_e.architecture_id == _arch.id) & (_e.context_id == sa.bindparam("context_id")),
        isouter=True,
    )
    .where(expanding(_arch.digest))
    .order_by(_arch.id, _e.attempt)
)
_SELECT_VERIFIED = (
    sa.select(_arch.digest, tables.verified.c.metrics)
    .join_from(tables.verified, tables.architectures)
    .where(tables.verified.c.study_id == sa.bindparam("study_id"))
    .order_by(_arch.digest)
)
_SELECT_STUDY = (
    sa.select(_arch.json, _arch.digest, *_CONTENT)
    .join_from(tables.study_evaluations, tables.evaluations)
    .join(tables.architectures, _arch.id == _link.architecture_id)
    .where(_link.study_id == sa.bindparam("study_id"), _link.position >= sa.bindparam("start"))
    .order_by(_link.position)
)
_SELECT_KNOWN = (
    sa.select(_arch.digest, _arch.json, *_CONTENT)
    .join_from(tables.evaluations, tables.contexts)
    .join(tables.architectures, _arch.id == _e.architecture_id)
    .where(
        tables.contexts.c.weights == sa.bindparam("weights"),
        tables.contexts.c.data == sa.bindparam("data"),
        expanding(_arch.digest),
        _e.error.is_(None),
    )
    .order_by(_e.architecture_id, _e.attempt)
)
_m = tables.measurements.c


class Evaluations(Architectures, Studies):
    """Evaluations of studies and what their networks showed themselves."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        dialect = self._engine.dialect
        self._context_ids: dict[tuple[str, str], int] = {}
        self._new_context = self._insert_new(tables.contexts, "weights", "data")  # built once: they are on the hot path
        self._add_evaluations = Prepared(sa.insert(tables.evaluations), tables.evaluations.columns.keys(), dialect)
        self._add_links = Prepared(
            sa.insert(tables.study_evaluations), tables.study_evaluations.columns.keys(), dialect
        )

    def append_evaluations(
        self, study_name: str, evaluations: Sequence[Evaluation], weights: str, data: str, *, start: int | None = None
    ) -> None:
        """Appends a batch to a study in one transaction: either all of it is stored or nothing.

        Args:
            weights: Digest of the weights that were evaluated.
            data: Digest of the data and the settings of the evaluation.
            start: The position of the batch in the study, that is, how many evaluations the caller has seen. Left out,
                it is where this repository's last `append_evaluations` to or `evaluations` of the study ended, and for
                a study it has not touched yet, the study's end.

        Raises:
            NasError: The study is unknown, another driver has taken the position, or the study already holds one of
                the architectures.
        """
        if not evaluations:
            return
        by_digest = _by_digest(study_name, evaluations)
        with opening.one_line_errors(self._url):
            try:
                with self._begin_write() as connection:
                    study_id, position = self._position(connection, study_name, start)
                    context_id = self._context_id(connection, weights, data)
                    links = self._insert_evaluations(connection, context_id, by_digest)
                    for offset, link in enumerate(links):
                        link["study_id"], link["position"] = study_id, position + offset
                    self._add_links(connection, links)
            except exc.IntegrityError as error:
                raise NasError(self._conflict(study_name, by_digest, start)) from error
        self._next[study_name] = (study_id, position + len(links))
        self._context_ids[weights, data] = context_id

    def evaluations(self, study_name: str, *, start: int = 0) -> list[Evaluation]:
        """The evaluations of a study in order of position, from `start` on; NasError if there is no such study."""
        with self._reading() as connection:
            study_id = self._study_id(connection, study_name)
            rows = connection.execute(_SELECT_STUDY, {"study_id": study_id, "start": start}).all()
        if rows or start == 0:
            self._next[study_name] = (study_id, start + len(rows))
        metrics = json.loads(f"[{','.join(row.metrics for row in rows)}]")  # at once, which is faster
        return [_evaluation(row.json, row.digest, found, *row[3:]) for row, found in zip(rows, metrics, strict=True)]

    def num_evaluations(self) -> dict[str, int]:
        """How many evaluations each study holds, without reading them."""
        counts = sa.select(tables.studies.c.name, sa.func.count(tables.study_evaluations.c.position)).join_from(
            tables.studies, tables.study_evaluations, isouter=True
        )
        with self._reading() as connection:
            rows = connection.execute(
                counts.group_by(tables.studies.c.id, tables.studies.c.name).order_by(tables.studies.c.id)
            ).all()
        return {name: count for name, count in rows}

    def known_evaluations(self, weights: str, data: str, digests: Iterable[str]) -> dict[str, Evaluation]:
        """What any study has found about these architectures, by digest; those not evaluated are absent.

        Where studies measured different metrics, they are merged, the first value of each. Failures are left out: the
        next study may have more luck.
        """
        found: dict[str, Evaluation] = {}
        with self._reading() as connection:
            for chunk in chunks(digests):
                parameters = {"weights": weights, "data": data, "digests": chunk}
                for digest, arch, metrics, *rest in connection.execute(_SELECT_KNOWN, parameters):
                    evaluation = _evaluation(arch, digest, json.loads(metrics), *rest)
                    found[digest] = _merged(found[digest], evaluation) if digest in found else evaluation
        return found

    def add_verified(self, study_name: str, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Stores what the networks of a study's architectures, by digest, showed themselves; new figures replace old.

        Raises:
            NasError: The study is unknown, or holds no evaluation of an architecture.
        """
        with self._writing() as connection:
            study_id = self._study_id(connection, study_name)
            ids = {digest: key for digest, key in connection.execute(_SELECT_STUDY_IDS, {"study_id": study_id})}
            if missing := [digest for digest in metrics if digest not in ids]:
                raise NasError(f"architecture {missing[0]} is not in study {study_name!r}; evaluate it first")
            rows = [
                {"study_id": study_id, "architecture_id": ids[digest], "metrics": dumps("metrics", dict(found))}
                for digest, found in sorted(metrics.items())
            ]
            if rows:
                connection.execute(self._insert_or_update(tables.verified), rows)

    def verified(self, study_name: str) -> dict[str, dict[str, float]]:
        """What the networks of a study's architectures showed themselves, by digest."""
        with self._reading() as connection:
            rows = connection.execute(_SELECT_VERIFIED, {"study_id": self._study_id(connection, study_name)}).all()
        return {digest: json.loads(metrics) for digest, metrics in rows}

    def _position(self, connection: sa.Connection, name: str, start: int | None) -> tuple[int, int]:
        """The study's id and the position to write next."""
        if name in self._next and start in (None, self._next[name][1]):
            return self._next[name]
        study_id = self._study_id(connection, name)
        count = connection.execute(_COUNT_STUDY, {"study_id": study_id}).scalar_one()
        if start is not None and start > count:
            raise NasError(
                f"study {name!r} holds {count} evaluations, so none can be stored at position {start}; read it again"
            )
        return study_id, count if start is None else start

    def _context_id(self, connection: sa.Connection, weights: str, data: str) -> int:
        if (weights, data) in self._context_ids:
            return self._context_ids[weights, data]
        key = {"weights": weights, "data": data}
        connection.execute(self._new_context, [key])
        context_id: int = connection.execute(_SELECT_CONTEXT, key).scalar_one()
        return context_id

    def _insert_evaluations(
        self, connection: sa.Connection, context_id: int, evaluations: Mapping[str, Evaluation]
    ) -> list[dict[str, Any]]:
        """Stores what is new of a batch, given by digest; returns the key of each evaluation, in order."""
        if connection.dialect.name == "postgresql":  # writers of one context take turns, as all writers of SQLite do
            context = sa.select(tables.contexts.c.id).where(tables.contexts.c.id == context_id)
            connection.execute(context.with_for_update())
        self._insert_architectures(connection, {digest: e.arch.json() for digest, e in evaluations.items()})
        ids, stored = _attempts(connection, context_id, evaluations)
        links, new = [], []
        for digest, evaluation in evaluations.items():
            content = (json.dumps(evaluation.metrics), evaluation.error, evaluation.seconds, evaluation.worker)
            attempts = stored.get(digest, [])
            attempt = attempts.index(content) if content in attempts else len(attempts)
            link = {"context_id": context_id, "architecture_id": ids[digest], "attempt": attempt}
            links.append(link)
            if attempt == len(attempts):
                new.append(link | dict(zip(_CONTENT_NAMES, content, strict=True)))
        if new:
            self._add_evaluations(connection, new)
        return links

    def _conflict(self, name: str, digests: Iterable[str], start: int | None) -> str:
        """Why a batch was refused: the study is another, another driver writes to it, or it has the architecture."""
        with self._reading() as connection:
            study_id = self._study_id(connection, name)
            held = connection.execute(_SELECT_STUDY_IDS, {"study_id": study_id}).scalars().all()
        known_id, position = self._next.get(name, (study_id, len(held)))
        position = position if start is None else start
        if known_id != study_id:
            return f"study {name!r} was deleted and created again; read it again before writing to it"
        if position < len(held):
            taken = f"position {position} of study {name!r} is taken, it holds {len(held)} evaluations"
            return f"{taken}; another driver writes to this study: stop one of the two, then resume"
        both = ", ".join(sorted(set(digests).intersection(held)))
        return f"study {name!r} already holds architecture {both}; a study evaluates each architecture once: drop it"


_CONTENT_NAMES = tuple(column.name for column in _CONTENT)


def _by_digest(study_name: str, evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
    """The batch by digest of its architectures, in order; NasError if one is there twice."""
    by_digest: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        digest = evaluation.arch.digest
        if digest in by_digest:
            raise NasError(f"architecture {digest} is twice in one batch for study {study_name!r}; drop the second one")
        by_digest[digest] = evaluation
    return by_digest


def _attempts(
    connection: sa.Connection, context_id: int, digests: Iterable[str]
) -> tuple[dict[str, int], dict[str, list[tuple[Any, ...]]]]:
    """By digest, the id of each architecture and what its earlier attempts in this context found."""
    ids: dict[str, int] = {}
    stored: dict[str, list[tuple[Any, ...]]] = {}
    for chunk in chunks(digests):
        parameters = {"context_id": context_id, "digests": chunk}
        for digest, arch_id, attempt, *content in connection.execute(_SELECT_ATTEMPTS, parameters):
            ids[digest] = arch_id
            if attempt is not None:
                stored.setdefault(digest, []).append(tuple(content))
    return ids, stored


def _evaluation(
    arch: str, digest: str, metrics: dict[str, float], error: str | None, seconds: float, worker: str
) -> Evaluation:
    return Evaluation(Architecture.stored(arch, digest), metrics, error, seconds, worker)


def _merged(first: Evaluation, later: Evaluation) -> Evaluation:
    return Evaluation(first.arch, later.metrics | first.metrics, None, first.seconds, first.worker)

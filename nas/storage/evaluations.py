"""Stores the evaluations of studies; other studies with the same weights and data reuse them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from nas.columns import Columns
from nas.errors import NasError
from nas.migrations import opening, tables
from nas.records import Evaluation, Life
from nas.storage.architectures import Architectures
from nas.storage.database import Prepared
from nas.storage.evaluation_rows import (
    CONTENT,
    SELECTED,
    Names,
    Row,
    as_columns,
    content,
    evaluation_of,
    is_sound,
    names_of,
)
from nas.storage.lives import Lives, life_of
from nas.storage.patience import patient
from nas.storage.rows import chunks, dumps, expanding
from nas.storage.sealed import damaged, evaluation_digest, loads, text_digest
from search_spaces import Architecture

_arch, _e, _link = tables.architectures.c, tables.evaluations.c, tables.study_evaluations.c
_set = tables.metric_sets.c
_END_OF_STUDY = sa.select(sa.func.coalesce(sa.func.max(_link.position) + 1, 0)).where(
    _link.study_id == sa.bindparam("study_id")
)
_SELECT_STUDY_IDS = (
    sa.select(_arch.digest, _arch.id)
    .join_from(tables.study_evaluations, tables.architectures, _arch.id == _link.architecture_id)
    .where(_link.study_id == sa.bindparam("study_id"))
)
_SELECT_CONTEXT = sa.select(tables.contexts.c.id).where(
    tables.contexts.c.weights == sa.bindparam("weights"), tables.contexts.c.data == sa.bindparam("data")
)
_SELECT_ATTEMPTS = (
    sa.select(*SELECTED, _arch.id)
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
    sa.select(_arch.digest, tables.verified.c.metrics, tables.verified.c.digest)
    .join_from(tables.verified, tables.architectures)
    .where(tables.verified.c.study_id == sa.bindparam("study_id"))
    .order_by(_arch.digest)
)
_SEALED, _POSITION, _LINKED = range(len(SELECTED) - 1, len(SELECTED) + 2)
# Outer joins: a broken reference gives a row of NULLs, which `is_sound` rejects, instead of no row.
SELECT_STUDY = (
    sa.select(*SELECTED, _link.position, _link.digest)
    .join_from(tables.study_evaluations, tables.evaluations, isouter=True)
    .join(tables.architectures, _arch.id == _link.architecture_id, isouter=True)
    .where(_link.study_id == sa.bindparam("study_id"))
    .order_by(_link.position)
)
_SELECT_KNOWN = (
    sa.select(*SELECTED, _arch.json)
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


def is_linked(row: Row) -> bool:
    """Return whether a row of `SELECT_STUDY` is the evaluation that the study used."""
    return bool(row[_LINKED] == row[_SEALED])


class Evaluations(Architectures, Lives):
    """Stores evaluations of studies, and the metrics measured on the networks themselves."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        dialect = self._engine.dialect
        self._context_ids: dict[tuple[str, str], int] = {}
        self._metric_set_ids: dict[str, int] = {}
        self._new_metric_set = self._insert_new(tables.metric_sets, "digest")
        self._new_context = self._insert_new(tables.contexts, "weights", "data")  # built once, for speed
        self._add_evaluations = Prepared(sa.insert(tables.evaluations), tables.evaluations.columns.keys(), dialect)
        given = [column.name for column in tables.study_evaluations.columns if column.name != "stored"]
        self._add_links = Prepared(self._linking(), given, dialect)

    @patient
    def store_evaluations(
        self,
        study_name: str,
        evaluations: Mapping[int, Evaluation],
        weights: str,
        data: str,
        lives: Mapping[int, Life] | None = None,
    ) -> None:
        """Store evaluations at their positions in a study, in one transaction.

        Positions may come in any order. Equal evaluations that are already stored stay unchanged, so a caller may
        repeat the call after a commit whose outcome is unknown.

        Args:
            weights: digest of the evaluated weights.
            data: digest of the data and the settings of the evaluation.
            lives: origins and times by position. The database sets the time of an evaluation that has no life or a life
                without a time, except for `Life()`: its time and origin stay unknown.

        Raises:
            NasError: the study is unknown, another process drives it, a position holds a different evaluation, or the
                study holds one of the architectures at another position.
        """
        if evaluations:
            _refuse_twice(study_name, evaluations.values())
            with opening.one_line_errors(self._url):
                self._store(study_name, evaluations, weights, data, lives or {})

    def append_evaluations(self, study_name: str, evaluations: Sequence[Evaluation], weights: str, data: str) -> None:
        """Store evaluations at the end of a study: see `store_evaluations`."""
        if evaluations:
            end = self._end_of_study(study_name)
            self.store_evaluations(study_name, dict(enumerate(evaluations, start=end)), weights, data)

    def evaluations(self, study_name: str) -> list[Evaluation]:
        """Return the evaluations of a study in order of position.

        Raises:
            NasError: the study does not exist.
            DamageError: an evaluation does not match its digest.
        """
        return list(self.placed_evaluations(study_name).values())

    @patient
    def placed_evaluations(self, study_name: str) -> dict[int, Evaluation]:
        """Return the evaluations of a study by position, ascending; unfinished evaluations leave gaps.

        Raises:
            NasError: the study does not exist.
            DamageError: an evaluation does not match its digest.
        """
        with self._reading() as connection:
            rows, names = self._study_rows(connection, study_name, _arch.json)
        return {row[_POSITION]: evaluation_of(row, self._architecture(row[0], row[-1]), names) for row in rows}

    @patient
    def columns(self, study_name: str) -> Columns:
        """Return the evaluations of a study as columns, in a tenth of the time that records take.

        Raises:
            NasError: the study does not exist.
            DamageError: an evaluation does not match its digest.
        """
        with self._reading() as connection:
            rows, names = self._study_rows(connection, study_name)
        return as_columns(rows, [row[_POSITION] for row in rows], names)

    @patient
    def architectures(self, digests: Iterable[str]) -> dict[str, Architecture]:
        """Return the stored architectures among these digests, by digest.

        Raises:
            DamageError: an architecture does not match its digest.
        """
        with self._reading() as connection:
            return self._read_architectures(connection, digests)

    def _study_rows(
        self, connection: sa.Connection, name: str, *further: sa.Column[Any]
    ) -> tuple[Sequence[sa.Row[Any]], Names]:
        """Return the rows of `SELECT_STUDY`, checked against their digests, and the names of metrics."""
        study_id = self._study_id(connection, name)
        rows = self._fetch(connection, SELECT_STUDY.add_columns(*further), {"study_id": study_id})
        names = self._metric_names(connection)
        self._study_ids[name] = study_id
        for row in rows:
            if not is_sound(row, names) or not is_linked(row):
                raise damaged(f"evaluation {row[_POSITION]} of study {name!r} (counted from 0)", self.url)
        return rows, names

    def _metric_names(self, connection: sa.Connection) -> Names:
        """Return the names of metrics by the id of their set."""
        found = {}
        for key, digest, text in connection.execute(sa.select(_set.id, _set.digest, _set.names)):
            if text_digest(text) != digest:
                raise damaged(f"set {key} of the names of metrics", self.url)
            found[key] = tuple(loads(text, list, f"set {key} of the names of metrics", self.url))
        return found

    @patient
    def num_evaluations(self) -> dict[str, int]:
        """Return the number of evaluations of each study, without reading them."""
        counts = sa.select(tables.studies.c.name, sa.func.count(tables.study_evaluations.c.position)).join_from(
            tables.studies, tables.study_evaluations, isouter=True
        )
        with self._reading() as connection:
            rows = connection.execute(
                counts.group_by(tables.studies.c.id, tables.studies.c.name).order_by(tables.studies.c.id)
            ).all()
        return {name: count for name, count in rows}

    @patient
    def known_evaluations(self, weights: str, data: str, digests: Iterable[str]) -> dict[str, Evaluation]:
        """Return the evaluations of these architectures from any study, by digest; unevaluated ones are absent.

        Merges evaluations with different metrics and keeps the first value of each. Omits failures, since a retry may
        succeed.
        """
        found: dict[str, Evaluation] = {}
        with self._reading() as connection:
            names = self._metric_names(connection)
            for chunk in chunks(digests):
                parameters = {"weights": weights, "data": data, "digests": chunk}
                for row in connection.execute(_SELECT_KNOWN, parameters):
                    digest = row[0]
                    if not is_sound(row, names):
                        raise damaged(f"an evaluation of architecture {digest}", self.url)
                    evaluation = evaluation_of(row, self._architecture(digest, row[-1]), names)
                    found[digest] = _merged(found[digest], evaluation) if digest in found else evaluation
        return found

    @patient
    def add_verified(self, study_name: str, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Store metrics measured on the networks of a study, by digest; new figures replace old ones.

        Raises:
            NasError: the study is unknown, another process drives it, or it has no evaluation of an architecture.
        """
        with self._writing() as connection:
            self._check_lease(connection, study_name)
            study_id = self._study_id(connection, study_name)
            ids = {digest: key for digest, key in connection.execute(_SELECT_STUDY_IDS, {"study_id": study_id})}
            if missing := [digest for digest in metrics if digest not in ids]:
                raise NasError(f"architecture {missing[0]} is not in study {study_name!r}; evaluate it first")
            texts = {digest: dumps("metrics", dict(found)) for digest, found in sorted(metrics.items())}
            rows = [
                {
                    "study_id": study_id,
                    "architecture_id": ids[digest],
                    "metrics": text,
                    "digest": text_digest(f"{digest} {text}"),
                }
                for digest, text in texts.items()
            ]
            if rows:
                connection.execute(self._insert_or_update(tables.verified), rows)

    @patient
    def verified(self, study_name: str) -> dict[str, dict[str, float]]:
        """Return the metrics measured on the networks of a study, by digest.

        Raises:
            NasError: the study does not exist.
            DamageError: a row does not match its digest.
        """
        with self._reading() as connection:
            rows = connection.execute(_SELECT_VERIFIED, {"study_id": self._study_id(connection, study_name)}).all()
        found = {}
        for digest, text, sealed in rows:
            what = f"what architecture {digest} of study {study_name!r} showed itself"
            if text_digest(f"{digest} {text}") != sealed:
                raise damaged(what, self.url)
            found[digest] = loads(text, dict, what, self.url)
        return found

    def _store(
        self,
        name: str,
        evaluations: Mapping[int, Evaluation],
        weights: str,
        data: str,
        lives: Mapping[int, Life],
        *,
        in_turn: bool = False,
    ) -> None:
        try:
            with self._begin_write() as connection:
                self._check_lease(connection, name)
                study_id = self._known_study_id(connection, name)
                context_id = self._context_id(connection, weights, data)
                links = self._insert_evaluations(connection, context_id, list(evaluations.values()), in_turn)
                for position, link in zip(evaluations, links, strict=True):
                    link |= {"study_id": study_id, "position": position, **life_of(lives.get(position))}
                self._add_links(connection, links)
        except exc.IntegrityError as error:
            held = self._held(name)
            if conflict := _conflict(name, held, evaluations):
                raise NasError(conflict) from error
            new = {position: one for position, one in evaluations.items() if position not in held}
            if in_turn and len(new) == len(evaluations):  # the conflict is not about a position
                raise
            if new:
                self._store(name, new, weights, data, lives, in_turn=True)
        else:
            self._study_ids[name] = study_id
            self._context_ids[weights, data] = context_id

    @patient
    def _end_of_study(self, name: str) -> int:
        with self._reading() as connection:
            study_id = self._known_study_id(connection, name)
            end: int = connection.execute(_END_OF_STUDY, {"study_id": study_id}).scalar_one()
        return end

    def _known_study_id(self, connection: sa.Connection, name: str) -> int:
        """Return the id that this repository first saw: a deleted and recreated study is a different one."""
        return self._study_ids.get(name) or self._study_id(connection, name)

    def _context_id(self, connection: sa.Connection, weights: str, data: str) -> int:
        if (weights, data) in self._context_ids:
            return self._context_ids[weights, data]
        key = {"weights": weights, "data": data}
        connection.execute(self._new_context, [key])
        context_id: int = connection.execute(_SELECT_CONTEXT, key).scalar_one()
        return context_id

    def _insert_evaluations(
        self, connection: sa.Connection, context_id: int, evaluations: Sequence[Evaluation], in_turn: bool
    ) -> list[dict[str, Any]]:
        """Store new evaluations; return the key of each evaluation, in order.

        Args:
            in_turn: whether writers of one context take turns, as writers of SQLite always do. Otherwise two writers
                may give concurrent results of one architecture the same attempt number, and one gets an
                IntegrityError.
        """
        if in_turn and connection.dialect.name == "postgresql":
            context = sa.select(tables.contexts.c.id).where(tables.contexts.c.id == context_id)
            connection.execute(context.with_for_update())
        self._insert_architectures(connection, {e.arch.digest: e.arch.json() for e in evaluations})
        ids, stored = _attempts(connection, context_id, [e.arch.digest for e in evaluations])
        links, new = [], []
        for evaluation in evaluations:
            digest = evaluation.arch.digest
            found = content(evaluation, self._metric_set_id(connection, names_of(evaluation)))
            attempts = stored.get(digest, [])
            attempt = attempts.index(found) if found in attempts else len(attempts)
            key: dict[str, Any] = {"context_id": context_id, "architecture_id": ids[digest], "attempt": attempt}
            key |= {"digest": evaluation_digest(digest, context_id, attempt, *found)}
            links.append(key)
            if attempt == len(attempts):
                new.append(key | dict(zip(CONTENT, found, strict=True)))
        if new:  # the same order for all writers prevents deadlocks
            self._add_evaluations(connection, sorted(new, key=itemgetter("architecture_id")))
        return links

    def _metric_set_id(self, connection: sa.Connection, names: str) -> int:
        if names not in self._metric_set_ids:
            digest = text_digest(names)
            connection.execute(self._new_metric_set, [{"digest": digest, "names": names}])
            query = sa.select(_set.id).where(_set.digest == digest)
            self._metric_set_ids[names] = connection.execute(query).scalar_one()
        return self._metric_set_ids[names]

    def _held(self, name: str) -> dict[int, Evaluation]:
        """Return the evaluations of a study by position.

        Raises:
            NasError: the study was deleted and created again since this repository first saw it.
        """
        with self._reading() as connection:
            study_id = self._study_id(connection, name)
        if self._study_ids.get(name, study_id) != study_id:
            raise NasError(f"study {name!r} was deleted and created again; read it again before writing to it")
        return self.placed_evaluations(name)


def _conflict(name: str, held: Mapping[int, Evaluation], evaluations: Mapping[int, Evaluation]) -> str:
    """Return why the held evaluations of a study exclude new ones; empty if they do not."""
    for position, evaluation in evaluations.items():
        if position in held and held[position] != evaluation:
            taken = f"position {position} of study {name!r} is taken, it holds {len(held)} evaluations"
            return f"{taken}; another driver writes to this study: stop one of the two, then resume"
    there = {evaluation.arch.digest for evaluation in held.values()}
    digests = {evaluation.arch.digest for position, evaluation in evaluations.items() if position not in held}
    if both := ", ".join(sorted(digests & there)):
        return f"study {name!r} already holds architecture {both}; a study evaluates each architecture once: drop it"
    return ""


def _refuse_twice(study_name: str, evaluations: Iterable[Evaluation]) -> None:
    seen: set[str] = set()
    for evaluation in evaluations:
        digest = evaluation.arch.digest
        if digest in seen:
            raise NasError(f"architecture {digest} is twice in one batch for study {study_name!r}; drop the second one")
        seen.add(digest)


def _attempts(
    connection: sa.Connection, context_id: int, digests: Iterable[str]
) -> tuple[dict[str, int], dict[str, list[tuple[Any, ...]]]]:
    """Return, by digest, the id of each architecture and the results of its earlier attempts in this context."""
    ids: dict[str, int] = {}
    stored: dict[str, list[tuple[Any, ...]]] = {}
    for chunk in chunks(digests):
        parameters = {"context_id": context_id, "digests": chunk}
        for digest, _, attempt, *found, _, arch_id in connection.execute(_SELECT_ATTEMPTS, parameters):
            ids[digest] = arch_id
            if attempt is not None:
                stored.setdefault(digest, []).append(tuple(found))
    return ids, stored


def _merged(first: Evaluation, later: Evaluation) -> Evaluation:
    return Evaluation(first.arch, later.metrics | first.metrics, None, first.seconds, first.worker)

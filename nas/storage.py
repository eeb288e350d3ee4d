"""The database of results, the only truth a study resumes from: frozen records in, frozen records out.

One class, `Repository`, on SQLite (`sqlite:///nas.db`) or PostgreSQL (`postgresql+psycopg://user@host/database`).
Tables and rows stay private to this file and `nas/migrations`.

Durability. A batch of evaluations is one transaction: all of it is there or none. SQLite runs in write-ahead mode with
`synchronous=NORMAL`: what is committed survives the death of the process, however sudden, and a power cut never damages
the file but may take back the last commits (https://www.sqlite.org/pragma.html#pragma_synchronous). A lost batch is
evaluated again on resuming, hence the default; `synchronous="FULL"` waits for the disk at every commit instead.

What a study was told never changes. An evaluation is keyed by (weights, architecture, data), and a second, different
one of the same key (a retry after a failure, further metrics) is kept beside the first as another attempt. Each study
points at the attempt it saw; `known_evaluations` merges the attempts for other studies.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from nas.errors import NasError
from nas.migrations import opening, tables
from nas.records import (
    CurvePoint,
    Distribution,
    Evaluation,
    Measurement,
    PredictorRecord,
    SpaceRecord,
    StudyRecord,
    SupernetRecord,
    TargetRecord,
    Trust,
)
from search_spaces import Architecture

_T = TypeVar("_T")

DEFAULT_URL = "sqlite:///nas.db"

_CHUNK = 500  # digests a query: below every database's limit on parameters, above where more would be faster


class Repository:
    """Reads and writes all that is known of spaces, supernets, studies, hardware targets and latency predictors.

    Args:
        url: An SQLAlchemy URL. `sqlite://` is a database in memory, for one thread.
        read_only: Open what exists and never write, for readers beside a running study.
        synchronous: When SQLite waits for the disk; see the head of this file. PostgreSQL has its own settings.

    A missing database is created. Writers of different processes take turns, waiting up to 30 seconds for one another.

    Raises:
        NasError: The database cannot be opened or is of another version than this package.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        read_only: bool = False,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise NasError(f"synchronous is {synchronous!r}; it is 'NORMAL' or 'FULL'")
        self._url = opening.parsed(url)
        self.url = opening.shown(self._url)
        self.read_only = read_only
        self._next: dict[str, tuple[int, int]] = {}  # study name -> (its id, the position this driver writes next)
        self._context_ids: dict[tuple[str, str], int] = {}
        self._engine = opening.engine(self._url, read_only=read_only, synchronous=synchronous)
        self._inserter = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        self._new_context = self._insert_new(tables.contexts, "weights", "data")  # built once: they are on the hot path
        dialect = self._engine.dialect
        self._add_architectures = _Prepared(
            self._insert_new(tables.architectures, "digest"), ("digest", "json"), dialect
        )
        self._add_evaluations = _Prepared(sa.insert(tables.evaluations), tables.evaluations.columns.keys(), dialect)
        self._add_links = _Prepared(
            sa.insert(tables.study_evaluations), tables.study_evaluations.columns.keys(), dialect
        )
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives all connections back; the repository opens new ones if it is used again."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Repository({self.url!r})"

    # --- versions

    def version(self) -> str:
        """The version of the database, which is also this package's."""
        with self._reading() as connection:
            return opening.stored_version(connection) or ""

    @staticmethod
    def upgrade(url: str = DEFAULT_URL) -> tuple[str | None, str]:
        """Brings a database to this package's version, in one transaction; returns the versions before and after.

        A missing or empty database is created; one that is already at this version is left as it is.

        Raises:
            NasError: The database cannot be opened, or a newer version of this package wrote it.
        """
        return opening.upgrade(opening.parsed(url))

    def _open(self) -> None:
        with self._reading() as connection:
            version = opening.stored_version(connection)
        if version is None and self.read_only:
            raise NasError(f"{self.url} holds no results; start a study on it first, or correct the URL")
        if version is None:
            with self._writing() as connection:
                version = opening.create(connection, self._url)
        opening.check_version(self._url, version)

    # --- spaces, supernets

    def add_space(self, space: SpaceRecord) -> None:
        """Adds a space; one of the same digest is the same space and stays."""
        row = {
            "digest": space.digest,
            "name": space.name,
            "declaration": _dumps("declaration", space.declaration, sort_keys=False),
        }
        with self._writing() as connection:
            connection.execute(self._insert_new(tables.spaces), [row])

    def spaces(self) -> list[SpaceRecord]:
        """All spaces, by name."""
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(tables.spaces).order_by(tables.spaces.c.name, tables.spaces.c.digest)
            ).all()
        return [SpaceRecord(row.digest, row.name, json.loads(row.declaration)) for row in rows]

    def add_supernet(self, supernet: SupernetRecord) -> None:
        """Adds trained weights; for known ones the rest of the record is brought up to date (the file has moved)."""
        row = _row(supernet) | {"settings": _dumps("settings", supernet.settings)}
        remedy = f"space {supernet.space_digest!r} is not in {self.url}; call add_space first"
        with self._writing(remedy) as connection:
            connection.execute(self._insert_or_update(tables.supernets), [row])

    def supernets(self) -> list[SupernetRecord]:
        """All supernets, oldest first."""
        with self._reading() as connection:
            query = sa.select(tables.supernets).order_by(tables.supernets.c.created, tables.supernets.c.digest)
            rows = connection.execute(query).mappings().all()
        return [SupernetRecord(**{**row, "settings": json.loads(row["settings"])}) for row in rows]

    def supernet(self, digest: str) -> SupernetRecord:
        """The supernet of these weights; NasError naming those there are."""
        known = {supernet.digest: supernet for supernet in self.supernets()}
        return _named(known, digest, "supernet", self.url)

    # --- studies

    def create_study(self, study: StudyRecord, *, load_if_exists: bool = False) -> StudyRecord:
        """Adds a study and returns it as stored.

        With `load_if_exists`, a study of this name is returned as it is stored, provided that it is the same search:
        all but `created`, `run_file` and `status` must agree.

        Raises:
            NasError: The name is taken (by a different search), or the space or the supernet is unknown.
        """
        row = _study_row(study)
        remedy = (
            f"space {study.space_digest!r} or supernet {study.supernet_digest!r} is not in {self.url}; "
            "call add_space and add_supernet first"
        )
        with self._writing(remedy) as connection:
            insert = self._insert_new(tables.studies, "name").inline().execution_options(preserve_rowcount=True)
            created = connection.execute(insert, row).rowcount
            query = sa.select(tables.studies).where(tables.studies.c.name == study.name)
            stored = dict(connection.execute(query).mappings().one())
        if created:
            return _study(stored)
        if not load_if_exists:
            remedy = "resume it with load_if_exists=True or take another name"
            raise NasError(f"study {study.name!r} is already in {self.url}; {remedy}")
        _refuse_other_search(study.name, stored, row)
        return _study(stored)

    def studies(self) -> list[StudyRecord]:
        """All studies in the order of their creation."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(tables.studies).order_by(tables.studies.c.id)).mappings().all()
        return [_study(dict(row)) for row in rows]

    def study(self, name: str) -> StudyRecord:
        """The study of this name; NasError naming those there are."""
        return _named({study.name: study for study in self.studies()}, name, "study", self.url)

    def set_status(self, name: str, status: str) -> None:
        """Says what has become of a study, for instance "running", "finished" or "failed"."""
        with self._writing() as connection:
            update = sa.update(tables.studies).where(tables.studies.c.name == name).values(status=status)
            found = connection.execute(update).rowcount
        if not found:
            self.study(name)  # raises the error that lists what there is

    def delete_study(self, name: str) -> None:
        """Removes a study and its distributions; its evaluations stay known to other studies."""
        with self._writing() as connection:
            found = connection.execute(sa.delete(tables.studies).where(tables.studies.c.name == name)).rowcount
            if found:
                connection.execute(sa.delete(tables.distributions).where(tables.distributions.c.study == name))
        self._next.pop(name, None)
        if not found:
            self.study(name)

    # --- evaluations

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
            for chunk in _chunks(digests):
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
                {"study_id": study_id, "architecture_id": ids[digest], "metrics": _dumps("metrics", dict(found))}
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

    def _study_id(self, connection: sa.Connection, name: str) -> int:
        study_id: int | None = connection.execute(_SELECT_STUDY_ID, {"name": name}).scalar()
        if study_id is None:
            names = connection.execute(sa.select(tables.studies.c.name).order_by(tables.studies.c.id)).scalars().all()
            _named(dict.fromkeys(names), name, "study", self.url)
        assert study_id is not None
        return study_id

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

    def _insert_architectures(self, connection: sa.Connection, texts: Mapping[str, str]) -> None:
        # In sorted order: two writers of the same architectures then wait for one another, never in a circle.
        self._add_architectures(connection, [{"digest": digest, "json": texts[digest]} for digest in sorted(texts)])

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

    # --- targets, measurements, predictors

    def add_target(self, target: TargetRecord) -> None:
        """Says what machine a name stands for now; its earlier versions stay, with what was measured on them."""
        texts = {name: _dumps(name, getattr(target, name)) for name in ("settings", "description")}
        newest = sa.select(sa.func.coalesce(sa.func.max(tables.targets.c.position), 0) + 1)
        with self._writing() as connection:
            row = {"name": target.name, "version": target.version, "kind": target.kind, **texts}
            row["position"] = connection.execute(newest).scalar_one()
            connection.execute(self._insert_or_update(tables.targets), [row])

    def targets(self) -> list[TargetRecord]:
        """All hardware targets as they are now, by name."""
        newest = {target.name: target for target in reversed(self.target_versions())}
        return [newest[name] for name in sorted(newest)]

    def target(self, name: str) -> TargetRecord:
        """The target of this name as it is now; NasError naming those there are."""
        return _named({target.name: target for target in self.targets()}, name, "target", self.url)

    def target_versions(self) -> list[TargetRecord]:
        """All versions of all targets, the newest first."""
        query = sa.select(tables.targets).order_by(tables.targets.c.position.desc(), tables.targets.c.version)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [TargetRecord(r.name, r.kind, json.loads(r.description), json.loads(r.settings)) for r in rows]

    def add_measurements(self, measurements: Sequence[Measurement]) -> None:
        """Stores a batch in one transaction; a network measured again on the same version keeps the new figures."""
        newest = {(m.target, m.version, m.arch_digest, m.network): m for m in measurements}
        if not newest:
            return
        texts = {m.arch_digest: m.architecture for m in measurements}
        rows = [_measurement_row(m) for _, m in sorted(newest.items(), key=operator.itemgetter(0))]
        targets = ", ".join(sorted({repr(m.target) for m in measurements}))
        remedy = f"target {targets} is not in {self.url} in this version; call add_target first"
        with self._writing(remedy) as connection:
            self._insert_architectures(connection, texts)
            ids = {
                digest: key for c in _chunks(texts) for digest, key in connection.execute(_SELECT_IDS, {"digests": c})
            }
            for row in rows:
                row["architecture_id"] = ids[row.pop("arch_digest")]
            connection.execute(self._insert_or_update(tables.measurements), rows)

    def measurements(
        self, target: str, digests: Iterable[str] | None = None, *, version: str | None = None
    ) -> list[Measurement]:
        """What was measured on a target, by digest of the architectures.

        Args:
            digests: of these architectures alone; all when left out.
            version: on this version of the target alone; on all of them when left out.
        """
        query = _SELECT_MEASUREMENTS if digests is None else _SELECT_MEASUREMENTS.where(_expanding(_arch.digest))
        if version is not None:
            query = query.where(tables.measurements.c.version == version)
        chunks = [[""]] if digests is None else _chunks(digests)
        with self._reading() as connection:
            rows = [
                row
                for chunk in chunks
                for row in connection.execute(query, {"target": target, "digests": chunk}).mappings()
            ]
        found = [_measurement(row) for row in rows]
        return sorted(found, key=operator.attrgetter("arch_digest", "network", "created", "version"))

    def num_measurements(self) -> dict[tuple[str, str], tuple[int, str]]:
        """How many measurements each target's version holds, and when the last was made, by (target, version)."""
        c = tables.measurements.c
        query = sa.select(c.target, c.version, sa.func.count(), sa.func.max(c.created)).group_by(c.target, c.version)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(c.target, c.version)).all()
        return {(target, version): (count, last) for target, version, count, last in rows}

    def put_predictor(self, predictor: PredictorRecord) -> None:
        """Stores a predictor in place of an earlier one of the same target, version, space and kind of network."""
        row = _row(predictor) | {
            "quality": _dumps("quality", predictor.quality),
            "warnings": _dumps("warnings", list(predictor.warnings)),
        }
        remedy = f"target {predictor.target!r} is not in {self.url} in this version; call add_target first"
        with self._writing(remedy) as connection:
            connection.execute(self._insert_or_update(tables.predictors), [row])

    def predictors(self, target: str | None = None) -> list[PredictorRecord]:
        """The predictors of a target, or of all targets; the oldest first."""
        c = tables.predictors.c
        query = sa.select(tables.predictors).order_by(c.created, c.target, c.version, c.space_digest, c.network)
        with self._reading() as connection:
            rows = connection.execute(query if target is None else query.where(c.target == target)).mappings().all()
        return [
            PredictorRecord(
                **{
                    **row,
                    "quality": json.loads(row["quality"]),
                    "warnings": tuple(json.loads(row["warnings"])),
                }
            )
            for row in rows
        ]

    # --- training curves and trust

    def add_curve(self, supernet_digest: str, points: Sequence[CurvePoint]) -> None:
        """Adds points to a training curve; a training resumed from an earlier step overwrites what it repeats."""
        newest = {(point.step, point.which, point.metric): point for point in points}
        rows = [
            _row(point) | {"supernet_digest": supernet_digest, "value": _nan_to_null(point.value)}
            for _, point in sorted(newest.items())
        ]
        if rows:
            with self._writing() as connection:
                connection.execute(self._insert_or_update(tables.curve_points), rows)

    def curve(self, supernet_digest: str) -> list[CurvePoint]:
        """A training curve in order of steps; empty if there is none."""
        c = tables.curve_points.c
        query = sa.select(c.step, c.which, c.metric, c.value).where(c.supernet_digest == supernet_digest)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(c.step, c.metric, c.which)).all()
        return [CurvePoint(step, which, metric, _null_to_nan(value)) for step, which, metric, value in rows]

    def put_trust(self, supernet_digest: str, trust: Trust) -> None:
        """Stores a supernet's trust report in place of an earlier one."""
        row = {"supernet_digest": supernet_digest, "report": _dumps("the trust report", asdict(trust))}
        with self._writing() as connection:
            connection.execute(self._insert_or_update(tables.trust), [row])

    def trust(self, supernet_digest: str) -> Trust | None:
        """A supernet's trust report, None if there is none yet."""
        query = sa.select(tables.trust.c.report).where(tables.trust.c.supernet_digest == supernet_digest)
        with self._reading() as connection:
            report = connection.execute(query).scalar()
        if report is None:
            return None
        values: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(report).items()}
        return Trust(**values)

    # --- distributions

    def put_distributions(self, study_name: str, key: str, distributions: Sequence[Distribution]) -> None:
        """Stores what a gradient search has learnt for a study, in place of what another one had, in one transaction.

        The study need not be there yet: it begins with what is stored here.

        Args:
            key: Digest of all that the search depends on: weights, data, method, settings.
        """
        rows = [
            {
                "study": study_name,
                "position": position,
                "key": key,
                "content": _dumps("a distribution", asdict(replace(found, study=study_name)), sort_keys=False),
            }
            for position, found in enumerate(distributions)
        ]
        with self._writing() as connection:
            connection.execute(sa.delete(tables.distributions).where(tables.distributions.c.study == study_name))
            if rows:
                connection.execute(sa.insert(tables.distributions), rows)

    def distributions(self, study_name: str) -> list[Distribution]:
        """What was learnt for a study, in the order of learning; empty if there was no gradient search."""
        return self._distributions(tables.distributions.c.study == study_name)

    def known_distributions(self, key: str) -> list[Distribution]:
        """What a gradient search of this key has learnt, whichever study it was for; empty if there was none."""
        c = tables.distributions.c
        first = sa.select(sa.func.min(c.study)).where(c.key == key).scalar_subquery()
        return self._distributions((c.key == key) & (c.study == first))

    def _distributions(self, condition: sa.ColumnElement[bool]) -> list[Distribution]:
        c = tables.distributions.c
        with self._reading() as connection:
            texts = connection.execute(sa.select(c.content).where(condition).order_by(c.position)).scalars().all()
        return [Distribution(**json.loads(text)) for text in texts]

    # --- transactions

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with opening.one_line_errors(self._url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self, foreign_key_remedy: str | None = None) -> Iterator[sa.Connection]:
        with opening.one_line_errors(self._url, foreign_key_remedy), self._begin_write() as connection:
            yield connection

    @contextmanager
    def _begin_write(self) -> Iterator[sa.Connection]:
        if self.read_only:
            raise NasError(f"{self.url} was opened read-only; open it with read_only=False to write")
        with self._writer.begin() as connection:
            yield connection

    def _insert_new(self, table: sa.Table, *key: str) -> sa.Insert:
        """An insertion that leaves rows alone whose key exists."""
        insert: sqlite.Insert | postgresql.Insert = self._inserter(table)
        return insert.on_conflict_do_nothing(index_elements=key or table.primary_key.columns.keys())

    def _insert_or_update(self, table: sa.Table) -> sa.Insert:
        """An insertion that overwrites rows whose key exists."""
        insert: sqlite.Insert | postgresql.Insert = self._inserter(table)
        values = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
        return insert.on_conflict_do_update(index_elements=table.primary_key.columns.keys(), set_=values)


class _Prepared:
    """An insertion compiled once and run by the driver alone.

    What SQLAlchemy does to every row of parameters takes longer than SQLite takes to store it.
    """

    def __init__(self, statement: sa.Insert, columns: Sequence[str], dialect: sa.Dialect) -> None:
        compiled = statement.inline().compile(dialect=dialect, column_keys=list(columns))
        self._sql = str(compiled)
        self._names: list[str] | None = getattr(compiled, "positiontup", None)

    def __call__(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        if self._names is None:
            connection.exec_driver_sql(self._sql, list(rows))
        else:
            pick = operator.itemgetter(*self._names)
            connection.exec_driver_sql(self._sql, [pick(row) for row in rows])


# --- queries


def _expanding(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam("digests", expanding=True))


_arch, _e, _link = tables.architectures.c, tables.evaluations.c, tables.study_evaluations.c
_SELECT_STUDY_ID = sa.select(tables.studies.c.id).where(tables.studies.c.name == sa.bindparam("name"))
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
    .where(_expanding(_arch.digest))
    .order_by(_arch.id, _e.attempt)
)
_SELECT_IDS = sa.select(_arch.digest, _arch.id).where(_expanding(_arch.digest))
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
        _expanding(_arch.digest),
        _e.error.is_(None),
    )
    .order_by(_e.architecture_id, _e.attempt)
)
_m = tables.measurements.c
_SELECT_MEASUREMENTS = (
    sa.select(
        _arch.digest.label("arch_digest"),
        tables.architectures.c.json.label("architecture"),
        *(column for column in _m if column.name != "architecture_id"),
    )
    .join_from(tables.measurements, tables.architectures)
    .where(_m.target == sa.bindparam("target"))
)


def _chunks(digests: Iterable[str]) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(digests))
    for start in range(0, len(distinct), _CHUNK):
        yield distinct[start : start + _CHUNK]


# --- rows and records

_CONTENT_NAMES = tuple(column.name for column in _CONTENT)
_SAME_SEARCH = ("space_digest", "supernet_digest", "objectives", "limits", "searcher", "seed", "settings")


def _row(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _measurement_row(measurement: Measurement) -> dict[str, Any]:
    """The row, with the digest of the architecture in place of its id."""
    row = _row(measurement)
    del row["architecture"]
    return row | {
        "conditions": _dumps("conditions", measurement.conditions),
        "notes": _dumps("notes", list(measurement.notes)),
    }


def _measurement(row: Mapping[Any, Any]) -> Measurement:
    return Measurement(**{**row, "conditions": json.loads(row["conditions"]), "notes": tuple(json.loads(row["notes"]))})


def _study_row(study: StudyRecord) -> dict[str, Any]:
    return _row(study) | {
        "objectives": _dumps("objectives", list(study.objectives)),
        "limits": _dumps("limits", list(study.limits)),
        "settings": _dumps("settings", study.settings),
    }


def _study(row: Mapping[str, Any]) -> StudyRecord:
    values = {name: row[name] for name in StudyRecord.__dataclass_fields__}
    lists = {name: tuple(json.loads(values[name])) for name in ("objectives", "limits")}
    return StudyRecord(**{**values, **lists, "settings": json.loads(values["settings"])})


def _refuse_other_search(name: str, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    other = [
        f"{field} {stored[field]} there, {asked[field]} here" for field in _SAME_SEARCH if stored[field] != asked[field]
    ]
    if other:
        raise NasError(
            f"study {name!r} is another search ({'; '.join(other)}); take another name or the stored settings"
        )


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
    for chunk in _chunks(digests):
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


def _dumps(name: str, value: Any, *, sort_keys: bool = True) -> str:
    try:
        return json.dumps(value, allow_nan=False, sort_keys=sort_keys)
    except (TypeError, ValueError) as error:
        raise NasError(
            f"{name} cannot be stored as JSON: {error}; use finite numbers, strings, lists and dicts"
        ) from error


def _nan_to_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)  # SQLite has no NaN


def _null_to_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _named(known: Mapping[str, _T], name: str, what: str, url: str) -> _T:
    if name in known:
        return known[name]
    there = ", ".join(map(repr, known)) if known else "none"
    raise NasError(f"there is no {what} {name!r} in {url}; there is: {there}")

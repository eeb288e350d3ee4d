"""Stores spaces, supernets and studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from nas.errors import NasError
from nas.migrations import tables
from nas.records import SpaceRecord, StudyRecord, SupernetRecord
from nas.storage.leases import Leases
from nas.storage.patience import patient
from nas.storage.rows import dumps, named, row_of
from nas.storage.sealed import damaged, loads

_SAME_SEARCH = ("space_digest", "supernet_digest", "objectives", "limits", "searcher", "seed", "settings")
_LEASE = [column for column in tables.leases.c if column.name != "study"]
_SELECT_STUDY_ID = sa.select(tables.studies.c.id).where(tables.studies.c.name == sa.bindparam("name"))


class Studies(Leases):
    """Stores spaces, supernets and studies."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._study_ids: dict[str, int] = {}  # as first seen: a deleted and recreated study is a different one

    # --- spaces, supernets

    @patient
    def add_space(self, space: SpaceRecord) -> None:
        """Add a space, unless one with its digest is stored."""
        row = {
            "digest": space.digest,
            "name": space.name,
            "declaration": dumps("declaration", space.declaration, sort_keys=False),
        }
        with self._writing() as connection:
            connection.execute(self._insert_new(tables.spaces), [row])

    @patient
    def spaces(self) -> list[SpaceRecord]:
        """Return all spaces, by name."""
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(tables.spaces).order_by(tables.spaces.c.name, tables.spaces.c.digest)
            ).all()
        return [
            SpaceRecord(row.digest, row.name, loads(row.declaration, dict, f"space {row.name!r}", self.url))
            for row in rows
        ]

    @patient
    def add_supernet(self, supernet: SupernetRecord) -> None:
        """Add trained weights; for known weights, update the rest of the record, such as a path that has changed."""
        row = row_of(supernet) | {"settings": dumps("settings", supernet.settings)}
        remedy = f"space {supernet.space_digest!r} is not in {self.url}; call add_space first"
        with self._writing(remedy) as connection:
            connection.execute(self._insert_or_update(tables.supernets), [row])

    @patient
    def supernets(self) -> list[SupernetRecord]:
        """Return all supernets, oldest first."""
        with self._reading() as connection:
            query = sa.select(tables.supernets).order_by(tables.supernets.c.created, tables.supernets.c.digest)
            rows = connection.execute(query).mappings().all()
        settings = [loads(row["settings"], dict, f"supernet {row['digest']}", self.url) for row in rows]
        return [SupernetRecord(**{**row, "settings": own}) for row, own in zip(rows, settings, strict=True)]

    def supernet(self, digest: str) -> SupernetRecord:
        """Return the supernet with these weights; raise NasError, with the known digests, if there is none."""
        known = {supernet.digest: supernet for supernet in self.supernets()}
        return named(known, digest, "supernet", self.url)

    # --- studies

    @patient
    def create_study(self, study: StudyRecord, *, load_if_exists: bool = False) -> StudyRecord:
        """Add a study and return it as stored.

        With `load_if_exists`, return a stored study of this name if it is the same search: all fields but `created`,
        `run_file`, `status` and `wanted` must be equal.

        Raises:
            NasError: the name is taken (by a different search), or the space or the supernet is unknown.
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
            (found,) = self._studies(connection, tables.studies.c.name == study.name)
        if created:
            return found
        if not load_if_exists:
            remedy = "resume it with load_if_exists=True or take another name"
            raise NasError(f"study {study.name!r} is already in {self.url}; {remedy}")
        _refuse_other_search(study.name, stored, row)
        return found

    @patient
    def studies(self) -> list[StudyRecord]:
        """Return all studies in order of creation."""
        with self._reading() as connection:
            return self._studies(connection)

    def _studies(self, connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[StudyRecord]:
        """Return studies in order of creation; one that is "running" without a driver was killed: it is "stopped"."""
        query = sa.select(tables.studies, *_LEASE, self._clock.label("now")).join_from(
            tables.studies, tables.leases, tables.leases.c.study == tables.studies.c.name, isouter=True
        )
        rows = connection.execute(query.where(*conditions).order_by(tables.studies.c.id)).all()
        studies = [(_study(row._asdict(), self.url), row) for row in rows]
        return [
            replace(study, status="stopped")
            if study.status == "running" and not self._is_driven(study.name, row)
            else study
            for study, row in studies
        ]

    def study(self, name: str) -> StudyRecord:
        """Return the study of this name; raise NasError, with the known names, if there is none."""
        return named({study.name: study for study in self.studies()}, name, "study", self.url)

    @patient
    def set_status(self, name: str, status: str, wanted: int | None = None) -> None:
        """Set the status of a study, for instance "running", "finished" or "failed".

        A study that is "running" while no process drives it reads as "stopped".

        Args:
            wanted: number of evaluations that the study shall have in the end; None leaves it unchanged.

        Raises:
            NasError: the study does not exist, or another process drives it.
        """
        with self._writing() as connection:
            self._check_lease(connection, name)
            update = (
                sa.update(tables.studies)
                .where(tables.studies.c.name == name)
                .values({"status": status} | ({} if wanted is None else {"wanted": wanted}))
            )
            found = connection.execute(update).rowcount
        if not found:
            self.study(name)  # raises the error that lists the known names

    @patient
    def delete_study(self, name: str) -> None:
        """Delete a study and its distributions; other studies may still reuse its evaluations.

        Raises:
            NasError: the study does not exist, or another process drives it.
        """
        with self._writing() as connection:
            self._check_lease(connection, name)
            found = connection.execute(sa.delete(tables.studies).where(tables.studies.c.name == name)).rowcount
            if found:
                connection.execute(sa.delete(tables.distributions).where(tables.distributions.c.study == name))
        self._study_ids.pop(name, None)
        if not found:
            self.study(name)

    def _study_id(self, connection: sa.Connection, name: str) -> int:
        study_id: int | None = connection.execute(_SELECT_STUDY_ID, {"name": name}).scalar()
        if study_id is None:
            names = connection.execute(sa.select(tables.studies.c.name).order_by(tables.studies.c.id)).scalars().all()
            named(dict.fromkeys(names), name, "study", self.url)
        assert study_id is not None
        return study_id


def _study_row(study: StudyRecord) -> dict[str, Any]:
    return row_of(study) | {
        "objectives": dumps("objectives", list(study.objectives)),
        "limits": dumps("limits", list(study.limits)),
        "settings": dumps("settings", study.settings),
    }


def _study(row: Mapping[str, Any], url: str) -> StudyRecord:
    what = f"study {row['name']!r}"
    values = {name: row[name] for name in StudyRecord.__dataclass_fields__}
    values |= {name: tuple(loads(values[name], list, what, url)) for name in ("objectives", "limits")}
    values["settings"] = loads(values["settings"], dict, what, url)
    try:
        return StudyRecord(**values)
    except (NasError, TypeError, AttributeError):
        raise damaged(what, url) from None


def _refuse_other_search(name: str, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    other = [
        f"{field} {stored[field]} there, {asked[field]} here" for field in _SAME_SEARCH if stored[field] != asked[field]
    ]
    if other:
        raise NasError(
            f"study {name!r} is another search ({'; '.join(other)}); take another name or the stored settings"
        )

"""Stores hardware targets, measurements on them and their latency predictors."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nas.migrations import tables
from nas.records import Measurement, PredictorRecord, TargetRecord
from nas.storage.architectures import Architectures
from nas.storage.patience import patient
from nas.storage.rows import chunks, dumps, expanding, named, row_of
from nas.storage.sealed import loads

_arch, _m = tables.architectures.c, tables.measurements.c
_SELECT_MEASUREMENTS = (
    sa.select(
        _arch.digest.label("arch_digest"),
        tables.architectures.c.json.label("architecture"),
        *(column for column in _m if column.name != "architecture_id"),
    )
    .join_from(tables.measurements, tables.architectures)
    .where(_m.target == sa.bindparam("target"))
)


class Hardware(Architectures):
    """Stores all versions of targets, measurements of networks and latency predictors."""

    @patient
    def add_target(self, target: TargetRecord) -> None:
        """Store a target as the current version of its name; earlier versions and their measurements stay."""
        texts = {name: dumps(name, getattr(target, name)) for name in ("settings", "description")}
        newest = sa.select(sa.func.coalesce(sa.func.max(tables.targets.c.position), 0) + 1)
        with self._writing() as connection:
            row = {"name": target.name, "version": target.version, "kind": target.kind, **texts}
            row["position"] = connection.execute(newest).scalar_one()
            connection.execute(self._insert_or_update(tables.targets), [row])

    def targets(self) -> list[TargetRecord]:
        """Return the current version of all hardware targets, by name."""
        newest = {target.name: target for target in reversed(self.target_versions())}
        return [newest[name] for name in sorted(newest)]

    def target(self, name: str) -> TargetRecord:
        """Return the current version of a target; raise NasError, with the known names, if there is none."""
        return named({target.name: target for target in self.targets()}, name, "target", self.url)

    @patient
    def target_versions(self) -> list[TargetRecord]:
        """Return all versions of all targets, newest first."""
        c = tables.targets.c
        query = sa.select(c.name, c.kind, c.description, c.settings).order_by(c.position.desc(), c.version)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            TargetRecord(r.name, r.kind, *(loads(text, dict, f"target {r.name!r}", self.url) for text in r[2:]))
            for r in rows
        ]

    @patient
    def add_measurements(self, measurements: Sequence[Measurement]) -> None:
        """Store a batch in one transaction; new figures of a network on the same version replace old ones."""
        newest = {(m.target, m.version, m.arch_digest, m.network): m for m in measurements}
        if not newest:
            return
        texts = {m.arch_digest: m.architecture for m in measurements}
        rows = [_measurement_row(m) for _, m in sorted(newest.items(), key=operator.itemgetter(0))]
        targets = ", ".join(sorted({repr(m.target) for m in measurements}))
        remedy = f"target {targets} is not in {self.url} in this version; call add_target first"
        with self._writing(remedy) as connection:
            self._insert_architectures(connection, texts)
            ids = self._architecture_ids(connection, texts)
            for row in rows:
                row["architecture_id"] = ids[row.pop("arch_digest")]
            connection.execute(self._insert_or_update(tables.measurements), rows)

    @patient
    def measurements(
        self, target: str, digests: Iterable[str] | None = None, *, version: str | None = None
    ) -> list[Measurement]:
        """Return the measurements on a target, ordered by digest of the architecture.

        Args:
            digests: only of these architectures; None for all.
            version: only on this version of the target; None for all.
        """
        query = _SELECT_MEASUREMENTS if digests is None else _SELECT_MEASUREMENTS.where(expanding(_arch.digest))
        if version is not None:
            query = query.where(tables.measurements.c.version == version)
        portions = [[""]] if digests is None else chunks(digests)
        with self._reading() as connection:
            rows = [
                row
                for chunk in portions
                for row in connection.execute(query, {"target": target, "digests": chunk}).mappings()
            ]
        found = [_measurement(row, self.url) for row in rows]
        return sorted(found, key=operator.attrgetter("arch_digest", "network", "created", "version"))

    @patient
    def num_measurements(self) -> dict[tuple[str, str], tuple[int, str]]:
        """Return the number of measurements and the time of the last one, by (target, version)."""
        c = tables.measurements.c
        query = sa.select(c.target, c.version, sa.func.count(), sa.func.max(c.created)).group_by(c.target, c.version)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(c.target, c.version)).all()
        return {(target, version): (count, last) for target, version, count, last in rows}

    @patient
    def put_predictor(self, predictor: PredictorRecord) -> None:
        """Store a predictor; it replaces an earlier one of the same target, version, space and kind of network."""
        row = row_of(predictor) | {
            "quality": dumps("quality", predictor.quality),
            "warnings": dumps("warnings", list(predictor.warnings)),
        }
        remedy = f"target {predictor.target!r} is not in {self.url} in this version; call add_target first"
        with self._writing(remedy) as connection:
            connection.execute(self._insert_or_update(tables.predictors), [row])

    @patient
    def predictors(self, target: str | None = None) -> list[PredictorRecord]:
        """Return the predictors of a target, or of all targets, oldest first."""
        c = tables.predictors.c
        query = sa.select(tables.predictors).order_by(c.created, c.target, c.version, c.space_digest, c.network)
        with self._reading() as connection:
            rows = connection.execute(query if target is None else query.where(c.target == target)).mappings().all()
        return [
            PredictorRecord(
                **{
                    **row,
                    "quality": loads(row["quality"], dict, f"a predictor for {row['target']!r}", self.url),
                    "warnings": tuple(loads(row["warnings"], list, f"a predictor for {row['target']!r}", self.url)),
                }
            )
            for row in rows
        ]


def _measurement_row(measurement: Measurement) -> dict[str, Any]:
    """Return the row of a measurement, with the digest of the architecture in place of its id."""
    row = row_of(measurement)
    del row["architecture"]
    return row | {
        "conditions": dumps("conditions", measurement.conditions),
        "notes": dumps("notes", list(measurement.notes)),
    }


def _measurement(row: Mapping[Any, Any], url: str) -> Measurement:
    what = f"a measurement on {row['target']!r}"
    conditions, notes = loads(row["conditions"], dict, what, url), loads(row["notes"], list, what, url)
    return Measurement(**{**row, "conditions": conditions, "notes": tuple(notes)})

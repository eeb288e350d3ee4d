"""Hardware targets, what was measured on them and what predicts it."""

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
    """Targets in all their versions, measurements of networks and latency predictors."""

    @patient
    def add_target(self, target: TargetRecord) -> None:
        """Says what machine a name stands for now; its earlier versions stay, with what was measured on them."""
        texts = {name: dumps(name, getattr(target, name)) for name in ("settings", "description")}
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
        return named({target.name: target for target in self.targets()}, name, "target", self.url)

    @patient
    def target_versions(self) -> list[TargetRecord]:
        """All versions of all targets, the newest first."""
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
            ids = self._architecture_ids(connection, texts)
            for row in rows:
                row["architecture_id"] = ids[row.pop("arch_digest")]
            connection.execute(self._insert_or_update(tables.measurements), rows)

    @patient
    def measurements(
        self, target: str, digests: Iterable[str] | None = None, *, version: str | None = None
    ) -> list[Measurement]:
        """What was measured on a target, by digest of the architectures.

        Args:
            digests: of these architectures alone; all when left out.
            version: on this version of the target alone; on all of them when left out.
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
        """How many measurements each target's version holds, and when the last was made, by (target, version)."""
        c = tables.measurements.c
        query = sa.select(c.target, c.version, sa.func.count(), sa.func.max(c.created)).group_by(c.target, c.version)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(c.target, c.version)).all()
        return {(target, version): (count, last) for target, version, count, last in rows}

    @patient
    def put_predictor(self, predictor: PredictorRecord) -> None:
        """Stores a predictor in place of an earlier one of the same target, version, space and kind of network."""
        row = row_of(predictor) | {
            "quality": dumps("quality", predictor.quality),
            "warnings": dumps("warnings", list(predictor.warnings)),
        }
        remedy = f"target {predictor.target!r} is not in {self.url} in this version; call add_target first"
        with self._writing(remedy) as connection:
            connection.execute(self._insert_or_update(tables.predictors), [row])

    @patient
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
                    "quality": loads(row["quality"], dict, f"a predictor for {row['target']!r}", self.url),
                    "warnings": tuple(loads(row["warnings"], list, f"a predictor for {row['target']!r}", self.url)),
                }
            )
            for row in rows
        ]


def _measurement_row(measurement: Measurement) -> dict[str, Any]:
    """The row, with the digest of the architecture in place of its id."""
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

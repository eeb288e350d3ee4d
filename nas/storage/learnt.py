"""Stores the results of training: curves, trust reports, and distributions over choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from nas.errors import NasError
from nas.migrations import tables
from nas.records import CurvePoint, Distribution, Trust
from nas.storage.leases import Leases
from nas.storage.patience import patient
from nas.storage.rows import dumps, row_of
from nas.storage.sealed import damaged, loads

_DISTRIBUTION = "a distribution that was learnt by gradients"


class Learnt(Leases):
    """Stores training curves, trust reports and the distributions of gradient searches."""

    @patient
    def add_curve(self, supernet_digest: str, points: Sequence[CurvePoint]) -> None:
        """Add points to a training curve; a training resumed from an earlier step overwrites the points it repeats."""
        newest = {(point.step, point.which, point.metric): point for point in points}
        rows = [
            row_of(point) | {"supernet_digest": supernet_digest, "value": _nan_to_null(point.value)}
            for _, point in sorted(newest.items())
        ]
        if rows:
            with self._writing() as connection:
                connection.execute(self._insert_or_update(tables.curve_points), rows)

    @patient
    def curve(self, supernet_digest: str) -> list[CurvePoint]:
        """Return a training curve in order of steps; empty if there is none."""
        c = tables.curve_points.c
        query = sa.select(c.step, c.which, c.metric, c.value).where(c.supernet_digest == supernet_digest)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(c.step, c.metric, c.which)).all()
        return [CurvePoint(step, which, metric, _null_to_nan(value)) for step, which, metric, value in rows]

    @patient
    def put_trust(self, supernet_digest: str, trust: Trust) -> None:
        """Store a supernet's trust report; it replaces an earlier one."""
        row = {"supernet_digest": supernet_digest, "report": dumps("the trust report", asdict(trust))}
        with self._writing() as connection:
            connection.execute(self._insert_or_update(tables.trust), [row])

    @patient
    def trust(self, supernet_digest: str) -> Trust | None:
        """Return a supernet's trust report; None if there is none yet."""
        query = sa.select(tables.trust.c.report).where(tables.trust.c.supernet_digest == supernet_digest)
        with self._reading() as connection:
            report = connection.execute(query).scalar()
        if report is None:
            return None
        what = f"the trust report of supernet {supernet_digest}"
        found = loads(report, dict, what, self.url)
        values: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        try:
            return Trust(**values)
        except TypeError:
            raise damaged(what, self.url) from None

    # --- distributions

    @patient
    def put_distributions(self, study_name: str, key: str, distributions: Sequence[Distribution]) -> None:
        """Store the distributions of a gradient search for a study, which replace earlier ones, in one transaction.

        The study need not exist yet: its search starts from these distributions.

        Args:
            key: digest of everything the search depends on: weights, data, method, settings.

        Raises:
            NasError: another process drives the study.
        """
        rows = [
            {
                "study": study_name,
                "position": position,
                "key": key,
                "content": dumps("a distribution", asdict(replace(found, study=study_name)), sort_keys=False),
            }
            for position, found in enumerate(distributions)
        ]
        with self._writing() as connection:
            self._check_lease(connection, study_name)
            connection.execute(sa.delete(tables.distributions).where(tables.distributions.c.study == study_name))
            if rows:
                connection.execute(sa.insert(tables.distributions), rows)

    @patient
    def distributions(self, study_name: str) -> list[Distribution]:
        """Return the distributions learned for a study, in order; empty if it had no gradient search."""
        return self._distributions(tables.distributions.c.study == study_name)

    @patient
    def known_distributions(self, key: str) -> list[Distribution]:
        """Return the distributions that a gradient search of this key learned for any study; empty if there is none."""
        c = tables.distributions.c
        first = sa.select(sa.func.min(c.study)).where(c.key == key).scalar_subquery()
        return self._distributions((c.key == key) & (c.study == first))

    def _distributions(self, condition: sa.ColumnElement[bool]) -> list[Distribution]:
        c = tables.distributions.c
        with self._reading() as connection:
            texts = connection.execute(sa.select(c.content).where(condition).order_by(c.position)).scalars().all()
        try:
            return [Distribution(**loads(text, dict, _DISTRIBUTION, self.url)) for text in texts]
        except (TypeError, ValueError, AttributeError, NasError) as error:
            raise damaged(_DISTRIBUTION, self.url) from error


def _nan_to_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)  # SQLite has no NaN


def _null_to_nan(value: float | None) -> float:
    return math.nan if value is None else value

"""Metric values as numbers, and digests of what evaluations say."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels: str | None = None
depends_on: str | None = None

_KEY = ("context_id", "architecture_id", "attempt")
_PORTION = 1000
_NO_ROWID: Mapping[str, Any] = {"sqlite_with_rowid": False}

architectures = sa.table("architectures", sa.column("id"), sa.column("digest"))
metric_sets = sa.table("metric_sets", sa.column("id"), sa.column("digest"), sa.column("names"))
evaluations = sa.table(
    "evaluations",
    *map(sa.column, (*_KEY, "metrics", "error", "seconds", "worker", "metric_set_id", "metric_values", "digest")),
)
verified = sa.table("verified", *map(sa.column, ("study_id", "architecture_id", "metrics", "digest")))
links = sa.table("study_evaluations", *map(sa.column, (*_KEY, "digest")))


def upgrade() -> None:
    op.create_table(
        "metric_sets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_metric_sets"),
        sa.UniqueConstraint("digest", name="uq_metric_sets_digest"),
    )
    with op.batch_alter_table("evaluations", table_kwargs=_NO_ROWID) as table:
        table.add_column(sa.Column("metric_set_id", sa.Integer(), nullable=True))
        table.add_column(sa.Column("metric_values", sa.LargeBinary(), nullable=True))
        table.add_column(sa.Column("digest", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("study_evaluations", table_kwargs=_NO_ROWID) as table:
        table.add_column(sa.Column("digest", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("verified", table_kwargs=_NO_ROWID) as table:
        table.add_column(sa.Column("digest", sa.Text(), nullable=True))
    _fill(op.get_bind())
    _fill_verified(op.get_bind())
    with op.batch_alter_table("evaluations", table_kwargs=_NO_ROWID) as table:
        table.drop_column("metrics")
        for name, kind in (("metric_set_id", sa.Integer()), ("metric_values", sa.LargeBinary())):
            table.alter_column(name, existing_type=kind, nullable=False)
        table.alter_column("digest", existing_type=sa.LargeBinary(), nullable=False)
        table.create_foreign_key("fk_evaluations_metric_set_id", "metric_sets", ["metric_set_id"], ["id"])
    with op.batch_alter_table("study_evaluations", table_kwargs=_NO_ROWID) as table:
        table.alter_column("digest", existing_type=sa.LargeBinary(), nullable=False)
    with op.batch_alter_table("verified", table_kwargs=_NO_ROWID) as table:
        table.alter_column("digest", existing_type=sa.Text(), nullable=False)


def _fill(connection: sa.Connection) -> None:
    sets: dict[str, int] = {}
    key = [evaluations.c[name] == sa.bindparam(f"of_{name}") for name in _KEY]
    values: dict[str, Any] = {name: sa.bindparam(name) for name in ("metric_set_id", "metric_values", "digest")}
    for portion in _portions(connection):
        rows = [_filled(row, _metric_set(connection, sets, row.metrics)) for row in portion]
        connection.execute(sa.update(evaluations).where(*key).values(values), rows)
    same = [evaluations.c[name] == links.c[name] for name in _KEY]
    digest = sa.select(evaluations.c.digest).where(*same).scalar_subquery()
    connection.execute(sa.update(links).values(digest=digest))


def _fill_verified(connection: sa.Connection) -> None:
    c, a = verified.c, architectures.c
    query = sa.select(c.study_id, a.id, a.digest, c.metrics).join_from(
        verified, architectures, a.id == c.architecture_id
    )
    for study, key, architecture, metrics in connection.execute(query).all():
        digest = hashlib.sha256(f"{architecture} {metrics}".encode()).hexdigest()[:16]
        row = (c.study_id == study) & (c.architecture_id == key)
        connection.execute(sa.update(verified).where(row).values(digest=digest))


def _portions(connection: sa.Connection) -> Iterator[Sequence[Any]]:
    content = [evaluations.c[name] for name in (*_KEY, "metrics", "error", "seconds", "worker")]
    query = sa.select(*content, architectures.c.digest.label("architecture")).join_from(
        evaluations, architectures, architectures.c.id == evaluations.c.architecture_id
    )
    rows = connection.execute(query).all()
    yield from (rows[start : start + _PORTION] for start in range(0, len(rows), _PORTION))


def _metric_set(connection: sa.Connection, sets: dict[str, int], metrics: str) -> int:
    names = json.dumps(list(json.loads(metrics)))
    if names not in sets:
        digest = hashlib.sha256(names.encode()).hexdigest()[:16]
        connection.execute(
            sa.insert(metric_sets).values(digest=digest, names=names)
        )  # PostgreSQL counts what it numbers
        query = sa.select(metric_sets.c.id).where(metric_sets.c.digest == digest)
        sets[names] = connection.execute(query).scalar_one()
    return sets[names]


def _filled(row: Any, metric_set: int) -> dict[str, Any]:
    values = [float(value) for value in json.loads(row.metrics).values()]
    packed = struct.pack(f"<{len(values)}d", *values)
    head = struct.pack("<3qd?", row.context_id, row.attempt, metric_set, row.seconds, row.error is not None)
    text = "\0".join((row.architecture, row.error or "", row.worker))
    digest = hashlib.sha256(head + packed + text.encode()).digest()[:8]
    found = {"metric_set_id": metric_set, "metric_values": packed, "digest": digest}
    return found | {f"of_{name}": getattr(row, name) for name in _KEY}


def downgrade() -> None:
    raise NotImplementedError("metrics are not turned into text again: use a copy of the database as it was")

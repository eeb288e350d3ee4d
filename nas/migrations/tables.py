"""The tables of the newest version, as `nas.storage` uses them; `versions` contains the steps from older ones."""

from typing import Any

import sqlalchemy as sa

VERSION = "0005"
"""The newest revision in `versions`; new databases are created at it, from these tables."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _table(name: str, *items: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *items, **options)


def _text(name: str, *items: sa.schema.SchemaItem, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), *items, **{"nullable": False, **options})


version = sa.Table("nas_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))

spaces = _table("spaces", _text("digest", primary_key=True), _text("name"), _text("declaration"))

supernets = _table(
    "supernets",
    _text("digest", primary_key=True),
    _text("space_digest", sa.ForeignKey("spaces.digest")),
    _text("name"),
    _text("sharing"),
    _text("weights_path"),
    _text("task_digest"),
    sa.Column("steps", sa.BigInteger(), nullable=False),
    _text("settings"),
    _text("created"),
)

studies = _table(
    "studies",
    sa.Column("id", sa.Integer(), primary_key=True),
    _text("name", unique=True),
    _text("space_digest", sa.ForeignKey("spaces.digest")),
    _text("supernet_digest", sa.ForeignKey("supernets.digest"), nullable=True),
    _text("objectives"),
    _text("limits"),
    _text("searcher"),
    sa.Column("seed", sa.BigInteger(), nullable=False),
    _text("settings"),
    _text("created"),
    _text("run_file", nullable=True),
    _text("status"),
    sa.Column("wanted", sa.Integer(), nullable=True),
    sqlite_autoincrement=True,  # ids are never reused, so a stale driver cannot write into a later study
)

# A lease precedes its study, since the supernet is trained first. Rows are never deleted, since tokens must increase.
leases = _table(
    "leases",
    _text("study", primary_key=True),
    sa.Column("token", sa.BigInteger(), nullable=False),
    _text("machine"),
    sa.Column("process", sa.BigInteger(), nullable=False),
    sa.Column("until", sa.Double(), nullable=False),
    sa.Column("seconds", sa.Double(), nullable=False),
)

contexts = _table(
    "contexts",
    sa.Column("id", sa.Integer(), primary_key=True),
    _text("weights"),
    _text("data"),
    sa.UniqueConstraint("weights", "data"),
)

# Rows refer to an architecture by a small id: digests are random, so inserting into an index of them touches all pages.
architectures = _table(
    "architectures",
    sa.Column("id", sa.Integer(), primary_key=True),
    _text("digest", unique=True),
    _text("json"),
)

# Metrics are stored as packed numbers that share a set of names, so that columns of 100,000 are read quickly.
metric_sets = _table(
    "metric_sets", sa.Column("id", sa.Integer(), primary_key=True), _text("digest", unique=True), _text("names")
)

evaluations = _table(
    "evaluations",
    sa.Column("context_id", sa.Integer(), sa.ForeignKey("contexts.id"), primary_key=True, autoincrement=False),
    sa.Column(
        "architecture_id", sa.Integer(), sa.ForeignKey("architectures.id"), primary_key=True, autoincrement=False
    ),
    sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("metric_set_id", sa.Integer(), sa.ForeignKey("metric_sets.id"), nullable=False),
    sa.Column("metric_values", sa.LargeBinary(), nullable=False),
    _text("error", nullable=True),
    sa.Column("seconds", sa.Double(), nullable=False),
    _text("worker"),
    sa.Column("digest", sa.LargeBinary(), nullable=False),
    sqlite_with_rowid=False,  # the key orders the table: one tree to write, not two
)

study_evaluations = _table(
    "study_evaluations",
    sa.Column(
        "study_id",
        sa.Integer(),
        sa.ForeignKey("studies.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("context_id", sa.Integer(), nullable=False),
    sa.Column("architecture_id", sa.Integer(), nullable=False),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("digest", sa.LargeBinary(), nullable=False),
    sa.Column("stored", sa.Double(), nullable=True),
    _text("origin", nullable=True),
    sa.ForeignKeyConstraint(
        ["context_id", "architecture_id", "attempt"],
        ["evaluations.context_id", "evaluations.architecture_id", "evaluations.attempt"],
    ),
    sa.UniqueConstraint("study_id", "architecture_id"),
    sqlite_with_rowid=False,
)

verified = _table(
    "verified",
    sa.Column(
        "study_id",
        sa.Integer(),
        sa.ForeignKey("studies.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column(
        "architecture_id", sa.Integer(), sa.ForeignKey("architectures.id"), primary_key=True, autoincrement=False
    ),
    _text("metrics"),
    _text("digest"),
    sqlite_with_rowid=False,
)

# Of the versions of one name, the one with the highest position is current.
targets = _table(
    "targets",
    _text("name", primary_key=True),
    _text("version", primary_key=True),
    sa.Column("position", sa.Integer(), nullable=False),
    _text("kind"),
    _text("settings"),
    _text("description"),
)

measurements = _table(
    "measurements",
    _text("target", primary_key=True),
    _text("version", primary_key=True),
    sa.Column(
        "architecture_id", sa.Integer(), sa.ForeignKey("architectures.id"), primary_key=True, autoincrement=False
    ),
    _text("network", primary_key=True),
    sa.Column("median_ms", sa.Double(), nullable=False),
    sa.Column("iqr_ms", sa.Double(), nullable=False),
    sa.Column("repeats", sa.Integer(), nullable=False),
    _text("conditions"),
    sa.Column("peak_bytes", sa.BigInteger(), nullable=True),
    sa.Column("energy_mj", sa.Double(), nullable=True),
    _text("notes"),
    _text("created"),
    sa.ForeignKeyConstraint(["target", "version"], ["targets.name", "targets.version"]),
    sqlite_with_rowid=False,
)

predictors = _table(
    "predictors",
    _text("target", primary_key=True),
    _text("version", primary_key=True),
    _text("space_digest", primary_key=True),
    _text("network", primary_key=True),
    _text("kind"),
    _text("quality"),
    _text("content"),
    _text("warnings"),
    _text("created"),
    sa.ForeignKeyConstraint(["target", "version"], ["targets.name", "targets.version"]),
)

# A curve may exist without a stored supernet, so the digest of the weights is no foreign key.
curve_points = _table(
    "curve_points",
    _text("supernet_digest", primary_key=True),
    sa.Column("step", sa.BigInteger(), primary_key=True, autoincrement=False),
    _text("which", primary_key=True),
    _text("metric", primary_key=True),
    sa.Column("value", sa.Double(), nullable=True),
    sqlite_with_rowid=False,
)

# The distributions of a gradient search are stored before their study starts, so the study need not exist.
distributions = _table(
    "distributions",
    _text("study", primary_key=True),
    sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
    _text("key", index=True),
    _text("content"),
)

trust = _table("trust", _text("supernet_digest", primary_key=True), _text("report"))

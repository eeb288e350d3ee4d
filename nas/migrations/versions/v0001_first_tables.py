"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "architectures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_architectures"),
        sa.UniqueConstraint("digest", name="uq_architectures_digest"),
    )
    op.create_table(
        "contexts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_contexts"),
        sa.UniqueConstraint("weights", "data", name="uq_contexts_weights_data"),
    )
    op.create_table(
        "curve_points",
        sa.Column("supernet_digest", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("which", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("supernet_digest", "step", "which", "metric", name="pk_curve_points"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "distributions",
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study", "position", name="pk_distributions"),
    )
    op.create_index("ix_distributions_key", "distributions", ["key"])
    op.create_table(
        "spaces",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("declaration", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_spaces"),
    )
    op.create_table(
        "targets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="pk_targets"),
    )
    op.create_table(
        "trust",
        sa.Column("supernet_digest", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("supernet_digest", name="pk_trust"),
    )
    op.create_table(
        "evaluations",
        sa.Column("context_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("architecture_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name="fk_evaluations_architecture_id"),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.id"], name="fk_evaluations_context_id"),
        sa.PrimaryKeyConstraint("context_id", "architecture_id", "attempt", name="pk_evaluations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "measurements",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("architecture_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("median_ms", sa.Double(), nullable=False),
        sa.Column("iqr_ms", sa.Double(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.Column("peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("energy_mj", sa.Double(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name="fk_measurements_architecture_id"),
        sa.ForeignKeyConstraint(
            ["target", "version"], ["targets.name", "targets.version"], name="fk_measurements_target_version"
        ),
        sa.PrimaryKeyConstraint("target", "version", "architecture_id", "network", name="pk_measurements"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "predictors",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("space_digest", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["target", "version"], ["targets.name", "targets.version"], name="fk_predictors_target_version"
        ),
        sa.PrimaryKeyConstraint("target", "version", "space_digest", "network", name="pk_predictors"),
    )
    op.create_table(
        "supernets",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("space_digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sharing", sa.Text(), nullable=False),
        sa.Column("weights_path", sa.Text(), nullable=False),
        sa.Column("task_digest", sa.Text(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["space_digest"], ["spaces.digest"], name="fk_supernets_space_digest"),
        sa.PrimaryKeyConstraint("digest", name="pk_supernets"),
    )
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("space_digest", sa.Text(), nullable=False),
        sa.Column("supernet_digest", sa.Text(), nullable=True),
        sa.Column("objectives", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("searcher", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("run_file", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["space_digest"], ["spaces.digest"], name="fk_studies_space_digest"),
        sa.ForeignKeyConstraint(["supernet_digest"], ["supernets.digest"], name="fk_studies_supernet_digest"),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
        sa.UniqueConstraint("name", name="uq_studies_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "study_evaluations",
        sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("context_id", sa.Integer(), nullable=False),
        sa.Column("architecture_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["context_id", "architecture_id", "attempt"],
            ["evaluations.context_id", "evaluations.architecture_id", "evaluations.attempt"],
            name="fk_study_evaluations_context_id_architecture_id_attempt",
        ),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_study_evaluations_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "position", name="pk_study_evaluations"),
        sa.UniqueConstraint("study_id", "architecture_id", name="uq_study_evaluations_study_id_architecture_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "verified",
        sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("architecture_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name="fk_verified_architecture_id"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_verified_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "architecture_id", name="pk_verified"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("verified")
    op.drop_table("study_evaluations")
    op.drop_table("studies")
    op.drop_table("supernets")
    op.drop_table("predictors")
    op.drop_table("measurements")
    op.drop_table("evaluations")
    op.drop_table("trust")
    op.drop_table("targets")
    op.drop_table("spaces")
    op.drop_table("distributions")
    op.drop_table("curve_points")
    op.drop_table("contexts")
    op.drop_table("architectures")

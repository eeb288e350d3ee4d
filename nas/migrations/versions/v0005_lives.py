"""When an evaluation was stored in a study, and how its architecture came to be proposed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    with op.batch_alter_table("study_evaluations") as links:
        links.add_column(sa.Column("stored", sa.Double(), nullable=True))
        links.add_column(sa.Column("origin", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("study_evaluations", table_kwargs={"sqlite_with_rowid": False}) as links:
        links.drop_column("origin")
        links.drop_column("stored")

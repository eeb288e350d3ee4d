"""Alembic executes this module: it runs the steps on the connection and in the transaction of `opening._migrate`."""

from alembic import context

from nas.migrations import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    version_table=tables.version.name,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()

"""Runs the migrations on the connection that `database.open_board` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from superbench_leaderboard.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # SQLite can, once the driver's own transactions are off
)
with context.begin_transaction():
    context.run_migrations()

"""The append-only records.

Triggers forbid changing and deleting them, and admit only the next link of the chain: in SQLite `INSERT OR REPLACE`
would otherwise delete a row without asking the DELETE trigger.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from superbench.errors import IntegrityError

revision = "0001"
down_revision = None

SQLITE = (
    "CREATE TRIGGER record_no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'records are append-only'); END",
    "CREATE TRIGGER record_no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'records are append-only'); END",
    """CREATE TRIGGER record_next_only BEFORE INSERT ON record
    WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM record)
      OR NEW.prev_sha <> coalesce((SELECT chain_sha FROM record ORDER BY seq DESC LIMIT 1), NEW.prev_sha)
    BEGIN SELECT RAISE(ABORT, 'a record must follow the last one'); END""",
)
POSTGRESQL = (
    """CREATE FUNCTION record_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'records are append-only'; END $$""",
    """CREATE TRIGGER record_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON record
    FOR EACH STATEMENT EXECUTE FUNCTION record_append_only()""",
    """CREATE FUNCTION record_next_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM record)
        OR NEW.prev_sha <> coalesce((SELECT chain_sha FROM record ORDER BY seq DESC LIMIT 1), NEW.prev_sha)
      THEN RAISE EXCEPTION 'a record must follow the last one';
      END IF;
      RETURN NEW;
    END $$""",
    "CREATE TRIGGER record_next_only BEFORE INSERT ON record FOR EACH ROW EXECUTE FUNCTION record_next_only()",
)


def upgrade() -> None:
    """Make the table `record` and what guards it."""
    op.create_table(
        "record",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("schema_ver", sa.Integer, nullable=False),
        sa.Column("body_sha", sa.Text, nullable=False),
        sa.Column("prev_sha", sa.Text, nullable=False),
        sa.Column("chain_sha", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.CheckConstraint("kind IN ('result', 'import', 'retraction', 'note')", name="record_kind"),
        sa.CheckConstraint("length(body_sha) = 64 AND length(prev_sha) = 64", name="record_sha"),
        sa.CheckConstraint("length(chain_sha) = 64", name="record_chain"),
    )
    op.create_index("record_run_id", "record", ["run_id"])
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Refused: below the first schema there are no records, and records are never deleted."""
    raise IntegrityError("records are never deleted", "use another database")

"""The table `result`, an index of the records. `open_board` fills it from them after every migration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the empty table `result`."""
    op.create_table(
        "result",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.ForeignKey("record.seq"), nullable=False
        ),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("group_id", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("task_version", sa.Text, nullable=False),
        sa.Column("protocol_sha", sa.Text, nullable=False),
        sa.Column("data_sha", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("departures", sa.Text, nullable=False),
        sa.Column("comparable_key", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text, nullable=False),
        sa.Column("upstream_key", sa.Text, nullable=False),
        sa.Column("layers", sa.Text, nullable=False),
        sa.Column("head", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("lr", sa.Double),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("n_items", sa.BigInteger, nullable=False),
        sa.Column("superbench", sa.Text, nullable=False),
        sa.Column("finished", sa.Text, nullable=False),
        sa.Column("retracted_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.ForeignKey("record.seq")),
        sa.PrimaryKeyConstraint("seq"),
        sa.CheckConstraint("label IN ('custom', 'superb')", name="result_label"),
        sa.CheckConstraint("direction IN ('min', 'max')", name="result_direction"),
        sa.CheckConstraint("value BETWEEN -1e300 AND 1e300", name="result_value"),
        sa.CheckConstraint("n_items > 0", name="result_items"),
    )
    op.create_index("result_comparable", "result", ["task", "label", "comparable_key"])
    op.create_index(
        "result_live_run",
        "result",
        ["run_id"],
        unique=True,
        sqlite_where=sa.text("retracted_by IS NULL"),
        postgresql_where=sa.text("retracted_by IS NULL"),
    )


def downgrade() -> None:
    """Drop the index of the records; they hold all it held."""
    op.drop_table("result")

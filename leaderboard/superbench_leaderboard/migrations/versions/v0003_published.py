"""The table `published`: scores that others printed, for reference. Our own records know nothing of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the empty table `published`."""
    op.create_table(
        "published",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("parameters", sa.BigInteger),
        sa.Column("stride", sa.BigInteger),
        sa.Column("submitter", sa.Text, nullable=False),
        sa.Column("submitted", sa.Text, nullable=False),
        sa.Column("track", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("corpus", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("source", "snapshot", "system", "task", "metric"),
        sa.CheckConstraint("direction IN ('min', 'max')", name="published_direction"),
        sa.CheckConstraint("value BETWEEN -1e300 AND 1e300", name="published_value"),
        sa.CheckConstraint("unit IN ('percent', 'mos', 'dB')", name="published_unit"),
    )


def downgrade() -> None:
    """Drop what can be imported again."""
    op.drop_table("published")

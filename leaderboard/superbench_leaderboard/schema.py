"""The tables as they are now. Migrations make them; a test holds the two together.

`record` is the truth: append-only, each row chained to the one before. `result` is an index of it that `show` and
`export` read, and that can be rebuilt from the records at any time. `published` holds scores that others printed, which
can be imported again at any time.
"""

from __future__ import annotations

import sqlalchemy as sa

VERSION_TABLE = "leaderboard_schema"  # not Alembic's default name: a PostgreSQL database may hold other applications
REVISIONS = ("0001", "0002", "0003")  # every schema there was, oldest first
CURRENT = REVISIONS[-1]

metadata = sa.MetaData()

record = sa.Table(
    "record",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.Text, nullable=False),  # the run it speaks of
    sa.Column("kind", sa.Text, nullable=False),  # result, import, retraction or note
    sa.Column("schema_ver", sa.Integer, nullable=False),  # of the body
    sa.Column("body_sha", sa.Text, nullable=False),  # SHA-256 of the body in UTF-8
    sa.Column("prev_sha", sa.Text, nullable=False),  # chain_sha of the record before
    sa.Column("chain_sha", sa.Text, nullable=False, unique=True),  # SHA-256 of prev_sha + body_sha + run_id
    sa.Column("body", sa.Text, nullable=False),  # canonical JSON; last, so that SQLite reads the rest without it
    sa.Index("record_run_id", "run_id"),
)

result = sa.Table(
    "result",
    metadata,
    sa.Column("seq", sa.ForeignKey("record.seq"), primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("group_id", sa.Text, nullable=False),  # results of several seeds of one plan share it
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("task_version", sa.Text, nullable=False),
    sa.Column("protocol_sha", sa.Text, nullable=False),
    sa.Column("data_sha", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),  # custom or superb
    sa.Column("departures", sa.Text, nullable=False),  # why it is custom: a JSON list
    sa.Column("comparable_key", sa.Text, nullable=False),  # equal: may be ranked against each other
    sa.Column("upstream", sa.Text, nullable=False),
    sa.Column("upstream_key", sa.Text, nullable=False),
    sa.Column("layers", sa.Text, nullable=False),
    sa.Column("head", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("lr", sa.Double),  # null where folds chose differently
    sa.Column("metric", sa.Text, nullable=False),  # the headline
    sa.Column("direction", sa.Text, nullable=False),  # min or max
    sa.Column("value", sa.Double, nullable=False),  # a fraction
    sa.Column("n_items", sa.BigInteger, nullable=False),  # words, phones or utterances the headline counts on test
    sa.Column("superbench", sa.Text, nullable=False),  # the version that ran it, empty where unknown
    sa.Column("finished", sa.Text, nullable=False),  # UTC, ISO 8601; for people, never for order
    sa.Column("retracted_by", sa.ForeignKey("record.seq")),
    sa.Index("result_comparable", "task", "label", "comparable_key"),
    sa.Index(
        "result_live_run",
        "run_id",
        unique=True,
        sqlite_where=sa.text("retracted_by IS NULL"),
        postgresql_where=sa.text("retracted_by IS NULL"),
    ),
)

published = sa.Table(
    "published",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),  # "superb"
    sa.Column("snapshot", sa.Text, primary_key=True),  # date and commit of the source
    sa.Column("system", sa.Text, primary_key=True),  # as published
    sa.Column("task", sa.Text, primary_key=True),  # by our names
    sa.Column("metric", sa.Text, primary_key=True),  # by our names
    sa.Column("value", sa.Double, nullable=False),  # as published, in `unit`
    sa.Column("unit", sa.Text, nullable=False),  # percent, mos or dB
    sa.Column("direction", sa.Text, nullable=False),  # min or max
    sa.Column("parameters", sa.BigInteger),  # of the upstream
    sa.Column("stride", sa.BigInteger),  # ms
    sa.Column("submitter", sa.Text, nullable=False),
    sa.Column("submitted", sa.Text, nullable=False),  # as published
    sa.Column("track", sa.Text, nullable=False),
    sa.Column("input", sa.Text, nullable=False),
    sa.Column("corpus", sa.Text, nullable=False),  # what the upstream was trained on
    sa.Column("description", sa.Text, nullable=False),
)

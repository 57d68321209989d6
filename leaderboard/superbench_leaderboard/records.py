"""The records: appended, chained, never changed; and the index that follows from them.

A record's body is canonical JSON: `{"kind", "schema", "run_id", "recorded"}` and, by kind, `"result"` (the whole
`result.json`), or `"retracts"` (a seq) and `"why"`. Each record's `chain_sha` is the SHA-256 of the chain before it,
its body's hash and its run: editing, removing or reordering records breaks the chain. It makes tampering evident, not
impossible: whoever owns the file can chain it anew, and only a head published elsewhere shows that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from superbench.contracts import canonical_json
from superbench.errors import IntegrityError, SuperbenchError, UsageError, did_you_mean
from superbench_leaderboard.rows import ResultRow, plain_json, result_from_json, row_of
from superbench_leaderboard.schema import record, result

SCHEMA = 1  # of a record's body
GENESIS = "0" * 64  # what the first record follows
RESULTS = ("result", "import")  # heard from a run; read from a file

Kind = Literal["result", "import", "retraction", "note"]
Outcome = Literal["added", "known", "retracted"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A result as the board holds it."""

    seq: int
    chain_sha: str
    retracted_by: int | None  # seq of the retraction
    row: ResultRow


@dataclass(frozen=True, kw_only=True)
class Chain:
    """How many records there are, and the hash that stands for all of them."""

    records: int
    head: str


def link(prev_sha: str, body_sha: str, run_id: str) -> str:
    """The next hash of the chain."""
    return hashlib.sha256((prev_sha + body_sha + run_id).encode()).hexdigest()


def chain_end(connection: Connection) -> Chain:
    """How many records there are, and the hash of the last."""
    query = sa.select(record.c.seq, record.c.chain_sha).order_by(record.c.seq.desc()).limit(1)
    last = connection.execute(query).first()
    return Chain(records=last.seq, head=last.chain_sha) if last else Chain(records=0, head=GENESIS)


def append(connection: Connection, kind: Kind, run_id: str, content: Mapping[str, Any]) -> int:
    """Append one record inside a `Board.writing` transaction and return its seq."""
    last = connection.execute(
        sa.select(record.c.seq, record.c.chain_sha).order_by(record.c.seq.desc()).limit(1)
    ).first()
    seq, prev_sha = (last.seq + 1, last.chain_sha) if last else (1, GENESIS)
    recorded = datetime.now(UTC).isoformat(timespec="seconds")
    body = canonical_json({"kind": kind, "schema": SCHEMA, "run_id": run_id, "recorded": recorded, **content})
    body_sha = hashlib.sha256(body.encode()).hexdigest()
    row = {
        "seq": seq,
        "run_id": run_id,
        "kind": kind,
        "schema_ver": SCHEMA,
        "body_sha": body_sha,
        "prev_sha": prev_sha,
        "chain_sha": link(prev_sha, body_sha, run_id),
        "body": body,
    }
    connection.execute(record.insert(), row)
    return seq


def record_result(
    connection: Connection, data: Mapping[str, Any], kind: Literal["result", "import"] = "result"
) -> Outcome:
    """Record one result, once. `data` is what `Result.to_json` gives.

    Returns "added", "known" (this run stands there with this score), or "retracted" (this score of this run was
    retracted, and stays so). Raises `IntegrityError` where the run stands there with another score or other data, or
    where the result cannot be true; `NumericalError` for NaN and infinities.
    """
    data = plain_json(data)
    row = row_of(data)
    earlier = connection.execute(
        sa.select(record.c.seq, record.c.body, result.c.comparable_key, result.c.retracted_by)
        .join(result, result.c.seq == record.c.seq)
        .where(result.c.run_id == row.run_id)
    ).all()
    for old in earlier:
        same = old.comparable_key == row.comparable_key and json.loads(old.body)["result"]["scores"] == data["scores"]
        if same:
            return "known" if old.retracted_by is None else "retracted"
        if old.retracted_by is None:
            raise IntegrityError(
                f"run {row.run_id!r} is record {old.seq} with another score: one plan and seed give one score",
                f"where that one is wrong: `superbench leaderboard retract {row.run_id} --why TEXT`, then add this",
            )
    seq = append(connection, kind, row.run_id, {"result": data})
    connection.execute(result.insert(), _columns(seq, row))
    return "added"


def retract(connection: Connection, run_id: str, why: str) -> int:
    """Take a run's result off the board; it stays in the records. Returns the seq of the retraction."""
    if not why.strip():
        raise UsageError("a retraction needs its reason", "--why TEXT")
    found = sa.select(result.c.seq).where(result.c.run_id == run_id, result.c.retracted_by.is_(None))
    seq = connection.scalar(found)
    if seq is None:
        live = connection.scalars(sa.select(result.c.run_id).where(result.c.retracted_by.is_(None)))
        raise UsageError(f"no run {run_id!r} stands on the leaderboard", did_you_mean(run_id, live))
    retraction = append(connection, "retraction", run_id, plain_json({"retracts": seq, "why": why}))
    connection.execute(result.update().where(result.c.seq == seq).values(retracted_by=retraction))
    return retraction


def entries(connection: Connection) -> list[Entry]:
    """All results in the order they came, retracted ones included."""
    query = sa.select(result, record.c.chain_sha).join(record, record.c.seq == result.c.seq).order_by(result.c.seq)
    return [_entry(columns) for columns in connection.execute(query).mappings()]


def verify(connection: Connection, head: str = "") -> Chain:
    """Walk the whole chain and compare the index with it.

    Raises `IntegrityError` naming the first record that is not what was written. `head`: a hash that an earlier
    `verify` or export printed, or how it begins; the chain must still contain it, which shows a cut tail.
    """
    last, seen = GENESIS, GENESIS.startswith(head)
    count = 0
    expected: dict[int, Entry] = {}
    for found in _records(connection):
        count += 1
        _check_record(found, count, last)
        last = found.chain_sha
        seen = seen or last.startswith(head)
        _follow(expected, found)
    if not seen:
        raise IntegrityError(
            f"none of the {count} records has the hash {head}: records were cut off or chained anew",
            "compare with a copy of the database from the time of that hash",
        )
    stored = {entry.seq: entry for entry in entries(connection)}
    for seq in sorted(expected.keys() | stored.keys()):
        if expected.get(seq) != stored.get(seq):
            raise IntegrityError(
                f"the index row of record {seq} does not say what the record says",
                "the records are whole: `superbench leaderboard reindex` makes the index anew",
            )
    return Chain(records=count, head=last)


def rebuild_index(connection: Connection) -> int:
    """Make the table `result` anew from the records; return how many results it holds."""
    expected: dict[int, Entry] = {}
    for found in _records(connection):
        _follow(expected, found)
    connection.execute(result.delete())
    rows = [_columns(entry.seq, entry.row, entry.retracted_by) for entry in expected.values()]
    if rows:
        connection.execute(result.insert(), rows)
    return len(rows)


def _records(connection: Connection) -> Iterator[sa.Row[Any]]:
    return iter(connection.execute(sa.select(record).order_by(record.c.seq).execution_options(yield_per=1000)))


def _check_record(found: sa.Row[Any], seq: int, prev_sha: str) -> None:
    wrong = ""
    if found.seq != seq:
        wrong = f"record {seq} is missing"
    elif hashlib.sha256(found.body.encode()).hexdigest() != found.body_sha:
        wrong = "its body is not the one that was written"
    elif found.prev_sha != prev_sha:
        wrong = "it does not follow the record before it"
    elif found.chain_sha != link(found.prev_sha, found.body_sha, found.run_id):
        wrong = "its link in the chain is false"
    else:
        body = _body(found)
        if (body.get("kind"), body.get("schema"), body.get("run_id")) != (found.kind, found.schema_ver, found.run_id):
            wrong = "its kind, schema or run is not the one in its body"
    if wrong:
        raise IntegrityError(
            f"record {found.seq} (run {found.run_id!r}) was changed: {wrong}", "restore a copy of the database"
        )


def _body(found: sa.Row[Any]) -> dict[str, Any]:
    try:
        body = json.loads(found.body)
    except ValueError as error:
        raise IntegrityError(f"the body of record {found.seq} is not JSON: {error}", "restore a copy") from error
    if not isinstance(body, dict):
        raise IntegrityError(f"the body of record {found.seq} is no JSON object", "restore a copy")
    return body


def _follow(expected: dict[int, Entry], found: sa.Row[Any]) -> None:
    """Bring the index, as it should be, up to one record further."""
    body = _body(found)
    if found.kind in RESULTS:
        content = body.get("result")
        try:
            row = result_from_json(content if isinstance(content, dict) else {})
        except SuperbenchError as error:
            raise IntegrityError(f"record {found.seq}: {error.message}", error.hint) from error
        expected[found.seq] = Entry(seq=found.seq, chain_sha=found.chain_sha, retracted_by=None, row=row)
    elif found.kind == "retraction":
        target = body.get("retracts")
        if target not in expected:
            raise IntegrityError(f"record {found.seq} retracts record {target}, which is no result", "restore a copy")
        expected[target] = replace(expected[target], retracted_by=found.seq)


def _columns(seq: int, row: ResultRow, retracted_by: int | None = None) -> dict[str, Any]:
    return asdict(row) | {"seq": seq, "departures": canonical_json(row.departures), "retracted_by": retracted_by}


def _entry(columns: sa.RowMapping) -> Entry:
    fields = {name: columns[name] for name in ResultRow.__dataclass_fields__}
    row = ResultRow(**fields | {"departures": tuple(json.loads(fields["departures"]))})
    return Entry(seq=columns["seq"], chain_sha=columns["chain_sha"], retracted_by=columns["retracted_by"], row=row)

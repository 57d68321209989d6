"""Results made by hand, and a board to put them on."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import superbench_leaderboard
from superbench import results
from superbench.contracts import Candidate, FeatureCount, Provenance, Result, Score, Settings
from superbench.environment import versions
from superbench_leaderboard.commands import leaderboard
from superbench_leaderboard.database import open_board
from superbench_leaderboard.records import record_result

DATA = "d" * 64
PROTOCOL = "a" * 64


def score(hits, items=3081, metric="accuracy", direction="max"):
    return Score(metric=metric, value=hits / items, numerator=hits, denominator=items, direction=direction)


RESULT = Result(
    schema=results.SCHEMA,
    run_id="0" * 64,
    group="9" * 64,
    label="custom",
    departures=("the data are not the official ones",),
    task="ks",
    task_version="1.2",
    protocol_sha=PROTOCOL,
    upstream="hubert_base",
    upstream_plugin=Provenance(plugin="upstreams", distribution="superbench", version="0.1"),
    upstream_key="b" * 64,
    seed=0,
    lr=1e-3,
    layers="all",
    head="mean_linear:projector=256",
    scores=(score(2970),),
    dev_scores=(score(950, 1000),),
    train_scores=(),
    fold_scores={},
    candidates=(
        Candidate(
            partition="all", seed=0, lr=1e-3, dev=0.95, best_step=200, improved=True, train_loss=0.1, chosen=True
        ),
    ),
    layer_weights={"all": (0.25, 0.75)},
    layer_weights_norm_corrected={"all": (0.5, 0.5)},
    features=FeatureCount(form="pooled", segments=10, computed=10, reused=0, bytes=100, seconds=1.0),
    data={"sha": DATA, "counts": {"train": 1, "dev": 1, "test": 3081}},
    plan={"task": "ks"},
    environment={"versions": versions(), "git": "", "device": "cpu"},
    timings={"features": 1.5},
    finished="2026-01-02T03:04:05Z",
    folder="runs/ks/hubert_base/0",
)


@pytest.fixture
def make_result():
    """`make_result(hits=2970, run_id="r1", upstream="x", ...)`: a true result, any field changed."""

    def make(hits=2970, *, items=3081, metric="accuracy", direction="max", **changes):
        changes.setdefault("scores", (score(hits, items, metric, direction),))
        return replace(RESULT, **changes)

    return make


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path / 'board.db'}"


@pytest.fixture
def board(database):
    return open_board(database)


@pytest.fixture
def put(board):
    """Record results on `board`, in one transaction; returns the outcomes."""

    def record_all(*results):
        with board.writing() as connection:
            return [record_result(connection, result.to_json()) for result in results]

    return record_all


@pytest.fixture
def write_result(tmp_path):
    """Write a result as a run folder has it; returns the folder."""

    def write(result, name):
        folder = tmp_path / "runs" / name
        results.write_result(folder, result)
        return folder

    return write


@pytest.fixture
def settings(tmp_path, database):
    return Settings(store=tmp_path / "store", runs=tmp_path / "runs", database=database)


@pytest.fixture
def run(settings):
    """Run a command; `said` is stdout, `noted` stderr; errors are raised as the command line sees them."""

    def invoke(*words):
        done = CliRunner(catch_exceptions=False).invoke(
            leaderboard, [str(word) for word in words], obj=SimpleNamespace(settings=settings)
        )
        assert done.exit_code in (0, 2)
        return SimpleNamespace(said=done.stdout, noted=done.stderr, exit_code=done.exit_code)

    return invoke


@pytest.fixture
def hear(settings):
    def announce(*results):
        for result in results:
            superbench_leaderboard.superbench_result(result, settings)

    return announce

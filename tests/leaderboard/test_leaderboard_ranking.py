"""Only what is comparable is ranked together; seeds are averaged, ties share a rank."""

import math
import random

import pytest

from superbench_leaderboard.ranking import rank
from superbench_leaderboard.records import entries, retract


@pytest.fixture
def tables(board, put):
    def ranked(*results):
        put(*results)
        with board.reading() as connection:
            return rank(entries(connection))

    return ranked


def ranks(table):
    return [(standing.rank, standing.upstream) for standing in table.standings]


def test_best_first_by_direction(tables, make_result):
    results = []
    for name, count in [("a", 10), ("b", 30), ("c", 20)]:
        results.append(make_result(count, run_id=f"acc-{name}", upstream=name))
        results.append(
            make_result(count, run_id=f"wer-{name}", upstream=name, task="asr", metric="wer", direction="min")
        )
    asr, ks = tables(*results)
    assert ranks(ks) == [(1, "b"), (2, "c"), (3, "a")]
    assert ranks(asr) == [(1, "a"), (2, "c"), (3, "b")]


def test_ties_share_a_rank_and_the_next_is_skipped(tables, make_result):
    (table,) = tables(
        *[make_result(hits, run_id=name, upstream=name) for name, hits in [("a", 5), ("b", 9), ("c", 9), ("d", 1)]]
    )
    assert ranks(table) == [(1, "b"), (1, "c"), (3, "a"), (4, "d")]


def test_means_equal_but_for_rounding_tie(tables, make_result):
    seeds = [(0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (0.2, 0.2, 0.2)]
    results = [
        make_result(value * 10, items=10, run_id=f"{number}-{seed}", upstream=str(number), seed=seed)
        for number, values in enumerate(seeds)
        for seed, value in enumerate(values)
    ]
    (table,) = tables(*results)
    assert [standing.rank for standing in table.standings] == [1, 1, 1]


def test_seeds_are_averaged_with_their_spread(tables, make_result):
    hits = {0: 2900, 1: 2950, 2: 3000}
    (table,) = tables(*[make_result(count, run_id=str(seed), seed=seed) for seed, count in hits.items()])
    (standing,) = table.standings
    assert standing.seeds == 3
    assert standing.mean == pytest.approx(2950 / 3081, abs=1e-15)
    assert standing.sd == pytest.approx(50 / 3081, abs=1e-15)


def test_one_seed_has_no_spread_and_a_seed_run_twice_counts_once(tables, make_result):
    (table,) = tables(make_result(2000, run_id="a"), make_result(2002, run_id="b", group="8" * 64))
    (standing,) = table.standings
    assert (standing.seeds, standing.sd, len(standing.entries)) == (1, None, 2)
    assert standing.mean == pytest.approx(2001 / 3081, abs=1e-15)


def test_other_weights_layers_or_head_stand_in_another_line(tables, make_result):
    changes = [{}, {"upstream_key": "c" * 64}, {"layers": "5"}, {"head": "linear"}]
    (table,) = tables(*[make_result(run_id=str(number), **change) for number, change in enumerate(changes)])
    assert len(table.standings) == 4


def test_custom_and_superb_never_share_a_table_and_superb_comes_first(tables, make_result):
    found = tables(
        make_result(run_id="c", label="custom", departures=("--limit 10", "cpu")),
        make_result(run_id="d", label="custom", departures=("--limit 10",)),
        make_result(run_id="s", label="superb", departures=()),
    )
    assert [(table.label, table.departures, len(table.standings)) for table in found] == [
        ("superb", (), 1),
        ("custom", ("--limit 10", "cpu"), 1),
    ]


def test_retracted_results_have_no_rank_and_count_nowhere(board, put, tables, make_result):
    put(make_result(3000, run_id="wrong", seed=0), make_result(2000, run_id="right", seed=1))
    with board.writing() as connection:
        retract(connection, "wrong", "trained on the test set")
    (table,) = tables()
    assert [(standing.rank, standing.mean, standing.seeds) for standing in table.standings] == [
        (1, 2000 / 3081, 1),
        (None, 3000 / 3081, 1),
    ]


def test_tables_do_not_depend_on_the_order_of_results(board, put, make_result):
    put(
        *[
            make_result(number % 7, run_id=str(number), upstream=f"u{number % 5}", seed=number, label=label)
            for number in range(40)
            for label in (["custom", "superb"][number % 2],)
        ]
    )
    with board.reading() as connection:
        found = entries(connection)
    wanted = rank(found)
    for seed in range(5):
        random.Random(seed).shuffle(found)
        assert rank(found) == wanted
    assert all(math.isfinite(standing.mean) for table in wanted for standing in table.standings)


def test_learning_rates_of_seeds_are_listed_once(tables, make_result):
    lrs = [1e-3, 1e-4, None, 1e-3]
    (table,) = tables(*[make_result(run_id=str(seed), seed=seed, lr=lr) for seed, lr in enumerate(lrs)])
    assert table.standings[0].lrs == (1e-4, 1e-3, None)

"""Exports: the same bytes for the same records, readable by pandas, harmless in a spreadsheet."""

import csv as csv_reader
import io
import random

import pandas as pd
import pytest

from superbench_leaderboard.export import COLUMNS, csv, lines, markdown
from superbench_leaderboard.ranking import rank
from superbench_leaderboard.records import entries

NAMES = ["=cmd()", "+1", "-1", "@x", "\tx", "\rx", "a,b", 'a"b', "a\nb", "x" * 300, "😀 שלום", "NA", "a|b"]


@pytest.fixture
def exported(board, put):
    def make(*results):
        put(*results)
        with board.reading() as connection:
            return lines(rank(entries(connection)))

    return make


def test_pandas_reads_the_csv_and_numbers_stay_numbers(exported, make_result):
    found = exported(make_result(2970, run_id="r1"), make_result(2900, run_id="r2", upstream="NA", lr=None))
    frame = pd.read_csv(io.StringIO(csv(found)), keep_default_na=False, na_values={"lr": [""], "seed_sd": [""]})
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["upstream"]) == ["hubert_base", "NA"]
    assert list(frame["rank"]) == [1, 2]
    assert list(frame["value"]) == [0.963973, 0.941253]
    assert frame["lr"][0] == 0.001
    assert frame["lr"].isna()[1]


def test_text_comes_back_from_the_csv_but_for_the_guard_against_formulas(exported, make_result):
    found = exported(*[make_result(run_id=f"r{number}", upstream=name) for number, name in enumerate(NAMES)])
    rows = list(csv_reader.DictReader(io.StringIO(csv(found), newline="")))
    guarded = {f"r{number}": "'" + name if name[0] in "=+-@\t\r" else name for number, name in enumerate(NAMES)}
    assert {row["run_id"]: row["upstream"] for row in rows} == guarded
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_csv_ends_lines_with_line_feeds_and_has_no_mark(exported, make_result):
    text = csv(exported(make_result()))
    assert text.endswith("\n")
    assert "\r" not in text
    assert text.startswith("task,rank,upstream")


def test_bytes_do_not_depend_on_the_order_of_recording(exported, board, make_result):
    exported(*[make_result(number % 3, run_id=f"r{number}", upstream=f"u{number % 4}") for number in range(30)])
    with board.reading() as connection:
        found = entries(connection)
    wanted = csv(lines(rank(found)))
    random.Random(0).shuffle(found)
    assert csv(lines(rank(found))) == wanted


def test_lines_are_sorted_by_task_group_rank_upstream_and_run(exported, make_result):
    found = exported(
        make_result(5, run_id="z", upstream="b"),
        make_result(5, run_id="y", upstream="a"),
        make_result(9, run_id="x", upstream="c"),
        make_result(1, run_id="w", upstream="c", task="er"),
        make_result(1, run_id="v", upstream="c", label="superb"),
        make_result(9, run_id="q", upstream="c", seed=1),
    )
    assert [line.run_id for line in found] == ["w", "v", "q", "x", "y", "z"]


def test_one_line_per_result_with_the_mean_of_its_seeds(exported, make_result):
    found = exported(make_result(10, items=100, run_id="a"), make_result(20, items=100, run_id="b", seed=1))
    assert [(line.value, line.seed, line.seeds) for line in found] == [(0.1, 0, 2), (0.2, 1, 2)]
    assert csv(found).count("0.15,0.0707107") == 2


def test_markdown_keeps_its_columns_whatever_the_names(exported, make_result):
    found = exported(
        *[make_result(run_id=f"r{number}", upstream=name) for number, name in enumerate([*NAMES, "<script>", "\\|"])]
    )
    text = markdown(found, "f" * 64)
    table, _, footer = text.partition("\n\n")
    rows = table.split("\n")
    assert len(rows) == 2 + len(found)
    for row in rows:
        bare = row.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == len(COLUMNS) + 1
    assert "<script>" not in text
    assert footer.strip() == f"Head of the chain: `{'f' * 64}`"

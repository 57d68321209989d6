"""Published lines: what is shipped is what was published; what is imported is what is shipped."""

import csv
import json
import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy as sa

from superbench.errors import IntegrityError, UsageError
from superbench_leaderboard.database import open_board
from superbench_leaderboard.published_lines import (
    METRICS,
    SOURCES,
    import_lines,
    published_lines,
    shipped,
    verify_published,
)
from superbench_leaderboard.schema import published

SUPERB = SOURCES["superb"]
SCORES = 407  # 20 systems, 21 metrics; less 5 folds of FBANK, and 4 metrics of each of two systems
COLUMNS = {  # the site's column by ours
    "pr.per": "PR_per",
    "ks.accuracy": "KS_acc",
    "ic.accuracy": "IC_acc",
    "sid.accuracy": "SID_acc",
    "er.accuracy": "ER_acc",
    "er.accuracy_fold1": "ERfold1_acc",
    "er.accuracy_fold2": "ERfold2_acc",
    "er.accuracy_fold3": "ERfold3_acc",
    "er.accuracy_fold4": "ERfold4_acc",
    "er.accuracy_fold5": "ERfold5_acc",
    "asr.wer": "ASR_wer",
    "asr.wer_lm": "ASR_LM_wer",
    "qbe.mtwv": "QbE_mtwv",
    "sf.slot_type_f1": "SF_f1",
    "sf.slot_value_cer": "SF_cer",
    "asv.eer": "SV_eer",
    "sd.der": "SD_der",
    "st.bleu": "ST_bleu",
    "se.pesq": "SE_pesq",
    "se.stoi": "SE_stoi",
    "ss.si_sdri": "SS_sisdri",
}
ABOUT = {
    "system": "submitName",
    "submitter": "name",
    "description": "modelDesc",
    "submitted": "aoeTimeUpload",
    "track": "task",
    "input": "inputFormat",
    "corpus": "corpus",
}


@pytest.fixture
def imported(board):
    with board.writing() as connection:
        import_lines(connection, "superb")
    return board


def change(board, **values):
    with board.writing() as connection:
        one = (published.c.system == "WavLM Large") & (published.c.task == "ks")
        connection.execute(published.update().where(one).values(**values))


def test_shipped_file_is_the_published_table_cell_by_cell():
    if "SUPERBENCH_SHARED" not in os.environ:
        pytest.skip("SUPERBENCH_SHARED is not set: the site's own table is not here to compare with")
    site = Path(os.environ["SUPERBENCH_SHARED"]) / "reference" / "superb_leaderboard_public.json"
    theirs = json.loads(site.read_text(encoding="utf-8"))["leaderboard"]
    file = files("superbench_leaderboard").joinpath(SUPERB.file)
    ours = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert len(ours) == len(theirs) == 20
    assert set(ours[0]) == {*ABOUT, "stride", "parameters", *COLUMNS}
    site_columns = {key.removesuffix("_public") for row in theirs for key in row if key.endswith("_public")}
    assert site_columns == set(COLUMNS.values())
    for found, row in zip(ours, theirs, strict=True):
        assert {key: found[key] or "-" for key in ABOUT} == {key: row[name] for key, name in ABOUT.items()}
        assert int(found["stride"]) == int(row["stride"])
        assert int(found["parameters"]) == int(row["paramShared"])
        for column, name in COLUMNS.items():
            value = row[f"{name}_public"]
            assert (found[column] or "-") == str(value), f"{row['submitName']}, {column}"


def test_shipped_lines_are_whole():
    lines = shipped(SUPERB)
    assert len(lines) == len({line.key for line in lines}) == SCORES
    assert len({line.system for line in lines}) == 20
    assert {(line.task, line.metric) for line in lines} == {(metric.task, metric.name) for metric in METRICS}
    (line,) = (one for one in lines if (one.system, one.task, one.metric) == ("FaST-VGS+", "asr", "wer_lm"))
    assert (line.value, line.unit, line.direction, line.fraction) == (6.37, "percent", "min", 6.37 / 100)
    assert (line.parameters, line.stride, line.submitted) == (217_230_000, 20, "2021-11-17 04:03:32")
    assert (line.submitter, line.corpus) == ("Puyuan Peng, David Harwath", "LS 960 hr, SpokenCOCO 947 hr")
    assert (line.source, line.snapshot) == ("superb", "2022-04-10 a35a9ec")


def test_scales_are_those_of_the_field():
    by_unit = {unit: {m.name for m in METRICS if m.unit == unit} for unit in ("mos", "dB")}
    assert by_unit == {"mos": {"pesq"}, "dB": {"si_sdri"}}
    assert [metric.published_from(0.25) for metric in METRICS if metric.task == "ks"] == [25]
    assert [metric.published_from(2.5) for metric in METRICS if metric.name == "pesq"] == [2.5]
    (fbank,) = (line for line in shipped(SUPERB) if (line.system, line.metric) == ("FBANK", "si_sdri"))
    assert fbank.fraction == 9.2341


def test_import_is_once_whatever_the_repeats(board):
    with board.writing() as connection:
        first = import_lines(connection, "superb")
    with board.writing() as connection:
        second = import_lines(connection, "superb")
    assert [(one.new, one.known) for one in (first, second)] == [(SCORES, 0), (0, SCORES)]
    with board.reading() as connection:
        assert sorted(published_lines(connection), key=lambda line: line.key) == sorted(
            shipped(SUPERB), key=lambda line: line.key
        )
        assert verify_published(connection) == SCORES


def test_import_goes_on_where_some_lines_are(imported):
    with imported.writing() as connection:
        connection.execute(published.delete().where(published.c.system == "NPC"))
    with imported.writing() as connection:
        done = import_lines(connection, "superb")
    assert (done.new, done.known) == (21, SCORES - 21)


def test_unknown_source_is_refused_with_those_that_are(board):
    with pytest.raises(UsageError, match="'hear'") as caught, board.writing() as connection:
        import_lines(connection, "hear")
    assert "superb" in caught.value.hint


def test_lines_come_by_task_and_metric_best_first(imported):
    with imported.reading() as connection:
        lines = published_lines(connection)
    assert [line.system for line in lines if line.metric == "wer"][:2] == ["WavLM Large", "HuBERT Large"]
    assert [line.system for line in lines if line.task == "ks"][:2] == ["WavLM Large", "WavLM Base+"]
    groups = [(line.task, line.metric) for line in lines]
    assert groups == sorted(groups)


def test_board_without_published_lines_is_whole(board):
    with board.reading() as connection:
        assert verify_published(connection) == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"value": 99.99}, r"'WavLM Large', ks accuracy .*says value = 99\.99, but 97\.86 was published"),
        ({"parameters": 1}, r"'WavLM Large', ks accuracy .*says parameters = 1, but 316620000 was published"),
        ({"system": "Mine"}, r"'Mine', ks accuracy .*is in no file"),
        ({"source": "hear"}, r"'WavLM Large', ks accuracy .source 'hear'.*is in no file"),
        ({"snapshot": "2021"}, r"'WavLM Large', ks accuracy .*2021\) is in no file"),
    ],
)
def test_changed_line_is_named(imported, values, said):
    change(imported, **values)
    with imported.reading() as connection, pytest.raises(IntegrityError, match=said) as caught:
        verify_published(connection)
    assert "superbench leaderboard import" in caught.value.hint


def test_missing_line_is_named_and_the_first_one(imported):
    with imported.writing() as connection:
        connection.execute(published.delete().where(published.c.task.in_(["sd", "ks"])))
    with imported.reading() as connection, pytest.raises(IntegrityError, match=r"'APC', ks accuracy .*is missing"):
        verify_published(connection)


@pytest.mark.parametrize("values", [{"value": 1.0}, {"system": "Mine"}])
def test_import_puts_right_what_was_changed(imported, values):
    change(imported, **values)
    with imported.writing() as connection:
        done = import_lines(connection, "superb")
        assert (done.new, done.known, done.mended) == ("system" in values, SCORES - 1, 1)
        assert verify_published(connection) == SCORES
        done = import_lines(connection, "superb")
        assert (done.new, done.known, done.mended) == (0, SCORES, 0)


def test_golden_database_takes_the_lines_it_lacks(tmp_path):
    file = tmp_path / "old.db"
    golden = Path(__file__).with_name("golden_schema_0003.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(file)) as raw:
        raw.executescript(golden)
    with open_board(str(file), create=False).writing() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(published)) == 16
        done = import_lines(connection, "superb")
        assert (done.new, done.known) == (SCORES - 16, 16)
        assert verify_published(connection) == SCORES

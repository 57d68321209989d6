"""The commands, as a person types them."""

import io
import json
import re
import sys

import pandas as pd
import pytest

import superbench_leaderboard
from superbench.errors import IntegrityError, ResourceError, UsageError
from superbench_leaderboard.ranking import rank
from superbench_leaderboard.records import entries
from superbench_leaderboard.show import print_tables


def test_hooks_bring_the_group_to_the_top():
    (spec,) = superbench_leaderboard.superbench_commands()
    assert (spec.command.name, spec.under) == ("leaderboard", "")
    names = {"show", "export", "score", "import", "add", "verify", "retract", "reindex", "path"}
    assert set(spec.command.commands) == names


def test_finished_run_is_shown(run, hear, make_result):
    hear(make_result(2970, upstream="mine"), make_result(2980, run_id="r2", upstream="theirs"))
    said = run("show").said
    assert said.index("theirs") < said.index("mine")
    for part in ("ks 1.2, custom, data dddddddd", "accuracy (higher is better)", "96.40 %", "0.001", "3081", "key"):
        assert part in said
    assert "custom: the data are not the official ones" in said


def test_show_as_json_and_its_filters(run, hear, make_result):
    hear(
        make_result(run_id="a"),
        make_result(run_id="b", label="superb", departures=()),
        make_result(run_id="c", task="asr", metric="wer", direction="min"),
    )
    found = json.loads(run("show", "--json").said)
    assert [(table["task"], table["label"]) for table in found] == [
        ("asr", "custom"),
        ("ks", "superb"),
        ("ks", "custom"),
    ]
    assert found[1]["rows"][0] | {"mean": 0} == {
        "rank": 1,
        "upstream": "hubert_base",
        "upstream_key": "b" * 64,
        "layers": "all",
        "head": "mean_linear:projector=256",
        "mean": 0,
        "sd": None,
        "seeds": 1,
        "lrs": [0.001],
        "n_items": 3081,
        "retracted": False,
        "run_ids": ["b"],
    }
    assert len(json.loads(run("show", "--json", "--task", "ks", "--label", "custom").said)) == 1
    with pytest.raises(UsageError, match="'sak'") as caught:
        run("show", "--task", "sak")
    assert "ks" in caught.value.hint
    assert run("show", "--label", "best").exit_code == 2


def test_names_cannot_draw_on_the_terminal(run, hear, make_result):
    names = ["[red]x[/red]", ":smile:", "\x1b[31mx", "a\nb", "x" * 300, "😀 שלום"]
    hear(*[make_result(run_id=str(number), upstream=name) for number, name in enumerate(names)])
    said = run("show").said
    assert "[red]x[/red]" in said
    assert ":smile:" in said
    assert "\x1b" not in said
    assert "\\x1b[31mx" in said
    assert "a\\nb" in said
    assert sum(line.count("x") for line in said.splitlines() if "xxx" in line) == 300


LONG = {
    "upstream": "huggingface:checkpoint=/home/me/experiments/2026/distilled-hubert-layer-9/checkpoint-400000",
    "head": "mean_linear:projector=256,dropout=0.1,activation=gelu,normalisation=layer",
    "upstream_key": "0123abcd" + "b" * 56,
}


def test_nothing_is_cut_where_stdout_is_no_terminal(run, hear, make_result):
    hear(make_result(**LONG), make_result(2971, run_id="s1", seed=1, **LONG))
    (line,) = [line for line in run("show").said.splitlines() if "huggingface" in line]
    for part in (LONG["upstream"], " 0123abcd ", LONG["head"], "96.41 %", "0.02 %", "3081"):
        assert part in line


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_folds_and_loses_nothing(board, put, make_result, columns, monkeypatch, capsys):
    put(make_result(upstream="ÿ" * 90, head="þ" * 70, upstream_key="ж" * 64, layers="ж" * 5))
    with board.reading() as connection:
        tables = rank(entries(connection))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_tables(tables)
    said = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, said.splitlines())) <= columns
    assert [said.count(letter) for letter in "ÿþж…"] == [90, 70, 13, 0]
    assert sorted(said.count(digit) > 0 for digit in "964308") == [True] * 6
    if columns >= 80:
        assert "96.40 %" in said


def test_export_to_stdout_and_to_a_file(run, hear, make_result, tmp_path):
    hear(make_result(2970), make_result(2980, run_id="r2", upstream="=cmd()"))
    done = run("export", "--csv", "-")
    assert list(pd.read_csv(io.StringIO(done.said))["upstream"]) == ["'=cmd()", "hubert_base"]
    head = json.loads(run("verify", "--json").said)["head"]
    assert head in done.noted
    run("export", "--csv", tmp_path / "board.csv")
    assert (tmp_path / "board.csv").read_bytes().decode() == done.said
    run("export", "--markdown", tmp_path / "board.md")
    assert head in (tmp_path / "board.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir() if "board." in path.name) == [
        "board.csv",
        "board.db",
        "board.md",
    ]


def test_export_wants_one_form_and_a_place_to_write(run, hear, make_result, tmp_path):
    hear(make_result())
    for words in ((), ("--csv", "-", "--markdown", "-")):
        with pytest.raises(UsageError, match="one of the two"):
            run("export", *words)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"x\.csv"):
        run("export", "--csv", tmp_path / "file" / "x.csv")


def test_retracted_results_leave_the_board_but_for_all(run, hear, make_result):
    hear(make_result(3000, run_id="wrong"), make_result(2000, run_id="right", upstream="other"))
    assert "record 3" in run("retract", "wrong", "--why", "trained on the test set").said
    assert "hubert_base" not in run("show").said
    assert "wrong" not in run("export", "--csv", "-").said
    assert "retracted" in run("show", "--all").said
    frame = pd.read_csv(io.StringIO(run("export", "--csv", "-", "--all").said), keep_default_na=False)
    assert list(zip(frame["run_id"], frame["rank"], frame["flags"], strict=True)) == [
        ("right", "1", ""),
        ("wrong", "", "retracted"),
    ]
    with pytest.raises(UsageError, match="'rigth'") as caught:
        run("retract", "rigth", "--why", "typo")
    assert "'right'" in caught.value.hint
    assert run("retract", "right").exit_code == 2


def test_add_searches_folders_and_adds_once(run, make_result, write_result, tmp_path):
    first = write_result(make_result(run_id="r1"), "ks/x/r1")
    write_result(make_result(run_id="r2"), "ks/x/r2")
    assert run("add", first / "result.json").said == f"added: {first / 'result.json'}\n"
    done = json.loads(run("add", tmp_path / "runs", "--json").said)
    assert [one["outcome"] for one in done] == ["known", "added"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no result\.json in or under .*empty"):
        run("add", first, tmp_path / "empty")


def test_add_says_all_that_is_wrong_and_keeps_the_rest(run, make_result, write_result, tmp_path):
    write_result(make_result(run_id="good"), "a")
    for name, text in {"b": '{"schema": 1', "c": "[]", "d": '{"schema": 3}', "e": '{"x": NaN}', "f": "\xff"}.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(IntegrityError, match="5 of 6") as caught:
        run("add", tmp_path / "runs")
    for name in "bcdef":
        assert str(tmp_path / "runs" / name / "result.json") in caught.value.message
    assert json.loads(run("show", "--json").said)[0]["rows"][0]["run_ids"] == ["good"]


def test_add_refuses_a_result_that_was_changed_and_reads_the_first_schema(run, make_result, write_result):
    sealed = write_result(make_result(run_id="sealed", files={"head.safetensors": "0" * 64}), "a") / "result.json"
    text = sealed.read_text()
    sealed.write_text(text.replace('"seed":0', '"seed":1'))
    with pytest.raises(IntegrityError, match="1 of 1 results were refused") as caught:
        run("add", sealed)
    assert f"{sealed}: its checksum does not fit" in caught.value.message
    sealed.write_text(text)
    assert json.loads(run("add", sealed, "--json").said)[0]["outcome"] == "added"
    first = sealed.with_name("first.json")
    first.write_text(json.dumps(make_result(run_id="first", schema=1).to_json()))
    assert json.loads(run("add", first, "--json").said)[0]["outcome"] == "added"


def test_verify_says_the_head_and_finds_an_old_one(run, hear, make_result):
    hear(make_result(run_id="r1"))
    head = json.loads(run("verify", "--json").said)["head"]
    hear(make_result(run_id="r2"))
    assert run("verify", "--head", head[:12]).said.startswith("2 records, unbroken")
    with pytest.raises(IntegrityError) as caught:
        run("verify", "--head", "0123456789abcdef")
    assert caught.value.exit_code == 7
    with pytest.raises(UsageError, match="no hash"):
        run("verify", "--head", "latest")


def test_reindex_and_path(run, hear, make_result, database, tmp_path):
    hear(make_result())
    assert run("reindex").said == "1 results indexed\n"
    assert run("path").said == f"{tmp_path / 'board.db'}\n"
    assert json.loads(run("path", "--json").said) == {"path": str(tmp_path / "board.db")}
    assert "secret" not in run("path", "--database", "postgresql://me:secret@host/db").said


def test_other_database_by_option(run, make_result, write_result, tmp_path):
    run("add", write_result(make_result(), "a"), "--database", tmp_path / "other.db")
    url = f"sqlite:///{tmp_path / 'other.db'}"
    assert len(json.loads(run("show", "--json", "--database", url).said)) == 1
    with pytest.raises(UsageError, match="no leaderboard"):
        run("show")


def test_empty_board_says_so(run, board):
    done = run("show", "--json")
    assert (done.said, done.noted) == ("[]\n", f"no results on {board.where}\n")
    assert run("verify").said.startswith("0 records")


def test_score_that_was_retracted_is_not_heard_again(run, hear, make_result, caplog):
    hear(make_result(run_id="r1"))
    run("retract", "r1", "--why", "wrong corpus")
    hear(make_result(run_id="r1"))
    assert "stays retracted" in caplog.text
    assert json.loads(run("show", "--json").said) == []

"""`import`, `score`, and published lines in `show` and `export`, as a person types them."""

import csv
import io
import json

import pytest

from superbench.contracts import Score
from superbench.errors import IntegrityError, UsageError
from superbench_leaderboard.schema import published

ERRORS = ("asr", "pr")
METRICS = {"asr": "wer", "pr": "per", "sid": "accuracy", "er": "accuracy", "ks": "accuracy"}
HITS = {"asr": 64, "pr": 54, "sid": 814, "er": 649, "ks": 963}  # of 1000: HuBERT Base, roughly


@pytest.fixture
def five(make_result):
    """`five(upstream="mine", seed=0, tasks=..., **changes)`: a superb result per task."""

    def make(tasks=tuple(METRICS), seed=0, more=0, **changes):
        upstream = changes.setdefault("upstream", "mine")
        return [
            make_result(
                HITS[task] + more,
                items=1000,
                task=task,
                metric=METRICS[task],
                direction="min" if task in ERRORS else "max",
                run_id=f"{upstream}-{task}-{seed}-{changes}",
                seed=seed,
                **{"label": "superb", "departures": ()} | changes,
            )
            for task in tasks
        ]

    return make


def scores(run, *words):
    return json.loads(run("score", "--json", *words).said)


def ours(found):
    return [one for one in found["systems"] if not one["published"]]


# -- import and verify -------------------------------------------------------------------------------------------------


def test_import_says_what_is_new_and_what_was_known(run):
    assert run("import", "superb").said.startswith("407 published scores are new, 0 were known\n")
    assert json.loads(run("import", "superb", "--json").said) == {
        "source": "superb",
        "snapshot": "2022-04-10 a35a9ec",
        "new": 0,
        "known": 407,
        "mended": 0,
    }


def test_unknown_source_makes_no_board(run, tmp_path):
    with pytest.raises(UsageError, match="'suberb'") as caught:
        run("import", "suberb")
    assert caught.value.hint == "there is: superb"
    assert not (tmp_path / "board.db").exists()


def test_verify_looks_at_published_lines_and_the_chain_knows_nothing_of_them(run, board, hear, make_result):
    hear(make_result())
    head = json.loads(run("verify", "--json").said)
    run("import", "superb")
    assert json.loads(run("verify", "--json").said) == head | {"published": 407}
    assert "407 published scores, as shipped" in run("verify").said
    with board.writing() as connection:
        connection.execute(published.update().where(published.c.system == "NPC").values(corpus="mine"))
    with pytest.raises(IntegrityError, match=r"'NPC', asr wer .*corpus = 'mine'"):
        run("verify")


# -- show --------------------------------------------------------------------------------------------------------------


def test_published_lines_stand_below_superb_tables_only(run, hear, five, make_result):
    hear(*five(tasks=["ks"]), make_result(run_id="c", upstream="custom-one"))
    run("import", "superb")
    superb, custom = json.loads(run("show", "--json", "--task", "ks").said)
    assert (superb["label"], custom["label"]) == ("superb", "custom")
    assert [row["rank"] for row in superb["rows"]] == [1]
    assert len(superb["published"]) == 20
    best = superb["published"][0]
    assert (best["system"], best["value"], best["unit"]) == ("WavLM Large", 97.86, "percent")
    assert "rank" not in best
    assert {(line["task"], line["metric"]) for line in superb["published"]} == {("ks", "accuracy")}
    assert custom["published"] == []
    said = run("show", "--task", "ks", "--label", "superb").said
    (line,) = (line for line in said.splitlines() if "HuBERT Base" in line)
    assert line.split() == ["published", "HuBERT", "Base", "96.30", "%"]
    assert "published" not in run("show", "--label", "custom").said


def test_task_with_published_lines_alone_is_shown_when_named(run, hear, make_result):
    hear(make_result())
    run("import", "superb")
    assert [table["label"] for table in json.loads(run("show", "--json").said)] == ["custom"]
    f1, cer = json.loads(run("show", "--json", "--task", "sf").said)
    assert [(t["metric"], t["direction"], t["label"], t["rows"]) for t in (f1, cer)] == [
        ("slot_type_f1", "max", "published", []),
        ("slot_value_cer", "min", "published", []),
    ]
    assert "se, published: nothing of ours" in run("show", "--task", "se").said
    assert "2.70 mos" in run("show", "--task", "se").said
    with pytest.raises(UsageError, match="'sfx'") as caught:
        run("show", "--task", "sfx")
    assert "'sf'" in caught.value.hint


def test_published_lines_alone_by_label_and_a_note_where_nothing_is_ours(run, board):
    run("import", "superb")
    done = run("show", "--json")
    assert done.said == "[]\n"
    assert done.noted == f"no results on {board.where}; `--label published` shows what others published\n"
    assert len(json.loads(run("show", "--json", "--label", "published").said)) == 21


# -- export ------------------------------------------------------------------------------------------------------------


def exported(run, *words):
    return list(csv.DictReader(io.StringIO(run("export", "--csv", "-", *words).said)))


def test_export_has_published_lines_after_ours_as_fractions(run, hear, five):
    hear(*five())
    before = exported(run)
    run("import", "superb")
    rows = exported(run)
    assert rows[:5] == before
    assert len(rows) == 5 + 407
    assert {row["label"] for row in rows[5:]} == {row["flags"] for row in rows[5:]} == {"published"}
    (line,) = (row for row in rows if (row["upstream"], row["task"], row["metric"]) == ("APC", "pr", "per"))
    assert {key: value for key, value in line.items() if value} == {
        "task": "pr",
        "upstream": "APC",
        "metric": "per",
        "direction": "min",
        "value": "0.4198",
        "label": "published",
        "flags": "published",
    }
    assert exported(run, "--label", "superb") == before
    assert len(exported(run, "--label", "published")) == 407
    assert {row["task"] for row in exported(run, "--task", "qbe")} == {"qbe"}
    assert "| APC |" in run("export", "--markdown", "-").said


# -- score -------------------------------------------------------------------------------------------------------------


def test_our_score_is_worked_by_hand(run, hear, five):
    hear(*five())
    (mine,) = ours(scores(run))
    points = [
        (100 - 6.4 - 76.82) / (96.38 - 76.82),
        (100 - 5.4 - 17.99) / (96.47 - 17.99),
        (81.4 - 20.058174) / (90.3 - 20.058174),
        (64.9 - 48.23672168) / (67.62 - 48.23672168),
        (96.3 - 41.3826674) / (96.66 - 41.3826674),
    ]
    assert mine["score"] == pytest.approx(1000 * sum(points) / 5, abs=1e-9)
    assert mine["metrics"] == pytest.approx(
        {"asr.wer": 6.4, "pr.per": 5.4, "sid.accuracy": 81.4, "er.accuracy": 64.9, "ks.accuracy": 96.3}
    )
    assert (mine["system"], mine["source"], mine["upstream_key"], mine["layers"]) == ("mine", "ours", "b" * 64, "all")
    assert (mine["missing"], mine["twice"], mine["parameters"], mine["score_p"]) == ([], [], None, None)


def test_ours_and_published_stand_in_one_table_and_are_told_apart(run, hear, five):
    hear(*five())
    run("import", "superb")
    found = scores(run)
    assert (found["definition"], found["version"]) == ("superbench-five", "1")
    assert [one["published"] for one in found["systems"]].count(True) == 20
    values = [one["score"] for one in found["systems"]]
    assert values == sorted(values, reverse=True)
    said = run("score").said
    assert said.startswith("superbench-five version 1: superbench's own, not SUPERB's")
    assert " ours " in next(line for line in said.splitlines() if line.strip().startswith("mine"))
    for line in said.splitlines():
        if "WavLM" in line or "APC" in line:
            assert "superb, published" in line
    assert "-0.0" not in said


def test_seeds_are_averaged_and_custom_or_retracted_rows_count_nowhere(run, hear, five):
    hear(*five(seed=0), *five(seed=1, more=10))
    hear(*five(seed=2, more=30, label="custom", departures=("--limit 1",)))
    wrong = five(seed=3, more=-50, tasks=["ks"])
    hear(*wrong)
    run("retract", wrong[0].run_id, "--why", "wrong corpus")
    (mine,) = ours(scores(run))
    assert mine["metrics"]["ks.accuracy"] == pytest.approx(96.8)
    assert mine["metrics"]["asr.wer"] == pytest.approx(6.9)


def test_custom_rows_alone_are_no_system(run, hear, five):
    hear(*five(label="custom", departures=("--limit 1",)))
    done = run("score", "--json")
    assert json.loads(done.said)["systems"] == []
    assert "no superb results" in done.noted
    assert run("score").said == ""


def test_missing_tasks_are_named_and_mean_no_score(run, hear, five):
    hear(*five(tasks=["asr", "ks", "pr"]))
    run("import", "superb")
    mine = ours(scores(run))
    assert [(one["score"], one["missing"]) for one in mine] == [(None, ["sid", "er"])]
    assert scores(run)["systems"][-1]["system"] == "mine"
    line = next(line for line in run("score").said.splitlines() if line.strip().startswith("mine"))
    assert line.endswith("sid, er")
    (whole,) = ours(scores(run, "--definition", "superb-paper"))
    assert whole["missing"] == ["qbe", "sid", "asv", "sd", "ic", "sf", "er"]


@pytest.mark.parametrize("other", [{"protocol_sha": "e" * 64}, {"data": {"sha": "f" * 64}}, {"head": "linear"}])
def test_two_results_of_one_task_that_are_not_comparable_are_never_picked_from(run, hear, five, other):
    hear(*five(), *five(tasks=["ks"], more=20, **other))
    (mine,) = ours(scores(run))
    assert (mine["score"], mine["missing"], mine["twice"]) == (None, ["ks"], ["ks"])
    assert mine["metrics"]["ks.accuracy"] is None
    assert "ks (several results that are not comparable)" in run("score").said


def test_other_weights_or_layers_are_other_systems(run, hear, five):
    hear(*five(), *five(upstream_key="c" * 64), *five(layers="5", tasks=["ks"]))
    mine = ours(scores(run))
    assert [(one["upstream_key"][0], one["layers"], one["score"] is None) for one in mine] == [
        ("b", "all", False),
        ("c", "all", False),
        ("b", "5", True),
    ]


def test_second_metric_of_a_task_is_read_from_the_record(run, hear, make_result):
    def score(metric, value, direction):
        return Score(metric=metric, value=value, numerator=value * 100, denominator=100, direction=direction)

    both = (score("slot_type_f1", 0.75, "max"), score("slot_value_cer", 0.25, "min"))
    hear(make_result(task="sf", label="superb", departures=(), scores=both))
    (found,) = ours(scores(run, "--definition", "superb-paper"))
    assert (found["metrics"]["sf.slot_type_f1"], found["metrics"]["sf.slot_value_cer"]) == (75, 25)
    assert "sf" not in found["missing"]


def test_metric_that_one_seed_lacks_is_missing(run, hear, make_result):
    def score(metric, value, direction):
        return Score(metric=metric, value=value, numerator=value * 100, denominator=100, direction=direction)

    f1, cer = score("slot_type_f1", 0.75, "max"), score("slot_value_cer", 0.25, "min")
    hear(
        make_result(task="sf", label="superb", departures=(), scores=(f1, cer), run_id="a"),
        make_result(task="sf", label="superb", departures=(), scores=(f1,), run_id="b", seed=1),
    )
    (found,) = ours(scores(run, "--definition", "superb-paper"))
    assert found["metrics"]["sf.slot_value_cer"] is None
    assert "sf" in found["missing"]


def test_score_as_csv_names_its_definition_in_every_line(run, hear, five, tmp_path):
    hear(*five(upstream="=cmd()", tasks=["ks"]))
    run("import", "superb")
    done = run("score", "--csv", "-", "--definition", "superb-paper")
    rows = list(csv.DictReader(io.StringIO(done.said)))
    assert {(row["definition"], row["version"]) for row in rows} == {("superb-paper", "1")}
    assert (rows[0]["system"], rows[0]["score"], rows[0]["flags"]) == ("WavLM Large", "1144.54", "published")
    assert (rows[-1]["system"], rows[-1]["score"], rows[-1]["flags"]) == ("'=cmd()", "", "")
    assert rows[-1]["missing"] == "pr asr qbe sid asv sd ic sf er"
    assert rows[0]["sf.slot_value_cer"] == "18.36"
    run("score", "--csv", tmp_path / "scores.csv", "--definition", "superb-paper")
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8") == done.said


def test_definitions_are_listed_without_a_board(run):
    found = json.loads(run("score", "--list", "--json").said)
    assert [(one["name"], one["version"], len(one["tasks"])) for one in found] == [
        ("superb-paper", "1", 10),
        ("superb-public", "1", 10),
        ("superbench-five", "1", 5),
    ]
    assert found[2]["references"][0] == {
        "task": "asr",
        "metric": "wer",
        "fbank": 76.82,
        "sota": 96.38,
        "error": True,
    }
    said = run("score", "--list").said
    assert "superb-public version 1" in said
    assert "tasks: pr, asr, qbe, sid, asv, sd, er, st, se, ss" in said
    assert said.count("FBANK") == 11 + 11 + 5


def test_options_that_cannot_go_together_and_unknown_definitions_are_refused(run, hear, five):
    hear(*five())
    with pytest.raises(UsageError, match="not both"):
        run("score", "--json", "--csv", "-")
    with pytest.raises(UsageError, match="list"):
        run("score", "--list", "--csv", "-")
    with pytest.raises(UsageError, match="'superb-five'") as caught:
        run("score", "--definition", "superb-five")
    assert "'superbench-five'" in caught.value.hint

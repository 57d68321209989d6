"""Options, configuration files and plans: one request however it is put, and every departure in the label."""

from __future__ import annotations

import pytest

BASE = ("-u", "fbank_no_cmvn", "-t", "er")
QUICK = ("--steps", 4, "--lr", "1e-2")


@pytest.fixture
def planned(superbench, tones):
    def plan(*more, data=tones):
        ended = superbench("-q", "plan", *BASE, "--data", data, *more, "--json")
        assert ended.code == 0, ended.err
        return ended.json[0]

    return plan


# what is changed; a word of the departure it makes
CHANGES = {
    "steps": (("--steps", 300), "steps: 300 in place of 30000"),
    "eval_every": (("--eval-every", 7), "evaluation interval: 7 in place of 1000"),
    "lr": (("--lr", "1e-2"), "learning-rate grid"),
    "head": (("--head", "pooled_linear:projector=16"), "head: pooled_linear:projector=16"),
    "limit": (("--limit", 2), "limited to 2 utterances per split"),
    "layers": (("--layers", 0), "layer 0 alone"),
}
SAME_PROTOCOL = {"layers"}  # another question to the same protocol: it is a column of the table


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_a_departure_and_another_plan(change, planned):
    arguments, words = CHANGES[change]
    before, after = planned(), planned(*arguments)
    fresh = set(after["plan"]["departures"]) - set(before["plan"]["departures"])
    assert any(words in departure for departure in fresh)
    assert before["fingerprint"] != after["fingerprint"]


def test_what_departs_from_nothing_changes_no_departure(planned):
    before = planned()
    for same in (("--steps", 30000), ("--head", "pooled_linear:projector=256"), ("--lr", "1e-5,1e-4,1e-3,1e-2,1e-1")):
        assert planned(*same)["plan"] == before["plan"]
    assert planned("--seeds", "1")["plan"]["departures"] == before["plan"]["departures"]
    assert planned("--seeds", "1")["fingerprint"] != before["fingerprint"]


def test_protocols_are_told_apart_by_what_decides_a_score_alone(superbench, tones, tmp_path):
    def sha(*more, upstream="fbank_no_cmvn"):
        run = ("run", "-u", upstream, "-t", "er", "--data", tones, *more)
        ended = superbench("-q", "--home", tmp_path, *run, "--json")
        assert ended.code == 0, ended.err
        assert {r["label"] for r in ended.json} == {"custom"}
        (found,) = {r["protocol_sha"] for r in ended.json}
        return found

    shas = [sha(*QUICK)]
    assert sha(*QUICK, "--seeds", "1,2") == sha(*QUICK, upstream="mfcc") == shas[0]
    shas += [
        sha("--steps", 6, "--lr", "1e-2"),
        sha("--steps", 4, "--lr", "1e-3"),
        sha(*QUICK, "--head", "pooled_linear:projector=16"),
        sha(*QUICK, "--limit", 2),
        sha(*QUICK, "--eval-every", 2),
    ]
    assert len(set(shas)) == len(shas)


def test_fewer_steps_shrink_the_interval_in_proportion(planned):
    assert planned("--steps", 100_000)["plan"]["protocol"]["eval_every"] == 5000  # a twentieth: above 200,000 / 40
    assert planned("--steps", 3000)["plan"]["protocol"]["eval_every"] == 150
    assert planned("--steps", 3)["plan"]["protocol"]["eval_every"] == 1
    assert planned("--steps", 3, "--eval-every", 50)["plan"]["protocol"]["eval_every"] == 3


def test_a_file_is_what_the_options_are_and_options_win(superbench, tones, tmp_path):
    written = tmp_path / "run.yaml"
    written.write_text(
        f"upstream: fbank_no_cmvn\ntask: ks\ndata: {tones}\nlr: [1e-2, 1e-3]\nseeds: 0..2\nsteps: 4\nlimit: 5\n"
    )

    def plan(*arguments):
        ended = superbench("-q", "plan", *arguments, "--json")
        assert ended.code == 0, ended.err
        return ended.json[0]["plan"]

    options = ("-u", "fbank_no_cmvn", "-t", "ks", "--data", tones, "--lr", "1e-2,1e-3", "--steps", 4)
    assert plan("--config", written) == plan(*options, "--limit", 5, "--seeds", "0..2")
    assert plan("--config", written, "--limit", 3, "--seeds", 7) == plan(*options, "--limit", 3, "--seeds", 7)


def test_a_written_plan_read_back_is_the_same_plan(superbench, tones, tmp_path):
    odd = tmp_path / 'yes: "no", #.csv'
    odd.write_text(tones.read_text())
    options = ("-u", "fbank_no_cmvn", "-t", "ks,er", "--data", odd, "--data-root", tones.parent, "--score-train")
    options += ("--lr", "1e-5,0.3", "--seeds", "3,1", "--steps", 20, "--head", "pooled_linear:projector=16")
    written = superbench("plan", *options, "--yaml")
    assert written.code == 0
    (tmp_path / "run.yaml").write_text(written.out)
    one, other = (
        superbench("-q", "plan", *given, "--json").json for given in (options, ("--config", tmp_path / "run.yaml"))
    )
    assert [p["fingerprint"] for p in one] == [p["fingerprint"] for p in other]
    assert len(one) == 2
    assert superbench("plan", "--config", tmp_path / "run.yaml", "--yaml").out == written.out


def test_order_and_spelling_do_not_make_another_plan(planned, tones, tmp_path):
    one = planned("--lr", "1e-2,1e-3", "--seeds", "0,1")
    other = planned("--lr", "0.001", "--lr", "0.01", "--seeds", "1", "--seeds", "0")
    assert one["fingerprint"] == other["fingerprint"]
    lines = tones.read_text().splitlines()
    shuffled = tones.with_name(f"{tmp_path.name}.csv")
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert planned(data=shuffled)["fingerprint"] == planned()["fingerprint"]


def test_other_data_are_another_plan(planned, tones, tmp_path):
    changed = tones.with_name(f"{tmp_path.name}.csv")
    changed.write_text(tones.read_text().replace("train00.wav,train,train-0,low", "train00.wav,train,train-0,high"))
    assert planned(data=changed)["plan"]["corpus_sha"] != planned()["plan"]["corpus_sha"]


def test_the_plan_for_people_says_what_it_costs_and_why_it_is_custom(superbench, tones, tmp_path):
    ended = superbench("--home", tmp_path / "home", "plan", *BASE, "--data", tones, *QUICK)
    for words in ("24 (24 to compute)", "1 x 4 steps", "labelled custom", "CSV manifests in place of the official"):
        assert words in ended.out
    assert {p.name for p in (tmp_path / "home").rglob("*")} <= {"recordings.sqlite"}


def test_learning_rates_that_print_alike_are_trained_apart(superbench, tones):
    run = ("run", *BASE, "--data", tones, "--steps", 4, "--lr", "0.010000001,0.010000002", "--json", "-q")
    ended = superbench(*run)
    assert ended.code == 0, ended.err
    losses = [c["train_loss"] for c in ended.json[0]["candidates"]]
    assert len(set(losses)) == 2


def test_from_python_as_from_the_command_line(superbench, tones, tmp_path):
    import superbench as face

    result = face.run(
        upstream="fbank_no_cmvn", task="er", data=tones, steps=4, lr=[1e-2], seed=3, home=tmp_path / "python"
    )
    ended = superbench(
        "--home", tmp_path / "shell", "run", *BASE, "--data", tones, *QUICK, "--seeds", 3, "--json", "-q"
    )
    (other,) = ended.json
    assert (result.run_id, [s.value for s in result.scores]) == (
        other["run_id"],
        [s["value"] for s in other["scores"]],
    )

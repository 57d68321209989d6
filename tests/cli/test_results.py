"""What a run leaves: a result that follows from its predictions, a head that can be used again, and honest flags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from superbench import scoring
from superbench.contracts import Prediction
from superbench.features.store import FeatureStore
from superbench.features.weighted_sum import Probe
from superbench.results import read_result
from superbench.sampling import Pool, balanced_draw, derived_seed
from superbench_downstreams.blstm import BlstmHead
from superbench_downstreams.linear import LinearHead


@pytest.fixture
def run(superbench, tones, counting):
    def score(*more, data=tones):
        ended = superbench("-q", "run", "-p", counting, "-u", "counting", "--data", data, *more, "--json")
        assert ended.code == 0, ended.err
        return ended.json

    return score


def predictions(result, name="predictions.jsonl"):
    return [Prediction(**json.loads(line)) for line in (Path(result["folder"]) / name).read_text().splitlines()]


def drawn(dev):
    """Predictions of dev as KS counts them: as many draws as there are recordings, of equally likely classes."""
    classes = sorted({p.reference for p in dev})
    targets = [(classes.index(p.reference),) for p in dev]
    pool = Pool(items=tuple((i,) for i in range(len(dev))), seconds=[1.0] * len(dev), targets=targets)
    return [dev[i] for i in balanced_draw(pool, len(dev), derived_seed("dev", 0, "all"))]


def test_dev_of_keyword_spotting_is_scored_on_one_balanced_draw(run, tones, tmp_path):
    lines = tones.read_text().splitlines()
    low = [line.split(",")[0] for line in lines if ",dev," in line and ",low," in line]
    left = [line for line in lines if line.split(",")[0] not in low[1:]]  # of dev one low, two high, two hiss
    uneven = shutil.copytree(tones.parent, tmp_path / "uneven") / tones.name
    uneven.write_text("\n".join(left) + "\n")
    results = run("-t", "ks", "--steps", 2, "--lr", "1e-4", "--seeds", "0..2", data=uneven)
    draws = set()
    for result in results:
        said = predictions(result, "predictions.dev.jsonl")
        assert len(said) == len({p.id for p in said}) == 5  # each once
        draw = drawn(said)
        draws.add(tuple(p.id for p in draw))
        (score,) = result["dev_scores"]
        assert (score["numerator"], score["denominator"]) == (sum(p.reference == p.hypothesis for p in draw), 5)
        (chosen,) = [c for c in result["candidates"] if c["chosen"]]
        assert chosen["dev"] == score["value"]
    (draw,) = draws  # the same for every seed
    assert len(set(draw)) < 5


def test_scores_follow_from_the_predictions_on_disk(run):
    for arguments in (
        ("-t", "ks", "--steps", 20, "--lr", "1e-1"),
        ("-t", "er", "--steps", 2, "--lr", "1e-4"),
        ("-t", "asr", "--head", "blstm:projector=8,hidden=8", "--steps", 30, "--lr", "1e-1"),
    ):
        (result,) = run(*arguments)
        for name, scores, split in (
            ("predictions.jsonl", result["scores"], "test"),
            ("predictions.dev.jsonl", result["dev_scores"], "dev"),
        ):
            found = predictions(result, name)
            assert [p.id for p in found] == [f"{split}{i:02d}" for i in range(6)]
            assert {p.speaker for p in found} == {f"{split}-0", f"{split}-1"}
            if split == "dev" and "ks" in arguments:
                found = drawn(found)
            again = scoring.score_partitions(found, [s["metric"] for s in scores])
            assert [(s.value, s.numerator, s.denominator) for s in again] == [
                (s["value"], s["numerator"], s["denominator"]) for s in scores
            ]
        assert json.loads(json.dumps(read_result(Path(result["folder"])).to_json())) == result


def test_candidates_are_trained_once_for_all_runs_that_train_alike(run, tmp_path):
    """Another grid, more seeds, the training set's score: what was trained is not trained again."""
    (first,) = run("-t", "ks", "--steps", 20, "--lr", "1e-2,1e-1")
    home = Path(first["folder"]).parents[3]
    trained = {p: p.stat().st_mtime_ns for p in home.rglob("*.checkpoint")}
    assert len(trained) == 1  # what trains together is kept together
    (scored,) = run("-t", "ks", "--steps", 20, "--lr", "1e-2,1e-1", "--score-train")
    (wider,) = run("-t", "ks", "--steps", 20, "--lr", "1e-3,1e-2,1e-1")
    both = run("-t", "ks", "--steps", 20, "--lr", "1e-2,1e-1", "--seeds", "0,1")
    assert len({r["run_id"] for r in (first, scored, wider, *both)}) == 5
    assert {p: p.stat().st_mtime_ns for p in trained} == trained
    assert len([*home.rglob("*.checkpoint")]) == 1 + 1 + 1
    assert scored["scores"] == first["scores"]
    assert [c for c in wider["candidates"] if c["lr"] > 1e-3] == [
        {**c, "chosen": c["chosen"] and wider["lr"] != 1e-3} for c in first["candidates"]
    ]


def test_the_search_is_told_whole_and_its_choice_follows_from_it(run):
    results = run("-t", "ks", "--steps", 20, "--eval-every", 5, "--lr", "1e-5,1e-2,1e-1", "--seeds", "0,1")
    candidates = [c for r in results for c in r["candidates"]]
    assert {(c["lr"], c["seed"]) for c in candidates} == {(lr, s) for lr in (1e-5, 1e-2, 1e-1) for s in (0, 1)}
    means = {lr: sum(c["dev"] for c in candidates if c["lr"] == lr) / 2 for lr in (1e-5, 1e-2, 1e-1)}
    best = min(means, key=lambda lr: (-means[lr], lr))
    assert {c["lr"] for c in candidates if c["chosen"]} == {r["lr"] for r in results} == {best}
    for result in results:
        (chosen,) = [c for c in result["candidates"] if c["chosen"]]
        assert chosen["seed"] == result["seed"]
        assert chosen["dev"] == result["dev_scores"][0]["value"]
        assert chosen["best_step"] % 5 == 0


def test_dev_that_never_improves_keeps_the_last_step_and_says_so(run):
    (result,) = run(
        "-t", "asr", "--head", "blstm:projector=2,hidden=2", "--steps", 3, "--eval-every", 1, "--lr", "1e-5"
    )
    (candidate,) = result["candidates"]
    assert (candidate["improved"], candidate["best_step"]) == (False, 3)
    assert candidate["dev"] == result["dev_scores"][0]["value"] >= 1.0


def test_every_fold_is_tested_once_and_the_score_is_their_mean(run, tones):
    (result,) = run("-t", "er", "--steps", 20, "--lr", "1e-2,1e-1", data=tones.with_name("folds.csv"))
    found = predictions(result)
    assert sorted(p.id for p in found) == sorted(
        f"{split}{i:02d}" for split, n in (("train", 12), ("dev", 6), ("test", 6)) for i in range(n)
    )
    folds = result["fold_scores"]
    assert set(folds) == {p.partition for p in found} == {"fold1", "fold2", "fold3"}
    assert result["scores"][0]["value"] == pytest.approx(sum(folds.values()) / 3)
    assert result["scores"][1]["metric"] == "accuracy_pooled"
    assert set(result["layer_weights"]) == set(folds)


@pytest.mark.parametrize(
    ("task", "head", "make"),
    [
        ("ks", "pooled_linear:projector=8", lambda w, c: LinearHead(w, c, projector=8)),
        (
            "asr",
            "blstm:hidden=8,projector=8",
            lambda w, c: BlstmHead(w, c, projector=8, hidden=8, layers=2, dropout=0.2),
        ),
    ],
)
def test_the_head_on_disk_says_what_the_predictions_say(task, head, make, run, tmp_path):
    home = tmp_path / "home"
    (result,) = run("-t", task, "--head", head, "--steps", 30, "--lr", "1e-1", "--home", home)
    path = Path(result["folder"]) / "head.safetensors"
    with safe_open(path, framework="pt") as opened:
        facts = json.loads(opened.metadata()["superbench"])
    assert (facts["head"], facts["upstream_key"]) == (head, result["upstream_key"])
    probe = Probe(facts["layers"], make(facts["width"], len(facts["labels"]))).eval()
    probe.load_state_dict({k.removeprefix("all/"): v for k, v in load_file(path).items()})
    weights = probe.featurizer.weights.softmax(0).tolist()
    assert weights == pytest.approx(result["layer_weights"]["all"])
    store = FeatureStore(home / "store", result["upstream_key"], result["features"]["form"])
    said = set()
    with torch.no_grad():
        for segment in store.segments:
            (x,) = store.read(segment)
            lengths = torch.tensor([x.shape[1]]) if x.dim() == 3 else None
            best = probe(x[None], lengths).argmax(-1)[0]
            said.add(tuple(best.unique_consecutive().tolist()) if x.dim() == 3 else (int(best),))
    silent = {"<s>", "<pad>", "</s>", "<unk>"}
    texts = {"".join(n for n in (facts["labels"][i] for i in s) if n not in silent).replace("|", " ") for s in said}
    heard = {p.hypothesis for name in ("predictions.jsonl", "predictions.dev.jsonl") for p in predictions(result, name)}
    assert heard <= {" ".join(t.split()) for t in texts}


def test_layer_weights_are_shares_and_one_layer_is_all_of_it(run):
    (result,) = run("-t", "ks", "--steps", 20, "--lr", "1e-1")
    for weights in (result["layer_weights"]["all"], result["layer_weights_norm_corrected"]["all"]):
        assert len(weights) == 2
        assert sum(weights) == pytest.approx(1.0)
    (one,) = run("-t", "ks", "--steps", 20, "--lr", "1e-1", "--layers", 1)
    assert (one["layers"], one["layer_weights"]["all"]) == ("1", [1.0])
    assert one["features"]["computed"] == 0


def test_features_that_are_the_same_for_all_are_warned_of(superbench, tones):
    ended = superbench("run", "-u", "fbank", "-t", "ks", "--data", tones, "--steps", 2, "--lr", "1e-2", "--json")
    assert ended.code == 0
    assert ["guess the commonest class" in w for w in ended.json[0]["warnings"]] == [True]
    assert "warning: ks: the time means" in ended.err


LOOSE = """
    from dataclasses import dataclass
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    @dataclass(frozen=True)
    class Options:
        prompt: str

    def load(options, device):
        class Loose:
            sample_rate, strides, widths = 16000, (160,), (160,)
            def num_frames(self, samples): return samples // 160
            def __call__(self, waves): return [Layers((w[: len(w) // 160 * 160].view(-1, 160),)) for w in waves]
        return Loose()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="loose", options=Options, load=load)
"""


def test_an_upstream_whose_name_is_long_and_strange_has_a_folder_all_the_same(superbench, plugin, tones):
    name = f"loose:prompt=../../<b>{'long ' * 60}</b>"
    given = ("-u", name, "-t", "ks", "--data", tones, "--steps", 2, "--lr", "1e-2", "--json")
    ended = superbench("run", "-p", plugin(LOOSE), *given)
    assert ended.code == 0, ended.err
    (result,) = ended.json
    assert result["upstream"] == name
    assert ".." not in Path(result["folder"]).parts
    assert all(len(part) <= 80 for part in Path(result["folder"]).parts)
    assert superbench("leaderboard", "show").code == 0

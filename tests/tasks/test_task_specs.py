"""The five tasks as they come in: names, constants, and that a manifest alone is enough for each."""

import csv

import pytest

import superbench_tasks
from superbench.corpus import partitions
from superbench.labels import TokenLabels
from superbench.manifest import read_manifests
from superbench.plugin import SpecAugment

TASKS = {task.name: task for task in superbench_tasks.superbench_tasks()}

# s3prl@ec8064b: steps, batch, micro-batches per step, steps between evaluations
CONSTANTS = {
    "asr": (200_000, 16, 1, 2_000),
    "pr": (100_000, 16, 2, 1_000),
    "sid": (200_000, 8, 4, 5_000),
    "er": (30_000, 4, 8, 1_000),
    "ks": (200_000, 32, 1, 5_000),
}


def test_the_five_tasks():
    assert list(TASKS) == ["asr", "pr", "sid", "er", "ks"]
    assert [t.column for t in TASKS.values()] == ["text", "phones", "speaker", "label", "label"]
    assert [t.speakers for t in TASKS.values()] == ["disjoint", "disjoint", "any", "any", "disjoint"]
    assert [t.protocol.metrics for t in TASKS.values()] == [
        ("wer", "uer"),
        ("per",),
        ("accuracy",),
        ("accuracy", "uar"),
        ("accuracy",),
    ]
    assert {(t.version, t.protocol.family) for t in TASKS.values()} == {("1.0", "superb")}
    assert all(t.protocol.source.startswith("s3prl@ec8064b downstream/") for t in TASKS.values())
    assert all(t.protocol.sizes and t.departures for t in TASKS.values())
    assert [n for n, t in TASKS.items() if t.decoder is not None] == ["asr"]


SAMPLING = {
    "asr": ("length_buckets", "all", None, 0.0),
    "pr": ("label_windows", "all", 18.75, 0.0),
    "sid": ("shuffled", "all", None, 0.0),
    "er": ("shuffled", "all", None, 0.0),
    "ks": ("balanced", "balanced", None, -3.0),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_how_recordings_are_drawn_and_fed(name):
    p = TASKS[name].protocol
    assert (p.sampling, p.dev_sampling, p.halve_above, p.gain_db) == SAMPLING[name]
    assert (p.schedule, p.selection) == ("none", "first best on dev")
    masks = SpecAugment(time_warp=5, frequency_masks=4, frequency_width=50, time_masks=2, time_width=40)
    assert p.augment == (masks if name == "asr" else None)


@pytest.mark.parametrize("name", CONSTANTS)
def test_protocol_constants(name):
    protocol = TASKS[name].protocol
    assert (protocol.steps, protocol.batch, protocol.accumulate, protocol.eval_every) == CONSTANTS[name]
    assert protocol.lr_grid == (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    assert (protocol.optimizer, protocol.clip, protocol.sample_rate) == ("adam", 1.0, 16000)
    ctc = name in ("asr", "pr")
    assert protocol.objective == ("ctc" if ctc else "cross_entropy")
    assert isinstance(TASKS[name].labels(["A"], True), TokenLabels) == ctc


REFERENCES = {"asr": "HI THERE", "pr": "HH AY1", "sid": "", "er": "glad", "ks": "yes"}


@pytest.mark.parametrize("name", TASKS)
def test_a_manifest_alone_is_enough(name, tree, checked):
    task = TASKS[name]
    root = tree({f"{split}.wav": 0.5 for split in ("train", "dev", "test")})
    speakers = dict.fromkeys(("train", "dev", "test"), "one") if task.speakers == "any" else {}
    with (root / "m.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", *dict.fromkeys(["speaker", task.column])])
        for split in ("train", "dev", "test"):
            speaker = speakers.get(split, split)
            writer.writerow([f"{split}.wav", split, speaker, *([REFERENCES[name]] if task.column != "speaker" else [])])
    manifest = read_manifests([root / "m.csv"], column=task.column)
    corpus, labels, problems = checked(task, task.complete(manifest.rows, task.options()), roots=[root], official=False)
    assert problems == ()
    assert {u.reference for u in corpus.utterances} == {REFERENCES[name] or "one"}
    assert partitions(task, corpus)[0].name == "all"
    if name == "er":
        assert labels.names == ("glad",)

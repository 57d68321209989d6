"""The shared corpora: every manifest is read unedited, and the official trees say what their manifests say."""

import csv
from collections import Counter
from pathlib import Path

import pytest

import superbench_tasks
from superbench.corpus import partitions
from superbench.errors import DataError
from superbench.manifest import read_manifests
from superbench_tasks import ks, pr

TASKS = {task.name: task for task in superbench_tasks.superbench_tasks()}
SUBSETS = ("train-clean-100/", "dev-clean/", "test-clean/")
COMMANDS = ("official/speech_commands_v0.01/manifest.ks.csv", "official/speech_commands_test_set_v0.01/manifest.ks.csv")

# manifests, recordings per split or fold, outputs of the head, rows left out, warnings by kind
MANIFESTS = [
    (("official/LibriSpeech/manifest.asr.csv",), {"train": 48, "dev": 31, "test": 35}, 32, 0, {}),
    (("ljspeech/manifest.asr.csv",), {"train": 4, "dev": 2, "test": 2}, 32, 0, {"shared-speaker": 1}),
    (("speechocean762/manifest.asr.csv",), {"train": 168, "dev": 60, "test": 60}, 32, 0, {}),
    (("official/LibriSpeech/manifest.pr.csv",), {"train": 30, "dev": 20, "test": 29}, 74, 0, {}),
    (("speechocean762/manifest.pr.csv",), {"train": 168, "dev": 60, "test": 60}, 76, 0, {}),  # IH, UH without stress
    (("official/LibriSpeech/manifest.sid.csv",), {"train": 60, "dev": 20, "test": 20}, 8, 0, {}),
    (("official/VoxCeleb1/manifest.sid.csv",), {"train": 24, "dev": 12, "test": 12}, 6, 0, {}),
    (("fsdd/manifest.sid.csv",), {"train": 480, "dev": 120, "test": 300}, 6, 0, {}),
    (("speechocean762/manifest.sid.csv",), {"train": 192, "dev": 48, "test": 48}, 24, 0, {}),
    (("emodb/manifest.er.csv",), {"1": 81, "2": 51, "3": 71, "4": 63, "5": 73}, 4, 125, {}),
    (
        ("official/IEMOCAP/manifest.er.csv",),
        {"1": 18, "2": 18, "3": 18, "4": 17, "5": 18},
        4,
        29,
        {"already-cut": 89},
    ),
    (("fsdd/manifest.ks.csv",), {"train": 600, "dev": 150, "test": 150}, 10, 0, {}),
    (COMMANDS, {"train": 174, "dev": 38, "test": 68}, 12, 0, {"listed-twice": 58, "no-speaker": 1, "clipped": 2}),
]


# Training recordings of SID of more than 8 s, by soundfile.info of each file.
BANKS = {
    "official/LibriSpeech/manifest.sid.csv": 33,
    "official/VoxCeleb1/manifest.sid.csv": 4,
    "speechocean762/manifest.sid.csv": 4,
}


def recordings(corpus):
    """How many there are per split or fold; a bank of crops is one."""
    firsts = [corpus.utterances[item[0]] for item in corpus.items(range(len(corpus.utterances)))]
    return Counter(u.fold or u.split for u in firsts)


def cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def task_of(name):
    return TASKS[name.split(".")[-2]]


def load(shared, names, checked):
    task = task_of(names[0])
    label_column = "label4" if task.name == "er" else None
    manifest = read_manifests([shared / n for n in names], column=task.column, label_column=label_column)
    rows = task.complete(manifest.rows, task.options())
    return checked(
        task,
        rows,
        column=label_column or task.column,
        roots=manifest.roots,
        official=False,
        left_out=manifest.left_out,
    )


def test_no_manifest_is_forgotten(shared):
    there = {str(p.relative_to(shared)) for name in TASKS for p in shared.glob(f"**/manifest.{name}.csv")}
    assert there == {name for names, *_ in MANIFESTS for name in names}


@pytest.mark.parametrize(
    ("names", "counts", "outputs", "left_out", "warnings"),
    MANIFESTS,
    ids=lambda v: v[0] if isinstance(v, tuple) else "",
)
def test_every_manifest_is_read_unedited(shared, checked, names, counts, outputs, left_out, warnings):
    corpus, labels, problems = load(shared, names, checked)
    assert [p for p in problems if p.severity == "error"] == []
    assert recordings(corpus) == counts
    long = Counter(u.bank for u in corpus.utterances if u.bank)
    assert (len(long), set(long.values())) == (BANKS.get(names[0], 0), {4} if names[0] in BANKS else set())
    assert all((u.split, u.samples) == ("train", 8 * 16000) for u in corpus.utterances if u.bank)
    if names[0].endswith(".sid.csv"):
        assert max(u.samples for u in corpus.utterances if u.split == "train") <= 8 * 16000
    assert Counter(p.kind for p in problems) == warnings
    assert labels.size == outputs
    assert corpus.left_out == left_out
    rates = {row["sample_rate"] for name in names for row in cells(shared / name)} - {"16000"}
    assert corpus.resampler.split()[3:] == [f"{rate}->16000" for rate in sorted(rates)]
    for partition in partitions(task_of(names[0]), corpus):
        assert min(len(partition.train), len(partition.dev), len(partition.test)) > 0
    if len(counts) == 3:
        assert len(partitions(task_of(names[0]), corpus)) == 1


def test_the_order_of_two_manifests_does_not_matter(shared, checked):
    assert load(shared, COMMANDS, checked)[0].sha == load(shared, COMMANDS[::-1], checked)[0].sha


def test_the_training_folder_of_speech_commands_stands_alone(shared, checked):
    corpus, _, problems = load(shared, COMMANDS[:1], checked)
    assert Counter(u.split for u in corpus.utterances) == {"train": 174, "dev": 38, "test": 58}
    assert {p.severity for p in problems} == {"warning"}


def test_iemocap_needs_its_label_column(shared):
    manifest = shared / "official/IEMOCAP/manifest.er.csv"
    assert read_manifests([manifest], column="label").left_out == 0
    assert len(read_manifests([manifest], column="label").rows) == 118
    with pytest.raises(DataError, match="35 problems"):
        read_manifests([shared / "official/LibriSpeech/manifest.asr.csv"], column="phones")


def official(shared, name, **options):
    task = TASKS[name]
    return task.read(shared / "official", task.options(**options))


def facts(rows, root, *columns):
    """What a reader says, in the words of a manifest."""
    return sorted(
        (r.path.relative_to(root).as_posix(), r.speaker, *(r.labels[c] for c in columns), r.split) for r in rows
    )


def listed(path, *columns, keep=lambda row: True):
    return sorted((r["path"], r["speaker"], *(r[c] for c in columns), r["split"]) for r in cells(path) if keep(r))


def test_librispeech_says_what_its_manifest_says(shared):
    root = shared / "official/LibriSpeech"
    rows = official(shared, "asr")
    assert Counter(r.split for r in rows) == {"train": 48, "dev": 1, "test": 5}
    expected = listed(root / "manifest.asr.csv", "text", "chapter", keep=lambda r: r["path"].startswith(SUBSETS))
    assert facts(rows, root, "text", "chapter") == expected


def test_librispeech_phones_are_those_of_its_manifest(shared):
    root = shared / "official/LibriSpeech"
    lexicon = str(shared / "lexicon/lexicon.txt")
    rows = official(shared, "pr", lexicon=(lexicon,))
    with pytest.raises(DataError) as caught:
        pr.complete(rows, pr.Options(lexicon=(lexicon,)))
    unknown = {part.split()[0] for part in caught.value.message.partition(": ")[2].split("), ")}
    assert unknown <= set((shared / "lexicon/oov.txt").read_text().split())
    known = [r for r in rows if not unknown & set(r.labels["text"].split())]
    phones = {r["path"]: r["phones"] for r in cells(root / "manifest.pr.csv")}
    for source in (lexicon, str(shared / "lexicon/cmudict.dict.gz")):
        done = pr.complete(known, pr.Options(lexicon=(source,)))
        found = {r.path.relative_to(root).as_posix(): r.labels["phones"] for r in done}
        assert found == {path: phones[path] for path in phones if path.startswith(SUBSETS)}


def test_voxceleb_says_what_its_manifest_says(shared):
    root = shared / "official/VoxCeleb1"
    assert facts(official(shared, "sid"), root, "label", "video") == listed(root / "manifest.sid.csv", "label", "video")


def test_iemocap_says_what_its_manifest_says(shared, checked):
    root = shared / "official/IEMOCAP"
    rows = official(shared, "er")
    found = sorted((r.path.relative_to(root).as_posix(), r.speaker, r.labels["label"], r.fold) for r in rows)
    lines = [r for r in cells(root / "manifest.er.csv") if r["label4"]]
    assert found == sorted((r["path"], r["speaker"], r["label4"], r["fold"]) for r in lines)
    corpus, labels, problems = checked(TASKS["er"], rows, roots=[root], official=True)
    assert problems == ()
    assert labels.names == ("neu", "hap", "ang", "sad")
    sizes = [(len(p.train), len(p.dev), len(p.test)) for p in partitions(TASKS["er"], corpus)]
    assert sizes == [(56, 15, 18), (56, 15, 18), (56, 15, 18), (57, 15, 17), (56, 15, 18)]


def test_speech_commands_says_what_its_manifests_say(shared, checked):
    root = shared / "official"
    rows = official(shared, "ks")
    words = [r for r in rows if ks.TRAINING in r.path.parts and r.labels["label"] != ks.SILENCE]
    kept = listed(
        root / ks.TRAINING / "manifest.ks.csv", "label", "word", keep=lambda r: r["word"] and r["split"] != "test"
    )
    assert facts(words, root / ks.TRAINING, "label", "word") == kept
    test = [r for r in rows if ks.TESTING in r.path.parts]
    assert facts(test, root / ks.TESTING, "label", "word") == listed(
        root / ks.TESTING / "manifest.ks.csv", "label", "word"
    )
    silence = [r for r in rows if r.crop is not None]
    assert sorted(r.id for r in silence) == [
        f"{ks.TRAINING}/_background_noise_/{name}:{split}"
        for name in ("boiler", "washing_machine")
        for split in ("dev", "train")
    ]
    corpus, _, problems = checked(TASKS["ks"], rows, roots=[root / f for f in TASKS["ks"].folders], official=True)
    assert recordings(corpus) == {"train": 172 + 2, "dev": 38 + 2, "test": 68}
    assert Counter(u.split for u in corpus.utterances if u.bank) == {"train": 2 * 128, "dev": 2 * 128}
    assert {p.severity for p in problems} == {"warning"}


def test_the_publishers_lists_agree_with_their_rule(shared):
    home = shared / "official" / ks.TRAINING
    lists = {"dev": "validation_list.txt", "test": "testing_list.txt"}
    by_list = {name: split for split, file in lists.items() for name in (home / file).read_text().split()}
    files = [p.relative_to(home).as_posix() for p in home.glob("[!_]*/*.wav")]
    assert {f: ks.split_of(Path(f).stem.partition("_nohash_")[0]) for f in files} == {
        f: by_list.get(f, "train") for f in files
    }

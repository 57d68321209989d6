"""Stage 1: a corpus checked as a whole."""

import dataclasses
import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import make_tones

from superbench.contracts import Corpus, Crop, Partition, Problem, Recording, Row, Utterance
from superbench.corpus import check, limit, partitions, told
from superbench.errors import ContractError, DataError, UsageError
from superbench.labels import ClassLabels, TokenLabels
from superbench.plugin import TaskProtocol, TaskSpec

ROOT = Path("/corpus")
PROTOCOL = TaskProtocol(
    head="linear",
    objective="cross_entropy",
    metrics=("accuracy",),
    steps=1,
    batch=1,
    accumulate=1,
    eval_every=1,
    clip=1.0,
    lr_grid=(1e-3,),
)


def task(**changes):
    facts = {"name": "toy", "version": "1", "protocol": PROTOCOL, "column": "label"}
    return TaskSpec(**{**facts, "labels": lambda references, official: ClassLabels.sorted_from(references), **changes})


def drawing(**changes):
    """A task that resamples dev, and so may have banks there."""
    return task(protocol=replace(PROTOCOL, dev_sampling="balanced"), **changes)


def row(id_, split="train", label="a", *, path=None, **more):
    return Row(id=id_, path=Path(path or ROOT / f"{id_}.wav"), split=split, labels={"label": label}, **more)


def rows(*further):
    return [row("u1"), row("u2", "dev"), row("u3", "test"), *further]


def sound(of=lambda row: str(row.path), wrong=()):
    """An `inspect` that reads nothing: the content is `of(row)`, and the ids in `wrong` cannot be read.

    A row that asks for crops has all of its bank, of other contents and one sample apart.
    """

    def inspect(row):
        if row.id in wrong:
            return (), (Problem(kind="unreadable", where=row.id, what="broken"),)
        facts = {"native_rate": 8000, "samples": 16000, "rate": 16000, "resampler": "soxr 8000->16000", "gain_db": -3.0}
        if row.crop is None:
            return (Recording(path=row.path, content=of(row), start=0, stop=16000, **facts),), ()
        places = range(row.crop.bank)
        return tuple(
            Recording(path=row.path, content=f"{of(row)} {k}", start=k, stop=16000 + k, **facts) for k in places
        ), ()

    return inspect


def look(given_rows, spec=None, *, inspect=None, roots=(ROOT,), official=False, column="label", left_out=0):
    corpus, labels, problems = check(
        spec or task(),
        given_rows,
        column=column,
        inspect=inspect or sound(),
        roots=roots,
        official=official,
        left_out=left_out,
    )
    assert (corpus is None) == (labels is None) == any(p.severity == "error" for p in problems)
    return corpus, labels, problems


def kinds(problems, severity="error"):
    return sorted(p.kind for p in problems if p.severity == severity)


def test_a_good_corpus():
    corpus, labels, problems = look([row("b", "test"), row("c", "dev"), row("a")], left_out=3)
    assert problems == ()
    assert [u.id for u in corpus.utterances] == ["a", "b", "c"]
    assert (corpus.task, corpus.official, corpus.left_out) == ("toy", False, 3)
    assert corpus.resampler == "soxr 8000->16000"
    assert labels == ClassLabels(("a",))
    assert corpus.utterances[0].reference == "a"
    assert corpus.utterances[0].seconds == 1.0
    assert {(u.gain_db, u.bank) for u in corpus.utterances} == {(-3.0, "")}


def test_the_order_of_rows_does_not_matter():
    given_rows = [row(f"u{i}", ("train", "dev", "test")[i % 3], "ab"[i % 2]) for i in range(30)]
    expected = look(given_rows)[0]
    random.Random(0).shuffle(given_rows)
    assert look(given_rows)[0] == expected


def test_all_that_is_wrong_is_said_at_once():
    bad = [
        row("U1", "train"),
        row("u4", "trian"),
        row("u5", "test", "zzz"),
        row("u6", "test", ""),
        row("u7", "train"),
        row("u8", "train", path="/elsewhere/x.wav"),
    ]
    _, _, problems = look(rows(*bad), inspect=sound(wrong=("u7",)))
    assert kinds(problems) == ["duplicate-id", "label", "no-reference", "outside", "split", "unreadable"]


def test_what_inspect_says_is_passed_on():
    warning = Problem(kind="clipped", where="u1", what="loud", severity="warning")
    read = sound()
    corpus, _, problems = look(rows(), inspect=lambda r: (read(r)[0], (warning,) if r.id == "u1" else ()))
    assert problems == corpus.warnings == (warning,)


@pytest.mark.parametrize("twin", ["u1", "U1", "é", "É"])
def test_ids_equal_after_normalisation_and_case_folding(twin):
    first = row("u1" if twin in ("u1", "U1") else "e\u0301")
    other = dataclasses.replace(row("x"), id=twin)
    _, _, problems = look([first, other, row("u2", "dev"), row("u3", "test")])
    assert kinds(problems) == ["duplicate-id"]


def test_ids_are_written_in_nfc():
    corpus, _, _ = look([row("e\u0301"), row("u2", "dev"), row("u3", "test")])
    assert "\u00e9" in [u.id for u in corpus.utterances]


def test_paths_outside_the_roots_are_not_read(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.wav").write_text("x")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "door").symlink_to(root)
    asked = []

    def inspect(r):
        asked.append(r.id)
        return sound()(r)

    paths = {"u1": "a.wav", "u2": "b.wav", "u3": "link.wav", "u4": "../secret.wav"}
    splits = {"u1": "train", "u2": "dev"}
    given_rows = [row(id_, splits.get(id_, "test"), path=root / path) for id_, path in paths.items()]
    _, _, problems = look(given_rows, inspect=inspect, roots=[root])
    assert kinds(problems) == ["outside", "outside"]
    assert sorted(asked) == ["u1", "u2"]
    given_rows = [
        row(f"u{i}", split, path=tmp_path / f"door/{i}.wav") for i, split in enumerate(("train", "dev", "test"))
    ]
    assert look(given_rows, roots=[tmp_path / "door"])[0] is not None  # the root itself may be a link


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_no_split_is_empty(split):
    _, _, problems = look([r for r in rows() if r.split != split])
    assert kinds(problems) == ["empty-split"]
    assert repr(split) in problems[0].what


def test_a_split_of_unread_recordings_only_gives_no_corpus():
    _, _, problems = look(rows(), inspect=sound(wrong=("u1",)))
    assert kinds(problems) == ["unreadable"]


def test_same_sound_in_two_splits_or_with_two_references():
    same = sound(of=lambda r: "same" if r.id in ("u1", "u4") else r.id)
    _, _, problems = look(rows(row("u4", "test")), inspect=same)
    assert kinds(problems) == ["duplicate-audio"]
    assert "u4" in problems[0].where
    assert "u1" in problems[0].what
    assert kinds(look(rows(row("u4", "train", "b")), inspect=same)[2]) == ["duplicate-audio"]
    corpus, _, problems = look(rows(row("u4")), inspect=same)
    assert len(corpus.utterances) == 4
    assert kinds(problems, "warning") == ["duplicate-audio"]


def test_the_publishers_own_duplicates_are_warnings():
    corpus, _, problems = look(rows(row("u4", "test")), inspect=sound(of=lambda r: "same"), official=True)
    assert len(corpus.utterances) == 4
    assert set(kinds(problems, "warning")) == {"duplicate-audio"}


def two_roots(**changes):
    listed = row("u3", "test", path="/other/x.wav", speaker="s")
    first = row("a3", "test", speaker="s")
    return [row("u1"), row("u2", "dev"), first, dataclasses.replace(listed, **changes)]


SAME_TEST = sound(of=lambda r: "same" if r.id in ("a3", "u3") else r.id)


@pytest.mark.parametrize("backwards", [False, True])
def test_two_manifests_that_list_one_recording(backwards):
    given_rows = two_roots()[:: -1 if backwards else 1]
    corpus, _, problems = look(given_rows, roots=[ROOT, Path("/other")], inspect=SAME_TEST)
    assert [u.id for u in corpus.utterances] == ["a3", "u1", "u2"]
    assert kinds(problems, "warning") == ["listed-twice"]
    same_id = [dataclasses.replace(r, id="a3") if r.id == "u3" else r for r in given_rows]
    assert look(same_id, roots=[ROOT, Path("/other")], inspect=sound(of=lambda r: r.id))[0].utterances[0].id == "a3"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"split": "dev"}, ["duplicate-audio"]),
        ({"labels": {"label": "b"}}, ["duplicate-audio", "label"]),
        ({"id": "a3"}, ["duplicate-id"]),
    ],
)
def test_two_manifests_that_disagree(changes, expected):
    inspect = SAME_TEST if "id" not in changes else sound()  # one id, two sounds
    assert kinds(look(two_roots(**changes), roots=[ROOT, Path("/other")], inspect=inspect)[2]) == expected


def test_a_different_speaker_is_another_recording():
    corpus, _, problems = look(two_roots(speaker="t"), roots=[ROOT, Path("/other")], inspect=SAME_TEST)
    assert len(corpus.utterances) == 4
    assert kinds(problems, "warning") == ["duplicate-audio"]


def with_speakers(*speakers):
    return [row(f"u{i}", ("train", "dev", "test")[i % 3], speaker=s) for i, s in enumerate(speakers)]


@pytest.mark.parametrize("shared", ["abab", "abb", "aba", "aab"])
def test_a_speaker_in_two_splits(shared):
    _, _, problems = look(with_speakers(*shared), task(speakers="disjoint"))
    assert set(kinds(problems)) == {"shared-speaker"}
    assert look(with_speakers(*shared), task(speakers="any"))[2] == ()


def test_one_speaker_in_all_is_a_warning():
    _, _, problems = look(with_speakers(*"aaa"), task(speakers="disjoint"))
    assert kinds(problems, "warning") == ["shared-speaker"]
    _, _, problems = look(with_speakers(*"aaa", ""), task(speakers="disjoint"))
    assert kinds(problems) == ["shared-speaker"]  # there may be another one


def test_rows_without_speaker_are_counted():
    _, _, problems = look(with_speakers("a", "b", "", ""), task(speakers="disjoint"))
    assert kinds(problems, "warning") == ["no-speaker"]
    assert problems[0].what.startswith("2 rows")


def test_a_speaker_in_two_folds():
    given_rows = [row(f"u{i}", "", fold=str(i), speaker="ab"[i % 2]) for i in range(3)]
    assert kinds(look(given_rows, task(speakers="disjoint"))[2]) == ["shared-speaker"]


def test_classes_are_those_of_train():
    _, _, problems = look(rows(row("u4", "dev", "new"), row("u5", "test", "new")))
    assert kinds(problems) == ["label", "label"]
    assert "'new'" in problems[0].what
    assert look(rows(row("u4", "dev", "new"), row("u5", "train", "new")))[1].names == ("a", "new")


def test_with_folds_every_reference_is_a_training_reference():
    given_rows = [row(f"u{i}", "", "abc"[i], fold=str(i)) for i in range(3)]
    assert look(given_rows)[1].names == ("a", "b", "c")


def test_a_reference_is_written_as_its_vocabulary_writes_it():
    letters = TokenLabels(
        names=("<blank>", "A", "B"),
        blank=0,
        ending=(),
        silent=("<blank>",),
        split=lambda text: text.upper().split(),
        join=" ".join,
    )
    corpus, _, _ = look(
        [row("u1", "train", " a  b "), row("u2", "dev", "b"), row("u3", "test", "A")],
        task(labels=lambda references, official: letters),
    )
    assert [u.reference for u in corpus.utterances] == ["A B", "B", "A"]
    _, _, problems = look(
        [row("u1", "train", "a Ü"), row("u2", "dev", "b ß"), row("u3", "test", "C")],
        task(labels=lambda references, official: letters),
    )
    assert kinds(problems) == ["label"] * 3
    assert "'Ü'" in problems[0].what
    flood = [row(f"v{i}", "test", "Ü ß" if i < 40 else "B ß") for i in range(60)]
    _, _, problems = look([row("u1", "train", "a"), row("u2", "dev", "b"), *flood], task(labels=lambda _, __: letters))
    assert told(problems) == [
        f"error: label: {count} cases, the first v0 in 'test', v1 in 'test', v2 in 'test': '{symbol}' is not in the "
        "vocabulary of toy: it has <blank>, A, B"
        for symbol, count in (("SS", 60), ("Ü", 40))
    ]


def problem(kind, where, what, severity="error"):
    return Problem(kind=kind, where=where, what=what, severity=severity)


BANK = Crop(seconds=1.0, bank=3)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_bank_of_crops_is_one_recording_in_as_many_utterances(split):
    corpus, _, problems = look(rows(row("a/x", split, speaker="s", crop=BANK), row("a/x0", split)), drawing())
    assert problems == ()
    assert [(u.id, u.bank) for u in corpus.utterances] == [
        *((f"a/x#00{k}", "a/x") for k in range(3)),
        *((id_, "") for id_ in ("a/x0", "u1", "u2", "u3")),
    ]
    crops = corpus.utterances[:3]
    assert [(u.start, u.stop, u.content) for u in crops] == [(k, 16000 + k, f"/corpus/a/x.wav {k}") for k in range(3)]
    assert {(u.split, u.speaker, u.reference, u.gain_db) for u in crops} == {(split, "s", "a", -3.0)}
    assert corpus.items(range(7)) == ((0, 1, 2), (3,), (4,), (5,), (6,))
    assert corpus.items((6, 1, 3, 0)) == ((6,), (1, 0), (3,))  # those of a bank that are asked for, at its first
    (whole,) = partitions(task(), corpus)
    assert set(range(3)) < set(getattr(whole, split))
    apart = replace(corpus, utterances=tuple(replace(u, bank="") for u in corpus.utterances))
    assert apart.sha != corpus.sha  # three recordings are drawn otherwise than one bank


def test_a_recording_no_longer_than_its_crop_is_an_utterance_like_any_other():
    whole = sound()
    corpus, _, problems = look(rows(row("a", crop=BANK)), inspect=lambda r: whole(replace(r, crop=None)))
    assert problems == ()
    assert [(u.id, u.bank) for u in corpus.utterances] == [(i, "") for i in ("a", "u1", "u2", "u3")]


@pytest.mark.parametrize(
    "part",
    [{"split": "test"}, {"split": "dev"}, {"split": "", "fold": "1"}, {"split": "train", "fold": "1"}],
    ids=["test", "dev that is scored whole", "a fold, tested in turn", "a fold with a split"],
)
def test_what_is_tested_is_never_cropped(part):
    folded = [row(f"v{k}", "", fold=str(k)) for k in range(4)]
    cropped = row("a", part["split"], fold=part.get("fold", ""), crop=BANK)
    _, _, problems = look([*(folded if "fold" in part else rows()), cropped])
    assert kinds(problems) == ["crop"]
    assert "toy" in problems[0].what
    assert problems[0].where == "a"


def test_an_id_that_is_that_of_a_crop_is_there_twice():
    _, _, problems = look(rows(row("a", crop=BANK), row("A#001")))
    assert kinds(problems) == ["duplicate-id"]
    assert problems[0].where == "A#001"
    assert look(rows(row("a", crop=BANK), row("a#003")))[2] == ()  # the bank has three


def test_crops_of_one_recording_may_be_the_same_sound_and_those_of_two_may_not():
    same = sound()

    def inspect(r):
        return tuple(replace(found, content="x") for found in same(r)[0]) if r.crop else same(r)[0], ()

    assert look(rows(row("a", crop=BANK)), inspect=inspect)[2] == ()
    corpus, _, problems = look(rows(row("a", crop=BANK), row("b", crop=BANK)), inspect=inspect)
    assert set(kinds(problems, "warning")) == {"duplicate-audio"}
    assert len(corpus.utterances) == 9
    apart = rows(row("a", crop=BANK), row("b", "dev", crop=BANK))
    assert set(kinds(look(apart, drawing(), inspect=inspect)[2])) == {"duplicate-audio"}
    corpus, _, problems = look(apart, drawing(), inspect=inspect, official=True)
    assert len(corpus.utterances) == 9
    assert set(kinds(problems, "warning")) == {"duplicate-audio"}


def test_a_bank_without_a_speaker_is_one_row_without_a_speaker():
    given_rows = [*with_speakers("a", "b", "c"), row("n", crop=BANK), row("m", "dev", crop=BANK)]
    _, _, problems = look(given_rows, drawing(speakers="disjoint"))
    assert kinds(problems, "warning") == ["no-speaker"]
    assert problems[0].what.startswith("2 rows")
    given_rows = [*with_speakers("a", "b", "c"), row("n", "dev", speaker="a", crop=BANK)]
    _, _, problems = look(given_rows, drawing(speakers="disjoint"))
    assert kinds(problems) == ["shared-speaker"]
    assert problems[0].what == "is in 'dev' (1 rows) and 'train' (1 rows)"


def test_a_limit_counts_a_bank_as_one_and_keeps_it_whole():
    banks = [row(f"b{k}", crop=BANK) for k in range(4)]
    corpus, _, _ = look(rows(*banks, *(row(f"w{k}") for k in range(4))))
    assert len(corpus.utterances) == 3 + 4 * 3 + 4
    kept = [limit(corpus, most) for most in range(1, 10)]
    for most, limited in enumerate(kept, start=1):
        train = limited.items([i for i, u in enumerate(limited.utterances) if u.split == "train"])
        assert len(train) == most
        assert all(len(item) == (3 if limited.utterances[item[0]].bank else 1) for item in train)
    names = [{u.id for u in limited.utterances} for limited in kept]
    assert all(fewer < more for fewer, more in itertools.pairwise(names))
    assert kept[-1] == corpus


def test_problems_are_told_once_per_kind_and_words():
    rates = [problem("rate", f"{i}.wav", "8000 Hz in place of 16000 Hz") for i in range(900)]
    others = [
        problem("clipped", "x", "loud", "warning"),
        problem("rate", "y.wav", "44100 Hz in place of 16000 Hz"),
        problem("empty", "z.wav", "no bytes"),
        problem("clipped", "y", "loud", "warning"),
    ]
    assert told([*others[:2], *rates, *others[2:]]) == [
        "error: rate: y.wav: 44100 Hz in place of 16000 Hz",
        "error: rate: 900 cases, the first 0.wav, 1.wav, 2.wav: 8000 Hz in place of 16000 Hz",
        "error: empty: z.wav: no bytes",
        "warning: clipped: 2 cases, x, y: loud",
    ]
    assert told([]) == []


def test_many_words_of_one_kind_are_counted_from_the_twentieth_line_on():
    twice = [problem("duplicate-id", f"u{i}", f"the id is that of v{i // 2}") for i in range(100)]
    lines = told([*twice, problem("empty", "z.wav", "no bytes")])
    assert lines[19] == "error: duplicate-id: 2 cases, u38, u39: the id is that of v19"
    assert lines[20:] == ["error: duplicate-id: and 60 more of this kind", "error: empty: z.wav: no bytes"]
    assert told(twice[:40]) == lines[:20]


def test_the_reference_of_a_speaker_task_is_the_speaker():
    given_rows = [Row(id=f"u{i}", path=ROOT / f"{i}", split=s, speaker="0005") for i, s in enumerate(("train", "dev"))]
    given_rows.append(Row(id="u9", path=ROOT / "9", split="test", labels={"speaker": "0005"}))
    assert look(given_rows, column="speaker")[1].names == ("0005",)


def test_the_vocabulary_is_told_whether_the_corpus_is_official():
    told = []
    spec = task(labels=lambda references, official: told.append(official) or ClassLabels.sorted_from(references))
    look(rows(), spec, official=True)
    look(rows(), spec)
    assert told == [True, False]


def test_folds_need_to_be_three_and_everywhere():
    folded = [row(f"u{i}", "", fold=f"{i % 2}") for i in range(4)]
    assert kinds(look(folded)[2]) == ["fold"]
    folded = [row(f"u{i}", "", fold=f"{i % 3}") for i in range(4)]
    assert kinds(look([*folded, row("v", "train")])[2]) == ["fold"]
    assert look(folded)[2] == ()


def made(parts, official=False):
    """A corpus of (id, split, fold)."""
    facts = {"path": ROOT, "start": 0, "stop": 1, "native_rate": 1, "samples": 1, "rate": 1, "content": ""}
    return Corpus(
        task="toy",
        official=official,
        utterances=tuple(
            Utterance(id=i, split=s, fold=f, speaker="", labels={}, reference="a", **facts) for i, s, f in sorted(parts)
        ),
    )


def test_splits_make_one_partition():
    corpus = made([("a", "test", ""), ("b", "train", ""), ("c", "dev", ""), ("d", "train", "")])
    assert partitions(task(), corpus) == (Partition(name="all", train=(1, 3), dev=(2,), test=(0,)),)


def test_folds_go_in_a_circle_by_number():
    corpus = made([("a", "", "10"), ("b", "", "9"), ("c", "", "1"), ("d", "", "2")])
    found = partitions(task(), corpus)
    assert [(p.name, p.train, p.dev, p.test) for p in found] == [
        ("fold1", (0, 1), (3,), (2,)),
        ("fold2", (0, 2), (1,), (3,)),
        ("fold3", (2, 3), (0,), (1,)),
        ("fold4", (1, 3), (2,), (0,)),
    ]
    corpus = made([("a", "", "x"), ("b", "", "10"), ("c", "", "9")])
    assert [p.test for p in partitions(task(), corpus)] == [(1,), (2,), (0,)]  # as text, where one is no number


@given(st.lists(st.sampled_from(["1", "2", "3", "4", "5"]), min_size=5, max_size=40))
def test_every_utterance_is_tested_once_and_never_trained_on_then(folds):
    corpus = made([(f"{i:02d}", "", fold) for i, fold in enumerate(folds)])
    if len(set(folds)) < 3:
        with pytest.raises(DataError):
            partitions(task(), corpus)
        return
    found = partitions(task(), corpus)
    assert sorted(i for p in found for i in p.test) == list(range(len(folds)))
    for p in found:
        assert sorted((*p.train, *p.dev, *p.test)) == list(range(len(folds)))


def test_a_task_divides_its_official_corpus_only():
    own = (Partition(name="own", train=(0,), dev=(1,), test=(2,)),)
    spec = task(partitions=lambda corpus: own)
    parts = [("a", "train", ""), ("b", "dev", ""), ("c", "test", "")]
    assert partitions(spec, made(parts, official=True)) == own
    assert partitions(spec, made(parts))[0].name == "all"


def test_a_limit_keeps_so_many_of_each_split_spread_by_hash():
    corpus = made([(f"{i:03d}", "train" if i < 80 else "dev" if i < 95 else "test", "") for i in range(100)])
    four, ten = limit(corpus, 4), limit(corpus, 10)
    count = [sum(u.split == s for u in ten.utterances) for s in ("train", "dev", "test")]
    assert count == [10, 10, 5]
    assert len(four.utterances) == 12
    assert {u.id for u in four.utterances} < {u.id for u in ten.utterances}
    assert [u.id for u in four.utterances] == sorted(u.id for u in four.utterances)
    assert [u.id for u in ten.utterances[:10]] != [f"{i:03d}" for i in range(10)]
    assert limit(corpus, 1000) == corpus
    folded = made([(f"{i}", "", "123"[i % 3]) for i in range(9)])
    assert [u.fold for u in limit(folded, 1).utterances].count("2") == 1
    with pytest.raises(UsageError):
        limit(corpus, 0)


def test_check_and_run_say_a_flood_in_one_line_and_json_keeps_each(superbench, tmp_path):
    manifest = make_tones(tmp_path, {"train": 12, "dev": 6, "test": 6}, rate=8000)
    line = "error: rate: 24 cases, the first "
    places = ", ".join(f"train{i:02d} ({manifest}:{i + 2}: {tmp_path / f'train{i:02d}.wav'})" for i in range(3))
    line = f"{line}{places}: 8000 Hz in place of 16000 Hz: pass --resample to convert it"
    check = ("corpus", "check", "-t", "ks", "--data", f"ks={manifest}")
    checked = superbench(*check)
    assert (checked.code, checked.out.splitlines()) == (3, [line])
    listed = superbench(*check, "--json")
    assert (listed.code, [p["kind"] for p in listed.json["problems"]]) == (3, ["rate"] * 24)
    ran = superbench("run", "-q", "-u", "fbank_no_cmvn", "-t", "ks", "--data", manifest)
    assert ran.code == 3
    assert "has 24 errors" in ran.err
    assert line in ran.err
    assert ran.err.count("8000 Hz") == 1


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([((0,), (1,), (2,))], "1 utterances are tested, 2 should be"),
        ([((0,), (), (2, 3))], "dev or test is empty"),
        ([((0, 2), (1,), (2, 3))], "an utterance is in it twice"),
    ],
    ids=["test left out", "nothing to choose on", "tested on what it was trained on"],
)
def test_a_task_that_divides_its_corpus_unsoundly_is_refused(parts, words):
    corpus = made([("a", "train", ""), ("b", "dev", ""), ("c", "test", ""), ("d", "test", "")])
    rule = [Partition(name="all", train=a, dev=b, test=c) for a, b, c in parts]
    with pytest.raises(ContractError, match=words):
        partitions(replace(task(), partitions=lambda _: rule), replace(corpus, official=True))

"""SID, ER and KS held against reference/PROTOCOL.md (sections 1.3 to 1.5); what is expected stands there."""

from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import soundfile
import torch

from superbench import audio
from superbench.contracts import Prediction, Settings
from superbench.corpus import partitions
from superbench.metrics import METRICS
from superbench.pipeline.opening import open_corpus, open_upstream, require_corpus
from superbench.pipeline.prepared import prepare
from superbench.plan import RunRequest
from superbench.registry import Registry
from superbench_tasks import er, ks, sid

TEN_WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


def opened(task, root):
    """Corpus and vocabulary of an official tree, as the pipeline opens them."""
    checked = open_corpus(task, RunRequest(upstream="any", task=(task.name,), corpus=(str(root),)))
    return require_corpus(checked, task.name)


# ---- SID -------------------------------------------------------------------------------------------------------------


def voxceleb(*speakers):
    files = {}
    lines = []
    for speaker in speakers:
        for split, video, seconds in ((1, "a", 9.0), (1, "b", 8.0), (2, "c", 9.0), (3, "d", 9.0)):
            lines.append(f"{split} {speaker}/{video}/00001.wav")
            files[f"VoxCeleb1/dev/wav/{speaker}/{video}/00001.wav"] = seconds
    return {**files, "VoxCeleb1/iden_split.txt": "\n".join(lines)}


def test_sid_numbers_its_speakers_and_crops_what_it_trains_on(tree):
    root = tree(voxceleb("id10001", "id11251"))
    corpus, labels = opened(sid.TASK, root)
    assert labels.encode("id10001") == (0,)
    assert labels.encode("id10002") == (1,)
    assert labels.encode("id11251") == (1_250,)
    assert labels.size == 1_251
    bank = sid.PROTOCOL.crop.bank
    assert Counter((u.split, u.seconds, bool(u.bank)) for u in corpus.utterances) == {
        ("train", 8.0, True): 2 * bank,  # of 9 s: crops of 128,000 samples
        ("train", 8.0, False): 2,  # of just 8 s: whole
        ("dev", 9.0, False): 2,
        ("test", 9.0, False): 2,
    }
    crops = [u for u in corpus.utterances if u.bank == "id10001/a/00001"]
    assert [u.id for u in crops] == [f"id10001/a/00001#{k:03d}" for k in range(bank)]
    assert len({u.start for u in crops}) > 1
    assert all(0 <= u.start <= 16_000 and u.stop - u.start == 128_000 for u in crops)
    whole, _ = soundfile.read(root / "VoxCeleb1/dev/wav/id10001/a/00001.wav", dtype="float32")
    for crop in crops:
        assert np.array_equal(audio.read(crop), whole[crop.start : crop.stop])
    (partition,) = partitions(sid.TASK, corpus)
    assert len(corpus.items(partition.train)) == 4


@pytest.mark.parametrize("speaker", ["id10000", "id11252", "id1"])
def test_sid_has_no_other_speaker(tree, speaker):
    checked = open_corpus(
        sid.TASK, RunRequest(upstream="any", task=("sid",), corpus=(str(tree(voxceleb("id10001", speaker))),))
    )
    assert checked.corpus is None
    assert {p.kind for p in checked.problems if p.severity == "error"} == {"label"}


# ---- ER --------------------------------------------------------------------------------------------------------------


def iemocap():
    made = {}
    for k in "12345":
        dialog, lines = f"Ses0{k}F_impro01", []
        for i, emotion in enumerate(("sad", "exc", "neu", "ang", "hap", "fru", "neu")):
            turn = f"{dialog}_{'FM'[i % 2]}{i:03d}"
            lines.append(f"[{i}.0000 - {i}.5000]\t{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]")
            made[f"IEMOCAP/Session{k}/sentences/wav/{dialog}/{turn}.wav"] = 0.05
        made[f"IEMOCAP/Session{k}/dialog/EmoEvaluation/{dialog}.txt"] = "\n".join(lines)
    return made


def test_er_has_four_classes_and_five_folds(tree):
    corpus, labels = opened(er.TASK, tree(iemocap()))
    assert labels.names == ("neu", "hap", "ang", "sad")
    assert [labels.encode(c) for c in ("neu", "hap", "ang", "sad")] == [(0,), (1,), (2,), (3,)]
    assert [u.reference for u in corpus.utterances[:6]] == [
        "sad",
        "neu",
        "hap",
        "neu",
        "hap",
        "ang",
    ]  # F000 F002 F004 F006
    assert {u.id.rpartition("_")[2] for u in corpus.utterances} == {"F000", "M001", "F002", "M003", "F004", "F006"}
    found = partitions(er.TASK, corpus)
    assert [p.name for p in found] == ["fold1", "fold2", "fold3", "fold4", "fold5"]
    for session, p in enumerate(found, start=1):
        ids = sorted(u.id for u in corpus.utterances if u.fold != str(session))
        torch.manual_seed(0)
        train, dev = torch.utils.data.random_split(ids, [19, 5])  # int(0.8 * 24), and the rest
        named = [{corpus.utterances[i].id for i in part} for part in (p.train, p.dev, p.test)]
        assert named == [set(train), set(dev), {u.id for u in corpus.utterances} - set(ids)]


def test_er_cuts_the_official_numbers_at_four_fifths():
    for session, size in (("1", 4446), ("2", 4508), ("3", 4380), ("4", 4500), ("5", 4290)):
        others = sum(s.utterances for s in er.PROTOCOL.sizes if s.part != session)
        assert others == size
        assert int(er.PROTOCOL.train_share * others) == Fraction(4, 5) * others // 1


def test_uar_is_the_mean_of_the_recalls():
    said = {"neu": "neu neu neu hap", "hap": "hap neu", "sad": "ang"}
    predictions = [
        Prediction(id=f"{c}{i}", reference=c, hypothesis=h) for c, hs in said.items() for i, h in enumerate(hs.split())
    ]
    uar, accuracy = METRICS["uar"](predictions), METRICS["accuracy"](predictions)
    assert uar.value == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert (accuracy.numerator, accuracy.denominator) == (4, 7)
    assert er.PROTOCOL.metrics == ("accuracy", "uar")


# ---- KS --------------------------------------------------------------------------------------------------------------


# Speakers as Google's own lists of v0.01 have them: bed/NAME_nohash_K.wav
VALIDATION = ("50ed8a7b", "826268f8", "ab00c4b2", "b41a92a3")
TESTING = ("91223b83", "9a69672b", "a2473d62", "aa48c94a")
TRAINING = ("042186b8", "1e412fac", "21307344", "42e3f068", "4c432947")


def publishers_split(speaker):
    """The rule of the data set's README in whole numbers: 2 ** 27 places, of which 10 % and 10 % more."""
    place = int.from_bytes(hashlib.sha1(speaker.encode()).digest(), "big") % 2**27
    tenths = Fraction(place * 10, 2**27 - 1)
    return "dev" if tenths < 1 else "test" if tenths < 2 else "train"


def test_ks_divides_as_its_publishers_do():
    for speakers, split in ((VALIDATION, "dev"), (TESTING, "test"), (TRAINING, "train")):
        assert [ks.split_of(speaker) for speaker in speakers] == [split] * len(speakers)
    speakers = [hashlib.sha256(str(i).encode()).hexdigest()[:8] for i in range(3000)]
    assert [ks.split_of(s) for s in speakers] == [publishers_split(s) for s in speakers]
    assert Counter(map(ks.split_of, speakers)).keys() == {"train", "dev", "test"}


def speech_commands():
    made = {}
    for word in (*TEN_WORDS, "bed", "zero"):
        for speaker in (TRAINING[0], TRAINING[1], VALIDATION[0], TESTING[0]):
            made[f"speech_commands_v0.01/{word}/{speaker}_nohash_0.wav"] = 0.1
    for name in ("running_tap", "pink_noise"):
        made[f"speech_commands_v0.01/_background_noise_/{name}.wav"] = 1.5
    for word in TEN_WORDS:
        made[f"speech_commands_test_set_v0.01/{word}/{TESTING[1]}_nohash_0.wav"] = 0.1
    made[f"speech_commands_test_set_v0.01/_unknown_/bed_{TESTING[1]}_nohash_0.wav"] = 0.1
    made["speech_commands_test_set_v0.01/_silence_/boiler_0.wav"] = 1.0
    return made


def test_ks_has_twelve_classes_and_leaves_the_publishers_test_speakers_out(tree):
    corpus, labels = opened(ks.TASK, tree(speech_commands()))
    assert labels.names == (*TEN_WORDS, "_unknown_", "_silence_")
    assert [labels.encode(w) for w in ("yes", "go", "_unknown_", "_silence_")] == [(0,), (9,), (10,), (11,)]
    whole = [u for u in corpus.utterances if not u.bank]
    assert Counter(u.split for u in whole) == {"train": 24, "dev": 12, "test": 12}
    for split, number in (("train", 4), ("dev", 2), ("test", 1)):
        assert sum(u.split == split and u.reference == "_unknown_" for u in whole) == number
    assert TESTING[0] not in {u.speaker for u in whole}
    assert [u.id for u in whole if u.reference == "_silence_"] == ["speech_commands_test_set_v0.01/_silence_/boiler_0"]


def test_ks_cuts_silence_out_of_the_background_files(tree):
    root = tree(speech_commands())
    corpus, _ = opened(ks.TASK, root)
    banks = {}
    for u in corpus.utterances:
        if u.bank:
            banks.setdefault((u.split, u.bank), []).append(u)
    noise = "speech_commands_v0.01/_background_noise_"
    assert sorted(banks) == [
        (s, f"{noise}/{name}:{s}") for s in ("dev", "train") for name in ("pink_noise", "running_tap")
    ]
    for (_, name), crops in banks.items():
        assert [u.id for u in crops] == [f"{name}#{k:03d}" for k in range(ks.PROTOCOL.silence.bank)]
        assert {u.reference for u in crops} == {"_silence_"}
        assert {u.stop - u.start for u in crops} == {16_000}
        starts = [u.start for u in crops]
        assert min(starts) >= 0
        assert max(starts) <= 8_000  # 1.5 s of sound
        assert len(set(starts)) > len(starts) * 0.9
    assert {u.start for u in banks["train", f"{noise}/pink_noise:train"]} != {
        u.start for u in banks["dev", f"{noise}/pink_noise:dev"]
    }
    (partition,) = partitions(ks.TASK, corpus)
    assert len(corpus.items(partition.train)) == 24 + 2  # a background file is one recording, in train and in dev
    assert len(corpus.items(partition.dev)) == 12 + 2


def test_ks_is_turned_down_by_three_decibels(tree):
    root = tree(speech_commands())
    corpus, _ = opened(ks.TASK, root)
    for u in (corpus.utterances[0], next(u for u in corpus.utterances if u.bank), corpus.utterances[-1]):
        sound, _ = soundfile.read(u.path, start=u.start, stop=u.stop, dtype="float64")
        np.testing.assert_allclose(audio.read(u), sound * 0.7079457843841379, rtol=0, atol=1e-7)  # 10 ** (-3 / 20)
        assert u.gain_db == -3.0


def test_ks_resamples_dev_alike_for_every_seed_upstream_and_step(tree, tmp_path, registry):
    root = tree(speech_commands())
    settings = Settings(store=tmp_path / "store", runs=tmp_path / "runs", database=str(tmp_path / "db"))
    drawn = []
    for upstream, seeds, steps in (("fbank_no_cmvn", (0,), None), ("fbank_no_cmvn", (3, 4), 10), ("mfcc", (5,), None)):
        request = RunRequest(upstream=upstream, task=("ks",), corpus=(str(root),), seeds=seeds, steps=steps)
        prepared = prepare(request, "ks", registry, settings, open_upstream(upstream, registry, "cpu"))
        (partition,) = prepared.partitions
        drawn.append(prepared.selection(partition))
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(drawn[0]) == 14  # as many as dev has recordings
    assert set(drawn[0]) <= set(partition.dev)
    assert len(set(drawn[0])) < len(drawn[0])  # with replacement: here some come twice
    assert prepared.partitions[0].test == tuple(
        i for i, u in enumerate(prepared.corpus.utterances) if u.split == "test"
    )

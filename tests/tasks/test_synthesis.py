"""The synthetic corpus: byte-identical for a seed, laid out as the official trees, audible, whole or not there."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from superbench.errors import MissingExtraError, PluginError, ResourceError, UsageError
from superbench_tasks.ks import PROTOCOL as KS
from superbench_tasks.ks import split_of
from superbench_tasks.synthesis import trees
from superbench_tasks.synthesis.command import synthesize
from superbench_tasks.synthesis.layouts import PARTS, plan, speaker_hashes
from superbench_tasks.synthesis.script import LEXICON
from superbench_tasks.synthesis.sizes import SIZES
from superbench_tasks.synthesis.voices import Line, Voice, speak

HEAVY = {"torch", "torchaudio", "pandas", "sklearn", "transformers", "sqlalchemy", "pydantic", "numpy", "soundfile"}
LINE = Line(text="yes", rate=165, pitch=50, range=50, volume=45)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra superbench[demo]")
    return trees.synthesize_corpus(tmp_path_factory.mktemp("synthetic") / "corpus", size="tiny")


@pytest.fixture(scope="module")
def sounds(corpus):
    """Path under the root -> samples, of every recording."""
    files = sorted([*corpus.rglob("*.wav"), *corpus.rglob("*.flac")])
    return {path.relative_to(corpus).as_posix(): soundfile.read(path)[0] for path in files}


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def log_bands(wave: np.ndarray) -> np.ndarray:
    """Log energy of 24 bands [T, 24], 25 ms every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hamming(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = np.unique(np.geomspace(3, 256, 25).astype(int))
    return np.log(np.add.reduceat(power[:, :256], edges[:-1], axis=1) + 1e-10)


def test_a_seed_gives_the_same_bytes_however_many_workers(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    again = trees.synthesize_corpus(tmp_path / "again", size="tiny")
    assert digests(again) == digests(corpus)


def test_another_seed_gives_other_sounds(corpus, tmp_path):
    mine, other = digests(corpus), digests(trees.synthesize_corpus(tmp_path / "other", size="tiny", seed=1))
    assert other.keys() == mine.keys()
    same = {path for path in mine if mine[path] == other[path]}
    assert {Path(path).name for path in same} == {
        "lexicon.txt", "validation_list.txt", "testing_list.txt", "iden_split.txt", "vox1_meta.csv",
    }  # fmt: skip


def test_no_sound_comes_twice(sounds):
    assert len({hashlib.sha256(wave.tobytes()).digest() for wave in sounds.values()}) == len(sounds)


def test_every_recording_is_16_khz_mono_audible_and_unclipped(corpus, sounds):
    for path, wave in sounds.items():
        info = soundfile.info(corpus / path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16"), path
        assert -50 < 20 * np.log10(np.sqrt(np.mean(wave**2))) < -15, path
        assert np.abs(wave).max() <= 0.9001, path
        assert np.all(log_bands(wave).std(axis=0) > 0.05), path  # no band is constant
        if path.startswith("speech_commands"):
            assert len(wave) == (48000 if "_background_noise_" in path else 16000), path
        else:
            assert 1.2 < len(wave) / 16000 < 4.5, path


def test_librispeech_has_disjoint_speakers_and_a_lexicon_for_every_word(corpus):
    lexicon = dict(line.split("\t") for line in (corpus / "lexicon.txt").read_text().splitlines())
    assert lexicon == LEXICON
    speakers = defaultdict(set)
    texts = []
    for split in ("train-clean-100", "dev-clean", "test-clean"):
        flacs = {path.stem: path for path in (corpus / "LibriSpeech" / split).rglob("*.flac")}
        for paper in (corpus / "LibriSpeech" / split).rglob("*.trans.txt"):
            speaker, chapter = paper.parent.parent.name, paper.parent.name
            assert paper.name == f"{speaker}-{chapter}.trans.txt"
            speakers[split].add(speaker)
            for line in paper.read_text().splitlines():
                utterance, text = line.split(" ", 1)
                assert flacs.pop(utterance).parent == paper.parent
                assert set(text.split()) <= lexicon.keys()
                texts.append(text)
        assert not flacs, "recordings without a transcript"
        assert speakers[split]
    assert len(set(texts)) == len(texts), "a sentence is read twice"
    assert sum(len(names) for names in speakers.values()) == len(set().union(*speakers.values()))
    rows = (corpus / "LibriSpeech" / "SPEAKERS.TXT").read_text().splitlines()[1:]
    assert {row.split("|")[0].strip() for row in rows} == set().union(*speakers.values())


def test_pronunciations_are_cmudict_s_first():
    shared = os.environ.get("SUPERBENCH_SHARED")
    if not shared:
        pytest.skip("SUPERBENCH_SHARED is unset: no copy of cmudict to compare with")
    first: dict[str, str] = {}
    with gzip.open(Path(shared) / "data" / "lexicon" / "cmudict.dict.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            word, phones = line.split(" ", 1)
            first.setdefault(word.upper(), phones.split("#")[0].strip())
    assert {word: first[word] for word in LEXICON} == LEXICON


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_made_speakers_fall_where_they_are_wanted(part):
    made = list(itertools.islice(speaker_hashes(part), 20))
    assert len(set(made)) == 20
    assert all(re.fullmatch("[0-9a-f]{8}", speaker) and split_of(speaker) == part for speaker in made)


def test_speech_commands_lists_follow_the_rule_and_the_test_set_has_speakers_of_its_own(corpus):
    train_archive = corpus / "speech_commands_v0.01"
    clips = {f"{path.parent.name}/{path.name}" for path in train_archive.glob("[!_]*/*.wav")}
    speaker = {clip: re.fullmatch(r"\w+/([0-9a-f]{8})_nohash_\d+\.wav", clip)[1] for clip in clips}
    for part in ("validation", "testing"):
        listed = (train_archive / f"{part}_list.txt").read_text().splitlines()
        assert sorted(listed) == sorted(clip for clip in clips if split_of(speaker[clip]) == PARTS[part]) != []
    train_words = {clip.split("/")[0] for clip in clips if split_of(speaker[clip]) == "train"}
    assert set(KS.words) < train_words <= {*KS.words, *KS.other_words}
    assert len(list((train_archive / "_background_noise_").glob("*.wav"))) == 6
    test_set = corpus / "speech_commands_test_set_v0.01"
    assert {path.name for path in test_set.iterdir()} == {*KS.words, "_unknown_", "_silence_"}
    spoken = [path.name for path in test_set.glob("*/*.wav") if path.parent.name != "_silence_"]
    assert not {re.search(r"([0-9a-f]{8})_nohash", name)[1] for name in spoken} & set(speaker.values())


def test_voxceleb_splits_every_speaker_by_video(corpus):
    lines = [line.split(" ") for line in (corpus / "VoxCeleb1" / "iden_split.txt").read_text().splitlines()]
    files = {path.relative_to(corpus / "VoxCeleb1" / "dev" / "wav").as_posix() for path in corpus.rglob("id*/*/*.wav")}
    assert sorted(name for _, name in lines) == sorted(files)
    splits = defaultdict(set)
    for split, name in lines:
        speaker, video, _ = name.split("/")
        splits[speaker].add(split)
        splits[speaker, video].add(split)
    assert all(found == {"1", "2", "3"} if isinstance(key, str) else len(found) == 1 for key, found in splits.items())
    meta = (corpus / "VoxCeleb1" / "vox1_meta.csv").read_text().splitlines()[1:]
    assert {row.split("\t")[0] for row in meta} == {key for key in splits if isinstance(key, str)}


def test_iemocap_turns_are_timed_and_its_styles_differ(corpus, sounds):
    loudness, seconds = defaultdict(list), defaultdict(list)
    for session in range(1, 6):
        folder = corpus / "IEMOCAP" / f"Session{session}"
        genders = set()
        for paper in (folder / "dialog" / "EmoEvaluation").glob("*.txt"):
            turns = re.findall(r"^\[([\d.]+) - ([\d.]+)\]\t(\w+)\t(\w{3})\t\[.+\]$", paper.read_text(), re.MULTILINE)
            heard = (folder / "dialog" / "transcriptions" / paper.name).read_text().splitlines()
            assert [line.split(" ")[0] for line in heard] == [turn for _, _, turn, _ in turns]
            wavs = {path.stem for path in (folder / "sentences" / "wav" / paper.stem).iterdir()}
            assert wavs == {turn for _, _, turn, _ in turns}
            for start, end, turn, label in turns:
                wave = sounds[f"IEMOCAP/Session{session}/sentences/wav/{paper.stem}/{turn}.wav"]
                assert float(end) - float(start) == pytest.approx(len(wave) / 16000, abs=2e-4)
                genders.add(turn.split("_")[-1][0])
                loudness[label].append(10 * np.log10(np.mean(wave**2)))
                seconds[label].append(len(wave) / 16000)
        assert genders == {"F", "M"}
    assert set(loudness) == set(SIZES["tiny"].styles)
    assert np.mean(loudness["ang"]) > np.mean(loudness["neu"]) + 2 > np.mean(loudness["sad"]) + 4
    assert np.mean(seconds["sad"]) > np.mean(seconds["exc"]) + 0.3


def test_words_sound_like_themselves(sounds):
    """The nearest clip of another speaker is the same word far more often than the 1 in 10 of chance."""
    spoken = {path: path.split("/")[1] for path in sounds if path.split("/")[1] in KS.words}
    shapes = {}
    for path in spoken:
        bands = log_bands(sounds[path])
        loud = np.flatnonzero(bands.mean(axis=1) > bands.mean(axis=1).mean())
        blocks = np.stack([part.mean(axis=0) for part in np.array_split(bands[loud[0] : loud[-1] + 1], 8)])
        shapes[path] = blocks - blocks.mean()
    hits = []
    for path, word in spoken.items():
        others = [other for other in spoken if other.split("/")[-1][:8] != path.split("/")[-1][:8]]
        nearest = min(others, key=lambda other: float(((shapes[other] - shapes[path]) ** 2).sum()))
        hits.append(spoken[nearest] == word)
    assert np.mean(hits) > 0.5


@pytest.mark.parametrize("size", SIZES)
def test_every_speaker_of_a_tree_has_a_voice_of_its_own(size):
    said, commands, celebrities, dialogs = plan(0, SIZES[size])
    takes = [take for tree in (said, commands, celebrities, dialogs) for take in (*tree.takes, *tree.noises)]
    assert len({take.path for take in takes}) == len(takes)
    voices = [len({take.voice for take in tree.takes}) for tree in (said, commands, celebrities, dialogs)]
    readers = sum(speakers for speakers, _ in SIZES[size].readings.values())
    speakers = sum(split.speakers for split in SIZES[size].commands.values())
    assert voices == [readers, speakers, SIZES[size].celebrities, 10]


def test_settings_say_what_made_it(corpus):
    settings = json.loads((corpus / "synthesis.json").read_text())
    assert settings["seed"] == 0
    assert settings["espeak-ng"].startswith("1.")
    assert sum(settings["recordings"].values()) == len([*corpus.rglob("*.wav"), *corpus.rglob("*.flac")])
    assert "SYNTHETIC" in (corpus / "README.txt").read_text()
    assert settings["espeak-ng"] in (corpus / "README.txt").read_text()


def test_a_made_corpus_is_up_to_date_and_anything_else_is_refused(corpus, tmp_path):
    done = CliRunner().invoke(synthesize, ["--out", str(corpus), "--size", "tiny"])
    assert (done.exit_code, "up to date" in done.stdout) == (0, True)
    before = digests(corpus)
    with pytest.raises(UsageError, match="not an empty folder"):
        trees.synthesize_corpus(corpus, size="tiny", seed=7)
    assert digests(corpus) == before
    with pytest.raises(UsageError, match="no size 'smal'") as refused:
        trees.synthesize_corpus(tmp_path / "new", size="smal")
    assert "did you mean 'small'" in refused.value.hint


def test_the_command_makes_it_and_says_where(tmp_path):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra superbench[demo]")
    (tmp_path / "corpus").mkdir()  # an empty folder is taken
    made = CliRunner().invoke(synthesize, ["--out", str(tmp_path / "corpus"), "--size", "tiny"])
    assert made.exit_code == 0, made.output
    assert f"--corpus {tmp_path / 'corpus'}" in made.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_interrupted_making_leaves_nothing(tmp_path):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra superbench[demo]")

    def interrupt(_tree: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trees.synthesize_corpus(tmp_path / "corpus", size="tiny", progress=interrupt)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        trees.synthesize_corpus(tmp_path / "file" / "corpus", size="tiny")


def test_without_espeak_the_hint_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError) as missing:
        trees.synthesize_corpus(tmp_path / "corpus")
    assert missing.value.hint == 'pip install "superbench[demo]"'
    assert not list(tmp_path.iterdir())


def test_an_unknown_voice_is_an_error_not_another_voice():
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra superbench[demo]")
    with pytest.raises(PluginError, match="no voice 'en-us\\+nobody-has-this'"):
        speak(Voice(name="en-us+nobody-has-this", gender="F"), [LINE])


def test_the_command_is_light_at_import():
    code = "import sys, superbench_tasks.synthesis.command, superbench_tasks.synthesis.trees; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)

"""Which recordings and which text files each official tree has (PROTOCOL 1.1 to 1.5; the corpora's own READMEs)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from superbench_tasks.ks import PROTOCOL as KS
from superbench_tasks.ks import split_of
from superbench_tasks.synthesis.script import LEXICON, STYLES, Style, sentence
from superbench_tasks.synthesis.sizes import Size
from superbench_tasks.synthesis.sound import NOISES, RATE, Noise, Room
from superbench_tasks.synthesis.voices import Line, Voice, cast

# What the publishers call the parts of Speech Commands; the speakers of their test set are those of the testing list.
PARTS = {"training": "train", "validation": "dev", "testing": "test", "test set": "test"}


@dataclass(frozen=True, kw_only=True)
class Take:
    """One recording to be made."""

    path: str  # under the corpus root, with "/"
    voice: Voice
    line: Line
    room: Room
    samples: int | None = None  # None: as long as it is said


@dataclass(frozen=True, kw_only=True)
class NoiseTake:
    """One recording of background noise to be made."""

    path: str
    kind: Noise
    samples: int


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One official folder: its recordings, and the text files that can be written once their lengths are known."""

    name: str
    takes: tuple[Take, ...]
    noises: tuple[NoiseTake, ...] = ()
    documents: Callable[[Mapping[str, int]], Mapping[str, str]]  # samples of each path -> text of each path

    @property
    def recordings(self) -> int:
        return len(self.takes) + len(self.noises)


def plan(seed: int, size: Size) -> tuple[Tree, ...]:
    """Return the trees of a corpus; the same for the same seed and size."""
    return (librispeech(seed, size), speech_commands(seed, size), voxceleb(seed, size), iemocap(seed, size))


def librispeech(seed: int, size: Size) -> Tree:
    """Plan `LibriSpeech/<split>/<speaker>/<chapter>/`; no speaker is in two splits, no sentence is read twice.

    All speak American English, whose phones the lexicon gives. `lexicon.txt` ("WORD\\tP H O") lies beside the tree.

        1089-134686-0001 STUFF IT INTO YOU HIS BELLY COUNSELLED HIM     (1089-134686.trans.txt)
        19   | F | train-clean-100  | 25.19 | Kara Shallenberg          (SPEAKERS.TXT)
    """
    room = Room(level_db=2, noise_db=(-62, -50))
    voices = iter(cast(("en-us",), sum(speakers for speakers, _ in size.readings.values())))
    takes: list[Take] = []
    readers: list[tuple[int, Voice, str]] = []
    transcripts: dict[str, list[str]] = {}
    sentences = _new_sentences(Random(f"{seed} LibriSpeech"))
    for split, (speakers, count) in size.readings.items():
        for _ in range(speakers):
            reader, voice = 9001 + len(readers), next(voices)  # LibriVox's readers have lower numbers
            readers.append((reader, voice, split))
            chapter = f"{reader}-{reader}01"
            folder = f"LibriSpeech/{split}/{chapter.replace('-', '/')}"
            for number in range(count):
                text, path = next(sentences), f"{folder}/{chapter}-{number:04d}.flac"
                takes.append(Take(path=path, voice=voice, line=_spoken(seed, voice, path, text), room=room))
                transcripts.setdefault(f"{folder}/{chapter}.trans.txt", []).append(f"{chapter}-{number:04d} {text}\n")

    def documents(samples: Mapping[str, int]) -> dict[str, str]:
        speakers = [";ID  |SEX| SUBSET           |MINUTES| NAME\n"]
        for reader, voice, split in readers:
            said = sum(n for path, n in samples.items() if path.startswith(f"LibriSpeech/{split}/{reader}/"))
            speakers.append(f"{reader:<4} | {voice.gender} | {split:<16} | {said / RATE / 60:5.2f} | {voice.name}\n")
        lexicon = [f"{word}\t{phones}\n" for word, phones in sorted(LEXICON.items())]
        papers = {path: "".join(lines) for path, lines in transcripts.items()}
        return {**papers, "LibriSpeech/SPEAKERS.TXT": "".join(speakers), "lexicon.txt": "".join(lexicon)}

    return Tree(name="LibriSpeech", takes=tuple(takes), documents=documents)


def speech_commands(seed: int, size: Size) -> Tree:
    """Plan the two archives of Speech Commands v0.01: one-second clips, speakers of the test set in no other set.

    bed/91223b83_nohash_0.wav                       (testing_list.txt)
    _unknown_/bed_fa446c16_nohash_1.wav             (in the test set, whose folders are the twelve classes)
    """
    room = Room(level_db=5, noise_db=(-56, -42))
    voices = iter(cast(("en-us", "en-gb-x-rp"), sum(commands.speakers for commands in size.commands.values())))
    takes: list[Take] = []
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    given = 0
    for split, commands in size.commands.items():
        chance = Random(f"{seed} Speech Commands {split}")
        part = PARTS[split]
        hashes = speaker_hashes(part)
        for _ in range(size.commands["testing"].speakers if split == "test set" else 0):
            next(hashes)  # those are taken by the testing list
        for _ in range(commands.speakers):
            speaker, voice = next(hashes), next(voices)
            others = [KS.other_words[(given + i) % len(KS.other_words)] for i in range(commands.others)]
            given += commands.others
            words = [(word, number) for word in KS.words for number in range(commands.repeats)]
            words += [(word, 0) for word in others]
            chance.shuffle(words)
            for word, number in words:
                clip = f"{speaker}_nohash_{number}.wav"
                if split != "test set":
                    path = f"speech_commands_v0.01/{word}/{clip}"
                elif word in KS.words:
                    path = f"speech_commands_test_set_v0.01/{word}/{clip}"
                else:
                    path = f"speech_commands_test_set_v0.01/_unknown_/{word}_{clip}"
                line = _spoken(seed, voice, path, word)
                takes.append(Take(path=path, voice=voice, line=line, room=room, samples=RATE))
                if split in lists:
                    lists[split].append(f"{word}/{clip}\n")
    noises = [
        NoiseTake(
            path=f"speech_commands_v0.01/_background_noise_/{kind}.wav",
            kind=kind,
            samples=size.background_seconds * RATE,
        )
        for kind in NOISES
    ]
    for number in range(size.silences):
        kind = NOISES[number % len(NOISES)]
        path = f"speech_commands_test_set_v0.01/_silence_/{kind}_{number // len(NOISES)}.wav"
        noises.append(NoiseTake(path=path, kind=kind, samples=RATE))
    papers = {f"speech_commands_v0.01/{split}_list.txt": "".join(sorted(clips)) for split, clips in lists.items()}
    return Tree(name="Speech Commands", takes=tuple(takes), noises=tuple(noises), documents=lambda _: papers)


def speaker_hashes(part: str) -> Iterator[str]:
    """Yield made speaker names, 8 hexadecimal digits each, that fall in train, dev or test of Speech Commands."""
    number = 0
    while True:
        speaker = _digits(f"speaker {number}", 8)
        if split_of(speaker) == part:
            yield speaker
        number += 1


def voxceleb(seed: int, size: Size) -> Tree:
    """Plan `VoxCeleb1/dev/wav/<id>/<video>/`: everybody in train, dev and test, each in other videos.

    1 id10001/84bcd3d94f5/00001.wav                 (iden_split.txt)
    """
    room = Room(level_db=4, noise_db=(-56, -42))
    takes: list[Take] = []
    split_lines, meta = [], ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"]
    for number, voice in enumerate(cast(("en-us", "en-gb-scotland"), size.celebrities)):
        celebrity = f"id{10001 + number}"
        meta.append(f"{celebrity}\t{voice.name}\t{voice.gender.lower()}\tnone\tdev\n")
        sentences = _new_sentences(Random(f"{seed} VoxCeleb1 {celebrity}"))
        for video, (split, clips) in enumerate(size.videos):
            for clip in range(clips):
                name = f"{celebrity}/{_digits(f'{celebrity} video {video}', 11)}/{clip + 1:05d}.wav"
                path = f"VoxCeleb1/dev/wav/{name}"
                takes.append(Take(path=path, voice=voice, line=_spoken(seed, voice, path, next(sentences)), room=room))
                split_lines.append(f"{split} {name}\n")
    papers = {"VoxCeleb1/iden_split.txt": "".join(split_lines), "VoxCeleb1/vox1_meta.csv": "".join(meta)}
    return Tree(name="VoxCeleb1", takes=tuple(takes), documents=lambda _: papers)


@dataclass(frozen=True, kw_only=True)
class _Turn:
    name: str  # "Ses01F_impro01_M003"
    text: str
    style: Style
    path: str


def iemocap(seed: int, size: Size) -> Tree:
    """Plan `IEMOCAP/Session1` to `Session5`, a woman and a man in each; a turn's name says who spoke.

    [4.2500 - 6.2500]	Ses01F_impro01_M001	neu	[2.5000, 2.5000, 2.5000]       (dialog/EmoEvaluation/*.txt)
    Ses01F_impro01_M000 [001.5000-003.5000]: I will take that away.            (dialog/transcriptions/*.txt)
    """
    room = Room(level_db=1.5, noise_db=(-60, -50))
    voices = cast(("en-us",), 10)
    takes: list[Take] = []
    dialogs: dict[str, list[_Turn]] = {}
    styles = [style for style in STYLES for _ in range(size.styles.get(style.label, 0))]
    for session in range(1, 6):
        for voice in sorted(voices[2 * session - 2 : 2 * session], key=lambda voice: voice.gender):
            chance = Random(f"{seed} IEMOCAP {session} {voice.gender}")
            sentences = _new_sentences(chance)
            for number, style in enumerate(chance.sample(styles, len(styles))):
                dialog = f"Ses{session:02d}{'FM'[number % size.dialogs]}_impro01"
                turn = f"{dialog}_{voice.gender}{number // size.dialogs:03d}"
                text, path = next(sentences), f"IEMOCAP/Session{session}/sentences/wav/{dialog}/{turn}.wav"
                takes.append(Take(path=path, voice=voice, line=_spoken(seed, voice, path, text, style), room=room))
                turns = dialogs.setdefault(f"IEMOCAP/Session{session}/dialog/{{}}/{dialog}.txt", [])
                turns.append(_Turn(name=turn, text=text.capitalize() + ".", style=style, path=path))

    def documents(samples: Mapping[str, int]) -> dict[str, str]:
        papers: dict[str, str] = {}
        for path, turns in dialogs.items():
            judged, heard, start = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"], [], 1.5
            for turn in sorted(turns, key=lambda turn: (turn.name[-3:], turn.name)):  # they take turns
                end, style = start + samples[turn.path] / RATE, turn.style
                mean = ", ".join(f"{value:.4f}" for value in style.affect)
                judged.append(f"[{start:.4f} - {end:.4f}]\t{turn.name}\t{style.label}\t[{mean}]\n")
                judged.append(f"C-E1:\t{style.category};\t()\n")
                judged.append("A-E1:\tval {:.0f}; act {:.0f}; dom  {:.0f};\t()\n\n".format(*style.affect))
                heard.append(f"{turn.name} [{start:08.4f}-{end:08.4f}]: {turn.text}\n")
                start = end + 0.75
            papers[path.format("EmoEvaluation")] = "".join(judged)
            papers[path.format("transcriptions")] = "".join(heard)
        return papers

    return Tree(name="IEMOCAP", takes=tuple(takes), documents=documents)


# What is not IEMOCAP is read like this.
NEUTRAL = Style(label="", category="", rate=165, pitch=50, range=50, volume=45, affect=(3.0, 3.0, 3.0))


def _spoken(seed: int, voice: Voice, path: str, text: str, style: Style = NEUTRAL) -> Line:
    """Draw how a text is said: the style, shifted by the speaker's own habit and a little by chance."""
    tree, _ = path.split("/", maxsplit=1)
    habit, chance = Random(f"{seed} {tree} {voice.name}"), Random(f"{seed} {path}")
    return Line(
        text=text.lower(),
        rate=style.rate + habit.randint(-12, 12) + chance.randint(-8, 8),
        pitch=style.pitch + habit.randint(-8, 8) + chance.randint(-5, 5),
        range=style.range + habit.randint(-8, 8) + chance.randint(-6, 6),
        volume=style.volume,
    )


def _new_sentences(chance: Random) -> Iterator[str]:
    """Yield sentences, none twice."""
    seen: set[str] = set()
    while True:
        text = sentence(chance)
        if text not in seen:
            seen.add(text)
            yield text


def _digits(name: str, count: int) -> str:
    """Return `count` hexadecimal digits that look drawn by chance."""
    return hashlib.sha256(f"superbench synthetic {name}".encode()).hexdigest()[:count]

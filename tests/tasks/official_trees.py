"""Trees with the official number of files, speakers and classes, of sounds that are short and written once.

Numbers: reference/PROTOCOL.md, sections 1.1 to 1.5; speakers of LibriSpeech: openslr.org/12. Further files are hard
links to the first, and the videos of all VoxCeleb1 speakers are links to the same three folders.
"""

from __future__ import annotations

import hashlib
import itertools
import os

import numpy as np
import soundfile

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHER_WORDS = (
    "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow",
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
LINKS = 30_000  # to one file; file systems allow 65,000
LIBRISPEECH = {  # utterances, speakers, hours
    "train-clean-100": (28_539, 251, 100.6),
    "dev-clean": (2_703, 40, 5.4),
    "test-clean": (2_620, 40, 5.4),
}
VOXCELEB = {"1": 138_361, "2": 6_904, "3": 8_251}  # by the number in iden_split.txt, over 1,251 speakers
IEMOCAP = {  # happy with excited; sad
    "1": {"neu": 384, "hap": 278, "ang": 229, "sad": 194},
    "2": {"neu": 362, "hap": 327, "ang": 137, "sad": 197},
    "3": {"neu": 320, "hap": 286, "ang": 240, "sad": 305},
    "4": {"neu": 258, "hap": 303, "ang": 327, "sad": 143},
    "5": {"neu": 384, "hap": 442, "ang": 170, "sad": 245},
}
COMMANDS = {"train": 51_088, "dev": 6_798, "test": 6_835}  # by the hash of the speaker
COMMANDS_TEST = 3_081
LEXICONS = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")
OTHERS = 14_716  # words of the second


class Sound:
    """A short sound under as many names as are asked for."""

    def __init__(self, folder, suffix, seconds=0.03, rate=16_000):
        self.folder, self.suffix, self.seconds, self.rate = folder, suffix, seconds, rate
        self.used, self.path = 0, None
        folder.mkdir(exist_ok=True)

    def at(self, path):
        if self.used % LINKS == 0:
            self.path = self.folder / f"{self.used}{self.suffix}"
            noise = np.random.default_rng(self.used).standard_normal(int(self.seconds * self.rate))
            soundfile.write(self.path, noise * 0.05, self.rate)
        self.used += 1
        os.link(self.path, path)


def share(total, parts):
    """How many each of `parts` gets of `total`, as even as can be."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def make_librispeech(root):
    sound, number = Sound(root / "sounds", ".flac"), itertools.count(100)
    for subset, (utterances, speakers, _) in LIBRISPEECH.items():
        for size in share(utterances, speakers):
            chapter = f"{next(number)}-7"
            home = root / "LibriSpeech" / subset / chapter.replace("-", "/")
            home.mkdir(parents=True)
            for i in range(size):
                sound.at(home / f"{chapter}-{i:04d}.flac")
            (home / f"{chapter}.trans.txt").write_text("".join(f"{chapter}-{i:04d} HELLO WORLD\n" for i in range(size)))
    (root / LEXICONS[0]).write_text("HELLO\tHH AH0 L OW1\nWORLD\tW ER1 L D\n")
    (root / LEXICONS[1]).write_text("".join(f"WORD{i}\tAH0\n" for i in range(OTHERS)))


def make_voxceleb(root):
    sound, folder, lines = Sound(root / "sounds", ".wav"), root / "VoxCeleb1", []
    sizes = {number: share(total, 1_251) for number, total in VOXCELEB.items()}
    for number, each in sizes.items():
        (folder / number).mkdir(parents=True)
        for i in range(max(each)):
            sound.at(folder / number / f"{i:05d}.wav")
    for speaker in range(1_251):
        home = folder / "wav" / f"id{10_001 + speaker}"
        home.mkdir(parents=True)
        for number, each in sizes.items():
            (home / f"video{number}").symlink_to(f"../../{number}")
            lines += [f"{number} {home.name}/video{number}/{i:05d}.wav" for i in range(each[speaker])]
    (folder / "iden_split.txt").write_text("\n".join(lines))


def make_iemocap(root):
    sound = Sound(root / "sounds", ".wav")
    for session, classes in IEMOCAP.items():
        dialog = f"Ses0{session}F_impro01"
        home = root / "IEMOCAP" / f"Session{session}"
        sounds = home / "sentences" / "wav" / dialog
        for folder in (sounds, home / "dialog" / "EmoEvaluation"):
            folder.mkdir(parents=True)
        emotions = [e for e, size in classes.items() for e in [e] * size] + ["fru", "xxx"] * 10
        emotions[classes["neu"]] = "exc"  # one of the happy
        lines = []
        for i, emotion in enumerate(emotions):
            turn = f"{dialog}_{'FM'[i % 2]}{i:04d}"
            sound.at(sounds / f"{turn}.wav")
            lines.append(f"[1.0000 - 1.0300]\t{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]")
        (home / "dialog" / "EmoEvaluation" / f"{dialog}.txt").write_text("\n".join(lines))


def split_by_hash(speaker):
    """The publishers' rule, in whole numbers."""
    place = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27
    return "dev" if place * 10 < 2**27 - 1 else "test" if place * 5 < 2**27 - 1 else "train"


def make_speech_commands(root):
    sound = Sound(root / "sounds", ".wav")
    words = [*WORDS, *OTHER_WORDS]
    speakers: dict[str, list[str]] = {split: [] for split in COMMANDS}
    for i in range(600):
        speakers[split_by_hash(f"{i:08x}")].append(f"{i:08x}")
    folder = root / "speech_commands_v0.01"
    for word in words:
        (folder / word).mkdir(parents=True)
    for split, total in COMMANDS.items():
        for i in range(total):
            take, speaker = divmod(i // 30, len(speakers[split]))
            sound.at(folder / words[i % 30] / f"{speakers[split][speaker]}_nohash_{take}.wav")
    noise = folder / "_background_noise_"
    noise.mkdir()
    for i in range(6):
        Sound(root / "noises", f"{i}.wav", seconds=1.5).at(noise / f"noise{i}.wav")
    classes = (*WORDS, "_unknown_", "_silence_")
    for label, size in zip(classes, share(COMMANDS_TEST, 12), strict=True):
        home = root / "speech_commands_test_set_v0.01" / label
        home.mkdir(parents=True)
        for i in range(size):
            name = f"{speakers['test'][i % 5]}_nohash_{i}"
            sound.at(home / {"_unknown_": f"bed_{name}.wav", "_silence_": f"tap_{i}.wav"}.get(label, f"{name}.wav"))


MAKERS = {
    "asr": make_librispeech,
    "pr": make_librispeech,
    "sid": make_voxceleb,
    "er": make_iemocap,
    "ks": make_speech_commands,
}

"""A stranger's task that asks for what cannot be, through the command line: exit code 4, and the task is named.

Lexicons and language models that a task cannot use are here as well.
"""

from __future__ import annotations

import pytest

TASK = """
    from dataclasses import dataclass, replace

    from superbench.contracts import Partition
    from superbench.labels import ClassLabels, TokenLabels
    from superbench.plugin import Crop, Decoder, PartSize, Row, SpecAugment, TaskProtocol, TaskSpec, hookimpl

    def labels(references, official):
        return ClassLabels.sorted_from(references)

    def read(root, options):
        for path in sorted(root.glob("*.wav")):
            split, number = path.stem[:-2], int(path.stem[-2:])
            kind = ("low", "high", "hiss")[number % 3]
            yield Row(id=path.stem, path=path, split=split, labels={"label": kind})

    def complete(rows, options):
        return rows

    def those(corpus, *splits):
        return tuple(i for i, u in enumerate(corpus.utterances) if u.split in splits)

    @hookimpl
    def superbench_tasks():
        protocol = TaskProtocol(
            head="pooled_linear", objective="cross_entropy", metrics=("accuracy",), steps=4, batch=4, accumulate=1,
            eval_every=2, clip=1.0, lr_grid=(1e-2,),
        )
        yield TaskSpec(
            name="kind", version="1", protocol=protocol, column="label", labels=labels, read=read, complete=complete,
        )
"""
PLAN = "plan -q -p {at}/mine.py -u fbank_no_cmvn -t kind --corpus {at}"
CHECK = "corpus check -p {at}/mine.py -t kind {at}"
MANIFEST = "corpus check -p {at}/mine.py -t kind --data {at}/m.csv"
ROW = 'labels={"label": kind}'
CROP = f"{ROW}, crop=Crop(seconds=0.1, bank=2)"
CROPPED = f"{CROP} if split == 'train' else None"
LAST = "complete=complete,"  # of the fields of the task
GRID = "lr_grid=(1e-2,)"  # the last of its constants
OUT = "task 'kind'"  # as it is named where its code failed
ODD_ROW = "labels are texts, path is a Path, times are seconds, crop is a Crop"
CANNOT_RUN = "task kind: its protocol cannot be run: "
BROKEN = "may have brought it: "


def of_parts(body, row=ROW):
    """The pieces of the task that another rule to divide its corpus changes."""
    return {
        ROW: row,
        "def those": f"def parts(corpus):\n        {body}\n\n    def those",
        LAST: f"{LAST} partitions=parts",
    }


def with_field(text):
    return {LAST: f"{LAST} {text}"}


def with_constant(text):
    return {GRID: f"{GRID}, {text}"}


def mask(**changed):
    widths = {"time_warp": 5, "frequency_masks": 1, "frequency_width": 2, "time_masks": 1, "time_width": 2} | changed
    return f"augment=SpecAugment({', '.join(f'{k}={v}' for k, v in widths.items())})"


WHOLE = "train=those(corpus, 'train'), dev=those(corpus, 'dev'), test=those(corpus, 'test')"
UNSOUND = ("task kind divides its corpus unsoundly", "mend its partitions")
ROTATED = (
    "n = range(len(corpus.utterances)); third = lambda k: tuple(i for i in n if i % 3 == k % 3); "
    "return [Partition(name=str(k), train=third(k), dev=third(k + 1), test=third(k + 2)) for k in n[:3]]"
)

# name: pieces of the good task and what stands in their place; the command; the words the message must hold
SPOILT = {
    "crop in a bank of none": (
        {ROW: f"{ROW}, crop=Crop(seconds=0.1, bank=0)"},
        CHECK,
        (OUT, "a bank of 0 crops: a whole number, at least 1", "bank=4"),
    ),
    "crop in a bank of two and a half": (
        {ROW: f"{ROW}, crop=Crop(seconds=0.1, bank=2.5)"},
        CHECK,
        (OUT, "a bank of 2.5 crops: a whole number", "bank=4"),
    ),
    "crop of no length": (
        {"return rows": "return [replace(row, crop=Crop(seconds=0, bank=2)) for row in rows]"},
        CHECK,
        (OUT, "a crop of 0 s: above 0 and below 3600", "seconds=8.0"),
    ),
    "crop of NaN seconds of a manifest": (
        {"return rows": "return [replace(row, crop=Crop(seconds=float('nan'), bank=2)) for row in rows]"},
        MANIFEST,
        (OUT, "a crop of nan s", "seconds=8.0"),
    ),
    "crop that is a text": (
        {ROW: f"{ROW}, crop='8s'"},
        CHECK,
        ("task kind gives a row 'dev00' with crop='8s'", ODD_ROW),
    ),
    "crop that is a text of a manifest": (
        {"return rows": "return [replace(row, crop='8s') for row in rows]"},
        MANIFEST,
        ("task kind gives a row 'train00' with crop='8s'", ODD_ROW),
    ),
    "label that is a number": (
        {ROW: "labels={'label': 3}"},
        CHECK,
        ("task kind gives a row 'dev00' with labels={'label': 3}", ODD_ROW),
    ),
    "labels of a row that are none": ({ROW: "labels=None"}, CHECK, ("a row 'dev00' with labels=None", ODD_ROW)),
    "time that is a text": ({ROW: f"{ROW}, start='0'"}, CHECK, ("a row 'dev00' with start='0'", ODD_ROW)),
    "constant that corpus check sees": (with_constant("gain_db='loud'"), CHECK, (CANNOT_RUN, "gain_db is 'loud'")),
    "head that is a number": ({'head="pooled_linear"': "head=5"}, PLAN, (CANNOT_RUN, "head is 5: a text")),
    "sizes that are none": (with_constant("sizes=('a',)"), CHECK, (CANNOT_RUN, "a tuple of PartSize")),
    "row that is none": ({"yield Row(": "yield dict("}, CHECK, ("task kind gives {'id': ", "in place of a Row")),
    "masks without CTC": (with_constant(mask()), PLAN, (CANNOT_RUN, "augment masks frames", "mend its plugin")),
    "warp below zero": (
        with_constant(mask(time_warp=-5)),
        PLAN,
        ("'kind'", BROKEN, "SpecAugment: time_warp is -5: whole numbers from 0 up"),
    ),
    "mask of half a frame": (
        with_constant(mask(time_width=0.5)),
        PLAN,
        ("'kind'", BROKEN, "SpecAugment: time_width is 0.5: whole numbers from 0 up"),
    ),
    "gain in words": (with_constant("gain_db='loud'"), PLAN, (CANNOT_RUN, "gain_db is 'loud': a finite number")),
    "gain of NaN": (with_constant("gain_db=float('nan')"), PLAN, (CANNOT_RUN, "gain_db is nan: a finite number")),
    "gain of 400 dB": (with_constant("gain_db=400"), PLAN, (CANNOT_RUN, "gain_db is 400: at most 60 up or down")),
    "grid in words": ({GRID: "lr_grid='0.1'"}, PLAN, (CANNOT_RUN, "lr_grid is '0.1': a tuple of numbers")),
    "half a step": ({"steps=4": "steps=2.5"}, PLAN, (CANNOT_RUN, "steps is 2.5: a whole number", "mend its plugin")),
    "word errors of a class": (
        {'"accuracy"': '"wer"'},
        PLAN,
        (CANNOT_RUN, "metric 'wer' is not for objective 'cross_entropy'", "mend its plugin"),
    ),
    "halved batches without windows": (
        with_constant("halve_above=18.75"),
        PLAN,
        (CANNOT_RUN, "halve_above is 18.75 with shuffled", "label_windows alone"),
    ),
    "misspelt rule for speakers": (
        with_field("speakers='disjont'"),
        PLAN,
        (BROKEN, "the task 'kind' has speakers='disjont'", "fields of TaskSpec"),
    ),
    "version that is a number": (
        {'version="1"': "version=2"},
        PLAN,
        (BROKEN, "the task 'kind' has version=2", "fields of TaskSpec"),
    ),
    "no vocabulary": (
        {"return ClassLabels.sorted_from(references)": "return None"},
        CHECK,
        (
            "labels of task kind returned None",
            "no size, names, encode, decode",
            "return a ClassLabels or a TokenLabels",
        ),
    ),
    "decoder that is a number": (
        with_field("decoder=lambda options, vocabulary: 5"),
        PLAN,
        ("decoder of task kind returned 5", "return a Decoder, or None"),
    ),
    "decoder that cannot be built": (
        with_field("decoder=lambda options, vocabulary: 1 / 0"),
        PLAN,
        (OUT, "ZeroDivisionError", "--debug"),
    ),
    "partitions that raise": (of_parts("raise OSError('no lists')"), CHECK, (OUT, "OSError: no lists", "--debug")),
    "partitions that raise in a run": (of_parts("raise OSError('no lists')"), PLAN, (OUT, "OSError: no lists")),
    "partitions of nothing": (of_parts("return None"), CHECK, (OUT, "TypeError", "NoneType", "--debug")),
    "no partition": (of_parts("return ()"), CHECK, (*UNSOUND, "0 utterances are tested, 6 should be")),
    "partitions that test crops": (
        of_parts(f"return [replace(Partition(name='all', {WHOLE}), test=those(corpus, 'train', 'test'))]", CROPPED),
        CHECK,
        (*UNSOUND, "all: an utterance is in it twice", "30 utterances are tested, 6 should be"),
    ),
    "partitions of which one leaves out dev": (
        of_parts(f"return [replace(Partition(name='all', {WHOLE}), dev=())]"),
        CHECK,
        (*UNSOUND, "all: train, dev or test is empty"),
    ),
    "deviations that are a text": (
        with_field("deviations=lambda options: 'oops'"),
        PLAN,
        ("deviations of task kind returned 'oops'", "return a list of texts"),
    ),
    "deviations that are numbers": (
        with_field("deviations=lambda options: [3]"),
        PLAN,
        ("deviations of task kind returned [3]", "return a list of texts"),
    ),
}


def spoilt(pieces):
    """The text of the good task with some of its pieces put another way."""
    text = TASK
    for old, new in pieces.items():
        assert text.count(old) == 1, f"{old!r} is not once in the task"
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("case", SPOILT)
def test_a_task_that_asks_for_what_cannot_be(case, bench, refused):
    pieces, command, words = SPOILT[case]
    bench.write("mine.py", spoilt(pieces))
    refused(command, 4, words)


# name: pieces of the good task and what stands in their place; is it sound?
SOUND = {
    "as it is": {},
    "crops of train": {ROW: CROPPED},
    "crops of a balanced dev": {
        ROW: f"{CROP} if split != 'test' else None",
        GRID: f"{GRID}, dev_sampling='balanced'",
    },
    "partitions by split": of_parts(f"return [Partition(name='all', {WHOLE})]", CROPPED),
    "three partitions": of_parts(ROTATED),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_near_a_mistake_and_none_is_taken(case, bench, superbench):
    bench.write("mine.py", spoilt(SOUND[case]))
    for command in (CHECK, PLAN):
        ended = superbench("--home", bench.home, *command.format(at=bench.folder).split())
        assert ended.code == 0, ended.err


# name: which rows have a crop; the words the message must hold
NOT_CROPPED = {
    "test": (f"{CROP} if split == 'test' else None", ("6 cases, the first test00", "only train may be cropped")),
    "dev": (f"{CROP} if split == 'dev' else None", ("6 cases, the first dev00", "only train may be cropped")),
    "a fold": (f"{CROP}, fold=str(number % 3)", ("24 cases, the first dev00", "only train may be cropped")),
}


@pytest.mark.parametrize("case", NOT_CROPPED)
def test_a_crop_of_what_is_not_drawn_from(case, bench, refused):
    row, words = NOT_CROPPED[case]
    bench.write("mine.py", spoilt({ROW: row}))
    refused(PLAN, 3, ("task kind", "error: crop: ", *words))


def test_partitions_in_turn_that_test_crops(bench, refused):
    bench.write("mine.py", spoilt(of_parts(ROTATED, CROPPED)))
    refused(CHECK, 4, UNSOUND)


def test_a_stranger_that_says_it_is_superb_stays_custom(bench, superbench):
    parts = (("train", 12), ("dev", 6), ("test", 6))
    sizes = ", ".join(f"PartSize(part={part!r}, utterances={n})" for part, n in parts)
    bench.write("mine.py", spoilt(with_constant(f"family='superb', sizes=({sizes})")))
    checked = superbench(*CHECK.format(at=bench.folder).split())
    assert "complete: the sizes are the official ones" in checked.out
    ran = superbench("--home", bench.home, *PLAN.replace("plan", "run").format(at=bench.folder).split(), "--json")
    assert ran.code == 0, ran.err
    (result,) = ran.json
    assert result["label"] == "custom"
    (departure,) = result["departures"]
    assert departure.startswith("task kind of mine (")
    assert departure.endswith("mine.py) is none of SUPERB's")


SECOND = {
    "return ClassLabels.sorted_from(references)": """
        names = ("_", *sorted({c for reference in references for c in reference}))
        return TokenLabels(names=names, blank=0, ending=(), silent=("_",), split=list, join="".join)

    @dataclass(frozen=True)
    class Constants:
        beam: int = 5

    def decoder(options, vocabulary):
        return Decoder(name="lm", decode=lambda x_TC: "low", sha="1", constants=Constants(), warnings=("all is low",))
""",
    LAST: f"{LAST} decoder=decoder,",
    'head="pooled_linear", objective="cross_entropy", metrics=("accuracy",)': (
        'head="frame_linear:projector=4", objective="ctc", metrics=("wer",)'
    ),
}


def test_what_a_decoder_warns_of_is_told_and_kept(bench, superbench):
    bench.write("mine.py", spoilt(SECOND))
    ran = superbench("--home", bench.home, *PLAN.replace("plan", "run").format(at=bench.folder).split(), "--json")
    assert ran.code == 0, ran.err
    assert ran.err.count("warning: kind: all is low\n") == 1
    (result,) = ran.json
    assert result["warnings"].count("all is low") == 1
    (low,) = [s["value"] for s in result["scores"] if s["metric"] == "wer_lm"]
    assert low == pytest.approx(2 / 3)


# -- lexicons and language models --------------------------------------------------------------------------------------

SPELLINGS = "GO\tG O |\nSTOP\tS T O P |\nUP\tU P |\n"
ASR = "plan -q -u fbank_no_cmvn -t asr --data {at}/m.csv --lexicon {at}/words.txt --lm {at}/lm.arpa "
SMALL = "--head blstm:projector=4,hidden=4,layers=1 --lr 1e-3 --steps 2"


def arpa(*words):
    """A bigram model of some words, each likelier than an unknown one."""
    ones = ["-2.0\t<unk>", "-99.0\t<s>\t0.0", "-1.0\t</s>", *(f"-0.5\t{word}\t0.0" for word in words)]
    head = f"\\data\\\nngram 1={len(ones)}\nngram 2=1\n\n\\1-grams:\n"
    return head + "\n".join(ones) + f"\n\n\\2-grams:\n-0.5\t<s> {words[0]}\n\n\\end\\\n"


@pytest.fixture
def spelled(bench):
    pytest.importorskip(
        "flashlight.lib.text.decoder.kenlm", reason="flashlight-text is not installed: pip install 'superbench[decode]'"
    )
    bench.write("words.txt", SPELLINGS)
    return bench


@pytest.mark.parametrize("command", ["corpus check -t pr", "plan -u fbank_no_cmvn -t pr"])
def test_spellings_are_no_pronunciations(command, bench, refused):
    bench.write("words.txt", SPELLINGS)
    refused(
        f"{command} --data {{at}}/m.csv --lexicon {{at}}/words.txt",
        3,
        ("task 'pr'", "3 words of the lexicon are spelled, not pronounced: GO G O |", "--lexicon asr=PATH"),
    )


@pytest.mark.parametrize("command", ["corpus check -t pr", "plan -u fbank_no_cmvn -t pr"])
def test_a_lexicon_for_a_task_that_is_not_asked_for(command, refused):
    refused(
        f"{command} --data {{at}}/m.csv --lexicon asr=x",
        2,
        ("--lexicon asr=x: asr is none of the tasks", "add --task asr"),
    )


def test_a_language_model_of_other_words(spelled, refused):
    spelled.write("lm.arpa", arpa("GEH", "HALT"))
    refused(
        ASR + SMALL,
        3,
        ("task 'asr'", "lm.arpa tells none of the 3 words of the lexicon from unknown", "both in upper case"),
    )


def test_a_language_model_that_lacks_a_word_is_told_and_nothing_else_is(spelled, superbench):
    spelled.write("lm.arpa", arpa("GO", "STOP"))
    warning = "1 of 3 words of the lexicon are unknown to the language model"
    command = (ASR + SMALL).format(at=spelled.folder)
    planned = superbench("--home", spelled.home, *command.split())
    assert (planned.code, planned.err) == (0, ""), "KenLM writes to the process's stderr"
    ran = superbench("--home", spelled.home, *command.replace("plan", "run", 1).split(), "--json")
    assert (ran.code, ran.err) == (0, f"warning: asr: {warning}\n")
    assert warning in ran.json[0]["warnings"]

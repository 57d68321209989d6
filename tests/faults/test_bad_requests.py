"""Bad options and configuration files, through the command line: exit code 2, before anything is loaded."""

from __future__ import annotations

import pytest

RUN = "run -u fbank_no_cmvn -t ks --data {at}/m.csv --steps 2 --lr 1e-2"
CONFIG = "run --config {at}/run.yaml"
BOMB = "\n".join(
    ["a: &a [x]", *(f"{n}: &{n} [{', '.join(['*' + p] * 9)}]" for p, n in zip("abcde", "bcdef", strict=True))]
)

# name: the command; the exit code; the words the message must hold
REFUSED = {
    "unknown command": ("rn -u fbank", 2, ("rn",)),
    "unknown option": (f"{RUN} --step 3", 2, ("--step",)),
    "unknown upstream": (RUN.replace("fbank_no_cmvn", "fbanks"), 2, ("'fbanks'", "did you mean", "'fbank'")),
    "unknown task": (RUN.replace("ks", "kss"), 2, ("'kss'", "did you mean", "'ks'")),
    "unknown head": (f"{RUN} --head pooled_liner", 2, ("'pooled_liner'", "did you mean 'pooled_linear'")),
    "unknown option of a head": (f"{RUN} --head pooled_linear:project=3", 2, ("'project'", "did you mean 'projector'")),
    "option of an upstream that takes none": (RUN.replace("cmvn", "cmvn:bins=3"), 2, ("'bins'", "takes no options")),
    "option without a value": (RUN.replace("cmvn", "cmvn:bins"), 2, ("'bins' is not option=value",)),
    "upstream without its checkpoint": (RUN.replace("fbank_no_cmvn", "huggingface"), 2, ("'checkpoint' is missing",)),
    "option of the wrong kind": (f"{RUN} --head pooled_linear:projector=many", 2, ("'projector'", "'many'", "integer")),
    "option out of range": (f"{RUN} --head blstm:dropout=1.5", 2, ("dropout must be in [0, 1)",)),
    "no upstream": ("run -t ks --data {at}/m.csv", 2, ("no upstream", "fbank_no_cmvn")),
    "no task": ("run -u fbank --data {at}/m.csv", 2, ("no task", "--task all")),
    "no corpus": ("run -u fbank -t ks", 2, ("no corpus", "--data", "corpus synthesize")),
    "corpus and data": (f"{RUN} --corpus {{at}}", 2, ("either corpus or data",)),
    "lr that is no number": (f"{RUN} --lr 1e-3,fast", 2, ("--lr", "'fast' is no number")),
    "lr of zero": (f"{RUN} --lr 0", 2, ("lr must be positive and finite, got 0",)),
    "lr of NaN": (
        f"{RUN} --lr nan",
        2,
        (
            "lr",
            "nan",
            "finite",
        ),
    ),
    "lr twice": (f"{RUN} --lr 1e-3,0.001", 2, ("lr are given twice",)),
    "seed below zero": (f"{RUN} --seeds=-1", 2, ("seeds must be from 0 to 2**63 - 1, got -1",)),
    "seed twice": (f"{RUN} --seeds 0..2,1", 2, ("seeds are given twice",)),
    "no seed": (f"{RUN} --seeds 3..1", 2, ("seeds must name at least one",)),
    "no step": (f"{RUN} --steps 0", 2, ("steps must be at least 1, got 0",)),
    "limit of nothing": (f"{RUN} --limit 0", 2, ("limit must be at least 1, got 0",)),
    "everything wrong at once": (
        f"{RUN} --lr 0 --seeds=-1 --limit 0 --layers=-2",
        2,
        ("limit", "lr must", "seeds must", "layers must"),
    ),
    "head for another kind of task": (f"{RUN} --head blstm", 2, ("one output per utterance", "pooled_linear")),
    "device that is none": (f"{RUN} --device tpu9", 2, ("'tpu9'", "--device cpu")),
    "lexicon and label column": (
        RUN.replace("ks", "pr --lexicon x --label-column phones"),
        2,
        ("--lexicon", "--label-column"),
    ),
    "language model for no such task": (f"{RUN} --lm x", 2, ("--lm: no use in ks", "--lm for asr")),
    "everything for no such task": (
        f"{RUN} --lm x --meta x --lexicon x",
        2,
        ("--lexicon and --lm and --meta: no use in ks",),
    ),
    "spellings without a language model": (
        RUN.replace("ks", "asr --lexicon x"),
        2,
        ("--lexicon without --lm", "--lexicon pr=PATH"),
    ),
    "language model without spellings": (
        RUN.replace("ks", "asr --lm x"),
        2,
        ("--lm without --lexicon",),
    ),
    "lists for a manifest": (RUN.replace("ks", "er --meta x"), 2, ("--meta divides the official IEMOCAP",)),
    "lexicon of a task that is none": (f"{RUN} --lexicon kss=x", 2, ("'kss'", "did you mean 'ks'")),
    "-p without a value": ("list -p", 2, ("-p needs a value",)),
    "-p of no file": ("-p {at}/none.py list", 2, ("none.py", "no such file")),
    "-p no: of no plugin": ("-p no:leaderbord list", 2, ("leaderbord", "did you mean 'leaderboard'")),
    "nothing of that name to show": ("show pooled_linaer", 2, ("pooled_linaer", "did you mean 'pooled_linear'")),
    "two files of one stem": (
        "extract -u fbank --out {at}/x.npz {at}/train00.wav {at}/sub/train00.flac",
        2,
        ("same stem 'train00'",),
    ),
    "layer that is not there": (f"{RUN} --layers 1", 2, ("layers 0 to 0", "--layers 1 is none")),
}

# name: what stands in run.yaml; the words the message must hold
CONFIGS = {
    "unknown keys": ("upstream: fbank\ntaks: ks\nstep: 3\n", ("'taks', 'step'", "did you mean 'task'", "'steps'")),
    "Python tag": ("upstream: !!python/object/apply:os.system ['touch {at}/pwned']\n", ("line 1, column 11", "tag")),
    "alias bomb": (BOMB, ("line 1", "anchor")),
    "key twice": ("task: ks\ntask: er\n", ("line 2", "'task' stands already in")),
    "two documents": ("task: ks\n---\ntask: er\n", ("second document",)),
    "no YAML": ("task: [ks\n", ("not YAML",)),
    "a list": ("- ks\n", ("holds no options",)),
    "nothing": ("", ("holds no options",)),
    "a megabyte of text": ("upstream: " + "x" * 1_000_001, ("larger than 1,000,000 bytes",)),
    "steps that are no number": ("upstream: fbank\ntask: ks\nsteps: many\n", ("'steps'", "'many'")),
    "null in a list": ("upstream: fbank\ntask: ks\nlr: [null]\n", ("--lr", "is no number")),
    "mapping for a path": ("upstream: fbank\ntask: ks\ndata: {a: b}\n", ("'data'",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_command_line_is_refused(case, refused):
    refused(*REFUSED[case])


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_is_refused(case, bench, refused):
    text, words = CONFIGS[case]
    bench.write("run.yaml", text.replace("{at}", str(bench.folder)))
    refused(CONFIG, 2, words)
    assert not bench.path("pwned").exists()


def test_a_configuration_that_is_not_there_or_not_text(bench, refused):
    refused(CONFIG, 2, ("run.yaml", "cannot be read"))
    bench.write("run.yaml", b"\xff\xfe\x00")
    refused(CONFIG, 2, ("run.yaml", "cannot be read"))
    refused("run --config {at}", 2, ("cannot be read",))


def test_words_of_yaml_1_1_and_learning_rates_are_read_as_typed(bench, superbench):
    for number, label in enumerate(("yes", "no", "on") * 8):
        bench.change(number, label=label)
    bench.write("run.yaml", f"upstream: fbank_no_cmvn\ntask: ks\ndata: [{bench.manifest}]\nlr: 1e-2\nsteps: 2\n")
    ended = superbench("-q", "--home", bench.home, "run", "--config", bench.path("run.yaml"), "--json")
    assert ended.code == 0, ended.err
    (result,) = ended.json
    assert (result["data"]["classes"], result["lr"]) == (["no", "on", "yes"], 0.01)

"""Every task's constants, and ASR and PR step by step, held against reference/PROTOCOL.md (sections 1.0 to 1.5)."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from superbench.contracts import Prediction
from superbench.metrics import METRICS
from superbench.options import build_options, split_reference
from superbench.pipeline.opening import open_corpus, require_corpus
from superbench.plan import RunRequest
from superbench.registry import Registry
from superbench.training.prediction import predict
from superbench_tasks import asr, er, ks, pr, sid

ALL = {module.TASK.name: module.TASK for module in (asr, pr, sid, er, ks)}
CHARACTERS = dict(zip("|ETAONIHSRDLUMWCFGYPBVK'XJQZ", range(4, 32), strict=True))  # char.dict, after four specials


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


def opened(task, root, **request):
    """Corpus and vocabulary of an official tree, as the pipeline opens them."""
    checked = open_corpus(task, RunRequest(upstream="any", task=(task.name,), corpus=(str(root),), **request))
    return require_corpus(checked, task.name)


# ---- the constants ---------------------------------------------------------------------------------------------------

# head, batch, accumulation, steps, evaluation interval, config's learning rate, headline, sampling, dev, gain
CONSTANTS = {
    "asr": (16, 1, 200_000, 2_000, 1e-4, "wer", "length_buckets", "all", 0.0),
    "pr": (16, 2, 100_000, 1_000, 1e-2, "per", "label_windows", "all", 0.0),
    "sid": (8, 4, 200_000, 5_000, 1e-4, "accuracy", "shuffled", "all", 0.0),
    "er": (4, 8, 30_000, 1_000, 1e-4, "accuracy", "shuffled", "all", 0.0),
    "ks": (32, 1, 200_000, 5_000, 1e-4, "accuracy", "balanced", "balanced", -3.0),
}


@pytest.mark.parametrize("name", ALL)
def test_the_constants_are_the_documents(name):
    p = ALL[name].protocol
    rates = CONSTANTS[name][4]
    assert rates in p.lr_grid
    found = (p.batch, p.accumulate, p.steps, p.eval_every, rates, p.metrics[0], p.sampling, p.dev_sampling, p.gain_db)
    assert found == CONSTANTS[name]
    assert (p.optimizer, p.schedule, p.clip, p.sample_rate, p.family) == ("adam", "none", 1.0, 16_000, "superb")
    assert p.objective == ("ctc" if name in ("asr", "pr") else "cross_entropy")
    assert (p.augment is not None) == (name == "asr")
    assert p.halve_above == (300_000 / 16_000 if name == "pr" else None)


def test_the_sizes_are_the_documents():
    sizes = {name: {s.part: s.utterances for s in task.protocol.sizes} for name, task in ALL.items()}
    assert sizes == {
        "asr": {"train": 28_539, "dev": 2_703, "test": 2_620},
        "pr": {"train": 28_539, "dev": 2_703, "test": 2_620},
        "sid": {"train": 138_361, "dev": 6_904, "test": 8_251},
        "er": {"1": 1_085, "2": 1_023, "3": 1_151, "4": 1_031, "5": 1_241},
        "ks": {"train": 51_088 + 6, "dev": 6_798 + 6, "test": 3_081},
    }
    assert sum(sizes["er"].values()) == 5_531
    assert {s.part: dict(s.classes) for s in er.PROTOCOL.sizes} == {
        "1": {"neu": 384, "hap": 278, "ang": 229, "sad": 194},
        "2": {"neu": 362, "hap": 327, "ang": 137, "sad": 197},
        "3": {"neu": 320, "hap": 286, "ang": 240, "sad": 305},
        "4": {"neu": 258, "hap": 303, "ang": 327, "sad": 143},
        "5": {"neu": 384, "hap": 442, "ang": 170, "sad": 245},
    }
    assert asr.PROTOCOL.sizes[0].hours == 100.6
    assert sid.PROTOCOL.sizes[0].speakers == 1_251


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [("asr", 32, 42_828_832), ("pr", 74, 215_882), ("sid", 1_251, 518_371), ("er", 4, 197_892), ("ks", 12, 199_948)],
)
def test_heads_have_the_measured_number_of_parameters(registry, name, classes, parameters):
    """Of an upstream of width 768."""
    head, given = split_reference(ALL[name].protocol.head)
    spec = registry.downstream(head).spec
    with torch.device("meta"):
        built = spec.build(build_options(spec.options, given, who=head), 768, classes)
    assert sum(p.numel() for p in built.parameters()) == parameters
    assert ALL[name].labels((), True).size == classes


# ---- ASR -------------------------------------------------------------------------------------------------------------


def librispeech(texts):
    """Two chapters per subset, an utterance for each text, one speaker per subset."""
    made = {}
    for speaker, subset in enumerate(("train-clean-100", "dev-clean", "test-clean"), start=1):
        home = f"LibriSpeech/{subset}/{speaker}/7"
        made[f"{home}/{speaker}-7.trans.txt"] = "".join(f"{speaker}-7-{i:04d} {t}\n" for i, t in enumerate(texts))
        made.update({f"{home}/{speaker}-7-{i:04d}.flac": 0.05 for i in range(len(texts))})
    return made


def test_asr_prepares_its_labels(tree):
    corpus, labels = opened(asr.TASK, tree(librispeech(["HELLO WORLD", "it's   so"])))
    assert labels.names == ("<s>", "<pad>", "</s>", "<unk>", *CHARACTERS)
    assert (labels.size, labels.blank) == (32, 0)
    assert [u.split for u in corpus.utterances] == ["train"] * 2 + ["dev"] * 2 + ["test"] * 2
    assert corpus.utterances[0].reference == "HELLO WORLD"
    # H E L L O | W O R L D | </s>
    assert labels.encode("HELLO WORLD") == (
        11,
        5,
        15,
        15,
        8,
        4,
        18,
        8,
        13,
        15,
        14,
        4,
        2,
    )  # H E L L O | W O R L D | </s>
    assert labels.encode(corpus.utterances[1].reference) == (10, 6, 27, 12, 4, 12, 8, 4, 2)  # I T ' S | S O | </s>
    assert all(CHARACTERS[c] == i for c, i in zip("HELLO|WORLD|", labels.encode("HELLO WORLD"), strict=False))


class Said(torch.nn.Module):
    """A head that gives, for every frame, a chosen symbol."""

    def forward(self, x, lengths):
        return torch.nn.functional.one_hot(x[:, 0, :, 0].long(), 32).float()


class Frames:
    targets = ((0,), (0,))

    def __init__(self, *symbols):
        self.symbols, self.lengths = symbols, tuple(len(s) for s in symbols)

    def batch(self, indices):
        longest = max(self.lengths[i] for i in indices)
        x = torch.tensor([[*self.symbols[i], *[31] * (longest - self.lengths[i])] for i in indices])
        return x[:, None, :, None].float(), torch.tensor([self.lengths[i] for i in indices])


def test_asr_decodes_greedily():
    labels = asr.labels((), True)
    # L, L is one; L, blank, L two; </s> and <pad> are not written; behind the length (Z) nothing is heard.
    first = [11, 11, 0, 5, 15, 15, 0, 15, 8, 4, 4, 2, 1, 1]
    examples = Frames(first, [0, 7, 0])
    found = predict(Said(), examples, [0, 1], objective="ctc", blank=0)
    assert labels.decode(found[0]) == "HELLO"
    assert labels.units(found[0]) == "H E L L O |"
    assert labels.decode(found[1]) == "A"


def units(reference, hypothesis):
    labels = asr.labels((), True)
    return Prediction(
        id=reference,
        reference=reference,
        hypothesis=labels.decode([CHARACTERS[c] for c in hypothesis]),
        reference_units=labels.units(labels.encode(reference)),
        hypothesis_units=labels.units([CHARACTERS[c] for c in hypothesis]),
    )


def test_asr_counts_the_boundary_in_uer():
    missing, doubled = units("HI YOU", "HIYOU|"), units("HI", "HI||")
    assert missing.reference_units == "H I | Y O U |"
    assert doubled.hypothesis_units == "H I | |"
    uer, wer = METRICS["uer"]([missing, doubled]), METRICS["wer"]([missing, doubled])
    assert (uer.numerator, uer.denominator) == (2, 10)  # one | deleted of 7, one inserted into 3
    assert (uer.counts["deletions"], uer.counts["insertions"], uer.counts["substitutions"]) == (1, 1, 0)
    assert (wer.numerator, wer.denominator) == (2, 3)  # HI YOU / HIYOU: a substitution and a deletion
    assert METRICS["uer"]([units("HI YOU", "HI|YOU|")]).value == 0


# ---- PR --------------------------------------------------------------------------------------------------------------


def test_pr_prepares_its_labels(tree, tmp_path):
    # Of LOW there are two pronunciations, and the second lexicon has another one of HI.
    (tmp_path / "one.txt").write_text("HI\tHH AY1\nLOW\tL OW1\nLOW(2)\tL AW1\n")
    (tmp_path / "two.txt").write_text("HI\tHH IY1\nOX\tAA1 K S\n")
    lexicon = (str(tmp_path / "one.txt"), str(tmp_path / "two.txt"))
    corpus, labels = opened(pr.TASK, tree(librispeech(["HI LOW OX", "hi"])), lexicon=lexicon)
    assert (labels.size, labels.blank) == (74, 0)
    assert labels.names[:5] == ("<pad>", "<eos>", "<unk>", "SIL", "SPN")
    vowels = Counter(name[:-1] for name in labels.names[5:] if name[-1] in "012")
    assert (len(vowels), set(vowels.values())) == (15, {3})
    assert sum(name[-1] not in "012" for name in labels.names[5:]) == 24
    assert len(set(labels.names)) == 74
    first, second = corpus.utterances[:2]
    assert (first.reference, second.reference) == ("HH AY1 L OW1 AA1 K S", "HH AY1")
    at = labels.names.index
    assert labels.encode(second.reference) == (at("HH"), at("AY1"), 1)
    assert labels.decode([1, at("HH"), 0, at("AY2")]) == "HH AY2"
    assert labels.decode([at("HH"), 2]) == "HH <unk>"
    wrong = Prediction(id="a", reference="HH AY1", hypothesis="HH AY2")
    assert METRICS["per"]([wrong]).value == 0.5  # stress counts

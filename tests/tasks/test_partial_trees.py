"""The shared trees and the synthetic corpus are official trees in shape, and partial in size."""

from __future__ import annotations

from collections import Counter

import pytest

from superbench.pipeline.opening import open_corpus
from superbench.plan import RunRequest
from superbench.vetting import vet
from superbench_tasks import asr, er, ks, pr, sid

TASKS = {module.TASK.name: module.TASK for module in (asr, pr, sid, er, ks)}


def shared_parts(root, task, **request):
    """The verdict on a small tree, and its parts beside the official ones."""
    spec = TASKS[task]
    checked = open_corpus(spec, RunRequest(upstream="any", task=(task,), corpus=(str(root),), **request))
    assert checked.corpus is not None, checked.problems
    found = vet(checked.corpus, spec.protocol)
    for finding in found.findings:
        if finding.utterances != finding.official.utterances:
            words = f"{finding.utterances:,} recordings, officially {finding.official.utterances:,}"
            part = f"fold {finding.part}" if task == "er" else finding.part
            assert finding.differences == (f"{part} has {words}",)
    return checked.corpus, found.verdict, {f.part: (f.utterances, f.speakers) for f in found.findings}


def test_the_shared_trees_are_partial(shared, tmp_path):
    root, words = shared / "official", (shared / "lexicon/oov.txt").read_text().split()
    (tmp_path / "others.txt").write_text("".join(f"{word} SPN\n" for word in words))
    lexicon = (str(shared / "lexicon/lexicon.txt"), str(tmp_path / "others.txt"))
    librispeech = {"train": (48, 2), "dev": (1, 1), "test": (5, 2)}
    for task, options in (("asr", {}), ("pr", {"lexicon": lexicon})):
        assert shared_parts(root, task, **options)[1:] == ("partial", librispeech)
    assert shared_parts(root, "sid")[1:] == ("partial", {"train": (24, 6), "dev": (12, 6), "test": (12, 6)})
    _, verdict, parts = shared_parts(root, "er")
    assert verdict == "partial"
    assert parts == {"1": (18, 2), "2": (18, 2), "3": (18, 2), "4": (17, 2), "5": (18, 2)}
    corpus, verdict, parts = shared_parts(root, "ks")
    assert verdict == "partial"
    whole = Counter(u.split for u in corpus.utterances if not u.bank)
    banks = Counter(split for split, _ in {(u.split, u.bank) for u in corpus.utterances if u.bank})
    assert parts.keys() == {"train", "dev", "test"}
    assert {part: size for part, (size, _) in parts.items()} == dict(whole + banks)
    noises = len(list((root / "speech_commands_v0.01/_background_noise_").glob("*.wav")))
    assert banks["train"] == banks["dev"] == noises


def test_the_synthetic_corpus_is_partial(tmp_path):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra superbench[demo]")
    from superbench_tasks.synthesis import trees

    root = trees.synthesize_corpus(tmp_path / "synthetic", size="tiny")
    lexicons = sorted(path for path in root.rglob("*") if "lexicon" in path.name and path.is_file())
    for task in TASKS:
        given = {"lexicon": tuple(map(str, lexicons))} if task == "pr" else {}
        _, verdict, parts = shared_parts(root, task, **given)
        assert verdict == "partial"
        assert min(size for size, _ in parts.values()) > 0
